"""Accounts, sessions and tokens."""

import json
import threading
import time
from concurrent.futures import ThreadPoolExecutor
import uuid

import jwt
import pytest

from martlet import eventually


def sign_up(http, **changes):
    fields = {"email": f"{uuid.uuid4()}@example.org", "password": "correct horse", "name": "Ada"}
    return http.post("/v1/auth/signup", json={**fields, **changes})


def test_sign_up_and_log_in(server):
    with server.http() as http:
        email = f"Ada.{uuid.uuid4()}@Example.org"
        answer = sign_up(http, email=email)
        assert answer.status_code == 201
        data = answer.json()["data"]
        assert set(data) == {"user", "access_token", "expires_at", "refresh_token"}
        assert data["user"]["email"] == email and data["user"]["name"] == "Ada"
        again = sign_up(http, email=email.upper())
        assert (again.status_code, again.json()["error"]["code"]) == (409, "email_taken")
        answer = http.post("/v1/auth/login", json={"email": email.lower(), "password": "correct horse"})
        assert answer.status_code == 200 and answer.json()["data"]["user"] == data["user"]
        for wrong in ({"email": email, "password": "wrong"}, {"email": "no@one.org", "password": "correct horse"}):
            answer = http.post("/v1/auth/login", json=wrong)
            assert (answer.status_code, answer.json()["error"]["code"]) == (401, "invalid_credentials")


@pytest.mark.parametrize(
    "change, good",
    [
        ({"password": "x" * 7}, False), ({"password": "x" * 8}, True), ({"password": "ä" * 8}, True),
        ({"password": "x" * 256}, True), ({"password": "x" * 257}, False),
        ({"name": ""}, False), ({"name": "n" * 120}, True), ({"name": "n" * 121}, False), ({"name": "a\nb"}, False),
        ({"email": "x"}, False), ({"email": "@x.org"}, False), ({"email": "a@"}, False), ({"email": "a b@x.org"}, False),
        ({"email": "a@b@c"}, False), ({"email": 5}, False), ({"name": None}, False),
    ],
)
def test_limits_of_sign_up(server, change, good):
    with server.http() as http:
        answer = sign_up(http, **change)
        assert answer.status_code == (201 if good else 422), answer.text
        if not good:
            assert [d["field"] for d in answer.json()["error"]["details"]] == list(change)


def test_access_token_is_ours(server):
    account = server.sign_up()
    header = jwt.get_unverified_header(account["access_token"])
    claims = jwt.decode(account["access_token"], options={"verify_signature": False})
    assert header["alg"] == "EdDSA" and header["kid"]
    assert claims["iss"] == "martlet" and claims["exp"] - time.time() <= 15 * 60


def test_refresh_rotates_and_reuse_ends_the_session(server):
    account = server.sign_up()
    with server.http() as http:
        second = http.post("/v1/auth/refresh", json={"refresh_token": account["refresh_token"]})
        assert second.status_code == 200
        renewed = second.json()["data"]
        assert renewed["refresh_token"] != account["refresh_token"]
        with server.relay(renewed["access_token"]) as socket:
            reuse = http.post("/v1/auth/refresh", json={"refresh_token": account["refresh_token"]})
            assert (reuse.status_code, reuse.json()["error"]["code"]) == (401, "invalid_refresh_token")
            assert socket.close_code(2) == 4403
        for token in (account["access_token"], renewed["access_token"]):
            assert http.get("/v1/me", headers={"authorization": f"Bearer {token}"}).status_code == 401
        dead = http.post("/v1/auth/refresh", json={"refresh_token": renewed["refresh_token"]})
        assert dead.status_code == 401
        for junk in ("", "x", "A" * 75, account["access_token"]):
            assert http.post("/v1/auth/refresh", json={"refresh_token": junk}).status_code in (401, 422)


def test_log_out_is_at_once(server):
    account = server.sign_up()
    with server.http(account["access_token"]) as http, server.relay(account["access_token"]) as socket:
        with server.chat(account["access_token"]) as nano:
            assert http.post("/v1/auth/logout").status_code == 204
            assert socket.close_code(2) == 4403
            assert nano.close_code(2) == 4403
        assert http.get("/v1/me").status_code == 401
        assert http.get("/rooms").status_code == 401


