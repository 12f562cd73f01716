"""What platform admins do: people, reports, rooms and messages; and that it is recorded."""

import uuid

import pytest

from martlet import eventually

THUMB = "\N{THUMBS UP SIGN}"


@pytest.fixture(scope="module")
def root(server):
    return server.platform_admin()


def at(room, seq, rest=""):
    return f"/v1/rooms/{room}/messages/{seq}{rest}"


def say(person, room, data="hello", **more):
    return person.ok("POST", f"/v1/rooms/{room}/messages", 201, data=data, **more)


def pages(person, path, **query):
    """A list page by page."""
    found, cursor = [], None
    while True:
        answer = person.http.get(path, params=query | ({"cursor": cursor} if cursor else {}))
        assert answer.status_code == 200, answer.text
        found += answer.json()["data"]
        cursor = answer.json().get("meta", {}).get("next_cursor")
        if not cursor:
            return found


def recorded(root, **query):
    return [(line["action"], line["target_type"], line["target_id"], line["actor_id"]) for line in pages(root, "/v1/admin/audit", **query)]


def test_only_platform_admins(server, root):
    ada, joe = server.account(), server.person()
    for method, path in [
        ("GET", "/v1/admin/users"), ("PUT", f"/v1/admin/users/{ada.id}/suspension"), ("DELETE", f"/v1/admin/users/{root.id}"),
        ("GET", "/v1/admin/audit"), ("GET", "/v1/admin/reports"), ("PATCH", "/v1/admin/reports/1"), ("GET", "/v1/admin/rooms"),
        ("DELETE", "/v1/admin/rooms/1"), ("PUT", "/v1/admin/rooms/1/manager"), ("DELETE", f"/v1/admin/messages/{uuid.uuid4()}"),
    ]:
        for person in (ada, joe):
            answer = person.http.request(method, path, json={} if method != "GET" else None)
            assert (answer.status_code, answer.json()["error"]["code"]) == (403, "forbidden"), path
        with server.http() as http:
            assert http.request(method, path).status_code == 401
    # Whoever ceases to be one.
    former = server.platform_admin("Former")
    server.execute("UPDATE users SET is_platform_admin = 0 WHERE id = ?", former.id)
    server.execute("UPDATE affiliation_versions SET version = version + 1 WHERE user_id = ?", former.id)
    assert eventually(lambda: former.http.get("/v1/admin/users").status_code == 403)


def test_people(server, root):
    mark = uuid.uuid4().hex[:8]
    made = [server.account(f"Zoë {mark} Number{n}") for n in range(5)]
    found = pages(root, "/v1/admin/users", q=mark, limit=2)
    assert [item["id"] for item in found] == [person.id for person in reversed(made)]
    first = found[-1]
    assert first == {
        "id": made[0].id, "email": made[0].email, "name": made[0].name, "platform_admin": False, "is_suspended": False,
        "created_at": first["created_at"], "last_seen_at": first["last_seen_at"],
    }
    assert [item["id"] for item in pages(root, "/v1/admin/users", q=f"zoe {mark} number3")] == [made[3].id]
    assert [item["id"] for item in pages(root, "/v1/admin/users", q=made[2].email.upper())] == [made[2].id]
    assert pages(root, "/v1/admin/users", q="%") == [] == pages(root, "/v1/admin/users", q=f"{mark}x")
    everyone = pages(root, "/v1/admin/users", limit=200)
    assert {person.id for person in made} < {item["id"] for item in everyone} and len({item["id"] for item in everyone}) == len(everyone)
    assert [item["platform_admin"] for item in everyone if item["id"] == root.id] == [True]
    for query in ({"q": ""}, {"q": "x" * 101}, {"limit": 0}, {"cursor": "x"}):
        assert root.http.get("/v1/admin/users", params=query).status_code == 422, query


