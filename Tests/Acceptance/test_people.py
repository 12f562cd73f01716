"""Rooms with people and roles, and how these add up with rules."""

import threading
import uuid

import pytest

from martlet import eventually, token


@pytest.fixture(scope="module")
def people(server):
    """Three who know each other from a team, and a stranger."""
    ada, bob, cleo, stan = (server.account(name) for name in ("Ada", "Bob", "Cleo", "Stan"))
    ada.team(bob, cleo)
    return ada, bob, cleo, stan


def group(person, **more):
    return person.ok("POST", "/v1/rooms", 201, **{"name": "a group", "kind": "group", **more})["id"]


def named(person, room):
    return {entry["user_id"]: entry for entry in person.ok("GET", f"/v1/rooms/{room}/people")}


def membership(person, room, user):
    found = person.ok("GET", f"/v1/rooms/{room}/members/{user}")
    return found["is_member"], found["permissions"], found["level"], sorted(found["via"])


def test_kinds_of_rooms(people):
    ada = people[0]
    room = ada.ok("POST", "/v1/rooms", 201, name="n", kind="group")
    assert (room["kind"], room["type"], room["level_admin"], room["default_permissions"], room["people_count"]) == ("group", "group", 2**53, "rw", 0)
    assert "team_id" not in room and "peer" not in room
    room = ada.ok("POST", "/v1/rooms", 201, name="n", kind="dialog", level_admin=5)
    assert (room["kind"], room["type"], room["level_admin"]) == ("dialog", "user2user", 5)
    room = ada.ok("POST", "/v1/rooms", 201, name="n", type="user2user", level_admin=5)
    assert room["kind"] == "dialog"
    for body in (
        {"name": "n"}, {"name": "n", "type": "group"}, {"name": "n", "level_admin": 5}, {"name": "n", "kind": "channel"},
        {"name": "n", "kind": "group", "type": "user2user"}, {"name": "n", "kind": "dialog", "type": "group"}, {"name": "n", "kind": 5},
        {"name": "n", "kind": None}, {"name": "n", "kind": "group", "default_permissions": "b"},
        {"name": "n", "kind": "group", "default_permissions": "rr"}, {"name": "n", "kind": "group", "default_permissions": None},
    ):
        assert ada.http.post("/v1/rooms", json=body).status_code == 422, body


def test_people_come_have_roles_and_go(people):
    ada, bob, cleo, stan = people
    room = group(ada, default_permissions="r")
    path = f"/v1/rooms/{room}"
    with bob.relay() as socket:
        person = ada.ok("PUT", f"{path}/people/{bob.id}", 200)
        assert set(person) == {"user_id", "name", "role_id", "permissions", "joined_at", "accepted"}
        assert (person["name"], person["role_id"], person["permissions"], person["accepted"]) == ("Bob", None, "r", True)
        assert socket.until("channel")["room_id"] == room
        socket.say(room, "may I?", "1")
        assert socket.until("error")["code"] == "forbidden"
        role = ada.ok("POST", path + "/roles", 201, name="writer", permissions="rw")
        assert ada.ok("PUT", f"{path}/people/{bob.id}", 200, role_id=role["id"])["permissions"] == "rw"
        socket.until("event")
        socket.say(room, "thanks", "2")
        assert socket.until("text")["data"] == "thanks" and socket.until("ack")
        # Naming again without a role leaves the role.
        assert ada.ok("PUT", f"{path}/people/{bob.id}", 200)["role_id"] == role["id"]
        assert ada.code("DELETE", f"{path}/roles/{role['id']}") == (409, "role_in_use")
        # What a role gives changes for all who have it, at once.
        ada.ok("PATCH", f"{path}/roles/{role['id']}", 200, permissions="r")
        socket.say(room, "still?", "3")
        assert socket.until("error")["code"] == "forbidden"
        assert ada.ok("PUT", f"{path}/people/{bob.id}", 200, role_id=None)["role_id"] is None
        ada.ok("DELETE", f"{path}/roles/{role['id']}", 204)
        assert ada.code("PUT", f"{path}/people/{bob.id}", role_id=role["id"]) == (404, "role_not_found")
        socket.until("event")
        ada.ok("PUT", path, default_permissions="rw")
        socket.say(room, "by default", "4")
        assert socket.until("text") and socket.until("ack")
        assert ada.ok("GET", path)["people_count"] == 1
        assert [entry["user_id"] for entry in ada.ok("GET", path + "/people")] == [bob.id]
        # Rules and names are two ways in.
        assert ada.ok("GET", path + "/members") == [entry for entry in ada.ok("GET", path + "/members") if entry["entity_UUID"] == ada.id]
        assert membership(ada, room, bob.id) == (True, "rw", 0, ["people"])
        ada.ok("PUT", path + "/members", 200, entity_UUID=bob.id, permissions="a", level=7)
        assert membership(ada, room, bob.id) == (True, "rwa", 7, ["people", "rule"])
        assert membership(ada, room, ada.id) == (True, "rwa", 100, ["rule"])
        for nobody in (stan.id, str(uuid.uuid4())):
            assert membership(ada, room, nobody) == (False, "", 0, [])
        bob.ok("DELETE", f"{path}/people/{bob.id}", 204)
        assert membership(ada, room, bob.id) == (True, "a", 7, ["rule"])
        assert socket.until("gone")["code"] == "revoked"
        assert bob.code("DELETE", f"{path}/people/{bob.id}") == (409, "not_a_member")
    events = [m["event"] for m in reversed(ada.ok("GET", path + "/messages")) if m["type"] == "event"]
    assert [(event["event"], event.get("name")) for event in events] == [
        ("added", None), ("role_changed", "writer"), ("role_changed", None), ("left", None),
    ]
    assert all(event["subject"] == bob.id for event in events)


