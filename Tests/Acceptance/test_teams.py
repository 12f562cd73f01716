"""Teams, their members and privileges, their channels, and the dialogs between members."""

import itertools
import re
import threading
import time
import uuid

import pytest

from martlet import eventually, tally

MEMBER_FIELDS = {"user_id", "name", "email", "role", "joined_at"}
TEAM_FIELDS = {
    "id", "name", "icon", "active", "meta_tags", "members", "admins", "super_admin", "doc", "created_at", "channel_id",
    "room_id", "organization_id", "member_count",
}


@pytest.fixture(scope="module")
def people(server):
    """A super_admin, an admin, a user, a stranger."""
    return [server.account(name) for name in ("Sue", "Adam", "Una", "Stan")]


def members(person, team):
    return person.ok("GET", f"/v1/teams/{team['id']}/members")


def roles(person, team):
    return {member["user_id"]: member["role"] for member in members(person, team)}


def text(person, team, data, to="*", **more):
    return {"type": "text", "channel_id": team["id"], "to": to, "data": data, **more}


def receive(socket, type, count=1):
    """The next frames of this type; others are passed over."""
    found = []
    while len(found) < count:
        frame = socket.receive()
        assert frame["type"] != "error", frame
        if frame["type"] == type:
            found.append(frame)
    return found[0] if count == 1 else found


def test_a_team_is_made_found_changed_and_deleted(people):
    sue, _, _, stan = people
    made = sue.ok("POST", "/v1/teams", 201, name="Ops Übung", icon="https://example.org/i.png", meta_tags=["a", "b", "a"])
    assert set(made) == TEAM_FIELDS
    assert made["members"] == [sue.id] and made["super_admin"] == sue.id and made["admins"] == [sue.id]
    assert (made["channel_id"], made["organization_id"], made["member_count"], made["active"]) == (made["id"], None, 1, True)
    assert made["meta_tags"] == ["a", "b"] and made["icon"] == "https://example.org/i.png"
    assert re.fullmatch(r"(Mon|Tue|Wed|Thu|Fri|Sat|Sun), \d\d [A-Z][a-z][a-z] \d{4} \d\d:\d\d:\d\d GMT", made["doc"])
    assert isinstance(made["room_id"], int)
    path = f"/v1/teams/{made['id']}"
    assert sue.ok("GET", path) == made
    expanded = sue.ok("GET", path + "?expand=users")
    assert (expanded["members"], expanded["admins"], expanded["super_admin"]) == ([sue.email], [sue.email], sue.email)
    # Found by a part of the name, whatever its case and accents, and by a tag.
    for query, isFound in [("q=ubung", True), ("q=OPS", True), ("q=%25", False), ("tag=b", True), ("tag=c", False), ("q=ops&tag=a", True)]:
        assert (made in sue.ok("GET", f"/v1/teams?{query}")) == isFound, query
    assert stan.ok("GET", "/v1/teams") == []
    changed = sue.ok("PATCH", path, name="Operations", icon=None, meta_tags=[])
    assert (changed["name"], changed["icon"], changed["meta_tags"], changed["active"]) == ("Operations", None, [], True)
    room = sue.ok("GET", f"/v1/rooms/{made['room_id']}")
    assert (room["kind"], room["type"], room["name"], room["channel_id"], room["team_id"]) == ("channel", "group", "Operations", made["id"], made["id"])
    assert (room["permissions"], room["people_count"], room["owner_user_id"]) == ("rwa", 1, None)
    assert sue.ok("DELETE", path, 204) is None
    assert sue.code("GET", path) == (404, "team_not_found")
    assert sue.code("GET", f"/v1/rooms/{made['room_id']}") == (404, "room_not_found")
    assert made["id"] not in [team["id"] for team in sue.ok("GET", "/v1/teams")]


def test_lists_of_teams_and_members_go_page_by_page(server):
    sue = server.account()
    made = [sue.ok("POST", "/v1/teams", 201, name=f"t{number}")["id"] for number in range(5)]
    found, cursor = [], ""
    while True:
        answer = sue.http.get("/v1/teams", params={"limit": 2, **({"cursor": cursor} if cursor else {})}).json()
        found += [team["id"] for team in answer["data"]]
        cursor = answer.get("meta", {}).get("next_cursor")
        if not cursor:
            break
    assert found == made
    assert sue.code("GET", "/v1/teams?cursor=x") == (422, "validation_failed")
    team = sue.team(*[server.account() for _ in range(4)])
    first = sue.http.get(f"/v1/teams/{team['id']}/members", params={"limit": 3}).json()
    second = sue.http.get(f"/v1/teams/{team['id']}/members", params={"limit": 3, "cursor": first["meta"]["next_cursor"]}).json()
    assert [member["user_id"] for member in first["data"] + second["data"]] == team["members"]
    assert "meta" not in second and all(set(member) == MEMBER_FIELDS for member in first["data"])


