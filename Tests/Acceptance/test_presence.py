"""Who is present, as sockets of relay v1 hear it: whom one may watch, what changes, what people hide, several nodes."""

import time
import uuid

import pytest

from martlet import eventually
from test_fanout import hears, nodes, pair, redis_alone  # noqa: F401


@pytest.fixture(scope="module")
def people(server):
    ada, bob, cleo, stan = (server.account(name) for name in ("Ada", "Bob", "Cleo", "Stan"))
    team = ada.team(bob, cleo)
    return ada, bob, cleo, stan, team


# No frames of rooms among those of people.
QUIET = "?subscribe=none"


def quiet(person):
    return person.relay(QUIET)


def watch(socket, *people):
    """What is known at once about these people, by id."""
    socket.send(type="watch", users=[person if isinstance(person, str) else person.id for person in people], client_id="w")
    answer = socket.receive()
    assert set(answer) == {"type", "users"} and answer["type"] == "presence", answer
    return {user["user_id"]: user["status"] for user in answer["users"]}


def told(socket, timeout=5):
    """The next frame about people, by id."""
    frame = socket.receive(timeout)
    while frame["type"] == "settings":
        frame = socket.receive(timeout)
    assert frame["type"] == "presence", frame
    for user in frame["users"]:
        assert set(user) <= {"user_id", "status", "last_seen_at"}
        assert ("last_seen_at" in user) <= (user["status"] != "online")
    return {user["user_id"]: user["status"] for user in frame["users"]}


def silent(socket, seconds=1.5):
    try:
        frame = socket.receive(timeout=seconds)
        while frame["type"] == "settings":
            frame = socket.receive(timeout=seconds)
    except TimeoutError:
        return True
    raise AssertionError(frame)


def test_who_comes_online(people):
    ada, bob, cleo, stan, _ = people
    with quiet(ada) as socket:
        assert watch(socket, bob, cleo) == {bob.id: "offline", cleo.id: "offline"}
        with quiet(bob):
            assert told(socket) == {bob.id: "online"}
            # A second socket changes nothing, nor does one that goes while another is open.
            with quiet(bob):
                assert silent(socket)
            assert silent(socket)
            # Each watch is answered with all that is known, and replaces the list.
            assert watch(socket, cleo, ada, bob) == {cleo.id: "offline", ada.id: "online", bob.id: "online"}
            assert watch(socket, bob) == {bob.id: "online"}
            with quiet(cleo):
                assert silent(socket)
            assert watch(socket) == {}


def test_changes_are_gathered(server, people):
    ada, bob, cleo, stan, team = people
    others = [server.account(f"P{number}") for number in range(8)]
    for other in others:
        ada.ok("POST", f"/v1/teams/{team['id']}/members", 202, user_id=other.id)
        other.accept_invitations()
    with quiet(ada) as socket:
        assert set(watch(socket, *others).values()) == {"offline"}
        sockets = [other.relay() for other in others]
        times, seen = [], {}
        while len(seen) < len(others):
            seen |= told(socket)
            times.append(time.monotonic())
        assert set(seen.values()) == {"online"} and set(seen) == {other.id for other in others}
        # No two frames within a second; a little less, because the way to here takes its time, too.
        assert all(later - earlier > 0.8 for earlier, later in zip(times, times[1:]))
        for other in sockets:
            other.close()


def test_only_people_one_knows(server, people):
    ada, bob, cleo, stan, team = people
    with quiet(stan), quiet(bob), quiet(ada) as socket:
        # Strangers, people who do not exist: left out, all alike.
        assert watch(socket, stan, str(uuid.uuid4()), bob, bob) == {bob.id: "online"}
        assert silent(socket)
        # Who becomes known is told without being asked for; who is known no longer is offline.
        ada.ok("POST", f"/v1/teams/{team['id']}/members", 202, user_id=stan.id)
        stan.accept_invitations()
        assert told(socket) == {stan.id: "online"}
        ada.ok("DELETE", f"/v1/teams/{team['id']}/members/{stan.id}", 204)
        assert told(socket) == {stan.id: "offline"}
    with quiet(stan) as his:
        assert watch(his, ada, bob, cleo, stan) == {stan.id: "online"}


