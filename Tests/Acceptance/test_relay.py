"""Relay v1, frame by frame."""

import time
import uuid

import pytest
from websockets.exceptions import InvalidStatus

from martlet import token


def test_ready_lists_every_readable_room_with_its_head(server):
    ada = server.person(uuid.uuid4())
    first, second = ada.room(), ada.room()
    with ada.relay() as socket:
        ready = socket.ready
        assert ready["user_id"] == ada.id and ready["heartbeat_s"] == 25
        assert ready["reconnect_ms"] == [500, 5000]
        assert ready["epoch"] and ready["expires_at"] == "9999-12-31T23:59:59.999Z"
        assert ready["channels"] == [
            {"channel_id": str(id), "room_id": id, "seq": 0} for id in (first, second)
        ]
        socket.say(second, "hello", "c1")
        socket.until("text")
        socket.until("ack")
    with ada.relay() as socket:
        assert socket.ready["channels"][1]["seq"] == 1
        assert socket.silent()


def test_subscribe_none(server):
    ada = server.person()
    room = ada.room()
    with ada.relay("?subscribe=none") as socket, ada.relay() as other:
        assert socket.ready["channels"] == []
        other.say(room, "unheard")
        other.until("text")
        assert socket.silent()
        socket.send(type="subscribe", channels=[str(room)])
        assert socket.receive() == {"type": "subscribed", "channel_id": str(room), "room_id": room, "seq": 1}
        other.say(room, "heard")
        assert socket.receive()["data"] == "heard"


def test_broadcast_and_ack(server):
    entity = uuid.uuid4()
    ada, bob = server.person(entity), server.person(entity)
    room = ada.room()
    with ada.relay() as one, ada.relay() as twin, bob.relay() as two:
        one.say(room, "hi \U0001f600 \"quoted\" \\ \n", "c-1")
        own = one.receive()
        assert set(own) == {"type", "channel_id", "room_id", "seq", "id", "from", "to", "data", "ts", "client_id"}
        assert (own["type"], own["channel_id"], own["room_id"], own["seq"]) == ("text", str(room), room, 1)
        assert (own["from"], own["to"], own["client_id"]) == (ada.id, "*", "c-1")
        assert own["data"] == "hi \U0001f600 \"quoted\" \\ \n"
        ack = one.receive()
        assert ack == {
            "type": "ack", "client_id": "c-1", "channel_id": str(room), "room_id": room,
            "id": own["id"], "seq": 1, "ts": own["ts"],
        }
        # The sender's other socket sees the client_id, nobody else does.
        assert twin.receive() == own
        theirs = two.receive()
        assert "client_id" not in theirs
        assert {**theirs, "client_id": "c-1"} == own
        one.say(room, "no ack asked for")
        assert one.receive()["seq"] == 2
        assert one.silent()


def test_retry_gives_the_first_ack_again(server):
    ada = server.person()
    room = ada.room()
    with ada.relay() as socket:
        socket.say(room, "once", "key")
        socket.until("text")
        ack = socket.until("ack")
        socket.say(room, "once", "key")
        assert socket.receive() == ack
        socket.say(room, "twice", "key")
        error = socket.receive()
        assert (error["type"], error["code"], error["client_id"]) == ("error", "client_id_conflict", "key")
        # Also where the other one could not be sent anyway.
        socket.send(channel_id=str(room), to="*", type="image", data="twice", client_id="key")
        error = socket.receive()
        assert (error["code"], error["client_id"]) == ("client_id_conflict", "key")
        assert socket.silent()
    assert len(ada.messages(room)) == 1
    # On another socket, and for another person, the key is another one or the same as said.
    with ada.relay() as socket:
        socket.say(room, "once", "key")
        assert socket.receive() == ack


def test_retry_counts_even_when_writing_is_over(server):
    ada, bob = server.person(), server.person()
    room = ada.room()
    ada.rule(room, bob, "rw")
    with bob.relay() as socket:
        socket.say(room, "before", "k")
        socket.until("text")
        ack = socket.until("ack")
        ada.rule(room, bob, "r")
        socket.say(room, "before", "k")
        assert socket.receive() == ack
        socket.say(room, "other", "k")
        assert socket.receive()["code"] == "client_id_conflict"
        socket.say(room, "after", "k2")
        error = socket.receive()
        assert (error["code"], error["client_id"]) == ("forbidden", "k2")