def test_sessions(server):
    with server.http() as http:
        email = f"{uuid.uuid4()}@example.org"
        first = sign_up(http, email=email, data={"device": "phone"}).json()["data"]
        second = http.post(
            "/v1/auth/login", json={"email": email, "password": "correct horse"}, headers={"user-agent": "tests"}
        ).json()["data"]
    with server.http(first["access_token"]) as http, server.http(second["access_token"]) as other:
        sessions = http.get("/v1/me/sessions").json()["data"]
        assert len(sessions) == 2
        for session in sessions:
            assert set(session) == {"id", "ip", "user_agent", "data", "created_at", "last_seen_at", "current"}
        current = next(s for s in sessions if s["current"])
        theirs = next(s for s in sessions if not s["current"])
        assert current["data"] == {"device": "phone"} and theirs["user_agent"] == "tests"
        page = http.get("/v1/me/sessions", params={"limit": 1}).json()
        rest = http.get("/v1/me/sessions", params={"limit": 1, "cursor": page["meta"]["next_cursor"]}).json()
        assert {page["data"][0]["id"], rest["data"][0]["id"]} == {s["id"] for s in sessions} and "meta" not in rest
        assert http.delete(f"/v1/me/sessions/{theirs['id']}").status_code == 204
        assert http.delete(f"/v1/me/sessions/{theirs['id']}").status_code == 404
        assert other.get("/v1/me").status_code == 401
        # Nobody ends another's.
        stranger = server.sign_up()
        with server.http(stranger["access_token"]) as third:
            assert third.delete(f"/v1/me/sessions/{current['id']}").status_code == 404
        assert http.post("/v1/auth/logout-all").status_code == 204
        assert http.get("/v1/me").status_code == 401


def test_me(server):
    account = server.sign_up()
    with server.http(account["access_token"]) as http:
        assert http.get("/v1/me").json()["data"] == account["user"]
        assert http.patch("/v1/me", json={"name": "Countess"}).json()["data"]["name"] == "Countess"
        assert http.patch("/v1/me", json={"name": ""}).status_code == 422
        assert http.get("/v1/me/settings").json()["data"] == {}
        settings = {"theme": "dark", "nested": {"a": [1, 2.5, None, True, "x"]}}
        assert http.put("/v1/me/settings", json=settings).json()["data"] == settings
        assert http.get("/v1/me/settings").json()["data"] == settings
        assert http.put("/v1/me/settings", json={"a": "x" * 16384}).status_code == 413
        assert http.put("/v1/me/settings", content=b"[]").status_code == 400


def test_password_change_ends_other_sessions(server):
    with server.http() as http:
        email = f"{uuid.uuid4()}@example.org"
        first = sign_up(http, email=email).json()["data"]
        second = http.post("/v1/auth/login", json={"email": email, "password": "correct horse"}).json()["data"]
    with server.http(first["access_token"]) as http, server.http(second["access_token"]) as other:
        wrong = http.post("/v1/me/password", json={"current_password": "nope", "new_password": "another one"})
        assert (wrong.status_code, wrong.json()["error"]["code"]) == (403, "wrong_password")
        done = http.post("/v1/me/password", json={"current_password": "correct horse", "new_password": "another one"})
        assert done.status_code == 204
        assert http.get("/v1/me").status_code == 200 and other.get("/v1/me").status_code == 401
        assert http.post("/v1/auth/login", json={"email": email, "password": "correct horse"}).status_code == 401
        assert http.post("/v1/auth/login", json={"email": email, "password": "another one"}).status_code == 200


def test_foreign_tokens_have_no_account(server):
    person = server.person()
    for method, path in (("GET", "/v1/me"), ("POST", "/v1/auth/logout"), ("GET", "/v1/me/sessions"), ("PUT", "/v1/me/settings")):
        assert person.http.request(method, path).status_code == 403


def test_foreign_token_may_not_speak_for_a_local_account(server):
    from martlet import token

    account = server.sign_up()
    with server.http(token(account["user"]["id"])) as http:
        assert http.get("/rooms").status_code == 401


def test_guessing_is_slowed_down(server):
    with server.http() as http:
        email = f"{uuid.uuid4()}@example.org"
        sign_up(http, email=email)
        wrong = {"email": email, "password": "wrong"}
        assert [http.post("/v1/auth/login", json=wrong).status_code for _ in range(5)] == [401] * 5
        slowed = http.post("/v1/auth/login", json={"email": email, "password": "correct horse"})
        assert slowed.status_code == 429 and int(slowed.headers["retry-after"]) >= 1
        right = {"email": email, "password": "correct horse"}
        answer = eventually(lambda: (answer := http.post("/v1/auth/login", json=right)).status_code != 429 and answer)
        assert answer.status_code == 200


