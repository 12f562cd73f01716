"""Rooms, rules, invitations and history over HTTP."""

import uuid

import pytest

from martlet import Person, token


def test_making_and_reading_a_room(server):
    entity = uuid.uuid4()
    ada, bob = server.person(entity, level="300"), server.person(entity, level="5")
    answer = ada.http.post("/v1/rooms", json={"name": "n", "level_admin": "9999", "type": "group"})
    room = answer.json()["data"]
    assert answer.status_code == 201 and isinstance(room["id"], int)
    assert room == {
        "id": room["id"], "channel_id": str(room["id"]), "name": "n", "type": "group", "kind": "group",
        "level_admin": 9999, "owner_user_id": ada.id, "owner_entity_id": str(entity), "permissions": "rwa",
        "level": 300, "default_permissions": "rw", "people_count": 0, "last_seq": 0, "created_at": room["created_at"],
    }
    theirs = bob.http.get(f"/rooms/{room['id']}").json()["data"]
    assert (theirs["permissions"], theirs["level"]) == ("rw", 5)
    rules = {rule["entity_UUID"]: rule for rule in ada.http.get(f"/rooms/{room['id']}/members").json()["data"]}
    assert rules[ada.id]["permissions"] == "rwa" and rules[str(entity)]["permissions"] == "rw"
    assert all(rule["accepted"] is True for rule in rules.values())


@pytest.mark.parametrize("level, status", [("99", 403), (99, 403), ("100", 201), (100, 201), (None, 403)])
def test_level_to_create(server, level, status):
    person = server.person(level=level)
    answer = person.http.post("/rooms", json={"name": "n", "level_admin": 1, "type": "group"})
    assert answer.status_code == status


@pytest.mark.parametrize(
    "body, fields",
    [
        ({}, {"name", "level_admin", "type"}),
        ({"name": "", "level_admin": -1, "type": "club"}, {"name", "level_admin", "type"}),
        ({"name": "n" * 121, "level_admin": 1.5, "type": 5}, {"name", "level_admin", "type"}),
        ({"name": "a\u0007", "level_admin": "x", "type": "group"}, {"name", "level_admin"}),
        ({"name": "n", "level_admin": 2**53 + 1, "type": "group"}, {"level_admin"}),
        ({"name": "n", "level_admin": True, "type": "group"}, {"level_admin"}),
    ],
)
def test_rooms_that_are_not_valid(server, body, fields):
    answer = server.person().http.post("/rooms", json=body)
    assert answer.status_code == 422
    assert {detail["field"] for detail in answer.json()["error"]["details"]} == fields


def test_strangers_and_the_banned_see_nothing(server):
    ada, eve = server.person(uuid.uuid4()), server.person()
    room = ada.room()
    requests = [
        ("GET", "", None), ("PUT", "", {"name": "x"}), ("DELETE", "", None), ("GET", "/members", None),
        ("PUT", "/members", {"entity_UUID": eve.id, "permissions": "rwa", "level": 1}),
        ("DELETE", f"/members/{ada.id}", None), ("GET", "/messages", None), ("PUT", "/invitation", {"accepted": True}),
    ]
    for banned in (False, True):
        if banned:
            assert ada.rule(room, eve, "b").status_code == 200
        for method, path, body in requests:
            answer = eve.http.request(method, f"/rooms/{room}{path}", json=body)
            assert (answer.status_code, answer.json()["error"]["code"]) == (404, "room_not_found"), (method, path)
        assert eve.http.get("/rooms").json()["data"] == []
    for id in ("0", "01", "-1", "x", "99999999999999999999", "1%2F2"):
        assert eve.http.get(f"/rooms/{id}").status_code == 404


def test_letters_decide(server):
    ada, bob = server.person(), server.person()
    room = ada.room()
    for letters, expected in (
        ("r", {"get": 200, "members": 200, "messages": 200, "put": 403, "delete": 403}),
        ("w", {"get": 200, "members": 403, "messages": 403, "put": 403, "delete": 403}),
        ("a", {"get": 200, "members": 403, "messages": 403, "put": 200}),
    ):
        assert ada.rule(room, bob, letters).status_code == 200
        assert bob.http.get(f"/rooms/{room}").status_code == expected["get"]
        assert bob.http.get(f"/rooms/{room}/members").status_code == expected["members"]
        assert bob.http.get(f"/rooms/{room}/messages").status_code == expected["messages"]
        assert bob.http.put(f"/rooms/{room}", json={"name": "renamed"}).status_code == expected["put"]
    assert ada.http.get(f"/rooms/{room}").json()["data"]["name"] == "renamed"
    assert bob.http.delete(f"/rooms/{room}").status_code == 204
    assert ada.http.get(f"/rooms/{room}").status_code == 404