@pytest.mark.parametrize(
    "body",
    [
        {}, {"name": ""}, {"name": "n" * 121}, {"name": None}, {"name": 5}, {"name": "n", "icon": "ftp://x/y"},
        {"name": "n", "icon": "https://"}, {"name": "n", "icon": "https://x/" + "y" * 2040}, {"name": "n", "icon": "https://x/a b"},
        {"name": "n", "icon": "019ab0e4-6f2b-7c11-9d3e-3b1f6a5c2d01"}, {"name": "n", "icon": 5}, {"name": "n", "meta_tags": "a"},
        {"name": "n", "meta_tags": [""]}, {"name": "n", "meta_tags": ["t" * 41]}, {"name": "n", "meta_tags": [str(i) for i in range(21)]},
        {"name": "n", "meta_tags": [5]}, {"name": "n", "meta_tags": None}, {"name": "n", "organization_id": "x"},
    ],
)
def test_bad_teams(people, body):
    assert people[0].http.post("/v1/teams", json=body).status_code == 422


def test_bad_changes_and_unknown_ids(people):
    sue, adam, una, stan = people
    team = sue.team(una)
    path = f"/v1/teams/{team['id']}"
    for body in ({"name": ""}, {"active": "yes"}, {"active": None}, {"id": team["id"]}, {"members": []}, {"organization_id": None}):
        answer = sue.http.patch(path, json=body)
        assert answer.status_code == 422, body
        # Strangers are told nothing about it.
        assert stan.http.patch(path, json=body).json()["error"]["code"] == "team_not_found"
    nobody = str(uuid.uuid4())
    for method, end in itertools.product(("GET", "PATCH", "DELETE"), (nobody, "x", "1", nobody.replace("-", ""))):
        assert sue.code(method, f"/v1/teams/{end}", name="n") == (404, "team_not_found")
    assert sue.code("POST", path + "/members", user_id=nobody) == (404, "user_not_found")
    assert sue.code("POST", path + "/members", user_id="x") == (422, "validation_failed")
    assert sue.code("POST", path + "/members", email="x") == (422, "validation_failed")
    assert sue.code("POST", path + "/members", email=una.email, user_id=una.id) == (422, "validation_failed")
    for method, part in [("DELETE", "members"), ("PUT", "admins"), ("DELETE", "admins")]:
        for user in (nobody, stan.id, "x"):
            assert sue.code(method, f"{path}/{part}/{user}") == (404, "user_not_found"), (method, part, user)
    assert sue.code("PUT", path + "/super_admin", user_id=stan.id) == (404, "user_not_found")
    assert sue.code("PUT", path + "/super_admin", user_id=nobody) == (404, "user_not_found")
    assert sue.code("PUT", path + "/super_admin") == (400, "invalid_json")