@pytest.mark.parametrize(
    "frame, code",
    [
        ({}, "invalid_frame"),
        ({"type": None}, "invalid_frame"),
        ({"type": 1}, "invalid_frame"),
        ({"type": "dance"}, "unknown_type"),
        ({"type": "text"}, "invalid_frame"),
        ({"type": "text", "channel_id": 1, "to": "*", "data": "x"}, "invalid_frame"),
        ({"type": "text", "channel_id": "1", "data": "x"}, "invalid_frame"),
        ({"type": "text", "channel_id": "1", "to": "*"}, "invalid_frame"),
        ({"type": "text", "channel_id": "1", "to": "*", "data": ""}, "invalid_frame"),
        ({"type": "text", "channel_id": "1", "to": "*", "data": 7}, "invalid_frame"),
        ({"type": "text", "channel_id": "1", "to": "*", "data": "a\u0000"}, "invalid_frame"),
        ({"type": "text", "channel_id": "1", "to": "*", "data": "x", "client_id": ""}, "invalid_frame"),
        ({"type": "text", "channel_id": "1", "to": "*", "data": "x", "client_id": "i" * 65}, "invalid_frame"),
        ({"type": "text", "channel_id": "1", "to": "*", "data": "x", "client_id": 5}, "invalid_frame"),
        ({"type": "text", "channel_id": "1", "to": "*", "data": "x" * 65537}, "message_too_large"),
        ({"type": "text", "channel_id": "999999999", "to": "*", "data": "x"}, "room_not_found"),
        ({"type": "text", "channel_id": "01", "to": "*", "data": "x"}, "room_not_found"),
        ({"type": "text", "channel_id": "nowhere", "to": "*", "data": "x"}, "room_not_found"),
        ({"type": "subscribe"}, "invalid_frame"),
        ({"type": "subscribe", "channels": [], "client_id": ""}, "invalid_frame"),
        ({"type": "subscribe", "channels": "1"}, "invalid_frame"),
        ({"type": "subscribe", "channels": [1]}, "invalid_frame"),
        ({"type": "resume", "channels": []}, "invalid_frame"),
        ({"type": "resume", "channels": {"1": -1}}, "invalid_frame"),
        ({"type": "resume", "channels": {"1": 1.5}}, "invalid_frame"),
        ({"type": "resume", "channels": {"1": "x"}}, "invalid_frame"),
        ({"type": "resume", "epoch": 5, "channels": {}}, "invalid_frame"),
        ({"type": "auth"}, "invalid_frame"),
        ({"type": "auth", "token": "nonsense"}, "invalid_token"),
    ],
)
def test_wrong_content_keeps_the_socket(server, frame, code):
    with server.person().relay() as socket:
        socket.send(**frame)
        error = socket.receive()
        assert (error["type"], error["code"]) == ("error", code)
        assert isinstance(error["message"], str)
        client_id = frame.get("client_id")
        assert error.get("client_id") == (client_id if isinstance(client_id, str) else None)
        socket.send(type="dance")
        assert socket.receive()["code"] == "unknown_type"


def test_recipients_and_attachments_that_do_not_exist_yet(server):
    ada = server.person()
    room = ada.room()
    with ada.relay() as socket:
        socket.say(room, "x", to=str(uuid.uuid4()))
        assert socket.receive()["code"] == "recipient_not_in_team"
        for kind in ("image", "video", "audio", "file"):
            socket.say(room, "an-id", type=kind)
            assert socket.receive()["code"] == "attachment_not_found"


def test_strangers_and_readers(server):
    ada, bob = server.person(), server.person()
    room = ada.room()
    with bob.relay() as socket:
        for frame in ({"type": "subscribe", "channels": [str(room)]}, {"type": "resume", "channels": {str(room): 0}}):
            socket.send(**frame)
            error = socket.receive()
            assert (error["code"], error["channel_id"]) == ("room_not_found", str(room))
        socket.say(room, "x", "c")
        assert socket.receive()["code"] == "room_not_found"
        ada.rule(room, bob, "w")
        socket.send(type="subscribe", channels=[str(room)])
        assert socket.receive()["code"] == "forbidden"
        socket.say(room, "unheard by me", "d")
        assert socket.receive()["type"] == "ack"