def test_suspension(server, root):
    bob = server.account("Bob")
    with bob.relay() as socket:
        answer = root.ok("PUT", f"/v1/admin/users/{bob.id}/suspension", 200, is_suspended=True, reason="spam")
        assert (answer["is_suspended"], answer["suspension_reason"]) == (True, "spam") and answer["suspended_at"]
        assert socket.close_code() == 4403
    assert bob.http.get("/v1/me").status_code == 401
    with server.http() as http:
        login = {"email": bob.email, "password": "correct horse"}
        refused = http.post("/v1/auth/login", json=login)
        assert (refused.status_code, refused.json()["error"]["code"]) == (403, "suspended")
        # Only who knows the password is told.
        assert http.post("/v1/auth/login", json=login | {"password": "wrong"}).json()["error"]["code"] == "invalid_credentials"
        root.ok("PUT", f"/v1/admin/users/{bob.id}/suspension", 200, is_suspended=True)
        answer = root.ok("PUT", f"/v1/admin/users/{bob.id}/suspension", 200, is_suspended=False)
        assert answer["is_suspended"] is False and not {"suspended_at", "suspension_reason"} & set(answer)
        assert http.post("/v1/auth/login", json=login).status_code == 200
    assert recorded(root, target_id=bob.id) == [
        ("user_restored", "user", bob.id, root.id), ("user_suspended", "user", bob.id, root.id), ("user_suspended", "user", bob.id, root.id),
    ]
    assert root.code("PUT", f"/v1/admin/users/{root.id}/suspension", is_suspended=True) == (403, "forbidden")
    assert root.code("PUT", f"/v1/admin/users/{uuid.uuid4()}/suspension", is_suspended=True) == (404, "user_not_found")
    for body in ({}, {"is_suspended": 1}, {"is_suspended": True, "reason": ""}, {"is_suspended": True, "reason": "x" * 501}, {"is_suspended": False, "reason": "x"}):
        assert root.http.put(f"/v1/admin/users/{bob.id}/suspension", json=body).status_code == 422, body


def test_the_record(server, root):
    bob = server.account()
    root.ok("PUT", f"/v1/admin/users/{bob.id}/suspension", is_suspended=True)
    [line] = pages(root, "/v1/admin/audit", target_id=bob.id)
    assert line == {
        "id": line["id"], "actor_id": root.id, "actor_name": root.name, "action": "user_suspended", "target_type": "user",
        "target_id": bob.id, "ip": "127.0.0.1", "request_id": line["request_id"], "created_at": line["created_at"],
    }
    # What the operator did, too.
    [line] = pages(root, "/v1/admin/audit", target_id=root.id, action="platform_admin_made")
    assert (line["actor_id"], line["actor_name"], line["ip"]) == (None, "command line", "")
    everything = pages(root, "/v1/admin/audit", limit=2)
    ids = [line["id"] for line in everything]
    assert ids == sorted(ids, reverse=True) and len(set(ids)) == len(ids)
    assert {line["actor_id"] for line in pages(root, "/v1/admin/audit", actor_id=root.id)} == {root.id}
    for query in ({"actor_id": "x"}, {"action": "x"}, {"target_id": ""}, {"cursor": "0"}):
        assert root.http.get("/v1/admin/audit", params=query).status_code == 422, query


