"""The nano protocol, frame by frame."""

import json
import time
import uuid

import pytest

from martlet import eventually, token


def reply(word, kind="status"):
    return {"type": kind, "data": word}


def test_conversation_of_two(server):
    entity = uuid.uuid4()
    ada, bob = server.person(entity), server.person(entity, level="1")
    room = ada.room()
    with ada.chat() as one, bob.chat() as two:
        for socket in (one, two):
            socket.send(type="select_room", room_id=room)
            assert socket.receive() == reply("CONNECTED")
        one.send(type="message", content="Fueled up and ready to go")
        for socket in (one, two):
            frame = socket.receive()
            assert frame["type"] == "message"
            data = frame["data"]
            assert set(data) == {"id", "room_id", "seq", "content", "emitter", "ts"}
            assert (data["room_id"], data["seq"], data["emitter"]) == (room, 1, ada.id)
            assert data["content"] == "Fueled up and ready to go"
        assert one.silent() and two.silent()


def test_nothing_works_before_the_token(server):
    with server.chat() as socket:
        for frame in ({"type": "select_room", "room_id": 1}, {"type": "message", "content": "x"}, {"type": "nonsense"}, {}):
            socket.send(**frame)
            assert socket.receive() == reply("TOKEN?", "query")
        # None of that counted as a bad token.
        socket.send(type="token", content=token(uuid.uuid4()))
        assert socket.receive() == reply("READY")


def test_third_bad_token_ends_it(server):
    with server.chat() as socket:
        for _ in range(2):
            socket.send(type="token", content="not.a.token")
            assert socket.receive() == reply("TOKEN?", "query")
        socket.send(type="token", content=None)
        assert socket.receive() == reply("BADAUTH")
        assert socket.close_code() == 4401


def test_bad_tokens_count_on_after_ready(server):
    person = server.person()
    with server.chat() as socket:
        socket.send(type="token", content="x")
        assert socket.receive() == reply("TOKEN?", "query")
        socket.send(type="token", content=person.token)
        assert socket.receive() == reply("READY")
        socket.send(type="token", content="x")
        assert socket.receive() == reply("TOKEN?", "query")
        socket.send(type="token", content="x")
        assert socket.receive() == reply("BADAUTH")
        assert socket.close_code() == 4401


def test_token_again_renews_the_same_user_only(server):
    person = server.person()
    with person.chat() as socket:
        socket.send(type="token", content=person.token)
        assert socket.receive() == reply("READY")
        socket.send(type="token", content=token(uuid.uuid4()))
        assert socket.receive() == reply("BADAUTH")
        assert socket.close_code() == 4401


def test_unknown_commands_and_missing_room(server):
    with server.person().chat() as socket:
        socket.send(type="dance")
        assert socket.receive() == reply("COMMAND?", "query")
        socket.send(type=5)
        assert socket.receive() == reply("COMMAND?", "query")
        socket.send(type="message", content="hello?")
        assert socket.receive() == reply("SELECTROOM?", "query")


@pytest.mark.parametrize("room_id", [999999999, "x", -1, 0, 1.5, None, True, [1], 10**30])
def test_rooms_that_cannot_be_selected(server, room_id):
    with server.person().chat() as socket:
        socket.send(type="select_room", room_id=room_id)
        assert socket.receive() == reply("NOTAUTHORIZED")


def test_selection_needs_read_and_an_earlier_one_stays(server):
    ada, bob = server.person(uuid.uuid4()), server.person()
    first, second = ada.room(), ada.room()
    ada.rule(first, bob, "rw")
    ada.rule(second, bob, "w")
    with bob.chat() as socket:
        socket.send(type="select_room", room_id=str(first))
        assert socket.receive() == reply("CONNECTED")
        socket.send(type="select_room", room_id=second)
        assert socket.receive() == reply("NOTAUTHORIZED")
        socket.send(type="message", content="still here")
        assert socket.receive()["data"]["room_id"] == first