def test_who_is_asked_first(people):
    ada, bob, cleo, stan = people
    room = group(ada)
    path = f"/v1/rooms/{room}"
    with stan.relay() as socket:
        answer = ada.http.put(f"{path}/people/{stan.id}", json={})
        assert (answer.status_code, answer.json()["data"]) == (202, {"status": "invited"})
        frame = socket.until("invitation")
        assert (frame["room_id"], frame["for"], frame["permissions"]) == (room, "user", "rw")
        assert named(ada, room)[stan.id]["accepted"] is False
        assert stan.code("GET", path) == (404, "room_not_found")
        [invitation] = stan.ok("GET", "/v1/me/invitations")
        assert (invitation["room_id"], invitation["name"], invitation["permissions"]) == (room, "a group", "rw")
        assert stan.ok("PUT", f"/v1/me/invitations/{invitation['id']}", accepted=True)["room_id"] == room
        assert socket.until("channel")["room_id"] == room
    assert stan.ok("GET", path)["permissions"] == "rw"
    # By their own act both are in this room now, so they know each other.
    second = group(ada)
    assert ada.http.put(f"/v1/rooms/{second}/people/{stan.id}", json={}).status_code == 200
    # A room by invitation asks everyone, also in the older way.
    third = group(ada, invite=True)
    assert ada.ok("PUT", f"/v1/rooms/{third}/people/{bob.id}", 200)["accepted"] is False
    assert bob.code("GET", f"/v1/rooms/{third}") == (404, "room_not_found")
    bob.ok("PUT", f"/v1/rooms/{third}/invitation", 200, accepted=True)
    assert bob.ok("GET", f"/v1/rooms/{third}")["permissions"] == "rw"
    assert bob.code("PUT", f"/v1/rooms/{third}/invitation", accepted=True) == (404, "invitation_not_found")
    # Declined, and withdrawn.
    ada.ok("PUT", f"/v1/rooms/{third}/people/{cleo.id}", 200)
    [invitation] = cleo.ok("GET", "/v1/me/invitations")
    cleo.ok("PUT", f"/v1/me/invitations/{invitation['id']}", accepted=False)
    assert cleo.id not in named(ada, third)
    ada.ok("PUT", f"/v1/rooms/{third}/people/{cleo.id}", 200)
    ada.ok("DELETE", f"/v1/rooms/{third}/people/{cleo.id}", 204)
    assert cleo.ok("GET", "/v1/me/invitations") == []
    events = [m["event"]["event"] for m in reversed(ada.ok("GET", f"/v1/rooms/{third}/messages")) if m["type"] == "event"]
    assert events == ["joined"]


