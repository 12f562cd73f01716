"""Every route and frame as everyone: the matrix is made from `martlet routes`, so that what is added
there is tested here, or fails here as a policy that nobody thought about."""

import re
import subprocess
import uuid

import pytest

from martlet import BINARY, tally, token

LINES = [
    (parts[0], *parts[1].split(" "), " ".join(parts[2:]))
    for line in subprocess.run([BINARY, "routes"], capture_output=True, text=True, check=True).stdout.splitlines()
    for parts in [[part.strip() for part in line.split("  ") if part.strip()]]
]
ROUTES = [(method, path, policy) for method, path, policy in [line for line in LINES if line[0] not in ("WS", "FRAME")]]
SOCKETS = [(path, policy) for method, path, policy in [line for line in LINES if line[0] == "WS"]]
FRAMES = [(socket, type, policy) for _, socket, type, policy in [line for line in LINES if line[0] == "FRAME"]]

# Who is there, and in which rooms they stand: letters, or what else they are.
STANDINGS = {
    "stranger": None, "owner of another room": None, "banned": "b", "invited": "waiting", "reader": "r",
    "writer": "w", "admin": "a", "level": "level", "entity": "entity", "creator": "creator",
    # With accounts here: a stranger who administers the whole server, and somebody who is named with a role.
    "platform admin": None, "person with a role": "role",
}

# What each right in a room is answered with: the personas that have it, and the code for members
# without it. Everyone else may not even know that the room is there.
RIGHTS = {
    "r": ({"reader", "level", "entity", "person with a role", "creator"}, 403),
    "w": ({"writer", "level", "entity", "person with a role", "creator"}, 403),
    "an accepted rule": ({"reader", "writer", "admin", "level", "entity", "person with a role", "creator"}, None),
    "a or level_admin": ({"admin", "level", "creator"}, 403),
    # Here it is somebody else's.
    "a or level_admin, or it is one's own rule": ({"admin", "level", "creator"}, 403),
    "a or level_admin, or it is oneself": ({"admin", "level", "creator"}, 403),
    # Here it is the creator's.
    "a or level_admin, or it is one's own message": ({"admin", "level", "creator"}, 403),
    "r, and a or level_admin or it is one's own message": ({"level", "creator"}, 403),
    "w, and it is one's own message": ({"creator"}, 403),
    "a waiting rule": ({"invited"}, 404),
}
MEMBERS = {"reader", "writer", "admin", "level", "entity", "person with a role", "creator"}
NO_ROOM = {"caller", "localUser", "localUser, platform admin", "anyone", "caller, room: level to create"}

# The rights in a team; who has which is `test_teams.py`.
TEAM = {"member", "admin", "admin, or it is oneself", "super_admin"}

BODIES = {
    ("PUT", "{user_id}"): lambda: {"role_id": None},
    ("POST", "roles"): lambda: {"name": "a role", "permissions": ""},
    ("PATCH", "{role_id}"): lambda: {"name": "another"},
    ("POST", "teams"): lambda: {"name": "a team"},
    ("PUT", "members"): lambda: {"entity_UUID": str(uuid.uuid4()), "permissions": "", "level": 0},
    ("PUT", "invitation"): lambda: {"accepted": True},
    ("PUT", "{id}"): lambda: {"name": "renamed"},
    ("POST", "rooms"): lambda: {"name": "n", "level_admin": 9, "type": "group"},
    ("POST", "messages"): lambda: {"data": "x"},
    ("PATCH", "{seq}"): lambda: {"data": "x"},
    ("PUT", "read"): lambda: {"seq": 1},
    ("PUT", "me"): lambda: {"is_muted": True},
    ("DELETE", "me"): lambda: {"password": "correct horse"},
    ("POST", "reports"): lambda: {"reason": "spam"},
    ("PUT", "suspension"): lambda: {"is_suspended": False},
    ("PUT", "manager"): lambda: {"user_id": str(uuid.uuid4())},
}