def test_selecting_another_room_leaves_the_first(server):
    ada = server.person()
    first, second = ada.room(), ada.room()
    with ada.chat() as one, ada.chat() as two:
        one.send(type="select_room", room_id=first)
        assert one.receive() == reply("CONNECTED")
        one.send(type="select_room", room_id=second)
        assert one.receive() == reply("CONNECTED")
        two.send(type="select_room", room_id=first)
        assert two.receive() == reply("CONNECTED")
        two.send(type="message", content="to the first")
        assert two.receive()["type"] == "message"
        assert one.silent()


def test_reader_may_not_write(server):
    ada, bob = server.person(), server.person()
    room = ada.room()
    ada.rule(room, bob, "r")
    with bob.chat() as socket:
        socket.send(type="select_room", room_id=room)
        assert socket.receive() == reply("CONNECTED")
        socket.send(type="message", content="may I?")
        assert socket.receive() == reply("NOTAUTHORIZED")


@pytest.mark.parametrize("content", ["", None, 5, ["x"], "a\u0000b", "x" * 65537, "ä" * 32769])
def test_bad_content(server, content):
    ada = server.person()
    room = ada.room()
    with ada.chat() as socket:
        socket.send(type="select_room", room_id=room)
        assert socket.receive() == reply("CONNECTED")
        socket.send(type="message", content=content)
        assert socket.receive() == reply("BADMESSAGE")


def test_largest_content(server):
    ada = server.person()
    room = ada.room()
    with ada.chat() as socket:
        socket.send(type="select_room", room_id=room)
        assert socket.receive() == reply("CONNECTED")
        socket.send(type="message", content="x" * 65536)
        assert len(socket.receive()["data"]["content"]) == 65536


@pytest.mark.parametrize(
    "text",
    ["", "hello", "[1]", "null", '{"type":"quit"', '{"a":1,"a":2}', '{"a":' + "[" * 16 + "]" * 16 + "}", '{"a":"\\ud800"}', "{} {}"],
)
def test_what_is_not_one_object_ends_it(server, text):
    with server.chat() as socket:
        socket.socket.send(text)
        assert socket.receive() == reply("BADJSON")
        assert socket.close_code() == 1003


def test_binary_ends_it(server):
    with server.chat() as socket:
        socket.socket.send(b"{}")
        assert socket.receive() == reply("BADJSON")
        assert socket.close_code() == 1003


def test_quit_at_any_time(server):
    with server.chat() as socket:
        socket.send(type="quit")
        assert socket.close_code() == 1000
    with server.person().chat() as socket:
        socket.send(type="quit")
        assert socket.close_code() == 1000


def test_lost_room(server):
    ada, bob = server.person(), server.person()
    room = ada.room()
    ada.rule(room, bob, "rw")
    with bob.chat() as socket:
        socket.send(type="select_room", room_id=room)
        assert socket.receive() == reply("CONNECTED")
        ada.rule(room, bob, "b")
        assert socket.receive() == reply("NOTAUTHORIZED")
        socket.send(type="message", content="hello?")
        assert socket.receive() == reply("SELECTROOM?", "query")


def test_deleted_room(server):
    ada = server.person()
    room = ada.room()
    with ada.chat() as socket:
        socket.send(type="select_room", room_id=room)
        assert socket.receive() == reply("CONNECTED")
        assert ada.http.delete(f"/rooms/{room}").status_code == 204
        assert socket.receive() == reply("NOTAUTHORIZED")


def test_expiry_closes(server):
    short = token(uuid.uuid4(), exp=int(time.time()) - 3)  # within the leeway of 5 s
    with server.chat(short) as socket:
        assert socket.close_code(6) == 4401


def test_no_ready_in_time(fresh):
    server = fresh(MARTLET_HANDSHAKE_SECONDS=1)
    with server.chat() as socket:
        start = time.monotonic()
        assert socket.close_code(5) == 4401
        assert time.monotonic() - start >= 0.9