def test_members_are_added_asked_and_leave(server):
    sue, una, stan, eve = (server.account(name) for name in ("Sue", "Una", "Stan", "Eve"))
    team = sue.team()
    path = f"/v1/teams/{team['id']}"
    # Somebody unknown is asked first. Nobody learns which addresses have an account.
    asked = sue.http.post(path + "/members", json={"email": una.email.upper()})
    unknown = sue.http.post(path + "/members", json={"email": "nobody@example.org"})
    assert (asked.status_code, asked.json()) == (unknown.status_code, unknown.json()) == (202, {"data": {"status": "invited"}})
    assert roles(sue, team) == {sue.id: "super_admin"}
    [invitation] = una.ok("GET", "/v1/me/invitations")
    assert (invitation["team_id"], invitation["name"], invitation["invited_by"]) == (team["id"], "a team", sue.id)
    assert uuid.UUID(invitation["id"]).version == 4
    # Asked twice is asked once; others cannot answer.
    assert sue.http.post(path + "/members", json={"user_id": una.id}).status_code == 202
    assert una.ok("GET", "/v1/me/invitations") == [invitation]
    answer = f"/v1/me/invitations/{invitation['id']}"
    assert stan.code("PUT", answer, accepted=True) == (404, "invitation_not_found")
    assert una.code("PUT", answer, accepted="yes") == (422, "validation_failed")
    assert una.code("GET", path) == (404, "team_not_found")
    assert una.ok("PUT", answer, accepted=True) == {"id": invitation["id"], "team_id": team["id"], "name": "a team", "accepted": True}
    assert una.code("PUT", answer, accepted=True) == (404, "invitation_not_found")
    assert roles(una, team) == {sue.id: "super_admin", una.id: "user"}
    # Somebody of the same team is added at once, to another team.
    second = sue.team()
    added = sue.http.post(f"/v1/teams/{second['id']}/members", json={"user_id": una.id})
    assert added.status_code == 201 and set(added.json()["data"]) == MEMBER_FIELDS
    assert sue.http.post(f"/v1/teams/{second['id']}/members", json={"email": una.email}).status_code == 200
    # Declined.
    sue.http.post(path + "/members", json={"user_id": stan.id})
    [invitation] = stan.ok("GET", "/v1/me/invitations")
    stan.ok("PUT", f"/v1/me/invitations/{invitation['id']}", accepted=False)
    assert stan.ok("GET", "/v1/me/invitations") == [] and stan.id not in roles(sue, team)
    # An invitation ends with its team.
    sue.http.post(f"/v1/teams/{second['id']}/members", json={"user_id": eve.id})
    [invitation] = eve.ok("GET", "/v1/me/invitations")
    sue.ok("DELETE", f"/v1/teams/{second['id']}", 204)
    assert eve.ok("GET", "/v1/me/invitations") == []
    assert eve.code("PUT", f"/v1/me/invitations/{invitation['id']}", accepted=True) == (404, "invitation_not_found")
    # Leaving, in both ways.
    una.ok("POST", path + "/leave", 204)
    assert una.code("POST", path + "/leave") == (404, "team_not_found")
    sue.http.post(path + "/members", json={"user_id": una.id})
    una.accept_invitations()
    una.ok("DELETE", f"{path}/members/{una.id}", 204)
    assert sue.code("POST", path + "/leave") == (409, "hand_over_first")
    assert sue.code("DELETE", f"{path}/members/{sue.id}") == (409, "hand_over_first")


# The table of the contract: what each position in a team is answered.
POSITIONS = ["stranger", "user", "admin", "super_admin", "OWNER", "ADMIN", "TEAM_MEMBER"]
ALLOWED, FORBIDDEN, UNKNOWN = (200, None), (403, "forbidden"), (404, "team_not_found")
TABLE = {
    # Somebody of the organization who does not manage it is a stranger to its teams.
    "see": [UNKNOWN, ALLOWED, ALLOWED, ALLOWED, ALLOWED, ALLOWED, UNKNOWN],
    "see the members": [UNKNOWN, ALLOWED, ALLOWED, ALLOWED, ALLOWED, ALLOWED, UNKNOWN],
    "send": [(404, "room_not_found"), ALLOWED, ALLOWED, ALLOWED, (404, "room_not_found"), (404, "room_not_found"), (404, "room_not_found")],
    "send privately": [(404, "room_not_found"), ALLOWED, ALLOWED, ALLOWED, (404, "room_not_found"), (404, "room_not_found"), (404, "room_not_found")],
    "leave": [UNKNOWN, ALLOWED, ALLOWED, (409, "hand_over_first"), (409, "not_a_member"), (409, "not_a_member"), UNKNOWN],
    "add a user": [UNKNOWN, FORBIDDEN, ALLOWED, ALLOWED, ALLOWED, ALLOWED, UNKNOWN],
    "remove a user": [UNKNOWN, FORBIDDEN, ALLOWED, ALLOWED, ALLOWED, ALLOWED, UNKNOWN],
    "name": [UNKNOWN, FORBIDDEN, ALLOWED, ALLOWED, ALLOWED, ALLOWED, UNKNOWN],
    "icon": [UNKNOWN, FORBIDDEN, ALLOWED, ALLOWED, ALLOWED, ALLOWED, UNKNOWN],
    "tags": [UNKNOWN, FORBIDDEN, ALLOWED, ALLOWED, ALLOWED, ALLOWED, UNKNOWN],
    "make an admin": [UNKNOWN, FORBIDDEN, FORBIDDEN, ALLOWED, ALLOWED, ALLOWED, UNKNOWN],
    "unmake an admin": [UNKNOWN, FORBIDDEN, FORBIDDEN, ALLOWED, ALLOWED, ALLOWED, UNKNOWN],
    "remove an admin": [UNKNOWN, FORBIDDEN, FORBIDDEN, ALLOWED, ALLOWED, ALLOWED, UNKNOWN],
    "remove the super_admin": [UNKNOWN, FORBIDDEN, (409, "hand_over_first"), (409, "hand_over_first"), (409, "hand_over_first"), (409, "hand_over_first"), UNKNOWN],
    "deactivate": [UNKNOWN, FORBIDDEN, FORBIDDEN, ALLOWED, ALLOWED, ALLOWED, UNKNOWN],
    "activate": [UNKNOWN, FORBIDDEN, FORBIDDEN, ALLOWED, ALLOWED, ALLOWED, UNKNOWN],
    "hand over": [UNKNOWN, FORBIDDEN, FORBIDDEN, ALLOWED, ALLOWED, ALLOWED, UNKNOWN],
    "delete": [UNKNOWN, FORBIDDEN, FORBIDDEN, ALLOWED, ALLOWED, ALLOWED, UNKNOWN],
}


