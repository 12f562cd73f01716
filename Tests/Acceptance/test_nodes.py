"""Several nodes on one Postgres, with nothing between them, with a Redis, and with one that loses what it is given."""

import os
import signal
import subprocess
import threading
import time
import uuid

import httpx
import pytest

from martlet import Server, eventually
from postgres import Postgres, psql, rooms_by_hand


@pytest.fixture(scope="module")
def url(postgres):
    return postgres.database()


@pytest.fixture(scope="module", params=["nothing between", "redis", "spoiled_redis"])
def nodes(request, url, tmp_path_factory):
    folder = tmp_path_factory.mktemp("nodes")
    settings = {"MARTLET_DATABASE": url, "MARTLET_LOOPS": 2}
    if request.param != "nothing between":
        settings["MARTLET_FANOUT"] = request.getfixturevalue(request.param).url
    with Server(folder / "a", **settings) as first, Server(folder / "b", **settings) as second:
        yield first, second


def person(nodes):
    """The same person at both nodes."""
    first, second = nodes
    ada = first.person(uuid.uuid4())
    return ada, lambda query="": second.relay(ada.token, query)


def test_nodes_that_start_together_share_their_keys(postgres, tmp_path):
    for number in range(3):
        url = postgres.database()
        servers = [Server(tmp_path / f"{number}{name}", MARTLET_DATABASE=url) for name in "ab"]
        failures = []

        def start(server):
            try:
                server.start()
            except Exception as failure:
                failures.append(failure)

        threads = [threading.Thread(target=start, args=[server]) for server in servers]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        try:
            assert not failures, failures
            account = servers[0].sign_up()
            with servers[1].http(account["access_token"]) as http:
                assert http.get("/v1/me").status_code == 200
                refreshed = http.post("/v1/auth/refresh", json={"refresh_token": account["refresh_token"]})
                assert refreshed.status_code == 200
        finally:
            for server in servers:
                server.stop()


def test_a_right_given_back_is_told(nodes):
    ada, at_second = person(nodes)
    bob = nodes[0].person(uuid.uuid4())
    room = ada.room()
    ada.rule(room, bob, "rw")
    with nodes[1].relay(bob.token) as socket:
        for _ in range(6):
            ada.rule(room, bob, "w")
            assert socket.until("gone")["code"] == "revoked"
            ada.rule(room, bob, "rw")
            assert socket.until("channel")["room_id"] == room


def test_an_ack_follows_its_broadcast_on_every_node(nodes):
    ada, at_second = person(nodes)
    room = ada.room()
    with ada.relay() as first, at_second() as second:
        first.say(room, "once", "k1")
        first.until("text")
        ack = first.until("ack")
        # The client retries at another node, which has not heard of it.
        second.say(room, "once", "k1")
        assert second.until("text")["seq"] == 1
        assert second.until("ack") == ack


def test_many_retries_at_once_on_another_node(nodes):
    ada, at_second = person(nodes)
    room = ada.room()
    with ada.relay() as first, at_second() as second:
        acks = []
        for number in range(12):
            first.say(room, f"{number}", f"k{number}")
            first.until("text")
            acks.append(first.until("ack"))
        for number in range(12):
            second.say(room, f"{number}", f"k{number}")
        frames = [second.receive() for _ in range(24)]
        assert [f["seq"] for f in frames if f["type"] == "text"] == list(range(1, 13))
        assert [f for f in frames if f["type"] == "ack"] == acks


def test_a_client_that_is_ahead_of_its_new_node_resumes(nodes):
    ada, at_second = person(nodes)
    room = ada.room()
    with ada.relay() as first, at_second() as watcher:
        assert watcher.ready["channels"][0]["seq"] == 0
        for number in range(3):
            first.say(room, str(number))
            first.until("text")
        with at_second("?subscribe=none") as second:
            second.send(type="resume", channels={str(room): 3})
            assert second.receive() == {"type": "resumed", "channel_id": str(room), "room_id": room, "seq": 3}
            second.send(type="resume", channels={str(room): 4})
            assert second.receive()["type"] == "reset"