def test_other_channels_of_a_subscribe_go_on(server):
    ada = server.person()
    room = ada.room()
    with ada.relay("?subscribe=none") as socket:
        socket.send(type="subscribe", channels=["nope", str(room), "999999999"])
        answers = [socket.receive() for _ in range(3)]
        assert sorted(a["type"] for a in answers) == ["error", "error", "subscribed"]
        assert {a["channel_id"] for a in answers} == {"nope", str(room), "999999999"}


def test_unsubscribe(server):
    ada = server.person()
    room = ada.room()
    with ada.relay() as socket, ada.relay() as other:
        socket.send(type="unsubscribe", channels=[str(room)])
        frame = socket.receive()
        assert (frame["type"], frame["channel_id"], frame["room_id"]) == ("unsubscribed", str(room), room)
        other.say(room, "x")
        other.until("text")
        assert socket.silent()
        # It stays away, also when the room's rules change.
        ada.rule(room, uuid.uuid4(), "r")
        assert socket.silent()


def test_resume(server):
    ada = server.person()
    room = ada.room()
    with ada.relay() as socket:
        for number in range(5):
            socket.say(room, f"m{number}", f"c{number}")
            socket.until("text")
            socket.until("ack")
    with ada.relay("?subscribe=none") as socket, ada.relay() as other:
        socket.send(type="resume", epoch=other.ready["epoch"], channels={str(room): 2})
        seqs = [socket.receive() for _ in range(3)]
        assert [frame["seq"] for frame in seqs] == [3, 4, 5]
        assert [frame["client_id"] for frame in seqs] == ["c2", "c3", "c4"]
        assert socket.receive() == {"type": "resumed", "channel_id": str(room), "room_id": room, "seq": 5}
        other.say(room, "live again")
        assert socket.receive()["seq"] == 6
        # Nothing missing: resumed at once. Ahead of the head or of another log: reset.
        socket.send(type="resume", channels={str(room): 6})
        assert socket.receive() == {"type": "resumed", "channel_id": str(room), "room_id": room, "seq": 6}
        socket.send(type="resume", channels={str(room): 7})
        assert socket.receive() == {"type": "reset", "channel_id": str(room), "room_id": room, "seq": 6}
        socket.send(type="resume", epoch="another", channels={str(room): 6})
        assert socket.receive()["type"] == "reset"
        other.say(room, "still subscribed")
        assert socket.receive()["seq"] == 7


def test_resume_beyond_a_thousand_is_reset(server):
    ada = server.person()
    room = ada.room()
    with ada.relay() as socket:
        for number in range(1001):
            socket.say(room, "x", f"{number}")
        while _next_ack(socket) < 1001:
            pass
    with ada.relay("?subscribe=none") as socket:
        socket.send(type="resume", channels={str(room): 1})
        for seq in range(2, 1002):
            assert socket.receive()["seq"] == seq
        assert socket.receive()["type"] == "resumed"
        socket.send(type="resume", channels={str(room): 0})
        assert socket.receive() == {"type": "reset", "channel_id": str(room), "room_id": room, "seq": 1001}


def _next_ack(socket):
    """Reads up to the next ack; its seq."""
    while True:
        frame = socket.receive()
        if frame["type"] == "ack":
            return frame["seq"]


def test_room_becomes_readable_and_is_gone_again(server):
    ada, bob = server.person(), server.person()
    with bob.relay() as socket:
        room = ada.room()
        with ada.relay() as other:
            other.say(room, "before bob", "c")
            other.until("text")
            other.until("ack")
            ada.rule(room, bob, "r")
            assert socket.receive() == {"type": "channel", "channel_id": str(room), "room_id": room, "seq": 1}
            other.say(room, "for bob")
            assert socket.receive()["seq"] == 2
            ada.rule(room, bob, False)
            assert socket.receive() == {"type": "gone", "channel_id": str(room), "room_id": room, "code": "revoked"}
            other.say(room, "not for bob")
            assert socket.silent()
            ada.rule(room, bob, "r")
            assert socket.receive()["seq"] == 3
            assert ada.http.delete(f"/rooms/{room}").status_code == 204
            assert socket.receive()["code"] == "deleted"


def test_new_room_is_offered_to_its_maker_and_their_entity(server):
    entity = uuid.uuid4()
    ada, bob = server.person(entity), server.person(entity)
    with ada.relay() as one, bob.relay() as two:
        room = ada.room()
        for socket in (one, two):
            assert socket.receive() == {"type": "channel", "channel_id": str(room), "room_id": room, "seq": 0}