def test_level_admin_manages(server):
    entity = uuid.uuid4()
    ada = server.person(entity)
    room = ada.room(level_admin=50)
    low, high = server.person(entity, level="49"), server.person(entity, level="50")
    assert low.http.put(f"/rooms/{room}", json={"name": "x"}).status_code == 403
    assert high.http.put(f"/rooms/{room}", json={"name": "x", "level_admin": "60"}).json()["data"]["level_admin"] == 60
    assert high.http.put(f"/rooms/{room}", json={"name": "y"}).status_code == 403


def test_rules_can_be_changed_and_deleted(server):
    ada, bob = server.person(), server.person()
    room = ada.room()
    answer = ada.rule(room, bob.id.upper(), "wr", "7")
    assert answer.json()["data"] == {"entity_UUID": bob.id, "permissions": "rw", "level": 7, "accepted": True}
    for nothing in (False, ""):
        ada.rule(room, bob, "r")
        assert bob.http.get(f"/rooms/{room}").status_code == 200
        assert ada.rule(room, bob, nothing).status_code == 200
        assert bob.http.get(f"/rooms/{room}").status_code == 404
    assert ada.http.delete(f"/rooms/{room}/members/{bob.id}").json()["error"]["code"] == "rule_not_found"
    ada.rule(room, bob, "r")
    assert ada.http.delete(f"/rooms/{room}/members/{bob.id}").status_code == 204
    for bad in ("x", "rr", "R", True, 5, None, ["r"]):
        assert ada.rule(room, bob, bad).status_code == 422
    assert ada.http.put(f"/rooms/{room}/members", json={"entity_UUID": "x", "permissions": "r"}).status_code == 422


def test_nobody_grants_beyond_their_own(server):
    ada, bob, eve = server.person(), server.person(), server.person()
    room = ada.room()
    ada.rule(room, bob, "ra", 10)
    assert bob.rule(room, eve, "rw", 1).status_code == 403
    assert bob.rule(room, eve, "r", 11).status_code == 403
    assert bob.rule(room, eve, "ra", 10).status_code == 200
    ada.rule(room, eve, "r", 11)
    assert bob.rule(room, eve, "r", 1).status_code == 403
    assert bob.rule(room, eve, "b", 0).status_code == 403
    assert bob.http.delete(f"/rooms/{room}/members/{eve.id}").status_code == 403
    ada.rule(room, eve, "r", 3)
    assert bob.rule(room, eve, "b", 0).status_code == 200
    assert bob.rule(room, ada, "b", 0).status_code == 403
    assert ada.rule(room, ada, "b", 0).status_code == 403
    assert bob.http.delete(f"/rooms/{room}/members/{ada.id}").status_code == 403


def test_ten_rules(server):
    ada = server.person(uuid.uuid4())
    room = ada.room()
    subjects = [uuid.uuid4() for _ in range(9)]
    answers = [ada.rule(room, subject, "r").status_code for subject in subjects]
    assert answers == [200] * 8 + [403]
    assert ada.rule(room, uuid.uuid4(), "r").json()["error"]["code"] == "too_many_rules"
    # A person's ban takes nobody's place; an entity's does.
    assert ada.rule(room, uuid.uuid4(), "b").status_code == 200
    assert ada.rule(room, subjects[0], "rw").status_code == 200
    ada.rule(room, subjects[0], False)
    assert ada.rule(room, subjects[8], "r").status_code == 200


def test_bans_have_a_limit_of_their_own(fresh):
    server = fresh()
    ada = server.person(uuid.uuid4())
    room = ada.room()
    answers = [ada.rule(room, uuid.uuid4(), "b").status_code for _ in range(1001)]
    assert answers == [200] * 1000 + [403]
    # They leave the places of the others alone, and a page of them is a page like any other.
    assert ada.rule(room, uuid.uuid4(), "rw").status_code == 200
    assert len(ada.http.get(f"/rooms/{room}/members", params={"limit": 200}).json()["data"]) == 200