class World:
    """A room with everyone in it, made anew where an act may have spent it."""

    def __init__(self, server):
        self.server = server
        self.entity = uuid.uuid4()
        self.people = {name: server.person(self.entity if name in ("entity", "creator") else uuid.uuid4(), level="100") for name in STANDINGS}
        self.people |= {"platform admin": server.platform_admin(), "person with a role": server.account()}
        self.people["owner of another room"].room()
        self.room = None

    def fresh(self):
        creator = self.people["creator"]
        self.room = creator.room(level_admin=5000, invite=True)
        self.subject = str(uuid.uuid4())
        creator.http.put(f"/rooms/{self.room}/members", json={"entity_UUID": self.subject, "permissions": "b", "level": 0})
        for name, standing in STANDINGS.items():
            person = self.people[name]
            if standing in ("r", "w", "a", "level", "waiting"):
                letters = {"level": "rw", "waiting": "rw"}.get(standing, standing)
                level = 5000 if standing == "level" else 0
                assert creator.rule(self.room, person, letters, level).status_code == 200
                if standing != "waiting":
                    assert person.http.put(f"/rooms/{self.room}/invitation", json={"accepted": True}).status_code == 200
            elif standing == "b":
                assert creator.rule(self.room, person, "b").status_code == 200
        writer = creator.http.post(f"/rooms/{self.room}/roles", json={"name": "writer", "permissions": "rw"}).json()["data"]["id"]
        person = self.people["person with a role"]
        # Later rooms do not ask any more: they know each other by then.
        assert creator.http.put(f"/rooms/{self.room}/people/{person.id}", json={"role_id": writer}).is_success
        person.accept_invitations()
        # Somebody who is named, and a role that nobody has. Both without letters, so that every manager may touch them.
        self.named = self.server.account()
        assert creator.http.put(f"/rooms/{self.room}", json={"default_permissions": ""}).status_code == 200
        assert creator.http.put(f"/rooms/{self.room}/people/{self.named.id}", json={}).status_code == 202
        role = creator.http.post(f"/rooms/{self.room}/roles", json={"name": "r", "permissions": ""})
        self.role = role.json()["data"]["id"]
        message = creator.http.post(f"/rooms/{self.room}/messages", json={"data": "m"})
        self.seq = message.json()["data"]["seq"]
        return self.room


@pytest.fixture(scope="module")
def world(request, server):
    return World(server)


def expected(policy, persona):
    """200 for a success, or the status of the refusal."""
    if "room:" not in policy or policy in NO_ROOM:
        return 200
    having, lacking = RIGHTS[policy.split("room: ")[1]]
    if persona in having:
        return 200
    return lacking if persona in MEMBERS else 404


def path_for(path, world):
    path = path.replace("{user_id}", world.named.id).replace("{role_id}", world.role)
    path = path.replace("{seq}", str(world.seq)).replace("{emoji}", "\N{THUMBS UP SIGN}")
    return path.replace("{id}", str(world.room), 1).replace("{entity_UUID}", world.subject).replace("{page}", "errors.html")


def body_for(method, path):
    if "/dialogs/" in path or "/reactions/" in path:
        return None
    make = BODIES.get((method, path.rsplit("/", 1)[-1]))
    return make() if make else ({} if method in ("POST", "PUT", "PATCH") else None)


def test_every_policy_is_known():
    assert len(ROUTES) > 30 and len(SOCKETS) == 3 and len(FRAMES) >= 13
    for *_, policy in ROUTES + SOCKETS + FRAMES:
        assert policy in NO_ROOM or policy.split("room: ")[-1] in RIGHTS or policy.split("team: ")[-1] in TEAM, policy


@pytest.mark.parametrize("method, path, policy", ROUTES)
def test_without_or_with_a_bad_credential(server, world, method, path, policy):
    world.room = world.room or world.fresh()
    for bearer in (None, "nonsense", token(uuid.uuid4(), exp=1)):
        with server.http(bearer) as http:
            answer = http.request(method, path_for(path, world), json=body_for(method, path))
        if policy == "anyone":
            assert answer.status_code in (200, 422) or answer.json()["error"]["code"].startswith("invalid_")
        else:
            assert answer.status_code == 401, answer.text
        tally["policy matrix: route x bad credential"] += 1