def test_a_revocation_outlives_a_failing_database(nodes, postgres, url, stalls):
    ada, at_second = person(nodes)
    bob = nodes[0].person(uuid.uuid4())
    room = ada.room()
    ada.rule(room, bob, "rw")
    with nodes[1].relay(bob.token) as socket:
        assert socket.ready["channels"][0]["room_id"] == room
        now = int(time.time() * 1000)
        psql(
            url, "BEGIN",
            f"DELETE FROM room_rules WHERE room_id = {room} AND subject = '\\x{bob.id.replace('-', '')}'",
            f"UPDATE room_heads SET access_version = access_version + 1, access_changed_at = {now} WHERE room_id = {room}",
            "COMMIT", "BEGIN", "LOCK TABLE room_rules IN ACCESS EXCLUSIVE MODE", "SELECT pg_sleep(7)", "COMMIT",
        )
        begin = time.monotonic()
        assert socket.until("gone", timeout=30)["code"] == "revoked"
        stalls.check("gone after the database came back", time.monotonic() - begin, limit=3)


def test_a_replay_goes_on_after_the_database_stood_still(nodes, url):
    """While nothing can be compared nothing is delivered; then all of it is, in order, and `resumed` after it."""
    ada, at_second = person(nodes)
    room = ada.room()
    count = 300
    with ada.relay() as socket:
        acks = 0
        for number in range(count):
            socket.say(room, "x" * 65_536, str(number))
            while number - acks >= 8:
                acks += socket.receive()["type"] == "ack"
        while acks < count:
            acks += socket.receive()["type"] == "ack"
    with at_second("?subscribe=none") as socket:
        hold = ["BEGIN", "LOCK TABLE sessions IN ACCESS EXCLUSIVE MODE", "SELECT 1", "SELECT pg_sleep(2)", "COMMIT"]
        arguments = [part for command in hold for part in ("-c", command)]
        with subprocess.Popen(["psql", "-qtA", url, *arguments], stdout=subprocess.PIPE, text=True) as holder:
            assert holder.stdout.readline() == "1\n"
            # The last comparison is good for a second more, and the replay is under way when that ends.
            time.sleep(0.6)
            socket.send(type="resume", channels={str(room): 0})
            # Who does not read is sent what the kernel keeps for it, which is not all.
            time.sleep(1)
            seqs = []
            while (frame := socket.receive(20))["type"] != "resumed":
                if frame["type"] == "text":
                    seqs.append(frame["seq"])
        assert holder.returncode == 0
    assert seqs == list(range(1, count + 1))


def test_an_ack_that_waits_comes_when_its_room_goes(nodes):
    ada, at_second = person(nodes)
    for _ in range(5):
        room = ada.room()
        with ada.relay() as first, at_second() as second, nodes[1].http(ada.token) as http:
            first.say(room, "unknown to the second node")
            first.until("text")
            second.say(room, "mine", "k")
            time.sleep(0.006)
            assert http.delete(f"/rooms/{room}").status_code == 204
            frames = [second.receive()]
            while frames[-1]["type"] not in ("ack", "error"):
                frames.append(second.receive())
            assert frames[-1]["client_id"] == "k"


# What people belong to


def membership(postgres, url, user, organization, role, raises=1):
    """What the server does when someone's membership changes, by hand; nil takes it away."""
    person, group = (f"'\\x{id.replace('-', '')}'" for id in (user, organization))
    change = (
        f"INSERT INTO memberships VALUES ({group}, {person}, '{role}', 1) ON CONFLICT (organization_id, user_id) DO UPDATE SET role = excluded.role"
        if role
        else f"DELETE FROM memberships WHERE organization_id = {group} AND user_id = {person}"
    )
    psql(
        url, "BEGIN", change,
        f"INSERT INTO affiliation_versions (user_id, version) VALUES ({person}, 1) "
        f"ON CONFLICT (user_id) DO UPDATE SET version = affiliation_versions.version + {raises}", "COMMIT",
    )


def organization(postgres, url):
    id = str(uuid.uuid4())
    psql(url, f"INSERT INTO organizations VALUES ('\\x{id.replace('-', '')}', 'acme', 1)")
    return id


