"""openapi.yaml: valid, true, and enough to make a client from."""

import copy
import importlib
import os
import re
import subprocess
import sys
import uuid

import httpx
import pytest
import yaml
from openapi_schema_validator import OAS30Validator
from openapi_spec_validator import validate

from martlet import BINARY, ROOT

# The same handlers, under the paths of nano-messaging; said in words in the description.
ALIASES = {"/rooms": "/v1/rooms", "/chat": "/v1/chat"}

DOCUMENT = yaml.safe_load((ROOT / "openapi.yaml").read_text())


def resolve(value):
    while "$ref" in value:
        target = DOCUMENT
        for part in value["$ref"].removeprefix("#/").split("/"):
            target = target[part]
        value = target
    return value


def operations():
    """Each operation of the description: its method, path and content."""
    for path, item in DOCUMENT["paths"].items():
        for method, operation in item.items():
            if method != "parameters":
                yield method.upper(), path, operation


def routes():
    """What the server has: (method, path) to its policy, without aliases."""
    found, aliases = {}, set()
    for line in subprocess.run([BINARY, "routes"], env={}, capture_output=True, text=True, check=True).stdout.splitlines():
        method, path, policy = re.match(r"(\S+) +(\S+) +(.*)", line).groups()
        if method == "FRAME":
            continue
        method = "GET" if method == "WS" else method
        alias = next((short for short in ALIASES if path == short or path.startswith(short + "/")), None)
        if alias:
            aliases.add((method, ALIASES[alias] + path[len(alias):], policy))
        else:
            found[(method, path)] = policy
    assert all(found[(method, path)] == policy for method, path, policy in aliases)
    return found


def strict(schema):
    """A schema that refuses members it does not name, but where it says that any may come."""
    schema = copy.deepcopy(schema)

    def visit(value):
        if isinstance(value, dict):
            if value.get("type") == "object" and "properties" in value:
                value.setdefault("additionalProperties", False)
            for each in value.values():
                visit(each)
        elif isinstance(value, list):
            for each in value:
                visit(each)

    visit(schema)
    return schema


STRICT = {**strict({name: DOCUMENT["components"][name] for name in ("schemas", "responses", "parameters", "headers")})}


def check(value, schema):
    """Fails where a value is not what a schema says, or has members of which it says nothing."""
    OAS30Validator({**strict(schema), "components": STRICT}, format_checker=OAS30Validator.FORMAT_CHECKER).validate(value)


def test_it_is_valid():
    validate(DOCUMENT)


def test_it_lists_the_routes_and_no_others():
    assert set(routes()) == {(method, path) for method, path, _ in operations()}


def test_every_operation_is_named_once_and_tagged():
    names = [operation["operationId"] for _, _, operation in operations()]
    assert len(names) == len(set(names))
    tags = {tag["name"] for tag in DOCUMENT["tags"]}
    assert all(set(operation["tags"]) <= tags and len(operation["tags"]) == 1 for _, _, operation in operations())


def test_statuses_and_credentials_are_those_of_the_policies():
    policies = routes()
    for method, path, operation in operations():
        policy, statuses = policies[(method, path)], set(operation["responses"])
        place = f"{method} {path}: {policy}"
        if policy.startswith("anyone"):
            assert operation["security"] == [], place
        else:
            assert "security" not in operation and "401" in statuses, place
        if policy.startswith("localUser"):
            assert "403" in statuses, place
        if "{id}" in path:
            assert "404" in statuses, place
        if "requestBody" in operation:
            assert {"400", "413", "415", "422"} <= statuses, place
        if operation["tags"] == ["live"]:
            assert {"101", "400", "426", "429", "503"} <= statuses, place


def test_every_error_code_is_listed():
    listed = DOCUMENT["components"]["schemas"]["ErrorBody"]["properties"]["code"]["x-extensible-enum"]
    assert listed == re.findall(r"^\| `(\w+)` \|", (ROOT / "docs/ERRORS.md").read_text(), re.M)
    # A code that frames only carry is no answer of HTTP; the others stand where they are answered.
    said = set(re.findall(r"`(\w+)`", yaml.safe_dump(DOCUMENT["components"]["responses"])))
    frames = {"attachment_not_found", "recipient_not_in_team"} | set(listed[listed.index("revoked"):])
    assert set(listed) - frames - said == {"precondition_failed", "range_not_satisfiable"}, "these are of routes to come"