@pytest.mark.parametrize("method, path, policy", [route for route in ROUTES if route[2].startswith("localUser")])
def test_local_users_and_platform_admins_only(server, method, path, policy):
    person = server.person()
    path = re.sub(r"\{\w+\}", str(uuid.uuid4()), path)
    answer = person.http.request(method, path, json=body_for(method, path))
    assert (answer.status_code, answer.json()["error"]["code"]) == (403, "forbidden")
    with server.http(server.sign_up()["access_token"]) as http:
        answer = http.request(method, path, json=body_for(method, path))
    if "platform admin" not in policy:
        assert answer.status_code in (200, 201, 204, 404, 422)
    else:
        assert (answer.status_code, answer.json()["error"]["code"]) == (403, "forbidden")
        answer = server.administrator.http.request(method, path, json=body_for(method, path))
        assert answer.status_code in (200, 204, 404, 422)
    tally["policy matrix: route x people of here and elsewhere"] += 2 + ("platform admin" in policy)


@pytest.mark.parametrize("method, path, policy", [route for route in ROUTES if "{id}" in route[1] and "room:" in route[2]])
def test_rights_in_a_room(world, method, path, policy):
    world.fresh()
    # Those who may come last: what they do spends the room.
    for persona in sorted(STANDINGS, key=lambda name: expected(policy, name) == 200):
        status = expected(policy, persona)
        if status == 200:
            world.fresh()
        if persona == "entity":
            # In a room by invitation the entity's first rule counts like any other.
            assert world.people[persona].http.get(f"/rooms/{world.room}").status_code == 200
        answer = world.people[persona].http.request(method, path_for(path, world), json=body_for(method, path))
        if status == 200:
            assert answer.status_code in (200, 201, 202, 204), (persona, answer.text)
        else:
            assert answer.status_code == status, (persona, answer.text)
            if status == 404 and persona not in MEMBERS:
                assert answer.json()["error"]["code"] == "room_not_found"
        tally["policy matrix: route of a room x persona"] += 1


# People and the channel of a team of an organization: whether they are in it, and whether they manage it.
POSITIONS = {
    "foreign token": (False, False), "stranger": (False, False), "platform admin": (False, False), "OWNER": (False, False),
    "user": (True, False), "admin": (True, True), "super_admin": (True, True),
}


@pytest.fixture(scope="module")
def team(server):
    """Everyone of `POSITIONS`, and a function that makes them a team."""
    people = {name: server.account(name) for name in POSITIONS} | {"foreign token": server.person(), "platform admin": server.administrator}
    organization = server.organization(OWNER=people["OWNER"])
    for name in ("user", "admin", "super_admin"):
        server.execute(
            "INSERT INTO memberships (organization_id, user_id, role, created_at) VALUES (?, ?, 'TEAM_MEMBER', 1)",
            organization, people[name].id,
        )

    def make():
        owner = people["OWNER"]
        made = owner.ok("POST", "/v1/teams", 201, name="t", organization_id=organization)
        for name in ("user", "admin", "super_admin"):
            owner.ok("POST", f"/v1/teams/{made['id']}/members", 201, user_id=people[name].id)
        owner.ok("PUT", f"/v1/teams/{made['id']}/admins/{people['admin'].id}")
        owner.ok("PUT", f"/v1/teams/{made['id']}/super_admin", user_id=people["super_admin"].id)
        owner.ok("POST", f"/v1/teams/{made['id']}/leave", 204)
        return made

    return people, make


def channel_outcome(method, policy, persona):
    """The code of a request about the channel, or about the super_admin's message in it; nil for a success."""
    is_member, manages = POSITIONS[persona]
    right = policy.split("room: ")[1]
    if not is_member:
        return "room_not_found"
    if right == "a waiting rule":
        return "invitation_not_found"
    if right in ("r", "w", "an accepted rule"):
        return None
    if right == "w, and it is one's own message":
        return None if persona == "super_admin" else "forbidden"
    if method != "GET" and "message" not in right:
        return "managed_by_team"
    return None if manages else "forbidden"


@pytest.mark.parametrize("method, path, policy", [route for route in ROUTES if "{id}" in route[1] and "room:" in route[2]])
def test_rights_in_a_channel(team, method, path, policy):
    people, make = team
    made = None
    for persona in sorted(POSITIONS, key=lambda name: channel_outcome(method, policy, name) is None):
        code = channel_outcome(method, policy, persona)
        if made is None or code is None:
            made = make()
            seq = people["super_admin"].ok("POST", f"/v1/rooms/{made['room_id']}/messages", 201, data="m")["seq"]
        values = {"id": made["room_id"], "seq": seq, "emoji": "\N{THUMBS UP SIGN}", "role_id": uuid.uuid4()}
        whom = {"user_id": people["user"].id, "entity_UUID": people["user"].id}
        answer = people[persona].http.request(method, path.format(**values, **whom), json=body_for(method, path))
        if code:
            assert answer.is_error and answer.json()["error"]["code"] == code, (persona, answer.text)
        else:
            assert answer.is_success, (persona, answer.text)
        tally["policy matrix: route of a channel x position"] += 1