def test_nobody_gives_more_than_they_have(people):
    ada, bob, cleo, stan = people
    room = group(ada)
    path = f"/v1/rooms/{room}"
    roles = {letters: ada.ok("POST", path + "/roles", 201, name=letters, permissions=letters)["id"] for letters in ("r", "rw", "ra", "rwa")}
    ada.ok("PUT", f"{path}/people/{bob.id}", 200, role_id=roles["ra"])
    ada.ok("PUT", f"{path}/people/{cleo.id}", 200, role_id=roles["rw"])
    # Bob manages with r and a, but without w.
    for method, end, body in [
        ("PUT", f"/people/{cleo.id}", {"role_id": roles["r"]}), ("PUT", f"/people/{bob.id}", {"role_id": roles["rwa"]}),
        ("PUT", f"/people/{bob.id}", {"role_id": None}), ("DELETE", f"/people/{cleo.id}", {}),
        ("POST", "/roles", {"name": "n", "permissions": "w"}), ("PATCH", f"/roles/{roles['r']}", {"permissions": "rw"}),
        ("PATCH", f"/roles/{roles['rw']}", {"permissions": "r"}), ("PATCH", f"/roles/{roles['rw']}", {"name": "n"}),
        ("DELETE", f"/roles/{roles['rwa']}", {}), ("PUT", "", {"default_permissions": "r"}),
        ("PUT", f"/people/{stan.id}", {}),
    ]:
        answer = bob.http.request(method, path + end, json=body if method != "DELETE" else None)
        assert (answer.status_code, answer.json()["error"]["code"]) == (403, "forbidden"), (method, end, answer.text)
    ada.ok("PUT", path, 200, default_permissions="r")
    bob.ok("PUT", path, 200, default_permissions="")
    bob.ok("POST", path + "/roles", 201, name="n", permissions="ra")
    bob.ok("PUT", f"{path}/people/{bob.id}", 200, role_id=roles["r"])
    # Now Bob does not manage any more.
    assert bob.code("PUT", f"{path}/people/{bob.id}", role_id=roles["ra"]) == (403, "forbidden")
    assert cleo.code("POST", path + "/roles", name="n", permissions="") == (403, "forbidden")
    # Nobody removes the creator, by whatever way.
    ada.ok("PUT", f"{path}/people/{cleo.id}", 200, role_id=roles["rwa"])
    assert cleo.ok("PUT", f"{path}/people/{ada.id}", 200)["permissions"] == ""
    assert cleo.code("DELETE", f"{path}/people/{ada.id}") == (403, "forbidden")
    assert ada.ok("GET", path)["permissions"] == "rwa"


def test_unknown_and_foreign_people(server, people):
    ada, bob, cleo, stan = people
    room = group(ada)
    path = f"/v1/rooms/{room}"
    foreign = server.person()
    for user in (str(uuid.uuid4()), foreign.id, "x"):
        assert ada.code("PUT", f"{path}/people/{user}", role_id=None) == (404, "user_not_found")
        assert ada.code("DELETE", f"{path}/people/{user}") == (404, "user_not_found")
    for role in (str(uuid.uuid4()), "x"):
        assert ada.code("DELETE", f"{path}/roles/{role}") == (404, "role_not_found")
        assert ada.code("PATCH", f"{path}/roles/{role}", name="n") == (404, "role_not_found")
    for body in ({"role_id": "x"}, {"role_id": 5}):
        assert ada.code("PUT", f"{path}/people/{bob.id}", **body) == (422, "validation_failed")
        assert stan.code("PUT", f"{path}/people/{bob.id}", **body) == (404, "room_not_found")
    for body in ({"name": "", "permissions": "r"}, {"name": "n" * 41, "permissions": "r"}, {"name": "n"}, {"name": "n", "permissions": "b"}, {"name": "n", "permissions": 5}):
        assert ada.code("POST", path + "/roles", **body) == (422, "validation_failed"), body
    # A person of another system is in by a rule, and sees the people, but is none.
    ada.ok("PUT", path + "/members", 200, entity_UUID=foreign.id, permissions="rw", level=3)
    assert foreign.http.get(path + "/people").json()["data"] == []
    assert membership(ada, room, foreign.id) == (True, "rw", 3, ["rule"])
    assert foreign.http.delete(f"{path}/people/{foreign.id}").json()["error"]["code"] == "not_a_member"
    # A token that claims to be somebody of this server is refused.
    with server.http(token(bob.id)) as http:
        assert http.get(path).status_code == 401


def test_dialogs_of_two(people):
    ada, bob, cleo, stan = people
    room = ada.ok("POST", "/v1/rooms", 201, name="two", kind="dialog")["id"]
    path = f"/v1/rooms/{room}"
    ada.ok("PUT", f"{path}/people/{bob.id}", 200)
    assert ada.code("PUT", f"{path}/people/{cleo.id}", role_id=None) == (422, "room_full")
    assert ada.code("PUT", path + "/members", entity_UUID=cleo.id, permissions="r") == (422, "room_full")
    ada.ok("PUT", path + "/members", 200, entity_UUID=bob.id, permissions="r")
    ada.ok("DELETE", f"{path}/people/{bob.id}", 204)
    assert ada.code("PUT", f"{path}/people/{cleo.id}", role_id=None) == (422, "room_full")