def act(privilege, person, path, cast):
    """What somebody does who uses a privilege."""
    return {
        "see": lambda: person.http.get(path),
        "see the members": lambda: person.http.get(path + "/members"),
        "leave": lambda: person.http.post(path + "/leave"),
        "add a user": lambda: person.http.post(path + "/members", json={"user_id": cast["TEAM_MEMBER"].id}),
        "remove a user": lambda: person.http.delete(f"{path}/members/{cast['extra user'].id}"),
        "name": lambda: person.http.patch(path, json={"name": "renamed"}),
        "icon": lambda: person.http.patch(path, json={"icon": "http://example.org/i"}),
        "tags": lambda: person.http.patch(path, json={"meta_tags": ["t"]}),
        "make an admin": lambda: person.http.put(f"{path}/admins/{cast['extra user'].id}"),
        "unmake an admin": lambda: person.http.delete(f"{path}/admins/{cast['extra admin'].id}"),
        "remove an admin": lambda: person.http.delete(f"{path}/members/{cast['extra admin'].id}"),
        "remove the super_admin": lambda: person.http.delete(f"{path}/members/{cast['super_admin'].id}"),
        "deactivate": lambda: person.http.patch(path, json={"active": False}),
        "activate": lambda: person.http.patch(path, json={"active": True}),
        "hand over": lambda: person.http.put(path + "/super_admin", json={"user_id": cast["extra user"].id}),
        "delete": lambda: person.http.delete(path),
    }[privilege]()


