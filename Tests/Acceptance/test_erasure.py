"""Erased accounts: nothing says who somebody was, nobody meets them, and their messages stay or go."""

import uuid

import pytest

from martlet import eventually

PASSWORD = "correct horse"


@pytest.fixture(scope="module")
def root(server):
    return server.platform_admin()


def at(room, seq, rest=""):
    return f"/v1/rooms/{room}/messages/{seq}{rest}"


def say(person, room, data="hello", **more):
    return person.ok("POST", f"/v1/rooms/{room}/messages", 201, data=data, **more)


def until(socket, type):
    while (frame := socket.receive())["type"] != type:
        pass
    return frame


def test_somebody_is_gone(server):
    ada, bob, cleo = (server.account(name) for name in ("Ada Lovelace", "Bob", "Cleo"))
    team = ada.team(bob, cleo)
    channel = team["room_id"]
    room = ada.ok("POST", "/v1/rooms", 201, name="r", kind="group")["id"]
    ada.ok("PUT", f"/v1/rooms/{room}/people/{bob.id}", role_id=None)
    ruled = ada.ok("POST", "/v1/rooms", 201, name="by rule", kind="group")["id"]
    ada.ok("PUT", f"/v1/rooms/{ruled}/members", entity_UUID=bob.id, permissions="rw", level=0)
    dialog = ada.ok("PUT", f"/v1/dialogs/{bob.id}")["id"]
    private = say(bob, channel, "psst", to=ada.id)["room_id"]
    said = {place: say(bob, place, f"said in {place}")["seq"] for place in (channel, room, ruled, dialog)}
    mine = say(ada, room)["seq"]
    bob.ok("PUT", f"/v1/rooms/{room}/read", seq=mine)
    bob.ok("PUT", at(room, mine, "/reactions/\N{THUMBS UP SIGN}"))
    assert [reader["user_id"] for reader in ada.ok("GET", at(room, mine, "/seen"))] == [bob.id]
    bob.ok("PUT", "/v1/me/settings", theme="dark")
    cleo.ok("PUT", f"/v1/me/blocks/{bob.id}")
    with bob.relay() as his, ada.relay() as hers:
        for body, answer in (({"password": "wrong"}, (403, "wrong_password")), ({}, (422, "validation_failed")), ({"password": PASSWORD, "messages": "x"}, (422, "validation_failed"))):
            refused = bob.http.request("DELETE", "/v1/me", json=body)
            assert (refused.status_code, refused.json()["error"]["code"]) == answer
        bob.ok("DELETE", "/v1/me", 204, password=PASSWORD)
        assert his.close_code() == 4403
        assert until(hers, "event") | {"event": "left", "subject": bob.id, "from": bob.id, "channel_id": team["id"]} and True
    assert bob.http.get("/v1/me").status_code == 401
    # Nobody logs in, and the address is free for somebody else, who is another person.
    with server.http() as http:
        login = {"email": bob.email, "password": PASSWORD}
        assert http.post("/v1/auth/login", json=login).json()["error"]["code"] == "invalid_credentials"
        again = http.post("/v1/auth/signup", json=login | {"name": "Bob"})
        assert again.status_code == 201 and again.json()["data"]["user"]["id"] != bob.id
        for _ in range(2):
            assert http.post("/v1/auth/login", json={"email": bob.id, "password": ""}).status_code in (401, 422)
    # In no list, team or room.
    assert bob.id not in ada.ok("GET", f"/v1/teams/{team['id']}")["members"] and ada.ok("GET", f"/v1/teams/{team['id']}")["member_count"] == 2
    assert ada.ok("GET", f"/v1/rooms/{room}/people") == []
    for place in (room, ruled, channel, dialog):
        assert not ada.ok("GET", f"/v1/rooms/{place}/members/{bob.id}")["is_member"], place
    assert [rule["entity_UUID"] for rule in ada.ok("GET", f"/v1/rooms/{ruled}/members")] == [ada.id]
    assert ada.ok("GET", at(room, mine, "/seen")) == [] == cleo.ok("GET", "/v1/me/blocks")
    assert [found["id"] for found in ada.http.get("/v1/users", params={"q": "bob"}).json()["data"]] == []
    # What he said remains, as a deleted user's.
    for place, seq in said.items():
        message = ada.ok("GET", at(place, seq))
        assert (message["data"], message["from"]) == (f"said in {place}", bob.id)
    assert ada.ok("GET", f"/v1/users/{bob.id}") == {"id": bob.id, "name": "Deleted user"}
    assert cleo.ok("GET", f"/v1/users?ids={bob.id},{ada.id}") == [{"id": bob.id, "name": "Deleted user"}, {"id": ada.id, "name": "Ada Lovelace"}]
    assert server.account().code("GET", f"/v1/users/{bob.id}") == (404, "user_not_found")
    assert ada.ok("GET", f"/v1/rooms/{dialog}")["peer"] == {"id": bob.id, "name": "Deleted user"}
    assert ada.ok("GET", at(room, mine))["reactions"] == [{"emoji": "\N{THUMBS UP SIGN}", "count": 1, "me": False}]
    # Nobody writes to him, adds or blocks him any more.
    assert ada.code("POST", f"/v1/rooms/{dialog}/messages", data="x") == (403, "forbidden")
    assert ada.code("POST", f"/v1/rooms/{private}/messages", data="x") == (422, "recipient_not_in_team")
    assert ada.code("PUT", f"/v1/dialogs/{server.account().id}") == (404, "user_not_found")
    assert ada.code("PUT", f"/v1/rooms/{room}/people/{bob.id}", role_id=None) == (404, "user_not_found")
    assert ada.code("POST", f"/v1/teams/{team['id']}/members", user_id=bob.id) == (404, "user_not_found")
    assert ada.code("PUT", f"/v1/me/blocks/{bob.id}") == (404, "user_not_found")
    # His id stays one of this server's: no token of another system may name it.
    with server.person().server.http() as http:
        from martlet import token

        assert http.get("/rooms", headers={"authorization": f"Bearer {token(uuid.UUID(bob.id))}"}).status_code == 401