def test_ban_overrides_what_the_entity_may(server):
    entity = uuid.uuid4()
    ada, bob = server.person(entity), server.person(entity)
    room = ada.room()
    with bob.relay() as socket:
        ada.rule(room, bob, "b")
        assert socket.receive()["type"] == "gone"
        socket.say(room, "x", "c")
        assert socket.receive()["code"] == "room_not_found"


def test_auth_renews(server):
    ada = server.person()
    with server.relay(token(ada.id, exp=int(time.time()) + 100)) as socket:
        later = int(time.time()) + 1000
        socket.send(type="auth", token=token(ada.id, exp=later))
        authed = socket.receive()
        assert authed["type"] == "authed"
        socket.send(type="auth", token=token(uuid.uuid4()))
        assert socket.receive()["code"] == "not_same_user"
        socket.send(type="auth", token=token(ada.id, exp=1))
        assert socket.receive()["code"] == "invalid_token"


def test_renewed_claims_count(server):
    entity = uuid.uuid4()
    ada, bob = server.person(entity), uuid.uuid4()
    room = ada.room()
    with server.relay(token(bob, entity)) as socket:
        assert [c["room_id"] for c in socket.ready["channels"]] == [room]
        socket.send(type="auth", token=token(bob, uuid.uuid4()))
        assert {socket.receive()["type"], socket.receive()["type"]} == {"authed", "gone"}
        socket.send(type="auth", token=token(bob, entity))
        assert {socket.receive()["type"], socket.receive()["type"]} == {"authed", "channel"}


def test_expiry_is_announced_and_closes(server):
    with server.relay(token(uuid.uuid4(), exp=int(time.time()) - 3)) as socket:
        frame = socket.receive()
        assert frame["type"] == "expiring" and 0 < frame["in_s"] <= 60
        assert socket.close_code(6) == 4401


def test_upgrade_needs_a_credential(server):
    for headers in ({}, {"authorization": "Bearer x"}, {"authorization": "Basic eDp5"}):
        with pytest.raises(InvalidStatus) as failure:
            server.websocket("/v1/relay", headers=headers)
        assert failure.value.response.status_code == 401


def test_subprotocol_carries_a_token(server):
    from websockets.sync.client import connect

    person = server.person()
    url = server.url.replace("http", "ws", 1) + "/v1/relay"
    with connect(url, subprotocols=["martlet.v1", f"bearer.{person.token}"], **server.tls_options()) as socket:
        assert socket.subprotocol == "martlet.v1"
        assert '"ready"' in socket.recv(timeout=3)


def test_cookie_needs_our_origin(server):
    import httpx

    with server.http() as http:
        answer = http.post(
            "/v1/auth/signup",
            json={"email": f"{uuid.uuid4()}@example.org", "password": "12345678", "name": "C"},
        )
        cookie = answer.headers["set-cookie"]
        assert "HttpOnly" in cookie and "SameSite=Lax" in cookie
        pair = cookie.split(";")[0]
    for origin, status in ((None, 403), ("http://evil.example", 403), (server.url, 101)):
        headers = {"cookie": pair} | ({"origin": origin} if origin else {})
        if status == 101:
            with server.websocket("/v1/relay", headers=headers) as socket:
                assert '"expires_at":null' in socket.recv(timeout=3)
        else:
            with pytest.raises(InvalidStatus) as failure:
                server.websocket("/v1/relay", headers=headers)
            assert failure.value.response.status_code == status
    # Unsafe requests by cookie need it as well.
    for origin, status in ((None, 403), ("null", 403), (server.url, 200)):
        headers = {"cookie": pair} | ({"origin": origin} if origin else {})
        answer = httpx.patch(server.url + "/v1/me", json={"name": "D"}, headers=headers, verify=False)
        assert answer.status_code == status, answer.text
        if status == 403:
            assert answer.json()["error"]["code"] == "origin_not_allowed"


@pytest.mark.parametrize("text, code", [("nope", 4400), ("[]", 4400), ('{"a":1,"a":1}', 4400), ("", 4400)])
def test_not_an_object_closes(server, text, code):
    with server.person().relay() as socket:
        socket.socket.send(text)
        assert socket.close_code() == code


def test_binary_closes(server):
    with server.person().relay() as socket:
        socket.socket.send(b"{}")
        assert socket.close_code() == 1003


