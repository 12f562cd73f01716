"""Two nodes on one Postgres that hear each other by a Redis: at once, and whatever becomes of it."""

import random
import time

import pytest

from martlet import Server, eventually
from redisserver import Redis
from test_crash import WRITERS, CrashTest


def pair(folder, url, **settings):
    return [Server(folder / name, MARTLET_DATABASE=url, MARTLET_LOOPS=2, **settings) for name in "ab"]


@pytest.fixture
def redis_alone():
    """A Redis of the test's own, which it may harm."""
    with Redis() as server:
        yield server


@pytest.fixture
def nodes(postgres, redis_alone, tmp_path):
    first, second = pair(
        tmp_path, postgres.database(), MARTLET_FANOUT=redis_alone.url, MARTLET_METRICS_LISTEN="127.0.0.1:0"
    )
    with first, second:
        hears(first), hears(second)
        yield first, second


def hears(server, count=1):
    """Waits until it hears so many others."""
    eventually(lambda: server.metric("martlet_fanout_peers") >= count)


def test_what_one_node_takes_the_other_delivers(nodes):
    first, second = nodes
    ada, bob = first.person(), first.person()
    rooms = [ada.room() for _ in range(20)]
    for room in rooms:
        ada.rule(room, bob, "rw")
    with ada.relay() as writer, second.relay(bob.token) as reader:
        assert len(reader.ready["channels"]) == 20
        for number in range(200):
            room = rooms[number % 20]
            writer.say(room, f"number {number}", f"k{number}")
            sent = writer.until("text")
            writer.until("ack")
            # Less than the 25 s after which heads are compared, by far.
            heard = reader.until("text", timeout=3)
            assert heard == {name: value for name, value in sent.items() if name != "client_id"}
        # And back, as the next of the same room.
        reader.say(rooms[0], "answer")
        assert writer.until("text", timeout=3)["seq"] == reader.until("text")["seq"] == 11


def test_changes_of_access_come_with_the_messages(nodes):
    first, second = nodes
    ada, bob = first.person(), first.person()
    with second.relay(bob.token) as reader:
        room = ada.room()
        for _ in range(10):
            ada.rule(room, bob, "rw")
            assert reader.until("channel", timeout=3)["room_id"] == room
            with ada.relay() as writer:
                writer.say(room, "hello")
                writer.until("text")
            assert reader.until("text", timeout=3)["data"] == "hello"
            ada.rule(room, bob, "b")
            assert reader.until("gone", timeout=3)["code"] == "revoked"


def test_an_invitation_is_told_on_every_node(nodes):
    first, second = nodes
    ada, bob = first.person(), first.person()
    # No comparison finds what nobody has answered: it comes by the signal or not at all.
    room = ada.room(invite=True)
    with second.relay(bob.token) as reader:
        ada.rule(room, bob, "rw")
        assert reader.until("invitation", timeout=3)["room_id"] == room


def test_without_redis_nodes_go_on_and_find_out(nodes, redis_alone):
    """As where none is named: by resuming, by the room's next message, by comparing."""
    first, second = nodes
    ada = first.person()
    room = ada.room()
    with ada.relay() as writer, second.relay(ada.token) as reader:
        redis_alone.kill()
        for number in range(3):
            writer.say(room, f"{number}", f"k{number}")
            writer.until("text"), writer.until("ack")
        with second.relay(ada.token, "?subscribe=none") as other:
            # What it has says how far the log goes, whatever this node has heard.
            other.send(type="resume", channels={str(room): 3})
            assert other.until("resumed")["seq"] == 3
            other.send(type="resume", channels={str(room): 0})
            assert [other.until("text")["seq"] for _ in range(3)] == [1, 2, 3]
            assert other.until("resumed")["seq"] == 3
        # The room's next message on that node brings those before it.
        reader.say(room, "mine", "mine")
        assert [reader.until("text")["seq"] for _ in range(4)] == [1, 2, 3, 4]
        assert reader.until("ack")["seq"] == 4
        # A Redis that starts again, empty: what was lost is found long before heads are compared anyway.
        writer.say(room, "5", "k5")
        assert [writer.until("text", timeout=30)["seq"] for _ in range(2)] == [4, 5]
        redis_alone.start()
        assert reader.until("text", timeout=8)["seq"] == 5
    with first.http() as http:
        assert http.get("/readyz").status_code == 200


def test_a_start_without_redis_is_a_start(postgres, tmp_path):
    with Redis() as gone:
        url = gone.url
    with Server(tmp_path / "a", MARTLET_DATABASE=postgres.database(), MARTLET_FANOUT=url) as server:
        ada = server.person()
        room = ada.room()
        with ada.relay() as socket:
            socket.say(room, "hello", "1")
            socket.until("text"), socket.until("ack")
        assert '"fanout_lost"' in server.log_text()
        assert "connection refused" in server.log_text()


@pytest.mark.parametrize(
    "settings, reason",
    [
        ({"MARTLET_FANOUT": "redis://localhost"}, "MARTLET_FANOUT is for nodes that share a database"),
        ({"MARTLET_FANOUT": "http://localhost"}, "MARTLET_FANOUT is not a redis:// URL"),
        ({"MARTLET_FANOUT": "redis://secret@:1", "MARTLET_DATABASE": "?"}, "MARTLET_FANOUT is not of the form"),
        ({"MARTLET_FANOUT": "rediss://localhost", "MARTLET_FANOUT_CA": "/nowhere", "MARTLET_DATABASE": "?"},
         "MARTLET_FANOUT cannot be used: the authorities cannot be read"),
        ({"MARTLET_FANOUT": "redis://localhost", "MARTLET_FANOUT_CA": "/nowhere", "MARTLET_DATABASE": "?"},
         "MARTLET_FANOUT_CA is for a MARTLET_FANOUT of rediss:// only"),
    ],
)
def test_settings_that_cannot_be_meant(postgres, tmp_path, settings, reason):
    if "MARTLET_DATABASE" in settings:
        settings["MARTLET_DATABASE"] = postgres.database()
    with pytest.raises(RuntimeError, match=reason) as failure:
        Server(tmp_path / "a", **settings).start()
    assert "secret" not in str(failure.value)


class NodesTest(CrashTest):
    # Less than the 25 s after which heads are compared anyway.
    catch_up_seconds = 10


class KilledRedis(NodesTest):
    """Both nodes go on; it is Redis that is killed, and starts again empty."""

    redis = None

    def disturb(self, number):
        self.redis.kill()
        time.sleep(random.uniform(0, 0.5))
        self.redis.start()


def test_ten_kills_of_redis(postgres, tmp_path, redis_alone):
    KilledRedis.redis = redis_alone
    run(tmp_path, postgres, redis_alone.url, KilledRedis, "Redis")


def test_ten_kills_of_a_node(postgres, tmp_path, redis_alone):
    run(tmp_path, postgres, redis_alone.url, NodesTest, "a node")


def test_ten_kills_of_a_node_with_a_redis_that_loses(postgres, tmp_path, spoiled_redis):
    run(tmp_path, postgres, spoiled_redis.url, NodesTest, "a node, Redis losing a tenth")


def run(tmp_path, postgres, redis_url, kind, what):
    first, second = pair(tmp_path, postgres.database(), MARTLET_FANOUT=redis_url)
    with first, second:
        acknowledged = kind([first, second], 10).run()
    print(f"10 kills of {what}: {acknowledged} acknowledged, none lost, no gap, no duplicate")
    assert acknowledged > 10 * WRITERS, "the test did next to nothing"