def test_every_cell_of_the_privilege_table(server):
    names = POSITIONS + ["extra user", "extra admin"]
    cast = {name: server.account(name) for name in names}
    roles = {"TEAM_MEMBER" if name not in ("OWNER", "ADMIN") else name: cast[name] for name in names if name != "stranger"}
    organization = server.organization(OWNER=cast["OWNER"], ADMIN=cast["ADMIN"])
    for name in names:
        if name not in ("stranger", "OWNER", "ADMIN"):
            server.execute(
                "INSERT INTO memberships (organization_id, user_id, role, created_at) VALUES (?, ?, 'TEAM_MEMBER', 1)",
                organization, cast[name].id,
            )
    assert roles
    owner = cast["OWNER"]
    checked = 0
    for privilege, row in TABLE.items():
        for position, (status, code) in zip(POSITIONS, row):
            team = owner.ok("POST", "/v1/teams", 201, name="t", organization_id=organization)
            path = f"/v1/teams/{team['id']}"
            for name in ("user", "admin", "super_admin", "extra user", "extra admin"):
                owner.ok("POST", path + "/members", 201, user_id=cast[name].id)
            for name in ("admin", "extra admin"):
                owner.ok("PUT", f"{path}/admins/{cast[name].id}")
            owner.ok("PUT", path + "/super_admin", user_id=cast["super_admin"].id)
            owner.ok("POST", path + "/leave", 204)
            person = cast[position]
            if privilege.startswith("send"):
                to = cast["extra user"].id if "privately" in privilege else "*"
                with person.relay("?subscribe=none") as socket:
                    socket.send(**text(person, team, "x", to, client_id="c"))
                    answer = socket.receive()
                    assert answer.get("code") == code and answer["type"] == ("error" if code else "ack"), (privilege, position, answer)
            else:
                answer = act(privilege, person, path, cast)
                if code:
                    assert (answer.status_code, answer.json()["error"]["code"]) == (status, code), (privilege, position, answer.text)
                else:
                    assert answer.is_success, (privilege, position, answer.text)
            checked += 1
            tally["privilege table: privilege x position"] += 1
    assert checked == len(TABLE) * len(POSITIONS)
    # Making a team of an organization needs its OWNER or ADMIN, too.
    assert cast["ADMIN"].http.post("/v1/teams", json={"name": "t", "organization_id": organization}).status_code == 201
    assert cast["user"].code("POST", "/v1/teams", name="t", organization_id=organization) == (403, "forbidden")
    assert cast["stranger"].code("POST", "/v1/teams", name="t", organization_id=organization)[0] == 404
    # Nobody from outside gets into a team of an organization.
    assert owner.code("POST", path + "/members", user_id=cast["stranger"].id)[0] == 404
    team = owner.ok("POST", "/v1/teams", 201, name="t", organization_id=organization)
    for body in ({"user_id": cast["stranger"].id}, {"email": cast["stranger"].email}, {"email": "nobody@example.org"}):
        assert owner.code("POST", f"/v1/teams/{team['id']}/members", **body) == (404, "user_not_found")
    # Managers see all teams of the organization, others their own.
    all_teams = owner.ok("GET", f"/v1/teams?organization_id={organization}&limit=200")
    assert team["id"] in [found["id"] for found in all_teams] and all(found["organization_id"] == organization for found in all_teams)
    assert team["id"] not in [found["id"] for found in cast["user"].ok("GET", f"/v1/teams?organization_id={organization}&limit=200")]


def test_admins_and_handing_over(people):
    sue, adam, una, stan = people
    team = sue.team(adam, una)
    path = f"/v1/teams/{team['id']}"
    made = sue.ok("PUT", f"{path}/admins/{adam.id}", 200)
    assert (made["user_id"], made["role"]) == (adam.id, "admin")
    assert sue.ok("PUT", f"{path}/admins/{adam.id}", 200)["role"] == "admin"
    assert sue.ok("GET", path)["admins"] == [sue.id, adam.id]
    assert sue.code("PUT", f"{path}/admins/{sue.id}") == (409, "hand_over_first")
    assert sue.code("DELETE", f"{path}/admins/{sue.id}") == (409, "hand_over_first")
    assert sue.ok("PUT", path + "/super_admin", 200, user_id=sue.id)["super_admin"] == sue.id
    assert sue.ok("PUT", path + "/super_admin", 200, user_id=una.id)["super_admin"] == una.id
    assert roles(una, team) == {sue.id: "admin", adam.id: "admin", una.id: "super_admin"}
    assert sue.code("PUT", path + "/super_admin", user_id=sue.id) == (403, "forbidden")
    sue.ok("POST", path + "/leave", 204)
    una.ok("DELETE", f"{path}/admins/{adam.id}", 204)
    una.ok("DELETE", f"{path}/admins/{adam.id}", 204)
    assert roles(una, team) == {adam.id: "user", una.id: "super_admin"}