def test_a_person_makes_so_many_rooms(fresh):
    server = fresh(MARTLET_ROOMS_PER_PERSON=3)
    ada, bob = server.person(), server.person()
    rooms = [ada.room() for _ in range(3)]
    refused = ada.http.post("/rooms", json={"name": "n", "level_admin": 1, "type": "group"})
    assert (refused.status_code, refused.json()["error"]["code"]) == (403, "too_many_rooms")
    bob.room()
    # One that is gone counts no more.
    assert ada.http.delete(f"/rooms/{rooms[0]}").status_code == 204
    ada.room()


def test_a_local_persons_room_has_no_entity(server):
    account = server.sign_up()
    with server.http(account["access_token"]) as http:
        room = http.post("/rooms", json={"name": "n", "level_admin": 1, "type": "group"}).json()["data"]
        assert room["owner_entity_id"] is None and room["level"] == 100
        rules = http.get(f"/rooms/{room['id']}/members").json()["data"]
    assert [(rule["entity_UUID"], rule["permissions"]) for rule in rules] == [(account["user"]["id"], "rwa")]


def test_the_ban_of_an_entity_does_not_reach_an_admin_by_name(server):
    entity = uuid.uuid4()
    ada, bob, carol = server.person(), server.person(entity), server.person(entity)
    room = ada.room()
    ada.rule(room, bob, "rwa")
    ada.rule(room, carol, "rw")
    lower = server.person()
    ada.rule(room, lower, "rwa")
    assert lower.rule(room, entity, "b").status_code == 200
    assert carol.http.get(f"/rooms/{room}").status_code == 404
    assert bob.http.get(f"/rooms/{room}").json()["data"]["permissions"] == "rwa"
    # Named by someone who may, it does.
    assert ada.rule(room, bob, "b").status_code == 200
    assert bob.http.get(f"/rooms/{room}").status_code == 404


def test_leaving(server):
    entity = uuid.uuid4()
    ada, bob = server.person(entity), server.person()
    room = ada.room()
    ada.rule(room, bob, "r")
    with bob.relay() as socket:
        assert [channel["room_id"] for channel in socket.ready["channels"]] == [room]
        assert bob.http.delete(f"/rooms/{room}/members/{bob.id}").status_code == 204
        assert socket.until("gone")["code"] == "revoked"
    assert bob.http.get(f"/rooms/{room}").status_code == 404
    assert bob.http.delete(f"/rooms/{room}/members/{bob.id}").status_code == 404
    # The creator stays; who is in by the entity has nothing to give back.
    assert ada.http.delete(f"/rooms/{room}/members/{ada.id}").status_code == 403
    member = server.person(entity)
    answer = member.http.delete(f"/rooms/{room}/members/{member.id}")
    assert (answer.status_code, answer.json()["error"]["code"]) == (409, "not_a_member")
    # Nobody lifts a ban by leaving.
    ada.rule(room, bob, "b")
    assert bob.http.delete(f"/rooms/{room}/members/{bob.id}").status_code == 404
    assert ada.http.get(f"/rooms/{room}/members").json()["data"][-1]["permissions"] in ("b", "rwa", "rw")


def test_a_conversation_of_two(server):
    entity = uuid.uuid4()
    ada, bob, eve = server.person(entity), server.person(entity), server.person(entity)
    room = ada.room("user2user")
    data = ada.http.get(f"/rooms/{room}").json()["data"]
    assert (data["type"], data["kind"]) == ("user2user", "dialog")
    assert len(ada.http.get(f"/rooms/{room}/members").json()["data"]) == 1
    assert bob.http.get(f"/rooms/{room}").status_code == 404
    assert ada.rule(room, bob, "rw").status_code == 200
    full = ada.rule(room, eve, "rw")
    assert (full.status_code, full.json()["error"]["code"]) == (422, "room_full")
    # Nobody matches by an entity. The owner's takes no place, and neither does a ban.
    other = ada.room("user2user")
    assert ada.rule(other, entity, "rw").status_code == 200
    assert bob.http.get(f"/rooms/{other}").status_code == 404
    assert ada.rule(other, eve, "b").status_code == 200
    assert ada.rule(other, bob, "rw").status_code == 200
    assert bob.http.get(f"/rooms/{other}").status_code == 200
    assert ada.rule(other, server.person(), "b").status_code == 200
    # Who was banned needs one, and has none.
    assert ada.rule(other, eve, "rw").json()["error"]["code"] == "room_full"
    assert ada.rule(other, bob, "r").status_code == 200
    assert ada.rule(other, bob, "b").status_code == 200
    assert ada.rule(other, eve, "rw").status_code == 200


