"""Several nodes on one Postgres, with nothing between them: what one does the other finds out."""

import subprocess
import threading
import time
import uuid

import pytest

from martlet import Server, token


@pytest.fixture(scope="module")
def url(postgres):
    return postgres.database()


@pytest.fixture(scope="module")
def nodes(url, tmp_path_factory):
    folder = tmp_path_factory.mktemp("nodes")
    with Server(folder / "a", MARTLET_DATABASE=url, MARTLET_LOOPS=2) as first:
        with Server(folder / "b", MARTLET_DATABASE=url, MARTLET_LOOPS=2) as second:
            yield first, second


def person(nodes):
    """The same person at both nodes."""
    first, second = nodes
    ada = first.person(uuid.uuid4())
    return ada, lambda query="": second.relay(ada.token, query)


def psql(postgres, url, *commands):
    arguments = [part for command in commands for part in ("-c", command)]
    subprocess.run(["psql", "-q", url, *arguments], check=True, capture_output=True, text=True)


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


def test_a_revocation_outlives_a_failing_database(nodes, postgres, url):
    ada, at_second = person(nodes)
    bob = nodes[0].person(uuid.uuid4())
    room = ada.room()
    ada.rule(room, bob, "rw")
    with nodes[1].relay(bob.token) as socket:
        assert socket.ready["channels"][0]["room_id"] == room
        now = int(time.time() * 1000)
        psql(
            postgres, url, "BEGIN",
            f"DELETE FROM room_rules WHERE room_id = {room} AND subject = '\\x{bob.id.replace('-', '')}'",
            f"UPDATE room_heads SET access_version = access_version + 1, access_changed_at = {now} WHERE room_id = {room}",
            "COMMIT", "BEGIN", "LOCK TABLE room_rules IN ACCESS EXCLUSIVE MODE", "SELECT pg_sleep(7)", "COMMIT",
        )
        start = time.monotonic()
        assert socket.until("gone", timeout=3)["code"] == "revoked"
        assert time.monotonic() - start < 3


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