def test_the_channel_follows_the_team(people):
    sue, adam, una, stan = people
    with una.relay() as socket, stan.relay() as outside:
        team = sue.team(adam, una)
        path = f"/v1/teams/{team['id']}"
        frame = receive(socket, "channel")
        assert (frame["channel_id"], frame["room_id"]) == (team["id"], team["room_id"])
        with sue.relay() as other:
            assert {"channel_id": team["id"], "room_id": team["room_id"]}.items() <= next(
                channel for channel in other.ready["channels"] if channel["room_id"] == team["room_id"]
            ).items()
            other.send(**text(sue, team, "hello", client_id="1"))
            frame = receive(other, "text")
            assert (frame["channel_id"], frame["room_id"], frame["to"], frame["client_id"]) == (team["id"], team["room_id"], "*", "1")
            assert receive(other, "ack")["channel_id"] == team["id"]
            assert receive(socket, "text")["data"] == "hello"
            # A room's number and a team's id mean the same.
            other.send(type="text", channel_id=str(team["room_id"]), to="*", data="by number")
            assert receive(socket, "text")["channel_id"] == team["id"]
            last = receive(other, "text")["seq"]
            other.send(type="unsubscribe", channels=[team["id"]])
            assert receive(other, "unsubscribed")["channel_id"] == team["id"]
            other.send(type="resume", channels={team["id"]: last - 1})
            assert receive(other, "text")["data"] == "by number"
            assert receive(other, "resumed")["channel_id"] == team["id"]
        history = [m for m in una.ok("GET", f"/v1/rooms/{team['room_id']}/messages?limit=200")]
        events = [m["event"]["event"] for m in reversed(history) if m["type"] == "event"]
        assert events[0] == "created" and sorted(events[1:]) in (["joined", "joined"], ["added", "added"], ["added", "joined"])
        # What belongs to the team is not changed here, by nobody.
        room = f"/v1/rooms/{team['room_id']}"
        for person in (sue, una):
            for method, end, body in [
                ("PUT", "", {"name": "x"}), ("DELETE", "", {}), ("PUT", "/members", {"entity_UUID": stan.id, "permissions": "r"}),
                ("DELETE", f"/members/{una.id}", {}), ("PUT", f"/people/{stan.id}", {}), ("DELETE", f"/people/{una.id}", {}),
                ("POST", "/roles", {"name": "n", "permissions": "r"}),
            ]:
                answer = person.http.request(method, room + end, json=body if method != "DELETE" else None)
                assert (answer.status_code, answer.json()["error"]["code"]) == (409, "managed_by_team"), (method, end, answer.text)
        assert stan.code("PUT", room, name="x") == (404, "room_not_found")
        # Renamed.
        sue.ok("PATCH", path, name="renamed team")
        assert receive(socket, "event")["event"] in ("created", "joined", "added", "renamed")
        # Not active: read-only, and the message says why.
        sue.ok("PATCH", path, active=False)
        socket.send(**text(una, team, "no", client_id="2"))
        error = eventually(lambda: (f := socket.receive())["type"] == "error" and f)
        assert error["code"] == "forbidden" and "not active" in error["message"]
        assert una.ok("GET", room)["permissions"] == "r"
        sue.ok("PATCH", path, active=True)
        socket.send(**text(una, team, "yes", client_id="3"))
        assert receive(socket, "ack")["client_id"] == "3"
        # Removed: nothing more is heard, and nothing enters.
        sue.ok("DELETE", f"{path}/members/{una.id}", 204)
        gone = receive(socket, "gone")
        assert (gone["channel_id"], gone["code"]) == (team["id"], "revoked")
        with adam.relay("?subscribe=none") as member:
            member.send(**text(adam, team, "without una", client_id="4"))
            receive(member, "ack")
        socket.send(**text(una, team, "still", client_id="5"))
        assert socket.receive()["code"] == "room_not_found"
        assert una.code("GET", room) == (404, "room_not_found")
        # Deleted.
        with adam.relay() as member:
            sue.ok("DELETE", path, 204)
            gone = receive(member, "gone")
            assert (gone["channel_id"], gone["code"]) == (team["id"], "deleted")
        assert outside.silent()