def test_a_room_for_two_of_someone_who_is_an_entity(server):
    same = uuid.uuid4()
    ada = Person(server, same, same)
    bob, eve = server.person(), server.person()
    room = ada.room("user2user")
    assert ada.rule(room, bob, "rw").status_code == 200
    assert ada.rule(room, eve, "rw").json()["error"]["code"] == "room_full"


@pytest.mark.parametrize("accepted", [True, False])
def test_nobody_answers_for_a_person_by_an_entity_in_a_room_for_two(server, accepted):
    ada, bob = server.person(), server.person()
    eve = Person(server, uuid.uuid4(), bob.id)
    room = ada.room("user2user", invite=True)
    assert ada.rule(room, bob, "rw").json()["data"]["accepted"] is False
    answer = eve.http.put(f"/rooms/{room}/invitation", json={"accepted": accepted, "use_parent_entity": True})
    assert answer.status_code == 404
    assert [i["room_id"] for i in bob.http.get("/v1/me/invitations").json()["data"]] == [room]
    assert bob.http.put(f"/rooms/{room}/invitation", json={"accepted": True}).status_code == 200


def test_what_cannot_be_changed(server):
    entity = uuid.uuid4()
    ada, bob = server.person(entity), server.person()
    room = ada.room()
    path = f"/rooms/{room}"
    view = ada.http.get(path).json()["data"]
    other = {
        "id": room + 1, "channel_id": "1", "type": "user2user", "kind": "dialog", "owner_user_id": bob.id,
        "owner_entity_id": None, "permissions": "r", "level": 7000, "created_at": "2020-01-01T00:00:00.000Z",
    }
    for member, value in other.items():
        answer = ada.http.put(path, json={"name": "another", member: value})
        assert answer.status_code == 422, member
        assert [d["field"] for d in answer.json()["error"]["details"]] == [member]
    # All faults at once.
    answer = ada.http.put(path, json=other | {"name": "", "last_seq": 1})
    assert {d["field"] for d in answer.json()["error"]["details"]} == {"name", "last_seq", *other}
    for value in (None, "x", -1, 10**9):
        assert ada.http.put(path, json={"last_seq": value}).status_code == 422
    assert ada.http.get(path).json()["data"] == view
    # What was read may be sent back.
    assert ada.http.put(path, json=view | {"id": str(room), "name": "another"}).json()["data"] == view | {"name": "another"}
    assert bob.http.put(path, json=other).status_code == 404
    # The answer to a rule is its subject's.
    ada.http.put(path, json={"invite": True})
    rule = {"entity_UUID": bob.id, "permissions": "r", "level": 1}
    answer = ada.http.put(path + "/members", json=rule | {"accepted": True})
    assert (answer.status_code, answer.json()["error"]["details"][0]["field"]) == (422, "accepted")
    assert [r["entity_UUID"] for r in ada.http.get(path + "/members").json()["data"] if r["entity_UUID"] == bob.id] == []
    answer = ada.http.put(path + "/members", json=rule | {"accepted": False})
    assert answer.json()["data"] == rule | {"accepted": False}
    # Nobody is asked about a ban.
    answer = ada.http.put(path + "/members", json=rule | {"accepted": False, "permissions": "b"})
    assert answer.json()["data"] == rule | {"accepted": True, "permissions": "b"}


def test_who_is_in_by_an_entity_cannot_leave_by_declining(server):
    entity = uuid.uuid4()
    ada, bob = server.person(entity), server.person(entity)
    room = ada.room(invite=True)
    assert ada.rule(room, bob, "rw").json()["data"]["accepted"] is False
    answer = bob.http.delete(f"/rooms/{room}/members/{bob.id}")
    assert (answer.status_code, answer.json()["error"]["code"]) == (409, "not_a_member")
    assert bob.http.put(f"/rooms/{room}/invitation", json={"accepted": True}).status_code == 200
    assert bob.http.delete(f"/rooms/{room}/members/{bob.id}").status_code == 204


def test_rooms_of_two_do_not_hide_invitations(server):
    entity = uuid.uuid4()
    ada, bob = server.person(), server.person(entity, level="100")
    for _ in range(4):
        # Nobody is invited to these: nobody matches by an entity.
        ada.rule(ada.room("user2user", invite=True), entity, "rw")
    rooms = []
    for _ in range(2):
        rooms.append(ada.room(invite=True))
        ada.rule(rooms[-1], entity, "r")
    first = bob.http.get("/v1/me/invitations", params={"limit": 1}).json()
    assert [i["room_id"] for i in first["data"]] == rooms[:1]
    second = bob.http.get("/v1/me/invitations", params={"limit": 1, "cursor": first["meta"]["next_cursor"]}).json()
    assert [i["room_id"] for i in second["data"]] == rooms[1:] and "meta" not in second