def test_teams_first(server, root):
    ada, bob = server.account("Ada"), server.account("Bob")
    teams = [ada.team(bob, name=f"team {n}") for n in range(2)]
    for ask in (lambda: ada.http.request("DELETE", "/v1/me", json={"password": PASSWORD}), lambda: root.http.delete(f"/v1/admin/users/{ada.id}")):
        refused = ask()
        assert (refused.status_code, refused.json()["error"]["code"]) == (409, "hand_over_first")
        for team in teams:
            assert team["id"] in refused.text and team["name"] in refused.text
    assert ada.ok("GET", "/v1/me")["name"] == "Ada"
    ada.ok("PUT", f"/v1/teams/{teams[0]['id']}/super_admin", user_id=bob.id)
    ada.ok("DELETE", f"/v1/teams/{teams[1]['id']}", 204)
    root.ok("DELETE", f"/v1/admin/users/{ada.id}", 204)
    assert root.code("DELETE", f"/v1/admin/users/{ada.id}") == (404, "user_not_found") == root.code("DELETE", f"/v1/admin/users/{uuid.uuid4()}")
    assert bob.ok("GET", f"/v1/teams/{teams[0]['id']}")["members"] == [bob.id]
    [line] = root.ok("GET", f"/v1/admin/audit?target_id={ada.id}")
    assert (line["action"], line["actor_id"]) == ("user_erased", root.id)
    assert ada.id not in {item["id"] for item in root.ok("GET", "/v1/admin/users?limit=200")}


def test_with_all_messages(server, root):
    ada, bob = server.account("Ada"), server.account("Bob")
    team = ada.team(bob)
    left = ada.ok("POST", "/v1/rooms", 201, name="left", kind="group")["id"]
    ada.ok("PUT", f"/v1/rooms/{left}/people/{bob.id}", role_id=None)
    secret = ada.ok("POST", "/v1/rooms", 201, name="s", kind="secret")["id"]
    ada.ok("PUT", f"/v1/rooms/{secret}/people/{bob.id}", role_id=None)
    said = [(room, say(bob, room, f"zapped {n}")["seq"]) for room in (team["room_id"], left, secret) for n in range(3)]
    hers = say(ada, team["room_id"], "zapped? not this")["seq"]
    bob.ok("PATCH", at(*said[0]), data="zapped too")
    bob.ok("DELETE", f"/v1/rooms/{left}/people/{bob.id}", 204)
    root.ok("DELETE", f"/v1/admin/users/{bob.id}", 204, messages="delete")
    def deleted(place):
        message = ada.ok("GET", at(*place))
        return message["status"] == "deleted" and message["data"] == ""
    assert eventually(lambda: all(deleted(place) for place in said))
    assert ada.ok("GET", at(team["room_id"], hers))["data"] == "zapped? not this"
    found = ada.http.get("/v1/search", params={"q": "zapped"}).json()["data"]
    assert [hit["message"]["seq"] for hit in found] == [hers]


@pytest.mark.parametrize("database", ["sqlite", "postgres"])
def test_a_kill_in_the_middle(fresh, postgres, database):
    settings = {"MARTLET_DATABASE": postgres.database()} if database == "postgres" else {}
    server = fresh(**settings)
    ada, bob = server.account("Ada"), server.account("Bob")
    team = ada.team(bob)
    with bob.relay() as socket:
        for n in range(600):
            socket.send(type="text", channel_id=team["id"], to="*", data=f"message {n}", client_id=str(n))
        until_seq = [until(socket, "ack")["seq"] for _ in range(600)]
    bob.ok("DELETE", "/v1/me", 204, password=PASSWORD, messages="delete")
    server.kill()
    server.start()
    ada.http = server.http(ada.token)
    def left():
        page = ada.http.get(f"/v1/rooms/{team['room_id']}/messages", params={"limit": 200, "before": max(until_seq) + 1}).json()["data"]
        return [message for message in page if message["type"] == "text" and message["status"] != "deleted"]
    assert eventually(lambda: not left())
    for seq in (min(until_seq), until_seq[300]):
        assert ada.ok("GET", at(team["room_id"], seq))["status"] == "deleted"