def test_frames_before_ready_is_read(server):
    ada = server.person()
    room = ada.room()
    with server.websocket("/v1/relay", ada.token) as socket:
        import json

        socket.send(json.dumps({"type": "text", "channel_id": str(room), "to": "*", "data": "early", "client_id": "e"}))
        kinds = [json.loads(socket.recv(timeout=3))["type"] for _ in range(3)]
        assert kinds == ["ready", "text", "ack"]


def test_deep_frame_is_not_json(server):
    with server.person().relay() as socket:
        socket.socket.send('{"a":' + "[" * 15 + "]" * 15 + "}")
        assert socket.receive()["code"] == "invalid_frame"
        socket.socket.send('{"a":' + "[" * 16 + "]" * 16 + "}")
        assert socket.close_code() == 4400


def test_a_replay_of_many_bytes_waits_for_its_reader(server):
    ada = server.person()
    room = ada.room()
    large = "x" * 65536
    count = 200
    with ada.relay() as writer:
        for number in range(count):
            writer.say(room, large)
            assert writer.receive()["seq"] == number + 1
        with ada.relay("?subscribe=none") as reader:
            reader.send(type="resume", channels={str(room): 0})
            # The client does not read; the server must neither close it nor forget the rest.
            time.sleep(1)
            for number in range(20):
                writer.say(room, "later")
                assert writer.receive()["seq"] == count + number + 1
            for number in range(count):
                frame = reader.receive(20)
                assert (frame["type"], frame["seq"]) == ("text", number + 1)
            assert reader.receive() == {
                "type": "resumed", "channel_id": str(room), "room_id": room, "seq": count,
            }
            for number in range(20):
                assert reader.receive()["seq"] == count + number + 1
            writer.say(room, "live")
            assert reader.receive()["data"] == "live"


def test_many_rooms_resume_one_after_the_other(server):
    ada = server.person()
    rooms = [ada.room() for _ in range(30)]
    with ada.relay() as socket:
        for room in rooms:
            for number in range(10):
                socket.say(room, str(number))
        for _ in range(300):
            socket.receive()
    with ada.relay("?subscribe=none") as socket:
        socket.send(type="resume", channels={str(room): 3 for room in rooms})
        seen = {room: 3 for room in rooms}
        resumed = set()
        while len(resumed) < len(rooms):
            frame = socket.receive()
            if frame["type"] == "resumed":
                assert seen[frame["room_id"]] == frame["seq"] == 10
                resumed.add(frame["room_id"])
            else:
                assert frame["seq"] == seen[frame["room_id"]] + 1
                seen[frame["room_id"]] = frame["seq"]


def test_every_ask_is_answered_in_its_order(server):
    ada = server.person()
    room = ada.room()
    with ada.relay("?subscribe=none") as socket:
        for number in range(50):
            socket.say(room, "x" * 3000, str(number))
        while socket.receive()["seq"] < 50:
            pass
    with ada.relay("?subscribe=none") as socket:
        channel = str(room)
        socket.send(type="resume", channels={channel: 10})
        socket.send(type="subscribe", channels=[channel, channel])
        socket.send(type="resume", channels={channel: 45})
        socket.send(type="unsubscribe", channels=[channel])
        socket.send(type="subscribe", channels=[channel])
        told = [socket.receive()]
        while told[-1]["type"] != "subscribed" or [f["type"] for f in told].count("unsubscribed") < 1:
            told.append(socket.receive())
        words = [f["type"] for f in told if f["type"] != "text"]
        # Whether the replays were over when `unsubscribe` came is a matter of time.
        whole = ["resumed", "subscribed", "subscribed", "resumed", "unsubscribed", "subscribed"]
        assert words[-2:] == whole[-2:] and words[:-2] == whole[: len(words) - 2]
        socket.say(room, "after")
        assert socket.receive()["seq"] == 51


def test_one_bad_channel_leaves_the_others(server):
    ada = server.person()
    room = ada.room()
    with ada.relay("?subscribe=none") as socket:
        socket.send(type="resume", client_id="c", channels={"7777777": 0, str(room): 0, "1": "x", "2\u0000": 1})
        answers = [socket.receive() for _ in range(4)]
        assert {(f["type"], f.get("code"), f["channel_id"], f.get("client_id")) for f in answers} == {
            ("resumed", None, str(room), None),
            ("error", "room_not_found", "7777777", "c"),
            ("error", "invalid_frame", "1", "c"),
            ("error", "invalid_frame", "2\u0000", "c"),
        }
        socket.send(type="subscribe", client_id="s", channels=[5, str(room), "no"])
        answers = [socket.receive() for _ in range(3)]
        assert {(f["type"], f.get("code"), f.get("channel_id"), f.get("client_id")) for f in answers} == {
            ("subscribed", None, str(room), None),
            ("error", "invalid_frame", None, "s"),
            ("error", "room_not_found", "no", "s"),
        }