def test_invitations(server):
    entity = uuid.uuid4()
    ada, bob = server.person(), server.person()
    low, high = server.person(entity, level="99"), server.person(entity, level="100")
    room = ada.room(invite=True)
    assert ada.rule(room, bob, "rw").json()["data"]["accepted"] is False
    assert bob.http.get(f"/rooms/{room}").status_code == 404
    with bob.relay() as socket:
        assert socket.ready["channels"] == []
        answer = bob.http.put(f"/rooms/{room}/invitation", json={"accepted": True})
        assert answer.status_code == 200 and answer.json()["data"]["accepted"] is True
        assert socket.receive()["type"] == "channel"
    assert bob.http.put(f"/rooms/{room}/invitation", json={"accepted": True}).json()["error"]["code"] == "invitation_not_found"
    ada.rule(room, entity, "r")
    body = {"accepted": True, "use_parent_entity": True}
    assert low.http.put(f"/rooms/{room}/invitation", json=body).status_code == 403
    assert high.http.put(f"/rooms/{room}/invitation", json=body).status_code == 200
    assert low.http.get(f"/rooms/{room}").status_code == 200
    eve = server.person()
    ada.rule(room, eve, "r")
    assert eve.http.put(f"/rooms/{room}/invitation", json={"accepted": False}).status_code == 200
    assert eve.http.put(f"/rooms/{room}/invitation", json={"accepted": True}).status_code == 404
    assert bob.http.put(f"/rooms/{room}/invitation", json={"accepted": "yes"}).status_code == 422


def test_invitations_are_listed_and_told(server):
    entity = uuid.uuid4()
    ada, bob = server.person(), server.person(entity, level="100")
    low = server.person(entity, level="99")
    with bob.relay() as socket, low.relay() as silent:
        mine = [ada.room(invite=True) for _ in range(3)]
        for room in mine:
            ada.rule(room, bob, "rw")
            told = socket.until("invitation")
            assert (told["room_id"], told["for"], told["permissions"]) == (room, "user", "rw")
        # Changing what waits is no other invitation.
        ada.rule(mine[0], bob, "r")
        ada.rule(mine[1], entity, "r")
        told = socket.until("invitation")
        assert (told["room_id"], told["for"], told["permissions"]) == (mine[1], "entity", "r")
        assert silent.silent()
    listed = bob.http.get("/v1/me/invitations").json()["data"]
    assert {(i["room_id"], i["for"], i["permissions"]) for i in listed} == {
        (mine[0], "user", "r"), (mine[1], "user", "rw"), (mine[1], "entity", "r"), (mine[2], "user", "rw"),
    }
    assert all(i["name"] == "a room" and i["type"] == "group" for i in listed)
    pages, cursor = [], None
    while True:
        page = bob.http.get("/v1/me/invitations", params={"limit": 1} | ({"cursor": cursor} if cursor else {})).json()
        pages += page["data"]
        cursor = page.get("meta", {}).get("next_cursor")
        if not cursor:
            break
    assert pages == listed
    assert low.http.get("/v1/me/invitations").json()["data"] == []
    assert bob.http.get("/v1/me/invitations", params={"cursor": "x"}).status_code == 422
    bob.http.put(f"/rooms/{mine[0]}/invitation", json={"accepted": True})
    bob.http.put(f"/rooms/{mine[2]}/invitation", json={"accepted": False})
    assert {i["room_id"] for i in bob.http.get("/v1/me/invitations").json()["data"]} == {mine[1]}


def test_list_pages(server):
    ada = server.person()
    rooms = [ada.room() for _ in range(7)]
    seen, cursor = [], None
    while True:
        page = ada.http.get("/rooms", params={"limit": 3} | ({"cursor": cursor} if cursor else {})).json()
        seen += [room["id"] for room in page["data"]]
        cursor = page.get("meta", {}).get("next_cursor")
        if not cursor:
            break
    assert seen == rooms
    for bad in ({"limit": 0}, {"limit": 201}, {"limit": "x"}, {"cursor": "x"}):
        assert ada.http.get("/rooms", params=bad).status_code == 422