def test_examples_are_what_their_schemas_say():
    shown = 0
    for name, schema in DOCUMENT["components"]["schemas"].items():
        if "example" in schema:
            check(schema["example"], schema)
            shown += 1
        assert "example" in schema or name.endswith(("Response", "Page", "Meta", "Event", "Body", "Detail")), name
    for _, _, operation in operations():
        for answer in operation["responses"].values():
            content = resolve(answer).get("content", {}).get("application/json", {})
            if "example" in content:
                check(content["example"], content["schema"])
                shown += 1
    assert shown > 60


def room_of_people(ask, http, server):
    """The operations of a room's people and roles. Returns a role that is left."""
    dora = server.account("Dora")
    ask("block", 200, http, id=dora.id)
    ask("block", 404, http, id=str(uuid.uuid4()))
    ask("listBlocks", 200, http)
    ask("unblock", 204, http, id=dora.id)
    room = ask("createRoom", 201, http, {"name": "people", "kind": "group", "default_permissions": "r"})["id"]
    role = ask("createRole", 201, http, {"name": "writer", "permissions": "rw"}, id=room)["id"]
    ask("createRole", 422, http, {"name": "", "permissions": "b"}, id=room)
    ask("listRoles", 200, http, id=room)
    ask("updateRole", 200, http, {"name": "author"}, id=room, role_id=role)
    ask("setPerson", 202, http, {"role_id": role}, id=room, user_id=dora.id)
    [invitation] = ask("listInvitations", 200, dora.http)
    ask("answerMyInvitation", 200, dora.http, {"accepted": True}, id=invitation["id"])
    ask("setPerson", 200, http, {"role_id": None}, id=room, user_id=dora.id)
    ask("setPerson", 404, http, {"role_id": str(uuid.uuid4())}, id=room, user_id=dora.id)
    ask("listPeople", 200, http, id=room, limit=1)
    ask("getMembership", 200, http, id=room, entity_UUID=dora.id)
    ask("removePerson", 204, dora.http, id=room, user_id=dora.id)
    ask("removePerson", 404, http, id=room, user_id=dora.id)
    ask("deleteRole", 204, http, id=room, role_id=role)
    return ask("createRole", 201, http, {"name": "reader", "permissions": "r"}, id=room)


def administration(ask, server):
    """The operations of platform admins, and those with which people go."""
    root, ada, bob = server.platform_admin(), server.account("Ada"), server.account("Bob")
    team = ada.team(bob)
    seq = ask("sendMessage", 201, ada.http, {"data": "spam"}, id=team["room_id"])["seq"]
    other = ask("sendMessage", 201, ada.http, {"data": "more"}, id=team["room_id"])
    ask("reportMessage", 202, bob.http, {"reason": "it is spam"}, id=team["room_id"], seq=seq)
    ask("reportMessage", 404, bob.http, {"reason": "it is spam"}, id=team["room_id"], seq=99)
    [report] = [item["id"] for item in ask("listReports", 200, root.http) if item["room_id"] == team["room_id"]]
    ask("closeReport", 200, root.http, {"status": "closed"}, id=report)
    ask("closeReport", 404, root.http, {"status": "closed"}, id=2**40)
    assert any("closed_by" in item for item in ask("listReports", 200, root.http, status="closed"))
    ask("setSuspension", 200, root.http, {"is_suspended": True, "reason": "spam"}, id=bob.id)
    ask("setSuspension", 404, root.http, {"is_suspended": True}, id=str(uuid.uuid4()))
    ask("listAccounts", 200, root.http, q="bob")
    ask("setSuspension", 200, root.http, {"is_suspended": False}, id=bob.id)
    ask("listAllRooms", 200, root.http, limit=200)
    ask("deleteAnyMessage", 204, root.http, id=other["id"])
    ask("deleteAnyMessage", 404, root.http, id=str(uuid.uuid4()))
    ask("deleteAnyRoom", 409, root.http, id=team["room_id"])
    left = ask("createRoom", 201, ada.http, {"name": "left", "kind": "group"})["id"]
    ask("setPerson", 200, ada.http, {"role_id": None}, id=left, user_id=bob.id)
    ask("setManager", 403, root.http, {"user_id": bob.id}, id=left)
    ask("eraseMe", 409, ada.http, {"password": "correct horse"})
    ask("eraseAccount", 409, root.http, id=ada.id)
    ask("deleteTeam", 204, ada.http, id=team["id"])
    ask("eraseMe", 403, ada.http, {"password": "wrong horse"})
    ask("eraseMe", 204, ada.http, {"password": "correct horse", "messages": "delete"})
    ask("setManager", 200, root.http, {"user_id": bob.id}, id=left)
    ask("deleteAnyRoom", 204, root.http, id=left)
    ask("eraseAccount", 204, root.http, id=bob.id)
    ask("eraseAccount", 404, root.http, id=bob.id)
    ask("listAudit", 200, root.http, limit=200)
    ask("listAudit", 403, server.account().http)