def test_reports(server, root):
    ada, bob, stan = (server.account(name) for name in ("Ada", "Bob", "Stan"))
    room = ada.team(bob)["room_id"]
    seq = say(bob, room, "something bad")["seq"]
    for _ in range(2):
        assert ada.ok("POST", at(room, seq, "/reports"), 202, reason="it is bad") == {"status": "reported"}
    ada.ok("POST", at(room, seq, "/reports"), 202, reason="it is very bad")
    [report] = [item for item in pages(root, "/v1/admin/reports") if item["room_id"] == room]
    assert report == {
        "id": report["id"], "room_id": room, "seq": seq, "reporter_id": ada.id, "reason": "it is very bad", "status": "open",
        "created_at": report["created_at"], "message": report["message"],
    }
    assert (report["message"]["data"], report["message"]["from"]) == ("something bad", bob.id)
    # The message as it is now.
    bob.ok("PATCH", at(room, seq), data="something good")
    def shown(**query):
        return {item["id"]: item for item in pages(root, "/v1/admin/reports", **query)}
    assert shown()[report["id"]]["message"]["data"] == "something good"
    closed = root.ok("PATCH", f"/v1/admin/reports/{report['id']}", 200, status="closed")
    assert (closed["status"], closed["closed_by"]) == ("closed", root.id) and closed["closed_at"]
    assert report["id"] not in shown() and report["id"] in shown(status="closed") and report["id"] in shown(status="all", limit=1)
    # Another report of the same message is a new one.
    ada.ok("POST", at(room, seq, "/reports"), 202, reason="again")
    [again] = [item for item in shown().values() if item["room_id"] == room]
    assert again["id"] > report["id"]
    bob.ok("DELETE", at(room, seq), 204)
    assert shown()[again["id"]]["message"] | {"status": "deleted", "data": ""} == shown()[again["id"]]["message"]
    for _ in range(2):
        assert root.ok("PATCH", f"/v1/admin/reports/{again['id']}", status="closed")["status"] == "closed"
    assert [line[0] for line in recorded(root, target_type="report", target_id=str(again["id"]))] == ["report_closed"]
    # Who may report what.
    assert stan.code("POST", at(room, seq, "/reports"), reason="x") == (404, "room_not_found")
    assert ada.code("POST", at(room, seq, "/reports"), reason="x") == (409, "message_deleted")
    assert ada.code("POST", at(room, 99, "/reports"), reason="x") == (404, "message_not_found")
    assert ada.code("POST", at(room, 1, "/reports"), reason="x") == (422, "validation_failed")
    for body in ({}, {"reason": ""}, {"reason": "x" * 501}, {"reason": 1}):
        assert ada.http.post(at(room, seq, "/reports"), json=body).status_code == 422
    assert root.code("PATCH", "/v1/admin/reports/999999", status="closed") == (404, "report_not_found")
    assert root.code("PATCH", "/v1/admin/reports/x", status="closed") == (404, "report_not_found")
    assert root.code("PATCH", f"/v1/admin/reports/{again['id']}", status="open") == (422, "validation_failed")
    # People of other systems report, too.
    joe = server.person()
    own = joe.room()
    seq = joe.http.post(f"/rooms/{own}/messages", json={"data": "x"}).json()["data"]["seq"]
    assert joe.http.post(at(own, seq, "/reports"), json={"reason": "x"}).status_code == 202
    root.ok("DELETE", f"/v1/admin/rooms/{own}", 204)
    [item] = [item for item in shown().values() if item["room_id"] == own]
    assert "message" not in item


def test_rooms(server, root):
    mark = uuid.uuid4().hex[:8]
    ada, bob = server.account("Ada"), server.account("Bob")
    team = ada.team(bob, name=f"Team {mark}")
    room = ada.ok("POST", "/v1/rooms", 201, name=f"Room {mark}", kind="group")
    last = say(ada, room["id"])
    ada.ok("PUT", f"/v1/rooms/{room['id']}/people/{bob.id}", role_id=None)
    dialog = ada.ok("PUT", f"/v1/dialogs/{bob.id}")["id"]
    found = pages(root, "/v1/admin/rooms", q=mark, limit=1)
    assert [item["id"] for item in found] == [room["id"], team["room_id"]]
    assert found[0] == {
        "id": room["id"], "kind": "group", "name": f"Room {mark}", "owner_user_id": ada.id, "people_count": 1, "message_count": 1,
        "last_activity_at": last["ts"], "created_at": room["created_at"],
    }
    assert (found[1]["kind"], found[1]["team_id"], found[1]["people_count"], found[1]["message_count"]) == ("channel", team["id"], 2, 0)
    [item] = [item for item in pages(root, "/v1/admin/rooms", limit=200) if item["id"] == dialog]
    assert sorted(item["name"].split(", ")) == ["Ada", "Bob"] and item["kind"] == "dialog"
    # They see that there is something, and read nothing.
    assert root.code("GET", f"/v1/rooms/{room['id']}/messages") == (404, "room_not_found")
    assert root.code("DELETE", f"/v1/admin/rooms/{team['room_id']}") == (409, "managed_by_team")
    with ada.relay() as socket:
        root.ok("DELETE", f"/v1/admin/rooms/{room['id']}", 204)
        assert socket.receive()["type"] == "gone"
    assert ada.code("GET", f"/v1/rooms/{room['id']}") == (404, "room_not_found") == root.code("DELETE", f"/v1/admin/rooms/{room['id']}")
    assert [item["id"] for item in pages(root, "/v1/admin/rooms", q=mark)] == [team["room_id"]]
    assert recorded(root, target_type="room", target_id=str(room["id"])) == [("room_deleted", "room", str(room["id"]), root.id)]


