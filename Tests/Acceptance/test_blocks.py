"""People who block each other: no dialogs, no messages in them, no being added anywhere."""

import uuid

import pytest

from test_fanout import hears, nodes, pair, redis_alone  # noqa: F401


@pytest.fixture
def people(server):
    ada, bob, cleo, stan = (server.account(name) for name in ("Ada", "Bob", "Cleo", "Stan"))
    return ada, bob, cleo, stan, ada.team(bob, cleo)


def test_lists_of_blocked_people(people):
    ada, bob, cleo, stan, _ = people
    assert ada.ok("GET", "/v1/me/blocks") == []
    blocked = ada.ok("PUT", f"/v1/me/blocks/{bob.id}", 200)
    assert blocked == {"user_id": bob.id, "name": "Bob", "created_at": blocked["created_at"]}
    assert ada.ok("PUT", f"/v1/me/blocks/{bob.id}", 200) == blocked
    ada.ok("PUT", f"/v1/me/blocks/{stan.id}", 200)
    assert {item["user_id"] for item in ada.ok("GET", "/v1/me/blocks")} == {bob.id, stan.id}
    assert bob.ok("GET", "/v1/me/blocks") == []
    first = ada.http.get("/v1/me/blocks", params={"limit": 1}).json()
    rest = ada.http.get("/v1/me/blocks", params={"limit": 1, "cursor": first["meta"]["next_cursor"]}).json()
    assert {item["user_id"] for item in first["data"] + rest["data"]} == {bob.id, stan.id} and "meta" not in rest
    for _ in range(2):
        ada.ok("DELETE", f"/v1/me/blocks/{bob.id}", 204)
    assert [item["user_id"] for item in ada.ok("GET", "/v1/me/blocks")] == [stan.id]
    for id in (uuid.uuid4(), ada.id):
        assert ada.code("PUT", f"/v1/me/blocks/{id}") == (404, "user_not_found")
    assert ada.http.put("/v1/me/blocks/x").status_code == 404
    joe = ada.server.person()
    assert joe.http.put(f"/v1/me/blocks/{ada.id}").status_code == 403 == joe.http.get("/v1/me/blocks").status_code


def test_dialogs(people):
    ada, bob, cleo, stan, team = people
    dialog = ada.ok("PUT", f"/v1/dialogs/{bob.id}")["id"]
    private = ada.ok("POST", f"/v1/rooms/{team['room_id']}/messages", 201, data="psst", to=bob.id)["room_id"]
    made = ada.ok("POST", "/v1/rooms", 201, name="two", kind="dialog")["id"]
    ada.ok("PUT", f"/v1/rooms/{made}/members", entity_UUID=bob.id, permissions="rw", level=0)
    old = {room: bob.ok("POST", f"/v1/rooms/{room}/messages", 201, data="before")["seq"] for room in (dialog, private, made)}
    with bob.relay() as socket:
        ada.ok("PUT", f"/v1/me/blocks/{bob.id}")
        for room in (dialog, private, made):
            assert bob.code("POST", f"/v1/rooms/{room}/messages", data="x") == (403, "blocked"), room
            assert bob.code("PATCH", f"/v1/rooms/{room}/messages/{old[room]}", data="x") == (403, "blocked")
            assert bob.code("PUT", f"/v1/rooms/{room}/messages/{old[room]}/reactions/\N{THUMBS UP SIGN}") == (403, "blocked")
            socket.send(type="text", channel_id=str(room), to="*", data="x", client_id="1")
            assert socket.receive()["code"] == "blocked"
            # Reading goes on, and one's own messages can be deleted.
            assert bob.ok("GET", f"/v1/rooms/{room}/messages")[0]["data"] == "before"
            assert bob.ok("GET", f"/v1/rooms/{room}")["permissions"] in ("r", "ra")
        socket.send(type="text", channel_id=team["id"], to=ada.id, data="x", client_id="2")
        assert socket.receive()["code"] == "blocked"
        assert bob.code("PUT", f"/v1/dialogs/{ada.id}") == (403, "blocked")
        bob.ok("DELETE", f"/v1/rooms/{dialog}/messages/{old[dialog]}", 204)
        # Whoever blocks may write, and both meet in other rooms.
        ada.ok("POST", f"/v1/rooms/{dialog}/messages", 201, data="leave me alone")
        bob.ok("POST", f"/v1/rooms/{team['room_id']}/messages", 201, data="hello all")
        ada.ok("DELETE", f"/v1/me/blocks/{bob.id}", 204)
        for room in (dialog, private, made):
            bob.ok("POST", f"/v1/rooms/{room}/messages", 201, data="sorry")
    # No dialog yet: none is made.
    cleo.ok("PUT", f"/v1/me/blocks/{bob.id}")
    assert bob.code("PUT", f"/v1/dialogs/{cleo.id}") == (403, "blocked")
    assert bob.code("POST", f"/v1/rooms/{team['room_id']}/messages", data="x", to=cleo.id) == (403, "blocked")
    with bob.relay("?subscribe=none") as socket:
        socket.send(type="text", channel_id=team["id"], to=cleo.id, data="x", client_id="3")
        assert socket.receive()["code"] == "blocked"
    # The other way it is made, and one of the two writes in it.
    room = cleo.ok("PUT", f"/v1/dialogs/{bob.id}")["id"]
    cleo.ok("POST", f"/v1/rooms/{room}/messages", 201, data="no")
    assert bob.code("POST", f"/v1/rooms/{room}/messages", data="x") == (403, "blocked")