@pytest.mark.parametrize(
    "frame",
    [
        {"type": "subscribe", "channels": ["404404"]},
        {"type": "unsubscribe", "channels": ["404404"]},
        {"type": "resume", "channels": {"404404": 0}},
        {"type": "subscribe"},
        {"type": "auth"},
        {"type": "auth", "token": "nonsense"},
        {"type": "dance"},
        {"type": "text\u0000", "channel_id": "1", "to": "*", "data": "x"},
        {"type": "text", "channel_id": "1\u0000", "to": "*", "data": "x"},
        {"type": "text", "channel_id": "1", "to": "*\u0000", "data": "x"},
        {"type": "auth", "token": "a\u0000"},
        {"type": "resume", "epoch": "e\u0000", "channels": {}},
    ],
)
def test_errors_carry_the_client_id(server, frame):
    with server.person().relay() as socket:
        socket.send(**frame, client_id="mine")
        error = socket.receive()
        assert (error["type"], error["client_id"]) == ("error", "mine")
        if "\u0000" in str(frame):
            assert error["code"] == "invalid_frame"
        socket.send(**frame, client_id=7)
        assert "client_id" not in socket.receive()


def test_ten_thousand_unknown_channels_hold_up_nobody(server):
    ada, bob = server.person(), server.person()
    room = bob.room()
    with ada.relay("?subscribe=none") as socket, bob.relay() as other:
        socket.send(type="subscribe", channels=[str(10_000_000 + number) for number in range(9000)])
        for number in range(50):
            other.say(room, str(number), str(number))
            other.until("text")
            other.until("ack")
        codes = {socket.receive(20)["code"] for _ in range(9000)}
        assert codes == {"room_not_found"}


def test_frames_before_ready_wait_their_turn(server):
    ada = server.person()
    # A room to read before `ready`.
    ada.room()
    with server.websocket("/v1/relay", ada.token) as socket:
        for number in range(3000):
            socket.send('{"type":"dance","client_id":"%d"}' % number)
        from martlet import Relay

        relay = Relay(socket)
        for number in range(3000):
            assert relay.receive()["client_id"] == str(number)


def test_a_long_client_id_is_said_once(server):
    with server.person().relay() as socket:
        for frame in (
            {"type": "subscribe", "channels": [""] * 9000}, {"type": "resume", "channels": {"1": -1, "2": -1}},
            {"type": "dance"}, {"type": "auth", "token": "x"},
        ):
            socket.send(**frame, client_id="c" * 65)
            error = socket.receive()
            assert (error["code"], error["client_id"]) == ("invalid_frame", "c" * 65)
        assert socket.silent()


def test_tokens_are_served_in_their_order(server):
    entity = uuid.uuid4()
    owner, member = server.person(entity), server.person()
    room = owner.room()
    with_entity, without = token(member.id, entity), token(member.id)
    for _ in range(5):
        with member.relay("?subscribe=none") as socket:
            fresh = token(member.id, entity, jti=str(uuid.uuid4()))
            for bearer in (fresh, without):
                socket.send(type="auth", token=bearer)
            socket.send(type="subscribe", channels=[str(room)])
            assert [socket.receive().get("code", "-") for _ in range(3)] == ["-", "-", "room_not_found"]
            socket.send(type="auth", token=with_entity)
            socket.send(type="subscribe", channels=[str(room)])
            assert [socket.receive()["type"] for _ in range(2)] == ["authed", "subscribed"]


def test_leaving_tells_strangers_nothing(server):
    ada, eve = server.person(), server.person()
    room = ada.room()
    with ada.relay(), eve.relay() as socket:
        for channel in (str(room), "98765432"):
            socket.send(type="subscribe", channels=[channel])
            socket.send(type="unsubscribe", channels=[channel])
            assert [socket.receive()["code"] for _ in range(2)] == ["room_not_found"] * 2