def test_history(server):
    ada, bob = server.person(), server.person()
    room = ada.room()
    ada.rule(room, bob, "rw")
    with ada.relay() as socket:
        for number in range(1, 8):
            socket.say(room, f"m{number}", f"c{number}")
            socket.until("text")
            socket.until("ack")
    newest = ada.messages(room)
    assert [m["seq"] for m in newest] == [7, 6, 5, 4, 3, 2, 1]
    first = newest[-1]
    assert set(first) == {
        "id", "room_id", "channel_id", "seq", "type", "from", "to", "data", "content", "emitter", "ts", "status", "client_id",
        "updated_seq",
    }
    assert (first["data"], first["content"], first["from"], first["emitter"], first["status"]) == ("m1", "m1", ada.id, ada.id, "sent")
    assert all("client_id" not in m for m in bob.messages(room))
    assert [m["seq"] for m in ada.messages(room, before=4)] == [3, 2, 1]
    assert [m["seq"] for m in ada.messages(room, after="4")] == [5, 6, 7]
    assert [m["seq"] for m in ada.messages(room, after=2, before=5)] == [3, 4]
    by_time = {m["seq"]: m["ts"] for m in newest}
    assert 3 in [m["seq"] for m in ada.messages(room, **{"from": by_time[3]})]
    assert all(m["ts"] < by_time[5] for m in ada.messages(room, to=by_time[5]))
    assert ada.messages(room, to="2000-01-01T00:00:00Z") == [] == ada.messages(room, **{"from": "2999-01-01T00:00:00Z"})
    for start in ({}, {"after": 0}):
        seen, cursor = [], None
        while True:
            page = ada.http.get(f"/rooms/{room}/messages", params={**start, "limit": 3} | ({"cursor": cursor} if cursor else {})).json()
            seen += [m["seq"] for m in page["data"]]
            cursor = page.get("meta", {}).get("next_cursor")
            if not cursor:
                break
        assert seen == ([1, 2, 3, 4, 5, 6, 7] if start else [7, 6, 5, 4, 3, 2, 1])
    for bad in ({"before": "x"}, {"after": -1}, {"from": "yesterday"}, {"limit": 0}):
        assert ada.http.get(f"/rooms/{room}/messages", params=bad).status_code == 422


def test_upper_case_ids_of_a_token_are_the_same_person(server):
    user = uuid.uuid4()
    ada = server.person()
    room = ada.room()
    ada.rule(room, user, "r")
    with server.http(token(str(user).upper())) as http:
        assert http.get(f"/rooms/{room}").status_code == 200


def test_a_ban_that_is_lifted_answers_no_invitation(server):
    ada, bob = server.person(), server.person()
    room = ada.room(invite=True)
    for steps in (("b", "rw"), ("rw", "b", "rw")):
        for letters in steps:
            rule = ada.rule(room, bob, letters).json()["data"]
        assert rule["accepted"] is False
        assert bob.http.get(f"/rooms/{room}").status_code == 404
        assert ada.rule(room, bob, "").status_code == 200


@pytest.mark.parametrize(
    "method, path, options",
    [
        ("PUT", "", {"json": {"name": ""}}), ("PUT", "/members", {"content": b"not json"}),
        ("PUT", "/members", {"content": b"x", "headers": {"content-type": "text/plain"}}),
        ("GET", "/messages?limit=0", {}), ("GET", "/messages?cursor=x", {}), ("GET", "/members?limit=0", {}),
        ("PUT", "/invitation", {"json": {"accepted": 5}}),
    ],
)
def test_strangers_hear_nothing_of_what_they_send(server, method, path, options):
    ada, eve = server.person(), server.person()
    room = ada.room()
    for number in (room, 98765432):
        answer = eve.http.request(method, f"/rooms/{number}{path}", **options)
        assert (answer.status_code, answer.json()["error"]["code"]) == (404, "room_not_found")
    assert ada.http.request(method, f"/rooms/{room}{path}", **options).status_code in (400, 404, 415, 422)


def test_time_bounds_beyond_milliseconds(server):
    ada = server.person()
    room = ada.room()
    with ada.relay() as socket:
        socket.say(room, "x")
        ts = socket.until("text")["ts"]
    later = ts[:-1] + "500Z"
    seqs = lambda **query: [m["seq"] for m in ada.messages(room, **query)]
    assert seqs(**{"from": ts}) == [1] and seqs(**{"from": later}) == []
    assert seqs(to=ts) == [] and seqs(to=later) == [1]


def test_who_may_not_make_rooms_hears_that_first(server):
    answer = server.person(level="99").http.post("/rooms", json={"name": ""})
    assert answer.status_code == 403