def test_guesses_sent_together_gain_nothing(server):
    account = server.sign_up()
    email = account["user"]["email"]

    def guess(number):
        with server.http() as http:
            return http.post("/v1/auth/login", json={"email": email, "password": f"guess {number}"}).status_code

    with ThreadPoolExecutor(20) as pool:
        codes = list(pool.map(guess, range(20)))
    # On a slow machine the delay of a second may end before the last of them arrives.
    assert 5 <= codes.count(401) <= 6 and codes.count(401) + codes.count(429) == 20


def test_log_ins_sent_together_all_pass(server):
    account = server.sign_up()

    def log_in(_):
        with server.http() as http:
            body = {"email": account["user"]["email"], "password": "correct horse"}
            return http.post("/v1/auth/login", json=body).status_code

    with ThreadPoolExecutor(12) as pool:
        assert list(pool.map(log_in, range(24))) == [200] * 24


def test_settings_and_session_data_hold_any_text_but_null(server):
    account = server.sign_up()
    with server.http(account["access_token"]) as http:
        answer = http.put("/v1/me/settings", json={"a": 1, "b": [{"c": "x\u0000"}], "d\u0000": 2})
        assert answer.status_code == 422
        assert {d["field"] for d in answer.json()["error"]["details"]} == {"b", "d\u0000"}
        # Texts that only look alike are different keys, and a backslash is no escape.
        kept = {"\u00e9": 1, "e\u0301": 2, "path": "C:\\u0000"}
        answer = http.put("/v1/me/settings", json=kept)
        assert answer.status_code == 200 and answer.json()["data"] == kept
        assert http.get("/v1/me/settings").json()["data"] == kept
        log_in = {"email": account["user"]["email"], "password": "correct horse"}
        assert http.post("/v1/auth/login", json={**log_in, "data": {"x": "\u0000"}}).status_code == 422
        assert http.post("/v1/auth/login", json={**log_in, "data": {"x": "\\u0000"}}).status_code == 200


def test_acts_leave_an_audit_line(fresh):
    server = fresh(MARTLET_LOG_FORMAT="json")
    account = server.sign_up()
    me = account["user"]["id"]
    subject = str(uuid.uuid4())
    with server.http(account["access_token"], headers={"x-request-id": "call-7"}) as http:
        room = http.post("/rooms", json={"name": "r", "level_admin": 9, "type": "group"}).json()["data"]["id"]
        http.put(f"/rooms/{room}", json={"name": "s"})
        http.put(f"/rooms/{room}/members", json={"entity_UUID": subject, "permissions": "rw", "level": 3})
        http.delete(f"/rooms/{room}/members/{subject}")
        http.delete(f"/rooms/{room}")
        http.post("/v1/me/password", json={"current_password": "correct horse", "new_password": "another one"})
        http.post("/v1/auth/logout")
    lines = [json.loads(line) for line in server.log_text().splitlines()]
    audit = [line for line in lines if line["event"] == "audit"]
    assert [line["act"] for line in audit] == [
        "sign_up", "create_room", "update_room", "set_rule", "remove_rule", "delete_room", "change_password", "log_out",
    ]
    assert all(line["request_id"] == "call-7" and line["by"] == me for line in audit[1:])
    assert audit[3]["subject"] == subject and audit[3]["permissions"] == "rw" and audit[3]["level"] == 3


@pytest.mark.parametrize("mode, code", [("closed", "signup_closed"), ("invited", "signup_by_invitation")])
def test_sign_up_can_be_closed(fresh, mode, code):
    with fresh(MARTLET_SIGNUP=mode).http() as http:
        answer = sign_up(http)
        assert (answer.status_code, answer.json()["error"]["code"]) == (403, code)