def life_of_messages(ask, http):
    """The operations of messages, with everything that one can have."""
    me = ask("getMe", 200, http)["id"]
    room = ask("createRoom", 201, http, {"name": "messages", "kind": "group"})["id"]
    first = ask("sendMessage", 201, http, {"data": "first", "client_id": "1", "mentions": [me]}, id=room)["seq"]
    ask("sendMessage", 200, http, {"data": "first", "client_id": "1", "mentions": [me]}, id=room)
    ask("sendMessage", 409, http, {"data": "other", "client_id": "1"}, id=room)
    ask("sendMessage", 404, http, {"data": "x"}, id=2**40)
    ask("sendMessage", 404, http, {"forward_of": {"room_id": room, "seq": 99}}, id=room)
    ask("sendMessage", 413, http, {"data": "x" * 65_537}, id=room)
    ask("sendMessage", 422, http, {"data": ""}, id=room)
    ask("sendMessage", 201, http, {"content": "answer", "reply_to": first}, id=room)
    ask("sendMessage", 201, http, {"forward_of": {"room_id": room, "seq": first}}, id=room)
    ask("editMessage", 200, http, {"data": "second", "mentions": [me]}, id=room, seq=first)
    ask("editMessage", 404, http, {"data": "x"}, id=room, seq=99)
    ask("editMessage", 422, http, {"data": ""}, id=room, seq=first)
    ask("listEdits", 200, http, id=room, seq=first, limit=1)
    ask("react", 200, http, id=room, seq=first, emoji="\N{THUMBS UP SIGN}")
    ask("react", 422, http, id=room, seq=first, emoji="a")
    ask("listReactions", 200, http, id=room, seq=first, limit=1)
    ask("getMessage", 200, http, id=room, seq=first)
    ask("getMessage", 404, http, id=room, seq=99)
    ask("unreact", 204, http, id=room, seq=first, emoji="\N{THUMBS UP SIGN}")
    ask("listMessages", 200, http, id=room)
    ask("markRead", 200, http, {"seq": first}, id=room)
    ask("markRead", 422, http, {"seq": 999}, id=room)
    ask("muteRoom", 200, http, {"muted_until": "2100-01-01T00:00:00Z"}, id=room)
    ask("listMyRooms", 200, http, limit=5)
    ask("findUsers", 200, http, q="ada")
    ask("findUsers", 422, http)
    ask("getUser", 200, http, id=http.get("/v1/me").json()["data"]["id"])
    ask("getUser", 404, http, id=str(uuid.uuid4()))
    ask("createRoom", 201, http, {"name": "hush", "kind": "secret", "ttl_seconds": 60, "retention_days": 3})
    ask("search", 200, http, q="word")
    ask("search", 422, http, q="!!")
    ask("search", 404, http, q="word", room_id=999999)
    ask("listReaders", 200, http, id=room, seq=first)
    ask("deleteMessage", 204, http, id=room, seq=first)
    ask("deleteMessage", 404, http, id=room, seq=99)
    ask("unreact", 409, http, id=room, seq=first, emoji="\N{THUMBS UP SIGN}")
    ask("listMessages", 200, http, id=room)