def test_private_messages(server):
    sue, una, adam, stan = (server.account(name) for name in ("Sue", "Una", "Adam", "Stan"))
    team = sue.team(una, adam)
    path = f"/v1/teams/{team['id']}"
    with sue.relay() as first, una.relay() as second, adam.relay() as third:
        first.send(**text(sue, team, "psst", una.id, client_id="1"))
        sent, heard = receive(first, "text"), receive(second, "text")
        assert (sent["channel_id"], sent["to"], sent["data"], sent["client_id"]) == (team["id"], una.id, "psst", "1")
        assert sent["room_id"] != team["room_id"] and sent["seq"] == 1
        assert heard == {key: value for key, value in sent.items() if key != "client_id"} | {"notify": True}
        ack = receive(first, "ack")
        assert (ack["channel_id"], ack["room_id"], ack["seq"]) == (team["id"], sent["room_id"], 1)
        # The other way it is the same dialog.
        second.send(**text(una, team, "yes?", sue.id, client_id="2"))
        answer = receive(first, "text")
        assert (answer["room_id"], answer["seq"], answer["to"], answer["from"]) == (sent["room_id"], 2, sue.id, una.id)
        # By its number, too.
        first.send(type="text", channel_id=str(sent["room_id"]), to="*", data="here", client_id="3")
        frame = receive(second, "text", 2)[1]
        assert (frame["channel_id"], frame["to"], frame["seq"]) == (team["id"], una.id, 3)
        # A retry is the first message.
        first.send(**text(sue, team, "psst", una.id, client_id="1"))
        assert receive(first, "ack", 2)[1]["seq"] == 1
        assert third.silent()
        dialog = f"/v1/rooms/{sent['room_id']}"
        room = sue.ok("GET", dialog)
        assert (room["kind"], room["type"], room["team_id"], room["people_count"]) == ("dialog", "user2user", team["id"], 2)
        assert room["peer"] == {"id": una.id, "name": "Una"} and room["channel_id"] == str(sent["room_id"])
        assert una.ok("GET", dialog)["peer"]["id"] == sue.id and adam.code("GET", dialog) == (404, "room_not_found")
        assert sue.ok("GET", dialog + "/messages")[0]["to"] == una.id
        # In a dialog nobody manages.
        for method, end, body in [
            ("PUT", "", {"name": "x"}), ("DELETE", "", {}), ("PUT", "/members", {"entity_UUID": adam.id, "permissions": "r"}),
            ("PUT", f"/people/{adam.id}", {}), ("DELETE", f"/people/{una.id}", {}), ("DELETE", f"/people/{sue.id}", {}),
            ("POST", "/roles", {"name": "n", "permissions": "r"}),
        ]:
            got = sue.http.request(method, dialog + end, json=body if method != "DELETE" else None)
            assert got.status_code == 403, (method, end, got.text)
        # To whom there is no dialog.
        for to in (sue.id, stan.id, str(uuid.uuid4()), "una", ""):
            first.send(**text(sue, team, "x", to, client_id="e"))
            assert first.receive()["code"] == "recipient_not_in_team", to
        with sue.relay() as again:
            listed = [channel for channel in again.ready["channels"] if channel["room_id"] == sent["room_id"]]
            assert listed == [{"channel_id": str(sent["room_id"]), "room_id": sent["room_id"], "seq": 3}]
        # Who is out has lost it; the other one keeps reading.
        sue.ok("DELETE", f"{path}/members/{una.id}", 204)
        assert {receive(second, "gone")["channel_id"], receive(second, "gone")["channel_id"]} == {team["id"], str(sent["room_id"])}
        assert una.code("GET", dialog) == (404, "room_not_found")
        first.send(**text(sue, team, "are you there?", una.id, client_id="4"))
        assert eventually(lambda: (f := first.receive())["type"] == "error" and f)["code"] == "recipient_not_in_team"
        assert len(sue.ok("GET", dialog + "/messages")) == 3 and sue.ok("GET", dialog)["permissions"] == "r"
        # Back in, the dialog goes on.
        sue.ok("POST", path + "/members", user_id=una.id)
        una.accept_invitations()
        first.send(**text(sue, team, "welcome back", una.id, client_id="5"))
        assert receive(first, "ack")["seq"] == 4
        # The team is deleted: both may read, nobody writes.
        sue.ok("DELETE", path, 204)
        for person in (sue, una):
            assert len(person.ok("GET", dialog + "/messages")) == 4
            with person.relay("?subscribe=none") as socket:
                socket.send(type="text", channel_id=str(sent["room_id"]), to="*", data="x")
                assert socket.receive()["code"] == "forbidden"


def test_a_dialog_is_made_once(server):
    sue, una = server.account("Sue"), server.account("Una")
    for attempt in range(5):
        team = sue.team(una)
        with sue.relay() as first, una.relay() as second:
            start = threading.Barrier(2)

            def write(socket, person, other):
                start.wait()
                for number in range(5):
                    socket.send(**text(person, team, f"{person.name} {number}", other.id, client_id=f"{person.id} {number}"))

            threads = [threading.Thread(target=write, args=a) for a in ((first, sue, una), (second, una, sue))]
            for thread in threads:
                thread.start()
            heard = [receive(socket, "text", 10) for socket in (first, second)]
            for thread in threads:
                thread.join()
        assert len({frame["room_id"] for frame in heard[0] + heard[1]}) == 1
        assert [frame["seq"] for frame in heard[0]] == [frame["seq"] for frame in heard[1]] == list(range(1, 11))
        for person in (sue, una):
            own = [frame["data"] for frame in heard[0] if frame["from"] == person.id]
            assert own == [f"{person.name} {number}" for number in range(5)]