def test_pages_of_sessions_hold_while_sessions_end(server):
    account = server.sign_up()
    log_in = {"email": account["user"]["email"], "password": "correct horse"}
    with server.http(account["access_token"]) as http:
        for _ in range(4):
            http.post("/v1/auth/login", json=log_in)
        all_ids = [s["id"] for s in http.get("/v1/me/sessions").json()["data"]]
        assert len(all_ids) == 5
        page = http.get("/v1/me/sessions", params={"limit": 2}).json()
        assert [s["id"] for s in page["data"]] == all_ids[:2]
        http.delete(f"/v1/me/sessions/{all_ids[1]}")
        page = http.get("/v1/me/sessions", params={"limit": 2, "cursor": page["meta"]["next_cursor"]}).json()
        assert [s["id"] for s in page["data"]] == all_ids[2:4]
        assert http.get("/v1/me/sessions", params={"cursor": str(uuid.uuid4())}).status_code == 422


@pytest.mark.parametrize("one, other", [("\u03bf\u03b4\u03bf\u03c2", "\u039f\u0394\u039f\u03a3"), ("Stra\u00dfe", "STRA\u1e9eE")])
def test_addresses_are_unique_in_any_case(server, one, other):
    domain = f"@{uuid.uuid4()}.org"
    with server.http() as http:
        assert sign_up(http, email=one + domain).status_code == 201
        assert sign_up(http, email=other + domain.upper()).status_code == 409
        # Nor more than the case.
        for different in ("strasse", "\u0131", "i"):
            assert sign_up(http, email=different + domain).status_code == 201
        answer = http.post("/v1/auth/login", json={"email": other + domain, "password": "correct horse"})
        assert answer.status_code == 200


def test_numbers_come_back_as_they_went_in(server):
    account = server.sign_up()
    text = '{"a":1e400,"b":12345678901234567890,"c":1.50,"d":-0.0,"e":[1E+2,-0,0]}'
    with server.http(account["access_token"], headers={"content-type": "application/json"}) as http:
        assert http.put("/v1/me/settings", content=text).text == '{"data":' + text + "}"
        assert http.get("/v1/me/settings").text == '{"data":' + text + "}"


def test_last_seen_is_written_once_a_minute(server):
    account = server.sign_up()
    seen = set()
    for _ in range(3):
        with server.http() as http:
            account = http.post("/v1/auth/refresh", json={"refresh_token": account["refresh_token"]}).json()["data"]
        with server.http(account["access_token"]) as http:
            seen.add(http.get("/v1/me/sessions").json()["data"][0]["last_seen_at"])
        time.sleep(0.01)
    assert len(seen) == 1


def test_a_reused_refresh_token_is_audited(fresh):
    server = fresh(MARTLET_LOG_FORMAT="json")
    account = server.sign_up()
    with server.http() as http:
        for expected in (200, 401):
            answer = http.post("/v1/auth/refresh", json={"refresh_token": account["refresh_token"]})
            assert answer.status_code == expected
        wrong = {"email": account["user"]["email"], "password": "wrong"}
        assert http.post("/v1/auth/login", json=wrong).status_code == 401
    acts = [json.loads(line).get("act") for line in server.log_text().splitlines()]
    assert "refresh_token_reused" in acts and "log_in_refused" in acts


@pytest.mark.parametrize("kind", ["sqlite", "postgres"])
def test_another_system_cannot_name_what_is_ours(fresh, request, kind):
    """Neither as its user nor as its entity, whatever it is here."""
    from martlet import token
    from test_log import spoil

    settings = {"MARTLET_DATABASE": request.getfixturevalue("postgres").database()} if kind == "postgres" else {}
    server = fresh(**settings)
    account = server.sign_up()
    organization, team = str(uuid.uuid4()), str(uuid.uuid4())
    spoil(
        server, None,
        f"INSERT INTO organizations VALUES ('\\x{organization.replace('-', '')}', 'acme', 1)",
        # A team that was deleted named something, too.
        f"INSERT INTO teams (id, created_at, deleted_at) VALUES ('\\x{team.replace('-', '')}', 1, 2)",
    )
    with server.http(account["access_token"]) as http:
        room = http.post("/rooms", json={"name": "mine", "level_admin": 1, "type": "group"}).json()["data"]["id"]
        for ours in (account["user"]["id"], organization, team):
            for claims in ({"user": ours}, {"user": uuid.uuid4(), "entity": ours}, {"user": ours.upper()}):
                with server.http(token(claims["user"], claims.get("entity"))) as stranger:
                    for method, path in (("GET", f"/rooms/{room}"), ("DELETE", f"/rooms/{room}"), ("GET", "/rooms")):
                        answer = stranger.request(method, path)
                        assert (answer.status_code, answer.json()["error"]["code"]) == (401, "invalid_token")
        assert http.get(f"/rooms/{room}").status_code == 200
    assert "is an id of this server's own" in server.log_text()