def test_limits_of_people_and_roles(fresh):
    server = fresh(MARTLET_ROOM_PEOPLE=2, MARTLET_DIRECTORY="everyone")
    ada, *others = [server.account() for _ in range(4)]
    room = group(ada)
    for other in others[:2]:
        ada.ok("PUT", f"/v1/rooms/{room}/people/{other.id}", 200)
    assert ada.code("PUT", f"/v1/rooms/{room}/people/{others[2].id}", role_id=None) == (403, "too_many_people")
    ada.ok("PUT", f"/v1/rooms/{room}/people/{others[0].id}", 200, role_id=None)
    ada.ok("DELETE", f"/v1/rooms/{room}/people/{others[0].id}", 204)
    ada.ok("PUT", f"/v1/rooms/{room}/people/{others[2].id}", 200)
    roles = [ada.ok("POST", f"/v1/rooms/{room}/roles", 201, name="n", permissions="r")["id"] for _ in range(20)]
    assert ada.code("POST", f"/v1/rooms/{room}/roles", name="n", permissions="r") == (403, "too_many_roles")
    assert [role["id"] for role in ada.ok("GET", f"/v1/rooms/{room}/roles")] == sorted(roles)


def test_many_people_at_once(fresh):
    """Names that come and go from all sides end in what was answered last, on every loop and in the database."""
    server = fresh(MARTLET_DIRECTORY="everyone", MARTLET_LOOPS=4)
    ada, *others = [server.account() for _ in range(13)]
    room = group(ada)
    path = f"/v1/rooms/{room}"

    def churn(person):
        with server.http(ada.token) as http:
            for _ in range(10):
                assert http.put(f"{path}/people/{person.id}", json={}).status_code == 200
                assert http.delete(f"{path}/people/{person.id}").status_code == 204
            http.put(f"{path}/people/{person.id}", json={})

    threads = [threading.Thread(target=churn, args=(person,)) for person in others]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert set(named(ada, room)) == {person.id for person in others}
    assert ada.ok("GET", path)["people_count"] == len(others)
    for person in others:
        eventually(lambda person=person: person.http.get(path).status_code == 200)
    events = [m["event"] for m in ada.ok("GET", path + "/messages?limit=200&after=0")]
    for person in others:
        steps = [event["event"] for event in events if event["subject"] == person.id]
        assert all(step == ("added", "removed")[number % 2] for number, step in enumerate(steps))


def test_the_dialog_of_two_people(server, people):
    ada, bob, cleo, stan = people
    answer = ada.http.put(f"/v1/dialogs/{bob.id}")
    assert answer.status_code == 201, answer.text
    room = answer.json()["data"]
    assert (room["kind"], room["type"], room["permissions"], room["people_count"]) == ("dialog", "user2user", "rw", 2)
    assert (room["name"], room["peer"], room["owner_user_id"]) == ("Bob", {"id": bob.id, "name": "Bob"}, None) and "team_id" not in room
    # The other one has the same dialog, under the first one's name.
    answer = bob.http.put(f"/v1/dialogs/{ada.id}", json={})
    theirs = answer.json()["data"]
    assert answer.status_code == 200 and (theirs["id"], theirs["name"]) == (room["id"], "Ada")
    path = f"/v1/rooms/{room['id']}"
    with ada.relay() as first, bob.relay() as second:
        first.say(room["id"], "hello", "1")
        frame = second.until("text")
        assert (frame["channel_id"], frame["to"], frame["seq"]) == (str(room["id"]), "*", 1)
    # Nobody manages it, nobody leaves it, and nobody else gets in.
    for method, end, body in [
        ("PUT", "", {"name": "x"}), ("DELETE", "", None), ("PUT", "/members", {"entity_UUID": cleo.id, "permissions": "r"}),
        ("PUT", f"/people/{cleo.id}", {}), ("DELETE", f"/people/{bob.id}", None), ("DELETE", f"/people/{ada.id}", None),
        ("POST", "/roles", {"name": "n", "permissions": "r"}),
    ]:
        assert ada.http.request(method, path + end, json=body).status_code == 403, (method, end)
    assert cleo.code("GET", path) == (404, "room_not_found")
    nobody_knows = server.account("Eve")
    for user in (ada.id, nobody_knows.id, str(uuid.uuid4()), "x"):
        assert ada.code("PUT", f"/v1/dialogs/{user}") == (404, "user_not_found"), user


def test_a_dialog_is_made_once_by_both(server):
    ada, bob = server.account("Ada"), server.account("Bob")
    ada.team(bob)
    answers = []

    def ask(person, other):
        with server.http(person.token) as http:
            answer = http.put(f"/v1/dialogs/{other.id}")
            answers.append((answer.status_code, answer.json()["data"]["id"]))

    threads = [threading.Thread(target=ask, args=pair) for pair in [(ada, bob), (bob, ada)] * 10]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len({room for _, room in answers}) == 1
    assert sorted(status for status, _ in answers) == [200] * 19 + [201]