def test_fifty_at_once(server):
    """50 removals and 50 additions of one person, and two who hand over to each other."""
    sue, una, adam = server.account("Sue"), server.account("Una"), server.account("Adam")
    team = sue.team(una, adam)
    path = f"/v1/teams/{team['id']}"
    sue.ok("PUT", f"{path}/admins/{adam.id}")
    answers = []

    def run(method, end, **options):
        with server.http(sue.token) as http:
            answers.append(http.request(method, path + end, **options).status_code)

    threads = [threading.Thread(target=run, args=("DELETE", f"/members/{una.id}")) for _ in range(50)]
    threads += [threading.Thread(target=run, args=("POST", "/members"), kwargs={"json": {"user_id": una.id}}) for _ in range(50)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert set(answers) <= {200, 201, 202, 204, 404}, answers
    is_in = una.id in roles(sue, team)
    view = sue.ok("GET", path)
    assert view["member_count"] == len(view["members"]) == (3 if is_in else 2)
    assert (una.http.get(f"/v1/rooms/{team['room_id']}").status_code == 200) == is_in
    events = [m["event"] for m in reversed(sue.ok("GET", f"/v1/rooms/{team['room_id']}/messages?limit=200")) if m["type"] == "event"]
    steps = [event["event"] for event in events if event.get("subject") == una.id]
    # In and out by turns.
    assert all((step in ("joined", "added")) == (number % 2 == 0) for number, step in enumerate(steps)), steps
    assert (steps[-1] in ("joined", "added")) == is_in
    # Handing over crosswise: only the super_admin can, so exactly one is left.
    threads = [
        threading.Thread(target=lambda p, o: p.http.put(path + "/super_admin", json={"user_id": o.id}), args=pair)
        for pair in [(sue, adam), (adam, sue)] * 5
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    found = roles(sue, team)
    assert sorted((found[sue.id], found[adam.id])) == ["admin", "super_admin"]


def test_removal_while_writing(server, stalls):
    """Nothing enters after the removal was answered, and nothing is heard a second later."""
    sue, una = server.account("Sue"), server.account("Una")
    team = sue.team(una)
    with una.relay() as socket, sue.relay() as other:
        stop = threading.Event()

        def write():
            number = 0
            while not stop.is_set():
                socket.send(**text(una, team, f"u{number}", client_id=f"u{number}"))
                number += 1
                time.sleep(0.001)

        thread = threading.Thread(target=write)
        thread.start()
        time.sleep(0.3)
        sue.ok("DELETE", f"/v1/teams/{team['id']}/members/{una.id}", 204)
        head = sue.ok("GET", f"/v1/rooms/{team['room_id']}")["last_seq"]
        time.sleep(0.3)
        stop.set()
        thread.join()
        assert sue.ok("GET", f"/v1/rooms/{team['room_id']}")["last_seq"] == head
        begin = time.monotonic()
        while socket.receive()["type"] != "gone":
            pass
        stalls.check("gone after the removal", time.monotonic() - begin)
        other.send(**text(sue, team, "secret now", client_id="s"))
        receive(other, "ack")
        end = time.monotonic() + 0.5
        while time.monotonic() < end:
            try:
                frame = socket.receive(timeout=0.2)
            except TimeoutError:
                continue
            assert frame.get("data") != "secret now"


def test_a_limit_of_teams(fresh):
    server = fresh(MARTLET_ROOMS_PER_PERSON=2)
    sue = server.account()
    first = sue.team()
    sue.team()
    assert sue.code("POST", "/v1/teams", name="n") == (403, "too_many_rooms")
    sue.ok("DELETE", f"/v1/teams/{first['id']}", 204)
    sue.team()


def test_everyone_in_the_directory(fresh):
    server = fresh(MARTLET_DIRECTORY="everyone")
    sue, una = server.account(), server.account()
    team = sue.ok("POST", "/v1/teams", 201, name="n")
    assert sue.ok("POST", f"/v1/teams/{team['id']}/members", 201, email=una.email)["user_id"] == una.id