def test_answers_are_what_their_schemas_say(server):
    """Every operation once, with all that may be in its answer: no member that the description does not have."""
    described = {operation["operationId"]: (method, path, operation) for method, path, operation in operations()}
    asked = set()

    def ask(name, status, http, body=None, /, **values):
        method, path, operation = described[name]
        query = {key: values.pop(key) for key in list(values) if "{" + key + "}" not in path}
        answer = http.request(method, path.format(**values), json=body, params=query)
        assert answer.status_code == status, answer.text
        content = resolve(operation["responses"].get(str(status), operation["responses"]["default"])).get("content", {})
        if "application/json" in content:
            check(answer.json(), content["application/json"]["schema"])
        elif content:
            assert answer.headers["content-type"].split(";")[0] in content
        else:
            assert answer.content == b""
        if status < 400:
            asked.add(name)
        return answer.json()["data"] if answer.headers.get("content-type") == "application/json" and status < 400 else None

    email, password = f"{uuid.uuid4()}@example.org", "correct horse"
    with server.http() as http:
        ask("getMe", 401, http)
        ask("getHealth", 200, http)
        ask("getReadiness", 200, http)
        ask("getDescription", 200, http)
        ask("getDocumentation", 200, http)
        ask("getDocumentationPage", 200, http, page="relay-v1.html")
        ask("getDocumentationPage", 404, http, page="no-such.html")
        ask("signUp", 201, http, {"email": email, "password": password, "name": "Ada", "data": {"device": "laptop"}})
        ask("signUp", 409, http, {"email": email, "password": password, "name": "Ada"})
        ask("signUp", 422, http, {"email": "no", "password": "short"})
        ask("logIn", 401, http, {"email": email, "password": "wrong horse"})
        credentials = ask("logIn", 200, http, {"email": email, "password": password})
        credentials = ask("refresh", 200, http, {"refresh_token": credentials["refresh_token"]})
        ask("refresh", 401, http, {"refresh_token": "no"})
    bob = server.person()
    with server.http(credentials["access_token"]) as http:
        ask("getMe", 200, http)
        ask("updateMe", 200, http, {"name": "Ada L."})
        ask("getSettings", 200, http)
        ask("exportMe", 200, http)
        ask("replaceSettings", 200, http, {"theme": "dark", "more": {"deep": [1, None]}})
        sessions = ask("listSessions", 200, http, limit=1)
        assert len(sessions) == 1
        room = ask("createRoom", 201, http, {"name": "one", "level_admin": "9", "type": "group", "invite": True})["id"]
        ask("createRoom", 201, http, {"name": "two", "level_admin": 9, "type": "user2user"})
        ask("listRooms", 200, http, limit=1)
        ask("getRoom", 200, http, id=room)
        ask("getRoom", 404, http, id=2**40)
        ask("updateRoom", 200, http, {"name": "other"}, id=room)
        ask("setRule", 200, http, {"entity_UUID": bob.id, "permissions": "rw", "level": "3"}, id=room)
        ask("listInvitations", 200, bob.http)
        ask("answerInvitation", 200, bob.http, {"accepted": True}, id=room)
        ask("answerInvitation", 404, bob.http, {"accepted": True}, id=room)
        ask("listRules", 200, http, id=room, limit=1)
        with server.relay(credentials["access_token"]) as relay:
            relay.say(room, "hello", "1")
            relay.until("text")
            relay.until("ack")
            relay.say(room, "again")
            relay.until("text")
        for client in (http, bob.http):
            assert len(ask("listMessages", 200, client, id=room)) == 2
        ask("listMessages", 200, http, id=room, limit=1, after=0)
        ask("listMessages", 422, http, id=room, limit=1000)
        ask("markRead", 200, bob.http, {"seq": 1}, id=room)
        assert ask("listReaders", 200, http, id=room, seq=1)
        ask("deleteRule", 204, http, id=room, entity_UUID=bob.id)
        ask("deleteRule", 404, http, id=room, entity_UUID=bob.id)
        ask("getRoom", 404, bob.http, id=room)
        ask("deleteRoom", 204, http, id=room)
        ask("getMe", 403, bob.http)
        ask("changePassword", 403, http, {"current_password": "no", "new_password": "battery staple"})
        ask("changePassword", 204, http, {"current_password": password, "new_password": "battery staple"})
        life_of_messages(ask, http)
        administration(ask, server)
        role = room_of_people(ask, http, server)
        assert role
        carol = server.account("Carol")
        team = ask("createTeam", 201, http, {"name": "a team", "icon": "https://example.org/i", "meta_tags": ["t"]})["id"]
        ask("createTeam", 422, http, {"name": ""})
        ask("listTeams", 200, http, limit=1, q="team", tag="t", expand="users")
        ask("getTeam", 200, http, id=team)
        ask("getTeam", 404, carol.http, id=team)
        ask("updateTeam", 200, http, {"icon": None}, id=team)
        ask("addTeamMember", 202, http, {"email": carol.email}, id=team)
        [invitation] = ask("listInvitations", 200, carol.http)
        ask("answerMyInvitation", 200, carol.http, {"accepted": True}, id=invitation["id"])
        ask("answerMyInvitation", 404, carol.http, {"accepted": True}, id=invitation["id"])
        ask("addTeamMember", 200, http, {"user_id": carol.id}, id=team)
        ask("listTeamMembers", 200, http, id=team, limit=1)
        ask("makeTeamAdmin", 200, http, id=team, user_id=carol.id)
        ask("unmakeTeamAdmin", 204, http, id=team, user_id=carol.id)
        ask("openDialog", 201, http, user_id=carol.id)
        ask("openDialog", 200, http, user_id=carol.id)
        ask("openDialog", 404, http, user_id=str(uuid.uuid4()))
        ask("leaveTeam", 409, http, id=team)
        ask("leaveTeam", 204, carol.http, id=team)
        second = ask("createTeam", 201, http, {"name": "another"})["id"]
        ask("addTeamMember", 202, http, {"user_id": carol.id}, id=second)
        carol.accept_invitations()
        ask("addTeamMember", 201, http, {"user_id": carol.id}, id=team)
        ask("removeTeamMember", 204, http, id=team, user_id=carol.id)
        ask("handOverTeam", 200, http, {"user_id": carol.id}, id=second)
        ask("deleteTeam", 403, http, id=second)
        ask("deleteTeam", 204, http, id=team)
        current = next(session for session in ask("listSessions", 200, http) if session["current"])
        ask("endSession", 204, http, id=current["id"])
    with server.http() as http:
        for name in ("logOut", "logOutEverywhere"):
            bearer = ask("logIn", 200, http, {"email": email, "password": "battery staple"})["access_token"]
            with server.http(bearer) as own:
                ask(name, 204, own)
    # Without the cookie of the log-ins above.
    with server.http() as http:
        ask("openRelay", 401, http)
        ask("openChat", 426, http)
    assert asked == set(described) - {"openRelay", "openChat"}