def test_people_of_another_system_know_whom_they_write_with(server, people):
    ada, bob, *_ = people
    joe = server.person()
    room = ada.ok("POST", "/v1/rooms", 201, name="with others", kind="group")["id"]
    ada.ok("PUT", f"/v1/rooms/{room}/members", entity_UUID=joe.id, permissions="rw", level=0)
    with quiet(ada) as hers, quiet(joe) as his:
        assert watch(hers, joe) == {} == watch(his, ada, bob)
        his.say(room, "hello", "1")
        his.until("ack")
        # Whoever made the room is in it by their own act; the other one is by writing.
        assert eventually(lambda: watch(hers, joe) == {joe.id: "online"})
        assert watch(his, ada, bob) == {ada.id: "online"}


def test_who_hides(people):
    ada, bob, cleo, *_ = people
    with quiet(ada) as socket, quiet(bob) as his:
        assert watch(socket, bob) == {bob.id: "online"}
        bob.ok("PUT", "/v1/me/settings", presence="offline", theme="dark")
        assert told(socket) == {bob.id: "offline"}
        assert "last_seen_at" not in str(watch_raw(socket, bob))
        his.send(type="watch", users=[ada.id])
        assert told(his) == {ada.id: "online"}
        # A PUT without it leaves it as it is; another type counts as the default.
        bob.ok("PUT", "/v1/me/settings", theme="light")
        assert silent(socket)
        bob.ok("PUT", "/v1/me/settings", presence=["offline"])
        assert told(socket) == {bob.id: "online"}
    bob.ok("PUT", "/v1/me/settings", presence="offline")
    with quiet(ada) as socket:
        assert watch_raw(socket, bob) == [{"user_id": bob.id, "status": "offline"}]
        with quiet(bob):
            assert silent(socket)
    bob.ok("PUT", "/v1/me/settings", presence="auto")


def watch_raw(socket, *people):
    socket.send(type="watch", users=[person.id for person in people])
    return socket.until("presence")["users"]


def test_frames_that_are_not_understood(people):
    ada, bob, *_ = people
    wrong = [None, "x", 1, {}, [1], [None], ["x"], [bob.id, "x"], [[bob.id]], [bob.id] * 501, [str(uuid.uuid4()) for _ in range(501)]]
    with quiet(ada) as socket:
        for users in wrong:
            socket.send(type="watch", users=users, client_id="w")
            answer = socket.receive()
            assert (answer["type"], answer["code"], answer["client_id"]) == ("error", "invalid_frame", "w"), users
        socket.send(type="watch")
        assert socket.receive()["code"] == "invalid_frame"
        many = [str(uuid.uuid4()) for _ in range(499)] + [bob.id]
        assert set(watch(socket, *many)) == {bob.id}
        # Frames are served in their order, also behind one that is looked up.
        socket.send(type="watch", users=[bob.id])
        socket.send(type="watch", users=[])
        socket.send(type="subscribe", channels=["999999"], client_id="s")
        assert [socket.receive()["type"] for _ in range(3)] == ["presence", "presence", "error"]


def test_people_on_both_nodes(nodes):  # noqa: F811
    first, second = nodes
    ada, bob, cleo = first.account("Ada"), first.account("Bob"), first.account("Cleo")
    ada.team(bob, cleo)
    with second.relay(bob.token) as his:
        with first.relay(ada.token, QUIET) as here, second.relay(ada.token, QUIET) as there:
            assert watch(there, bob, cleo) == {bob.id: "online", cleo.id: "offline"}
            eventually(lambda: watch(here, bob, cleo) == {bob.id: "online", cleo.id: "offline"})
            with first.relay(cleo.token):
                assert told(here) == {cleo.id: "online"} == told(there)
                cleo.ok("PUT", "/v1/me/settings", presence="offline")
                assert told(here) == {cleo.id: "offline"} == told(there)
                cleo.ok("PUT", "/v1/me/settings", presence="auto")
                assert told(here) == {cleo.id: "online"} == told(there)
            # Gone, and back on the other node within 30 s: nobody notices. Bob does not come back.
            with second.relay(cleo.token):
                his.close()
                began = time.monotonic()
                assert told(here, 45) == {bob.id: "offline"} == told(there)
                assert time.monotonic() - began > 25
                assert silent(here, 3) and silent(there, 0.1)


def test_a_node_that_is_killed(nodes):  # noqa: F811
    first, second = nodes
    ada, bob = first.account("Ada"), first.account("Bob")
    ada.team(bob)
    with first.relay(ada.token, QUIET) as here:
        assert watch(here, bob) == {bob.id: "offline"}
        second.relay(bob.token)
        assert told(here) == {bob.id: "online"}
        second.kill()
        assert told(here, 60) == {bob.id: "offline"}
        # It starts anew, and what it says counts from the beginning.
        second.start()
        hears(first)
        with second.relay(bob.token):
            assert told(here, 20) == {bob.id: "online"}