def test_a_membership_counts_on_live_sockets_of_every_node(nodes, postgres, url, stalls):
    ada = nodes[0].person()
    acme = organization(postgres, url)
    bob = nodes[0].sign_up()
    room, asked = ada.room(), ada.room(invite=True)
    ada.rule(room, acme, "rw")
    ada.rule(asked, acme, "r")
    slowest = 0
    with nodes[0].relay(bob["access_token"]) as first, nodes[1].relay(bob["access_token"]) as second:
        assert first.ready["channels"] == second.ready["channels"] == []
        for number in range(5):
            start = time.monotonic()
            membership(postgres, url, bob["user"]["id"], acme, "TEAM_MEMBER")
            for socket in (first, second):
                assert socket.until("channel")["room_id"] == room
                slowest = max(slowest, time.monotonic() - start)
            first.say(room, f"inside {number}", str(number))
            assert first.until("text")["data"] == f"inside {number}"
            first.until("ack")
            with nodes[1].http(bob["access_token"]) as http:
                assert http.get(f"/rooms/{room}").json()["data"]["permissions"] == "rw"
                # A plain member does not answer for the organization.
                assert http.put(f"/rooms/{asked}/invitation", json={"accepted": True, "use_parent_entity": True}).status_code == 403
            start = time.monotonic()
            membership(postgres, url, bob["user"]["id"], acme, None)
            for socket in (first, second):
                frame = socket.receive()
                while frame["type"] in ("text", "heartbeat"):
                    frame = socket.receive()
                assert (frame["type"], frame["code"]) == ("gone", "revoked")
                slowest = max(slowest, time.monotonic() - start)
            with nodes[1].http(bob["access_token"]) as http:
                assert http.get(f"/rooms/{room}").status_code == 404
            first.say(room, "outside", f"o{number}")
            assert first.until("error")["code"] == "room_not_found"
    stalls.check("memberships on both nodes", slowest)
    membership(postgres, url, bob["user"]["id"], acme, "ADMIN")
    answer = {"accepted": True, "use_parent_entity": True}
    with nodes[1].http(bob["access_token"]) as http:
        eventually(lambda: http.put(f"/rooms/{asked}/invitation", json=answer).status_code == 200)


def test_who_has_letters_by_an_organization_is_not_banned_by_someone_below(nodes, postgres, url):
    ada, manager = nodes[0].person(), nodes[0].person()
    owner = nodes[0].sign_up()
    acme = organization(postgres, url)
    membership(postgres, url, owner["user"]["id"], acme, "OWNER")
    room = ada.room(level_admin=40)
    ada.rule(room, acme, "rwa", 90)
    ada.rule(room, manager, "rw", 50)
    assert manager.rule(room, owner["user"]["id"], "b").status_code == 403
    with nodes[0].http(owner["access_token"]) as http:
        assert http.get(f"/rooms/{room}").json()["data"]["level"] == 90
    assert ada.rule(room, owner["user"]["id"], "b").status_code == 200


def test_bans_of_organizations_take_the_place_of_rules(nodes, postgres, url):
    ada = nodes[0].person()
    room = ada.room()
    # The creator's own rule is the first of ten.
    answers = [ada.rule(room, organization(postgres, url), "b").status_code for _ in range(11)]
    assert answers == [200] * 9 + [403] * 2
    assert ada.rule(room, uuid.uuid4(), "b").status_code == 200
    assert ada.rule(room, uuid.uuid4(), "r").status_code == 403


def test_ten_thousand_membership_changes_in_a_second(nodes, postgres, url, stalls):
    ada = nodes[0].person()
    acme = organization(postgres, url)
    bob = nodes[0].sign_up()
    room = ada.room()
    ada.rule(room, acme, "r")
    person = f"'\\x{bob['user']['id'].replace('-', '')}'"
    with nodes[1].relay(bob["access_token"]) as socket, nodes[1].http() as http:
        membership(postgres, url, bob["user"]["id"], acme, "TEAM_MEMBER")
        socket.until("channel")
        # Ten thousand transactions, by ten connections.
        start = time.monotonic()
        storm = [
            subprocess.Popen(
                ["psql", "-q", url, "-c",
                 f"DO $$ BEGIN FOR i IN 1..1000 LOOP UPDATE affiliation_versions SET version = version + 1 WHERE user_id = {person}; COMMIT; END LOOP; END $$"]
            )
            for _ in range(10)
        ]
        slowest = 0
        while any(process.poll() is None for process in storm):
            asked = time.monotonic()
            assert http.get("/healthz").status_code == 200
            slowest = max(slowest, time.monotonic() - asked)
        stalls.check("/healthz beside ten thousand changes", slowest)
        assert all(process.returncode == 0 for process in storm)
        print(f"10,000 changes in {time.monotonic() - start:.1f} s")
        membership(postgres, url, bob["user"]["id"], acme, None)
        assert socket.until("gone", timeout=3)["room_id"] == room


def test_rooms_that_nobody_hears_yet_hold_up_nobody(nodes, postgres, url):
    ada = nodes[0].person()
    room = ada.room()
    with nodes[1].relay(ada.token) as socket:
        # Rules cannot be read for a while.
        hold = ["BEGIN", "LOCK TABLE room_rules IN ACCESS EXCLUSIVE MODE", "SELECT 1", "SELECT pg_sleep(4)", "COMMIT"]
        arguments = [part for command in hold for part in ("-c", command)]
        with subprocess.Popen(["psql", "-qtA", url, *arguments], stdout=subprocess.PIPE, text=True) as holder:
            assert holder.stdout.readline() == "1\n"
            rooms_by_hand(url, ada.id, 1)
            # The node has heard of the room, and a comparison from before that would be too old.
            time.sleep(2)
            socket.say(room, "hello", "1")
            socket.until("text", timeout=1.5)
            assert holder.poll() is None
        socket.until("ack")
        assert socket.until("channel")["room_id"] != room