def test_a_token_among_subprotocols_needs_ours(server):
    ada = server.person()
    from websockets.sync.client import connect

    url = server.url.replace("http", "ws") + "/v1/relay"
    with pytest.raises(InvalidStatus) as refused:
        connect(url, subprotocols=["bearer." + ada.token], **server.tls_options())
    assert refused.value.response.status_code == 401
    with connect(url, subprotocols=["martlet.v1", "bearer." + ada.token], **server.tls_options()) as socket:
        assert socket.subprotocol == "martlet.v1"


def test_a_cookies_socket_keeps_its_life(server):
    account = server.sign_up()
    with server.http() as http:
        answer = http.post(
            "/v1/auth/login", json={"email": account["user"]["email"], "password": "correct horse"}
        )
        cookie = answer.headers["set-cookie"].split(";")[0]
        bearer = answer.json()["data"]["access_token"]
    with server.websocket("/v1/relay", headers={"cookie": cookie, "origin": server.url}) as socket:
        from martlet import Relay

        relay = Relay(socket)
        assert relay.ready["expires_at"] is None
        relay.send(type="auth", token=bearer)
        assert relay.receive() == {"type": "authed", "expires_at": None}


def test_who_sends_and_does_not_read_a_replay_is_closed(fresh):
    server = fresh(MARTLET_LOOPS=1)
    ada = server.person()
    room = ada.room()
    with ada.relay() as writer:
        for number in range(300):
            writer.say(room, "x" * 65536)
            writer.receive()
    with ada.relay("?subscribe=none") as reader:
        reader.send(type="resume", channels={str(room): 0})
        from websockets.exceptions import ConnectionClosed

        try:
            for number in range(100):
                reader.say(room, "y" * 65000, str(number))
                time.sleep(0.005)
        except ConnectionClosed:
            pass
        assert reader.close_code(20) == 4408


def test_leaving_and_coming_in_one_breath(fresh):
    server = fresh()
    ada = server.person()
    rooms = [ada.room() for _ in range(4)]
    server.stop()
    server.start()
    with server.relay(ada.token, "?subscribe=none") as socket, server.relay(ada.token) as writer:
        # Nothing is served yet: what is asked for is answered in its order all the same.
        for steps in (["unsubscribe", "subscribe"], ["subscribe", "unsubscribe"], ["subscribe", "unsubscribe", "unsubscribe"]):
            channel = str(rooms.pop())
            for type in steps:
                socket.send(type=type, channels=[channel])
            assert [socket.receive()["type"] for _ in steps] == [type + "d" for type in steps]
            writer.say(channel, "x")
            writer.until("text")
            if steps[-1] == "subscribe":
                assert socket.until("text")["data"] == "x"
            else:
                assert socket.silent(0.2)


def test_ready_lists_the_five_thousand_most_active(fresh):
    """Rooms made beside the server, since making them one by one takes minutes."""
    import sqlite3

    server = fresh()
    account = server.sign_up()
    me = uuid.UUID(account["user"]["id"]).bytes
    with sqlite3.connect(server.data / "martlet.db", timeout=10) as database:
        rooms = [(number, f"r{number}", me, 1000 + number) for number in range(1, 5004)]
        database.executemany(
            "INSERT INTO rooms (id, type, name, level_admin, owner_user, by_invitation, created_at) VALUES (?, 0, ?, 1, ?, 0, ?)",
            rooms,
        )
        database.executemany("INSERT INTO room_rules VALUES (?, ?, 3, 0, 1)", [(number, me) for number, *_ in rooms])
        database.executemany(
            "INSERT INTO room_heads (room_id, last_seq, last_ts, message_ts, access_version) VALUES (?, 0, 0, ?, 1)",
            # The first one was written in last.
            [(number, 9_000_000 if number == 1 else 0) for number, *_ in rooms],
        )
    database.close()
    with server.relay(account["access_token"]) as socket:
        listed = [channel["room_id"] for channel in socket.ready["channels"]]
        assert socket.ready["more"] is True and len(listed) == 5000
        assert set(range(1, 5004)) - set(listed) == {2, 3, 4}
        socket.send(type="subscribe", channels=["2"])
        # The server may just be hearing of the rooms, and tell of those that are not listed.
        while (frame := socket.receive())["type"] == "channel":
            assert frame["room_id"] in (2, 3, 4)
        assert (frame["type"], frame["room_id"]) == ("subscribed", 2)