def test_schemathesis_finds_no_undocumented_answer(fresh, tmp_path):
    """Requests made from openapi.yaml: no server error, no status and no body that it does not list."""
    server = fresh(MARTLET_LOOPS=2)
    account = server.sign_up()
    # `default` stands for what any request may meet. Here each status must be listed by itself.
    document = copy.deepcopy(DOCUMENT)
    for item in document["paths"].values():
        for operation in item.values():
            if isinstance(operation, dict):
                operation["responses"].pop("default", None)
    (tmp_path / "openapi.yaml").write_text(yaml.safe_dump(document))
    person = server.person()
    for name, bearer in (("local", account["access_token"]), ("foreign", person.token)):
        result = subprocess.run(
            [
                str(ROOT / ".build/venv/bin/schemathesis"), "run", "openapi.yaml", "--url", server.url,
                "--header", f"Authorization: Bearer {bearer}",
                "--checks", "not_a_server_error,status_code_conformance,content_type_conformance,response_schema_conformance,unsupported_method",
                "--phases", "coverage,fuzzing", "--max-examples", "40", "--exclude-path-regex", "logout|relay|chat",
                "--suppress-health-check", "all", "--seed", "1",
            ],
            cwd=tmp_path, capture_output=True, text=True, timeout=300,
        )
        assert result.returncode == 0, f"{name}: {result.stdout[-6000:]}"
    assert server.process.poll() is None