def test_refusals_say_why_in_the_log(fresh):
    from martlet import token

    server = fresh()
    account = server.sign_up()
    bad = {
        "its issuer is not": token(uuid.uuid4(), iss="x"),
        "its audience is not": token(uuid.uuid4(), aud="x"),
        "it has expired": token(uuid.uuid4(), exp=1),
        "it is not valid yet": token(uuid.uuid4(), nbf=9999999999),
        "userUUID is missing": token(None, userUUID=None),
        "entityUUID is no UUID": token(uuid.uuid4(), entity="x"),
        "levelOnEntity is no number": token(uuid.uuid4(), level="high"),
        "badSignature": token(uuid.uuid4(), secret="another secret of more than 32 bytes"),
        "malformed": "secret-nonsense",
    }
    for reason, bearer in bad.items():
        with server.http(bearer, headers={"x-request-id": f"r{len(reason)}"}) as http:
            assert http.get("/rooms").status_code == 401
        line = [line for line in server.log_text().splitlines() if "token_refused" in line][-1]
        assert reason in line and f'"request_id":"r{len(reason)}"' in line
        with server.chat() as socket:
            socket.send(type="token", content=bearer)
            assert socket.receive()["data"] == "TOKEN?"
        assert reason in [line for line in server.log_text().splitlines() if "token_refused" in line][-1]
        assert bearer not in server.log_text() and bearer.split(".")[-1] not in server.log_text()
    with server.http() as http:
        for email in (account["user"]["email"], "no@one.example"):
            assert http.post("/v1/auth/login", json={"email": email, "password": "wrong"}).status_code == 401
    lines = [json.loads(line) for line in server.log_text().splitlines() if "log_in_refused" in line]
    assert [line["user_id"] for line in lines] == [account["user"]["id"], "no such account"]
    assert "no@one.example" not in server.log_text()


def test_what_cannot_be_changed_is_said(server):
    account = server.sign_up()
    with server.http(account["access_token"]) as http:
        for body, fields in (
            ({"email": "new@example.org"}, ["email"]), ({"name": None}, ["name"]),
            ({"name": "N", "id": str(uuid.uuid4()), "platform_admin": True}, ["id", "platform_admin"]),
        ):
            answer = http.patch("/v1/me", json=body)
            assert answer.status_code == 422
            assert [detail["field"] for detail in answer.json()["error"]["details"]] == fields
        assert http.get("/v1/me").json()["data"]["name"] == account["user"]["name"]
        assert http.patch("/v1/me", json={"name": "N", "favourite": "red"}).status_code == 200
        answer = http.post("/rooms", json={"name": "n", "level_admin": 1, "type": "group", "invite": None})
        assert answer.status_code == 422


def test_tokens_name_user_session_and_expiry_only(server):
    account = server.sign_up()
    claims = jwt.decode(account["access_token"], options={"verify_signature": False})
    assert set(claims) == {"iss", "sub", "sid", "iat", "exp"}


def test_a_storm_of_log_ins_is_its_own(fresh):
    """Log-ins of an address wait for each other, not in front of those of others."""
    server = fresh(MARTLET_TRUSTED_PROXIES="127.0.0.0/8", MARTLET_PASSWORD_HASHERS="1", MARTLET_METRICS_LISTEN="127.0.0.1:0")
    account = server.sign_up()["user"]["email"]

    def log_in(http, address, email, password):
        return http.post(
            "/v1/auth/login", json={"email": email, "password": password}, headers={"x-forwarded-for": address}
        ).status_code

    stop = threading.Event()
    served = []

    def storm(number):
        with server.http() as http:
            while not stop.is_set():
                served.append(log_in(http, "198.51.100.1", f"{number}-{uuid.uuid4()}@x.org", "12345678"))

    threads = [threading.Thread(target=storm, args=(number,)) for number in range(40)]
    for thread in threads:
        thread.start()
    try:
        eventually(lambda: server.metric("martlet_password_queue") >= 30)
        with server.http() as http:
            for _ in range(3):
                # Were it behind the storm, some thirty others would be served before.
                before = len(served)
                assert log_in(http, "198.51.100.2", account, "correct horse") == 200
                assert len(served) - before < 15
    finally:
        stop.set()
        for thread in threads:
            thread.join()
    assert set(served) == {401}