def test_no_cookie_is_read(server):
    account = server.sign_up()
    with server.http() as http:
        cookie = http.post("/v1/auth/refresh", json={"refresh_token": account["refresh_token"]}).headers["set-cookie"]
    headers = {"cookie": cookie.split(";")[0], "origin": "http://evil.example"}
    with server.websocket("/chat", headers=headers) as socket:
        assert json.loads(socket.recv(timeout=3)) == reply("START?", "query")


def test_the_versioned_path_is_the_same(server):
    ada = server.person()
    room = ada.room()
    with server.chat(ada.token) as one, server.chat(ada.token, "/v1/chat") as other:
        for socket in (one, other):
            socket.send(type="select_room", room_id=room)
            assert socket.receive() == reply("CONNECTED")
        one.send(type="message", content="both")
        assert one.receive() == other.receive()


def test_what_is_no_text_is_no_token(fresh):
    server = fresh(MARTLET_LOG_FORMAT="json")
    for content in (5, None, {}, ""):
        with server.chat() as socket:
            socket.send(type="token", content=content)
            assert socket.receive() == reply("TOKEN?", "query")
    lines = [json.loads(line) for line in server.log_text().splitlines()]
    refused = [line for line in lines if line["event"] == "token_refused"]
    assert len(refused) == 4 and all(line["reason"] for line in refused)


def test_local_accounts_talk_too(server):
    account = server.sign_up()
    with server.http(account["access_token"]) as http:
        room = http.post("/rooms", json={"name": "n", "level_admin": 1, "type": "group"}).json()["data"]["id"]
    with server.chat(account["access_token"]) as socket:
        socket.send(type="select_room", room_id=room)
        assert socket.receive() == reply("CONNECTED")
        socket.send(type="message", content="local")
        assert socket.receive()["data"]["emitter"] == account["user"]["id"]


@pytest.mark.parametrize(
    "change",
    [
        {"exp": 1000},
        {"exp": None},
        {"exp": "soon"},
        {"nbf": 999999999990},
        {"aud": "someone.else"},
        {"aud": None},
        {"iss": "someone.else"},
        {"userUUID": "x"},
        {"userUUID": None},
        # The server's own.
        {"userUUID": "00000000-0000-0000-0000-000000000000"},
        {"levelOnEntity": "many"},
        {"secret": "another-secret-of-the-same-kind-or-so"},
        {"algorithm": "HS512"},
    ],
)
def test_tokens_that_are_refused(server, change):
    with server.chat() as socket:
        change = dict(change)
        user = change.pop("userUUID", uuid.uuid4())
        socket.send(type="token", content=token(user or "", **change))
        assert socket.receive() == reply("TOKEN?", "query")


def test_audience_may_be_a_list(server):
    from martlet import AUDIENCE

    with server.chat() as socket:
        socket.send(type="token", content=token(uuid.uuid4(), aud=["x", AUDIENCE]))
        assert socket.receive() == reply("READY")


def test_algorithm_tricks(server):
    import base64

    def part(value):
        return base64.urlsafe_b64encode(json.dumps(value).encode()).rstrip(b"=").decode()

    claims = token(uuid.uuid4()).split(".")[1]
    signature = token(uuid.uuid4()).split(".")[2]
    for header in ({"alg": "none"}, {"alg": "RS256", "typ": "JWT"}, {"alg": "EdDSA", "kid": "x"}, {"alg": "HS256", "crit": ["exp"]}):
        for tail in ("", signature):
            with server.chat() as socket:
                socket.send(type="token", content=f"{part(header)}.{claims}.{tail}")
                assert socket.receive() == reply("TOKEN?", "query")


def test_what_was_sent_before_quit_counts(server):
    ada = server.person()
    room = ada.room()
    with server.chat() as socket:
        socket.send(type="token", content=ada.token)
        socket.send(type="select_room", room_id=room)
        socket.send(type="message", content="before")
        socket.send(type="quit")
        assert socket.close_code() == 1000
    eventually(lambda: [message["content"] for message in ada.messages(room)] == ["before"])