def relay_frame(type, world):
    room = world.room
    if type in ("subscribe", "unsubscribe"):
        return {"type": type, "channels": [str(room)], "client_id": "c"}
    if type == "resume":
        return {"type": type, "channels": {str(room): 0}, "client_id": "c"}
    if type == "watch":
        return {"type": type, "users": [str(uuid.uuid4())], "client_id": "c"}
    change = {"edit": {"data": "x"}, "delete": {}, "react": {"emoji": "\N{THUMBS UP SIGN}"}}
    if type == "seen":
        return {"type": type, "channel_id": str(room), "seq": world.seq, "client_id": "c"}
    if type in change:
        return {"type": type, "channel_id": str(room), "of": world.seq, "client_id": "c", **change[type]}
    return {"type": type, "channel_id": str(room), "to": "*", "data": "x", "client_id": "c"}


@pytest.mark.parametrize("type, policy", [(t, p) for s, t, p in FRAMES if s == "/v1/relay" and t != "auth"])
def test_relay_frames(world, type, policy):
    world.fresh()
    for persona in STANDINGS:
        status = 200 if type == "unsubscribe" and persona in MEMBERS else expected(policy, persona)
        if type == "unsubscribe" and persona not in MEMBERS:
            status = 404
        with world.people[persona].relay("?subscribe=none") as socket:
            socket.send(**relay_frame(type, world))
            if status == 200 and type in ("seen", "typing"):
                # These are not answered; the next frame is.
                socket.send(type="subscribe", channels=["999999"], client_id="end")
                assert socket.receive().get("client_id") == "end"
                continue
            # What they wrote before moves their own marks, of which all their sockets hear.
            while (answer := socket.receive())["type"] == "read":
                pass
        if type == "watch":
            # Everyone may; of people whom one does not know nothing is heard (test_presence.py).
            assert answer == {"type": "presence", "users": []}
        elif status == 200:
            words = {"subscribe": ["subscribed"], "unsubscribe": ["unsubscribed"], "resume": ["resumed", "text", "event"], **dict.fromkeys(("text", "edit", "delete", "react"), ["ack"])}
            if type in words:
                assert answer["type"] in words[type], (persona, answer)
            else:
                assert answer["code"] == "attachment_not_found", (persona, answer)
        else:
            code = "forbidden" if status == 403 else "room_not_found"
            assert (answer["type"], answer["code"]) == ("error", code), (persona, answer)
        tally["policy matrix: frame x persona"] += 1


@pytest.mark.parametrize("type, policy", [(t, p) for s, t, p in FRAMES if s == "/chat" and "room:" in p])
def test_nano_frames(world, type, policy):
    room = world.fresh()
    for persona in STANDINGS:
        with world.people[persona].chat() as socket:
            socket.send(type="select_room", room_id=room)
            answer = socket.receive()["data"]
            if type == "select_room" or answer != "CONNECTED":
                assert answer == ("CONNECTED" if expected("caller, room: r", persona) == 200 else "NOTAUTHORIZED")
                continue
            socket.send(type=type, content="x")
            answer = socket.receive()
            if expected(policy, persona) == 200:
                assert answer["type"] == "message"
            else:
                assert answer["data"] == "NOTAUTHORIZED"
            tally["policy matrix: frame x persona"] += 1


@pytest.mark.parametrize("type", [t for s, t, p in FRAMES if s == "/chat" and p != "anyone"])
def test_nano_needs_a_token(server, type):
    with server.chat() as socket:
        socket.send(type=type, room_id=1, content="x")
        assert socket.receive() == {"type": "query", "data": "TOKEN?"}


def test_sockets_need_a_credential_where_they_say_so(server):
    from websockets.exceptions import InvalidStatus

    for path, policy in SOCKETS:
        if policy == "anyone":
            server.websocket(path).close()
        else:
            with pytest.raises(InvalidStatus) as refused:
                server.websocket(path)
            assert refused.value.response.status_code == 401