def test_being_added(people):
    ada, bob, cleo, stan, team = people
    ada.ok("PUT", f"/v1/me/blocks/{bob.id}"), stan.ok("PUT", f"/v1/me/blocks/{bob.id}")
    own = bob.team()
    email = {person: person.ok("GET", "/v1/me")["email"] for person in (ada, stan)}
    assert bob.code("POST", f"/v1/teams/{own['id']}/members", user_id=ada.id) == (403, "blocked")
    assert bob.code("POST", f"/v1/teams/{own['id']}/members", email=email[ada]) == (403, "blocked")
    assert bob.code("POST", f"/v1/teams/{own['id']}/members", user_id=stan.id) == (403, "blocked")
    # A stranger's address tells nothing, and asks nobody.
    bob.ok("POST", f"/v1/teams/{own['id']}/members", 202, email=email[stan])
    assert stan.ok("GET", "/v1/me/invitations") == []
    room = bob.ok("POST", "/v1/rooms", 201, name="r", kind="group")["id"]
    for person in (ada, stan):
        assert bob.code("PUT", f"/v1/rooms/{room}/people/{person.id}", role_id=None) == (403, "blocked")
        assert bob.code("PUT", f"/v1/rooms/{room}/members", entity_UUID=person.id, permissions="rw", level=0) == (403, "blocked")
    # Others may, and nobody needs to be asked to exclude somebody.
    bob.ok("PUT", f"/v1/rooms/{room}/members", entity_UUID=ada.id, permissions="b", level=0)
    # To lift that is to add her.
    rule = {"entity_UUID": ada.id, "permissions": "rw", "level": 0}
    assert bob.code("PUT", f"/v1/rooms/{room}/members", **rule) == (403, "blocked")
    bob.ok("PUT", f"/v1/rooms/{room}/members", entity_UUID=ada.id, permissions="", level=0)
    bob.ok("PUT", f"/v1/rooms/{room}/people/{cleo.id}", role_id=None)
    mine = ada.ok("POST", "/v1/rooms", 201, name="mine", kind="group")["id"]
    ada.ok("PUT", f"/v1/rooms/{mine}/people/{bob.id}", role_id=None)


def test_on_every_node(nodes):  # noqa: F811
    first, second = nodes
    ada, bob = first.account("Ada"), first.account("Bob")
    ada.team(bob)
    dialog = ada.ok("PUT", f"/v1/dialogs/{bob.id}")["id"]
    with second.relay(bob.token, "?subscribe=none") as socket:
        socket.send(type="text", channel_id=str(dialog), to="*", data="1", client_id="1")
        assert socket.receive()["type"] == "ack"
        ada.ok("PUT", f"/v1/me/blocks/{bob.id}")
        socket.send(type="text", channel_id=str(dialog), to="*", data="2", client_id="2")
        assert socket.receive()["code"] == "blocked"