def test_a_generated_client_runs_the_main_job(fresh, tmp_path, monkeypatch):
    """A client in Python that openapi-python-client makes from what the server itself serves."""
    server = fresh()
    (tmp_path / "openapi.yaml").write_bytes(httpx.get(server.url + "/openapi.yaml").content)
    tools = f"{ROOT / '.build/venv/bin'}:{os.environ['PATH']}"
    made = subprocess.run(
        [str(ROOT / ".build/venv/bin/openapi-python-client"), "generate", "--path", "openapi.yaml", "--meta", "none",
         "--output-path", "martlet_client"],
        cwd=tmp_path, env={**os.environ, "PATH": tools}, capture_output=True, text=True, timeout=120,
    )
    assert made.returncode == 0, made.stdout + made.stderr
    # It takes JSON only; the documents themselves are none.
    assert {line.split()[3] for line in made.stdout.splitlines() if "WARNING" in line} <= {"/openapi.yaml", "/docs", "/docs/{page}"}
    monkeypatch.syspath_prepend(str(tmp_path))
    importlib.invalidate_caches()
    for name in [name for name in sys.modules if name.startswith("martlet_client")]:
        monkeypatch.delitem(sys.modules, name)

    def api(path):
        return importlib.import_module("martlet_client.api." + path)

    package, models = importlib.import_module("martlet_client"), importlib.import_module("martlet_client.models")
    anyone = package.Client(base_url=server.url)

    def sign_up(name):
        body = models.SignUpRequest(email=f"{name}-{uuid.uuid4()}@example.org", password="correct horse", name=name)
        credentials = api("sessions.sign_up").sync(client=anyone, body=body).data
        return credentials, package.AuthenticatedClient(base_url=server.url, token=credentials.access_token)

    ada, of_ada = sign_up("Ada")
    bob, of_bob = sign_up("Bob")
    assert api("account.get_me").sync(client=of_ada).data.id == ada.user.id
    room = api("rooms.create_room").sync(client=of_ada, body=models.NewRoom(name="war room", level_admin=9999, type_=models.NewRoomType.GROUP)).data
    rule = models.RuleUpdate(entity_uuid=bob.user.id, permissions="rw", level=1)
    assert api("rules.set_rule").sync(room.id, client=of_ada, body=rule).data.permissions == "rw"
    with server.relay(ada.access_token) as relay, server.chat(bob.access_token) as chat:
        chat.send(type="select_room", room_id=room.id)
        assert chat.receive()["data"] == "CONNECTED"
        for number in range(3):
            relay.say(room.id, f"message {number}", str(number))
            relay.until("text")
            relay.until("ack")
            assert chat.receive()["data"]["content"] == f"message {number}"
    page = api("messages.list_messages").sync(room.id, client=of_bob, limit=2)
    assert [message.data for message in page.data] == ["message 2", "message 1"]
    page = api("messages.list_messages").sync(room.id, client=of_bob, limit=2, cursor=page.meta.next_cursor)
    assert [(message.seq, message.from_) for message in page.data] == [(1, ada.user.id)]
    refused = api("rooms.delete_room").sync_detailed(room.id, client=of_bob)
    assert refused.status_code == 403 and refused.parsed.error.code == "forbidden"
    again = api("sessions.refresh").sync(client=anyone, body=models.RefreshRequest(refresh_token=ada.refresh_token)).data
    assert api("rooms.list_rooms").sync(client=package.AuthenticatedClient(base_url=server.url, token=again.access_token)).data[0].id == room.id


@pytest.mark.parametrize("address, kind", [("/openapi.yaml", "application/yaml"), ("/docs", "text/html"), ("/docs/style.css", "text/css")])
def test_documents_are_served_and_known_again(server, address, kind):
    with server.http() as http:
        answer = http.get(address)
        assert answer.status_code == 200 and answer.headers["content-type"].split(";")[0] == kind
        assert answer.headers["content-encoding"] in ("br", "gzip")
        assert http.get(address, headers={"if-none-match": answer.headers["etag"]}).status_code == 304
    if kind == "application/yaml":
        assert answer.text == (ROOT / "openapi.yaml").read_text()