def test_thousands_of_rooms_that_change_at_once(nodes, postgres, url):
    ada = nodes[0].person()
    with nodes[0].relay(ada.token) as first, nodes[1].relay(ada.token) as second:
        rooms_by_hand(url, ada.id, 3000)
        for socket in (first, second):
            assert len({socket.until("channel")["room_id"] for _ in range(3000)}) == 3000


def test_a_node_whose_database_hangs_stops_all_the_same(tmp_path):
    """Postgres is there, and answers nobody: requests, messages and comparisons wait for it."""
    postgres = Postgres().start()
    try:
        with Server(tmp_path / "a", MARTLET_DATABASE=postgres.database()) as server:
            ada = server.person()
            room = ada.room()
            with ada.relay() as socket:
                main = postgres.process.pid
                found = subprocess.run(["pgrep", "-P", str(main)], check=True, capture_output=True, text=True).stdout
                hung = [main, *map(int, found.split())]
                for process in hung:
                    os.kill(process, signal.SIGSTOP)
                try:
                    socket.say(room, "never", "1")
                    waiting = threading.Thread(target=unanswered, args=[ada, room], daemon=True)
                    waiting.start()
                    time.sleep(0.5)
                    # Whoever stops it kills it after that.
                    assert server.stop(timeout=11) == 0
                    waiting.join(5)
                finally:
                    for process in hung:
                        os.kill(process, signal.SIGCONT)
    finally:
        postgres.remove()


def unanswered(person, room):
    try:
        person.http.get(f"/rooms/{room}/messages")
    except httpx.HTTPError:
        pass


def restore(url, dump):
    """In one transaction, as `psql -1` does it."""
    subprocess.run(["psql", "-q", "-1", "-v", "ON_ERROR_STOP=1", url], input=dump, check=True, capture_output=True, text=True)


@pytest.mark.parametrize("isTold", [True, False], ids=["told", "not told"])
def test_a_dump_restored_under_running_nodes(postgres, tmp_path, isTold):
    """What nodes knew of rooms is newer than the database then, and counts no more."""
    from martlet import BINARY

    url = postgres.database()
    with Server(tmp_path / "a", MARTLET_DATABASE=url) as server:
        ada, bob, eve = server.person(), server.person(), server.person()
        room = ada.room()
        ada.rule(room, eve, "rw")
        ada.rule(room, bob, "b")
        dump = subprocess.run(["pg_dump", "--clean", url], check=True, capture_output=True, text=True).stdout
        ada.rule(room, bob, "rw")
        with ada.relay() as first, bob.relay() as second:
            first.say(room, "before", "1")
            assert second.until("text")["data"] == "before"
            restore(url, dump)
            if isTold:
                subprocess.run([BINARY, "renew-epoch"], env=server.environment, check=True, capture_output=True)
            else:
                # The first message that rests on what is gone shows it.
                first.until("text"), first.until("ack")
                first.say(room, "lost", "2")
            assert first.close_code(5) == second.close_code(5) == 1001
        assert bob.http.get(f"/rooms/{room}").status_code == 404
        with ada.relay() as first, bob.relay("?subscribe=none") as second, eve.relay() as third:
            assert [channel["seq"] for channel in first.ready["channels"]] == [0]
            second.send(type="subscribe", channels=[str(room)])
            assert second.until("error")["code"] == "room_not_found"
            for number in range(3):
                first.say(room, "after", f"a{number}")
                assert first.until("text")["seq"] == third.until("text")["seq"] == number + 1
                first.until("ack")
            second.say(room, "banned", "b")
            assert second.until("error")["code"] == "room_not_found"
            assert second.silent()


def test_the_command_line_makes_an_admin_of_open_sessions(nodes, url):
    from martlet import BINARY

    bob = nodes[1].sign_up()
    result = subprocess.run([BINARY, "admin", "grant", bob["user"]["email"]], env=nodes[0].environment, capture_output=True, text=True)
    assert result.returncode == 0, result.stderr
    with nodes[1].http(bob["access_token"]) as http:
        eventually(lambda: http.get("/v1/me").json()["data"].get("platform_admin"))