def test_messages(server, root):
    ada, bob = server.account("Ada"), server.account("Bob")
    team = ada.team(bob)
    secret = ada.ok("POST", "/v1/rooms", 201, name="s", kind="secret")["id"]
    for room in (team["room_id"], secret):
        for client_id in (None, "a key"):
            message = say(ada, room, "zzzap", **({"client_id": client_id} if client_id else {}))
            with ada.relay() as socket:
                root.ok("DELETE", f"/v1/admin/messages/{message['id']}", 204)
                frame = socket.receive()
                while frame["type"] != "deleted":
                    frame = socket.receive()
                assert (frame["of"], frame["from"]) == (message["seq"], None)
            root.ok("DELETE", f"/v1/admin/messages/{message['id']}", 204)
            found = ada.ok("GET", at(room, message["seq"]))
            assert (found["status"], found["data"], found["from"]) == ("deleted", "", ada.id)
            assert recorded(root, target_id=message["id"])[0] == ("message_deleted", "message", message["id"], root.id)
    event = ada.ok("GET", f"/v1/rooms/{team['room_id']}/messages")[-1]
    assert event["type"] == "event"
    for id in (uuid.uuid4(), event["id"]):
        assert root.code("DELETE", f"/v1/admin/messages/{id}") == (404, "message_not_found")
    assert root.http.delete("/v1/admin/messages/x").status_code == 404


def test_a_room_without_a_manager(server, root):
    ada, bob, cleo = (server.account(name) for name in ("Ada", "Bob", "Cleo"))
    ada.team(bob, cleo)
    room = ada.ok("POST", "/v1/rooms", 201, name="r", kind="group")["id"]
    ada.ok("PUT", f"/v1/rooms/{room}/people/{bob.id}", role_id=None)
    manager = f"/v1/admin/rooms/{room}/manager"
    assert root.code("PUT", manager, user_id=bob.id) == (403, "forbidden")
    team = [item for item in ada.ok("GET", "/v1/teams")][0]
    ada.ok("PUT", f"/v1/teams/{team['id']}/super_admin", user_id=cleo.id)
    ada.ok("DELETE", "/v1/me", 204, password="correct horse")
    assert bob.code("PUT", f"/v1/rooms/{room}", name="x") == (403, "forbidden")
    assert root.code("PUT", manager, user_id=cleo.id) == (404, "user_not_found")
    assert root.code("PUT", manager, user_id=str(uuid.uuid4())) == (404, "user_not_found")
    assert root.code("PUT", manager, user_id="x") == (422, "validation_failed")
    assert root.ok("PUT", manager, 200, user_id=bob.id) == {"room_id": room, "user_id": bob.id}
    assert bob.ok("PUT", f"/v1/rooms/{room}", name="x")["owner_user_id"] == bob.id
    assert root.code("PUT", manager, user_id=bob.id) == (403, "forbidden")
    assert root.code("PUT", f"/v1/admin/rooms/{team['room_id']}/manager", user_id=bob.id) == (409, "managed_by_team")
    dialog = bob.ok("PUT", f"/v1/dialogs/{cleo.id}")["id"]
    assert root.code("PUT", f"/v1/admin/rooms/{dialog}/manager", user_id=bob.id) == (403, "forbidden")
    assert root.code("PUT", "/v1/admin/rooms/999999/manager", user_id=bob.id) == (404, "room_not_found")
