"""Messages and what becomes of them: sent by requests and frames, edited, deleted, answered, forwarded, reacted to."""

import json
import threading
import uuid

import pytest

from martlet import eventually

THUMB, HEART, PARTY = "\N{THUMBS UP SIGN}", "\N{HEAVY BLACK HEART}\ufe0f", "\N{PARTY POPPER}"


@pytest.fixture(scope="module")
def people(server):
    """A team of three, and a stranger."""
    ada, bob, cleo, stan = (server.account(name) for name in ("Ada", "Bob", "Cleo", "Stan"))
    team = ada.team(bob, cleo)
    return ada, bob, cleo, stan, team


def group(owner, *others, **more):
    """A room of these people."""
    room = owner.ok("POST", "/v1/rooms", 201, **{"name": "a group", "kind": "group", **more})["id"]
    for person in others:
        owner.ok("PUT", f"/v1/rooms/{room}/people/{person.id}")
    return room


def say(person, room, data="hello", status=201, **more):
    return person.ok("POST", f"/v1/rooms/{room}/messages", status, data=data, **more)


def at(room, seq, rest=""):
    return f"/v1/rooms/{room}/messages/{seq}{rest}"


def until(socket, type):
    """The next frame of this type."""
    while (frame := socket.receive())["type"] != type:
        assert frame["type"] != "error", frame
    return frame


# Sending


def test_a_request_and_a_frame_are_the_same_message(people):
    ada, bob, *_ = people
    room = group(ada, bob)
    with bob.relay() as socket:
        message = say(ada, room, "by request", client_id="1")
        assert message["client_id"] == "1" and message["data"] == message["content"] == "by request"
        assert (message["type"], message["from"], message["to"], message["status"], message["updated_seq"]) == ("text", ada.id, "*", "sent", message["seq"])
        frame = until(socket, "text")
        assert frame == {
            "type": "text", "channel_id": str(room), "room_id": room, "seq": message["seq"], "id": message["id"],
            "from": ada.id, "to": "*", "data": "by request", "ts": message["ts"],
        }
        socket.say(room, "by frame", "1")
        own = until(socket, "text")
        until(socket, "ack")
        assert ada.ok("GET", at(room, own["seq"]))["data"] == "by frame"
    # The sender's own sockets hear what the sender wrote by request.
    with ada.relay() as socket:
        say(ada, room, "mine", client_id="2")
        assert until(socket, "text")["client_id"] == "2"
    assert say(ada, room, "by request", 200, client_id="1")["id"] == message["id"]
    assert ada.code("POST", f"/v1/rooms/{room}/messages", data="other", client_id="1") == (409, "client_id_conflict")
    # A frame with the same key is the same message, and the other way around.
    with ada.relay() as socket:
        socket.say(room, "by request", "1")
        assert until(socket, "ack")["seq"] == message["seq"]
    assert say(bob, room, "by frame", 200, client_id="1")["seq"] == own["seq"]
    assert ada.ok("POST", f"/v1/rooms/{room}/messages", 201, content="called content")["data"] == "called content"
    assert say(ada, room, "both", content="both")["data"] == "both"


def test_bad_messages(people):
    ada, bob, cleo, stan, _ = people
    room = group(ada, bob)
    path = f"/v1/rooms/{room}/messages"
    for body in (
        {}, {"data": ""}, {"data": 5}, {"data": None}, {"data": "a\0b"}, {"data": "x", "content": "y"}, {"data": "x", "type": "voice"},
        {"data": "x", "type": "event"}, {"data": "x", "client_id": ""}, {"data": "x", "client_id": "c" * 65}, {"data": "x", "client_id": 5},
        {"data": "x", "client_id": "\0"}, {"data": "x", "to": "nobody"}, {"data": "x", "to": None}, {"data": "x", "reply_to": 0},
        {"data": "x", "reply_to": -1}, {"data": "x", "reply_to": 2**60}, {"data": "x", "reply_to": "x"}, {"data": "x", "mentions": "x"},
        {"data": "x", "mentions": ["x"]}, {"data": "x", "mentions": [5]}, {"data": "x", "mentions": {}},
        {"data": "x", "mentions": [str(uuid.uuid4()) for _ in range(51)]}, {"data": "x", "mentions": [ada.id] * 51}, {"forward_of": {}}, {"forward_of": {"room_id": room}},
        {"forward_of": {"room_id": 0, "seq": 1}}, {"forward_of": {"room_id": room, "seq": 0}}, {"forward_of": 5},
        {"data": "x", "forward_of": {"room_id": room, "seq": 1}},
    ):
        answer = ada.http.post(path, json=body)
        assert (answer.status_code, answer.json()["error"]["code"]) == (422, "validation_failed"), (body, answer.text)
    assert ada.code("POST", path, data="x" * 65_537) == (413, "message_too_large")
    assert ada.code("POST", path, data="x", to=bob.id) == (422, "recipient_not_in_team")
    assert ada.code("POST", path, type="file", data="x") == (404, "attachment_not_found")
    # Strangers learn nothing, whatever they send.
    for body in ({"data": "x"}, {}, {"data": "x", "reply_to": 1}, {"data": "x", "mentions": [stan.id]}, {"data": "x", "to": ada.id}):
        answer = stan.http.post(path, json=body)
        assert (answer.status_code, answer.json()["error"]["code"]) == (404, "room_not_found"), body
    assert ada.ok("GET", f"/v1/rooms/{room}")["last_seq"] == 1


def test_private_messages_of_a_team_by_request(people):
    ada, bob, cleo, stan, team = people
    channel = team["room_id"]
    with bob.relay() as socket:
        message = say(ada, channel, "psst", to=bob.id)
        assert message["room_id"] != channel and message["to"] == bob.id and message["channel_id"] == team["id"]
        assert until(socket, "channel")["room_id"] == message["room_id"]
        assert until(socket, "text")["data"] == "psst"
    assert say(bob, channel, "what?", to=ada.id)["room_id"] == message["room_id"]
    assert say(bob, message["room_id"], "here", to=ada.id)["room_id"] == message["room_id"]
    assert ada.code("POST", f"/v1/rooms/{channel}/messages", data="x", to=ada.id) == (422, "recipient_not_in_team")
    assert ada.code("POST", f"/v1/rooms/{channel}/messages", data="x", to=stan.id) == (422, "recipient_not_in_team")
    assert stan.code("POST", f"/v1/rooms/{channel}/messages", data="x", to=ada.id) == (404, "room_not_found")


def test_many_requests_at_once(people):
    ada, bob, *_ = people
    room = group(ada)
    made = []

    def send(number):
        made.append(say(ada, room, f"{number % 40}", None, client_id=f"{number % 40}"))

    threads = [threading.Thread(target=send, args=(number,)) for number in range(80)]
    [thread.start() for thread in threads]
    [thread.join() for thread in threads]
    assert len(made) == 80 and len({message["id"] for message in made}) == 40
    assert sorted({message["seq"] for message in made}) == list(range(1, 41))


# Editing


def test_edits(people):
    ada, bob, cleo, *_ = people
    room = group(ada, bob)
    with bob.relay() as socket:
        seq = say(ada, room, "first text", mentions=[bob.id])["seq"]
        assert until(socket, "text")["mentions"] == [bob.id]
        edited = ada.ok("PATCH", at(room, seq), 200, data="second text")
        assert (edited["status"], edited["data"], edited["mentions"]) == ("edited", "second text", [bob.id])
        frame = until(socket, "edited")
        assert frame == {
            "type": "edited", "channel_id": str(room), "room_id": room, "seq": edited["updated_seq"], "of": seq,
            "id": frame["id"], "from": ada.id, "data": "second text", "mentions": [bob.id], "ts": edited["edited_at"],
        }
        # The same again changes nothing.
        assert ada.ok("PATCH", at(room, seq), 200, data="second text")["updated_seq"] == edited["updated_seq"]
        assert ada.ok("PATCH", at(room, seq), 200, data="second text", mentions=[bob.id])["updated_seq"] == edited["updated_seq"]
        third = ada.ok("PATCH", at(room, seq), 200, data="second text", mentions=[])
        assert "mentions" not in third and third["updated_seq"] == edited["updated_seq"] + 1
        frame = until(socket, "edited")
        assert frame["data"] == "second text" and "mentions" not in frame
        assert ada.ok("PATCH", at(room, seq), 200, data="third text")["data"] == "third text"
        until(socket, "edited")
    versions = ada.ok("GET", at(room, seq, "/edits"))
    assert [version["data"] for version in versions] == ["first text", "second text", "second text"]
    assert [set(version) for version in versions] == [{"data", "ts"}] * 3 and versions == sorted(versions, key=lambda v: v["ts"])
    page = ada.http.get(at(room, seq, "/edits"), params={"limit": 2}).json()
    rest = ada.http.get(at(room, seq, "/edits"), params={"limit": 2, "cursor": page["meta"]["next_cursor"]}).json()
    assert page["data"] + rest["data"] == versions and "meta" not in rest
    assert bob.code("GET", at(room, seq, "/edits")) == (403, "forbidden")
    assert cleo.code("GET", at(room, seq, "/edits")) == (404, "room_not_found")
    listed = [message for message in bob.ok("GET", f"/v1/rooms/{room}/messages") if message["type"] == "text"]
    assert [(m["seq"], m["data"], m["status"]) for m in listed] == [(seq, "third text", "edited")]
    # Others may not, not even those who manage.
    own = say(bob, room, "bob's")["seq"]
    assert ada.code("PATCH", at(room, own), data="x") == (403, "forbidden")
    assert cleo.code("PATCH", at(room, own), data="x") == (404, "room_not_found")
    assert bob.code("PATCH", at(room, 99), data="x") == (404, "message_not_found")
    assert bob.code("PATCH", at(room, seq + 1), data="x") == (404, "message_not_found"), "an edit is no message"
    assert ada.code("PATCH", at(room, 1), data="x") == (422, "validation_failed"), "an event cannot be edited"
    for path in ("0", "-1", "x", "1.0", str(2**60), "%20"):
        assert bob.code("PATCH", at(room, path), data="x") == (404, "message_not_found")
    for body in ({}, {"data": ""}, {"data": None}, {"data": "x", "mentions": None}, {"data": "x", "mentions": [cleo.id]}):
        answer = bob.http.patch(at(room, own), json=body)
        assert answer.status_code == 422, body
    assert cleo.id in answer.text
    assert bob.code("PATCH", at(room, own), data="x" * 65_537) == (413, "message_too_large")
    # Who may not write any more cannot edit, but can delete.
    ada.ok("PUT", f"/v1/rooms/{room}", default_permissions="r")
    assert bob.code("PATCH", at(room, own), data="x") == (403, "forbidden")
    assert bob.code("PUT", at(room, own, f"/reactions/{THUMB}")) == (403, "forbidden")
    bob.ok("DELETE", at(room, own), 204)


def test_edits_by_frames(people):
    ada, bob, *_ = people
    room = group(ada, bob)
    seq = say(ada, room, "first")["seq"]
    with ada.relay() as socket:
        socket.send(type="edit", channel_id=str(room), of=seq, data="second", client_id="e")
        frame, ack = until(socket, "edited"), until(socket, "ack")
        assert ack["seq"] == frame["seq"] and ack["client_id"] == frame["client_id"] == "e"
        # A retry, and the same text again: the same entry.
        socket.send(type="edit", channel_id=str(room), of=seq, data="second", client_id="e")
        assert until(socket, "ack")["seq"] == frame["seq"]
        socket.send(type="edit", channel_id=str(room), of=seq, data="second", client_id="another")
        assert until(socket, "ack") == {**ack, "client_id": "another"}
        socket.send(type="edit", channel_id=str(room), of=seq, data="third", client_id="e")
        assert socket.receive()["code"] == "client_id_conflict"
        for wrong, code in (
            ({"of": 0}, "invalid_frame"), ({"of": "1"}, "invalid_frame"), ({"of": None}, "invalid_frame"), ({"of": 99}, "message_not_found"),
            ({"of": 1}, "invalid_frame"), ({"data": ""}, "invalid_frame"), ({"data": 1}, "invalid_frame"), ({"data": "x" * 65_537}, "message_too_large"),
            ({"mentions": "x"}, "invalid_frame"), ({"mentions": [str(uuid.uuid4())]}, "invalid_frame"), ({"channel_id": "999999"}, "room_not_found"),
            ({"channel_id": str(uuid.uuid4())}, "room_not_found"), ({"client_id": ""}, "invalid_frame"),
        ):
            socket.send(**{"type": "edit", "channel_id": str(room), "of": seq, "data": "x", "client_id": "w", **wrong})
            answer = socket.receive()
            assert (answer["type"], answer.get("code")) == ("error", code), (wrong, answer)
            assert wrong.get("client_id", "w") == answer["client_id"]
        # Without a client_id there is no ack.
        socket.send(type="edit", channel_id=str(room), of=seq, data="third", mentions=[bob.id])
        assert until(socket, "edited")["mentions"] == [bob.id]
        assert socket.silent()


# Deleting


def test_deletions(people):
    ada, bob, cleo, *_ = people
    room = group(ada, bob)
    secret = f"not for long {uuid.uuid4()}"
    with bob.relay() as socket:
        seq = say(bob, room, "first " + secret, client_id="d", mentions=[ada.id])["seq"]
        until(socket, "text")
        bob.ok("PATCH", at(room, seq), data="second " + secret)
        until(socket, "edited")
        ada.ok("PUT", at(room, seq, f"/reactions/{THUMB}"))
        until(socket, "reacted")
        ada.ok("DELETE", at(room, seq), 204)
        frame = until(socket, "deleted")
        assert frame == {"type": "deleted", "channel_id": str(room), "room_id": room, "seq": frame["seq"], "of": seq, "id": frame["id"], "from": ada.id, "ts": frame["ts"]}
        ada.ok("DELETE", at(room, seq), 204)
        bob.ok("DELETE", at(room, seq), 204)
        # Twice is once.
        assert socket.silent() and ada.ok("GET", f"/v1/rooms/{room}")["last_seq"] == frame["seq"]
    message = bob.ok("GET", at(room, seq))
    assert (message["status"], message["data"], message["content"], message["deleted_at"]) == ("deleted", "", "", frame["ts"])
    assert message["updated_seq"] == frame["seq"] and not {"mentions", "reactions", "file"} & set(message)
    assert message in bob.ok("GET", f"/v1/rooms/{room}/messages")
    for person in (ada, bob):
        assert person.code("PATCH", at(room, seq), data="x") == ((409, "message_deleted"))
        assert person.code("PUT", at(room, seq, f"/reactions/{THUMB}")) == (409, "message_deleted")
        assert person.code("DELETE", at(room, seq, f"/reactions/{THUMB}")) == (409, "message_deleted")
        assert person.code("POST", f"/v1/rooms/{room}/messages", data="x", reply_to=seq) == (409, "message_deleted")
        assert person.code("POST", f"/v1/rooms/{room}/messages", forward_of={"room_id": room, "seq": seq}) == (409, "message_deleted")
        assert person.ok("GET", at(room, seq, "/edits")) == person.ok("GET", at(room, seq, "/reactions")) == []
    # A retry gets the message as it is now.
    assert say(bob, room, "first " + secret, 200, client_id="d", mentions=[ada.id]) == bob.ok("GET", at(room, seq))
    # No replay has the text.
    with bob.relay("?subscribe=none") as socket:
        socket.send(type="resume", channels={str(room): 0})
        frames = []
        while not frames or frames[-1]["type"] != "resumed":
            frames.append(socket.receive())
    assert [f["type"] for f in frames] == ["event", "text", "edited", "reacted", "deleted", "resumed"]
    assert frames[1]["data"] == "" and frames[1]["status"] == "deleted" and "data" not in frames[2] and secret not in json.dumps(frames)
    own = say(ada, room, "ada's")["seq"]
    assert bob.code("DELETE", at(room, own)) == (403, "forbidden")
    assert cleo.code("DELETE", at(room, own)) == (404, "room_not_found")
    assert ada.code("DELETE", at(room, 99)) == (404, "message_not_found")
    assert ada.code("DELETE", at(room, 1)) == (422, "validation_failed"), "an event stays"


def test_deletions_by_frames_and_in_a_team(people):
    ada, bob, cleo, _, team = people
    with bob.relay("?subscribe=none") as socket:
        seq = say(cleo, team["room_id"], "cleo's")["seq"]
        own = say(bob, team["room_id"], "bob's")["seq"]
        socket.send(type="delete", channel_id=team["id"], of=seq, client_id="1")
        assert socket.receive()["code"] == "forbidden"
        socket.send(type="delete", channel_id=team["id"], of=own, client_id="1")
        ack = until(socket, "ack")
        socket.send(type="delete", channel_id=team["id"], of=own, client_id="2")
        assert until(socket, "ack") == {**ack, "client_id": "2"}
    # Admins of the team manage its channel.
    ada.ok("PUT", f"/v1/teams/{team['id']}/admins/{bob.id}")
    bob.ok("DELETE", at(team["room_id"], seq), 204)
    ada.ok("DELETE", f"/v1/teams/{team['id']}/admins/{bob.id}")
    # Where nobody may write, authors may still take back what they wrote.
    seq = say(bob, team["room_id"], "again")["seq"]
    ada.ok("PATCH", f"/v1/teams/{team['id']}", active=False)
    assert bob.code("PATCH", at(team["room_id"], seq), data="x") == (403, "forbidden")
    bob.ok("DELETE", at(team["room_id"], seq), 204)
    ada.ok("PATCH", f"/v1/teams/{team['id']}", active=True)


# Reactions


def test_reactions(people):
    ada, bob, cleo, *_ = people
    room = group(ada, bob)
    seq = say(ada, room, "react!")["seq"]
    with ada.relay() as socket:
        assert bob.ok("PUT", at(room, seq, f"/reactions/{HEART}"), 200)["reactions"] == [{"emoji": HEART, "count": 1, "me": True}]
        frame = until(socket, "reacted")
        assert frame == {
            "type": "reacted", "channel_id": str(room), "room_id": room, "seq": frame["seq"], "of": seq, "id": frame["id"],
            "from": bob.id, "emoji": HEART, "removed": False, "ts": frame["ts"],
        }
        ada.ok("PUT", at(room, seq, f"/reactions/{THUMB}"))
        until(socket, "reacted")
        head = ada.ok("PUT", at(room, seq, f"/reactions/{HEART}"))["updated_seq"]
        assert until(socket, "reacted")["seq"] == head
        # Again, or taken back where there is none: nothing changes.
        bob.ok("PUT", at(room, seq, f"/reactions/{HEART}"), 200)
        bob.ok("DELETE", at(room, seq, f"/reactions/{PARTY}"), 204)
        assert socket.silent()
        socket.send(type="react", channel_id=str(room), of=seq, emoji=HEART, client_id="r")
        assert until(socket, "ack")["seq"] == head
        socket.send(type="react", channel_id=str(room), of=seq, emoji=THUMB, remove=True, client_id="r2")
        frame = until(socket, "reacted")
        assert frame["removed"] is True and until(socket, "ack")["seq"] == frame["seq"] == head + 1
        socket.send(type="react", channel_id=str(room), of=seq, emoji=THUMB, remove=True, client_id="r2")
        assert until(socket, "ack")["seq"] == frame["seq"]
        for wrong in ({"emoji": "a"}, {"emoji": ""}, {"emoji": None}, {"emoji": THUMB + THUMB}, {"remove": 1}, {"of": -1}, {}):
            socket.send(**{"type": "react", "channel_id": str(room), "of": 1, "emoji": THUMB, "client_id": "w", **wrong})
            assert socket.receive()["code"] == "invalid_frame", wrong
    assert ada.ok("GET", at(room, seq))["reactions"] == [{"emoji": HEART, "count": 2, "me": True}]
    reactions = ada.ok("GET", at(room, seq, "/reactions"))
    assert [(r["emoji"], r["user_id"]) for r in reactions] == [(HEART, bob.id), (HEART, ada.id)]
    assert [set(r) for r in reactions] == [{"emoji", "user_id", "ts"}] * 2
    page = ada.http.get(at(room, seq, "/reactions"), params={"limit": 1}).json()
    rest = ada.http.get(at(room, seq, "/reactions"), params={"limit": 1, "cursor": page["meta"]["next_cursor"]}).json()
    assert page["data"] + rest["data"] == reactions and "meta" not in rest
    twenty = "\u200d".join(["\N{ADULT}"] * 20)
    for emoji in ("a", "\N{HEAVY BLACK HEART}", "1", THUMB * 2, twenty, "%20", "\N{LATIN SMALL LETTER E WITH ACUTE}", "x" * 100):
        assert ada.code("PUT", at(room, seq, f"/reactions/{emoji}")) == (422, "validation_failed"), emoji
        assert cleo.code("PUT", at(room, seq, f"/reactions/{emoji}")) == (404, "room_not_found"), emoji
    assert ada.code("PUT", at(room, 1, f"/reactions/{THUMB}")) == (422, "validation_failed"), "an event"
    assert ada.code("PUT", at(room, 99, f"/reactions/{THUMB}")) == (404, "message_not_found")
    for number in range(49):
        ada.ok("PUT", at(room, seq, f"/reactions/{chr(0x1F600 + number)}"), 200)
    assert ada.code("PUT", at(room, seq, f"/reactions/{THUMB}")) == (422, "too_many_reactions")
    bob.ok("PUT", at(room, seq, f"/reactions/{chr(0x1F600)}"), 200)
    assert [r["count"] for r in ada.ok("GET", at(room, seq))["reactions"]] == [2, 2] + [1] * 48


def test_everybody_reacts_at_once(people):
    ada, bob, *_ = people
    room = group(ada, bob)
    seq = say(ada, room, "react!")["seq"]

    def react(person, emoji):
        for _ in range(5):
            person.ok("PUT", at(room, seq, f"/reactions/{emoji}"), 200)
            person.ok("DELETE", at(room, seq, f"/reactions/{emoji}"), 204)
        person.ok("PUT", at(room, seq, f"/reactions/{emoji}"), 200)

    threads = [threading.Thread(target=react, args=(person, emoji)) for person in (ada, bob) for emoji in (THUMB, HEART, PARTY)]
    [thread.start() for thread in threads]
    [thread.join() for thread in threads]
    counts = ada.ok("GET", at(room, seq))["reactions"]
    assert sorted(count["emoji"] for count in counts) == sorted([THUMB, HEART, PARTY]) and {count["count"] for count in counts} == {2}
    # Of each pair of a reaction and its withdrawal nothing is left but entries.
    assert ada.ok("GET", f"/v1/rooms/{room}")["last_seq"] == seq + 6 * 11


# Answers, mentions, forwarded messages


def test_answers(people):
    ada, bob, *_ = people
    room, other = group(ada, bob), group(ada, bob)
    seq = say(ada, room, "question")["seq"]
    with bob.relay() as socket:
        assert say(ada, room, "answer", reply_to=seq)["reply_to"] == seq
        assert until(socket, "text")["reply_to"] == seq
        socket.say(room, "by frame", "1", reply_to=seq)
        assert until(socket, "text")["reply_to"] == seq
        answer = until(socket, "ack")["seq"]
        for wrong, code in ((0, "invalid_frame"), (99, "invalid_frame"), (1, "invalid_frame"), ("1", "invalid_frame"), (True, "invalid_frame")):
            socket.say(room, "x", "2", reply_to=wrong)
            assert socket.receive()["code"] == code, wrong
        # Into another room.
        socket.say(other, "x", "3", reply_to=seq)
        assert socket.receive()["code"] == "invalid_frame"
    assert bob.ok("GET", at(room, answer))["reply_to"] == seq
    for wrong in (1, 99):
        assert ada.code("POST", f"/v1/rooms/{room}/messages", data="x", reply_to=wrong) == (422, "validation_failed")
    # A retry stays what it was when the question is gone.
    ada.ok("DELETE", at(room, seq), 204)
    assert say(bob, room, "by frame", 200, client_id="1", reply_to=seq)["seq"] == answer
    assert bob.code("POST", f"/v1/rooms/{room}/messages", data="by frame", client_id="1") == (409, "client_id_conflict")


def test_mentions(people, server):
    ada, bob, cleo, stan, team = people
    room = group(ada, bob)
    # By name, by a rule of one's own, by a team that a rule names; not by being known.
    ada.ok("PUT", f"/v1/rooms/{room}/members", entity_UUID=stan.id, permissions="r", level=0)
    foreign = server.person()
    ada.ok("PUT", f"/v1/rooms/{room}/members", entity_UUID=foreign.id, permissions="r", level=0)
    users = [ada.id, bob.id, stan.id, foreign.id]
    assert say(ada, room, "you", mentions=[*users, ada.id])["mentions"] == users
    for wrong in ([cleo.id], [bob.id, cleo.id], [str(uuid.uuid4())]):
        answer = ada.http.post(f"/v1/rooms/{room}/messages", json={"data": "x", "mentions": wrong})
        assert answer.status_code == 422 and wrong[-1] in answer.text and bob.id not in answer.text
    ada.ok("PUT", f"/v1/rooms/{room}/members", entity_UUID=team["id"], permissions="r", level=0)
    assert eventually(lambda: ada.http.post(f"/v1/rooms/{room}/messages", json={"data": "x", "mentions": [cleo.id]}).status_code == 201)
    ada.ok("PUT", f"/v1/rooms/{room}/members", entity_UUID=stan.id, permissions="b", level=0)
    assert eventually(lambda: ada.http.post(f"/v1/rooms/{room}/messages", json={"data": "x", "mentions": [stan.id]}).status_code == 422)
    assert say(cleo, team["room_id"], "all", mentions=[ada.id, bob.id])["mentions"] == [ada.id, bob.id]
    with ada.relay() as socket:
        socket.say(room, "x", "1", mentions=[bob.id])
        socket.say(room, "y", "2")
        assert [until(socket, "text").get("mentions"), until(socket, "text").get("mentions")] == [[bob.id], None], "in their order"
        for wrong in ([str(uuid.uuid4())], [bob.id] * 51, "x", [1], {}):
            socket.say(room, "x", "3", mentions=wrong)
            assert until_error(socket) == "invalid_frame", wrong
    # The same key with other mentions is another message.
    say(ada, room, "k", client_id="k", mentions=[bob.id, ada.id])
    say(ada, room, "k", 200, client_id="k", mentions=[ada.id, bob.id])
    assert ada.code("POST", f"/v1/rooms/{room}/messages", data="k", client_id="k") == (409, "client_id_conflict")


def until_error(socket):
    while (frame := socket.receive())["type"] != "error":
        pass
    return frame["code"]


def test_forwarded_messages(people):
    ada, bob, cleo, *_ = people
    source, target = group(ada), group(ada, bob)
    message = say(ada, source, "original", mentions=[ada.id])
    place = {"room_id": source, "seq": message["seq"]}
    with bob.relay() as socket:
        copy = ada.ok("POST", f"/v1/rooms/{target}/messages", 201, forward_of=place, client_id="f")
        assert copy["data"] == "original" and copy["forward"] == {"message_id": message["id"], "from": ada.id, "room_id": source}
        assert "mentions" not in copy
        frame = until(socket, "text")
        assert frame["data"] == "original" and frame["forward"] == {"message_id": message["id"], "from": ada.id}
    # Only those who may read the source learn which room it is.
    assert bob.ok("GET", at(target, copy["seq"]))["forward"] == {"message_id": message["id"], "from": ada.id}
    assert ada.ok("GET", f"/v1/rooms/{target}/messages")[0]["forward"]["room_id"] == source
    # It is a copy: what becomes of the source does not matter, and a retry is known.
    ada.ok("PATCH", at(source, message["seq"]), data="changed")
    assert ada.ok("POST", f"/v1/rooms/{target}/messages", 200, forward_of=place, client_id="f")["data"] == "original"
    assert ada.ok("POST", f"/v1/rooms/{target}/messages", 201, forward_of=place)["data"] == "changed"
    ada.ok("DELETE", at(source, message["seq"]), 204)
    assert ada.ok("POST", f"/v1/rooms/{target}/messages", 200, forward_of=place, client_id="f")["seq"] == copy["seq"]
    assert ada.code("POST", f"/v1/rooms/{target}/messages", forward_of=place) == (409, "message_deleted")
    assert ada.code("POST", f"/v1/rooms/{target}/messages", forward_of=place, client_id="new") == (409, "message_deleted")
    for wrong, answer in (
        ({"room_id": source, "seq": 99}, (404, "message_not_found")), ({"room_id": 999_999, "seq": 1}, (404, "room_not_found")),
        # Of itself.
        ({"room_id": target, "seq": ada.ok("GET", f"/v1/rooms/{target}")["last_seq"] + 1}, (404, "message_not_found")),
        ({"room_id": target, "seq": 1}, (422, "validation_failed")),
    ):
        assert ada.code("POST", f"/v1/rooms/{target}/messages", forward_of=wrong) == answer, wrong
    # What one cannot read.
    assert bob.code("POST", f"/v1/rooms/{target}/messages", forward_of=place) == (404, "room_not_found")
    with bob.relay() as socket:
        socket.send(type="text", channel_id=str(target), to="*", forward_of=place, client_id="1")
        assert socket.receive()["code"] == "room_not_found"
        socket.send(type="text", channel_id=str(target), to="*", forward_of={"room_id": target, "seq": copy["seq"]}, client_id="1")
        assert until(socket, "text")["forward"] == {"message_id": copy["id"], "from": ada.id}
        until(socket, "ack")
        socket.send(type="text", channel_id=str(target), to="*", data="x", forward_of=place, client_id="2")
        assert socket.receive()["code"] == "invalid_frame"
    assert cleo.code("POST", f"/v1/rooms/{target}/messages", forward_of=place) == (404, "room_not_found")


# The life of a message, for those who were away


def test_who_resumes_hears_the_present_state(people):
    ada, bob, *_ = people
    room = group(ada, bob)
    kept, changed, gone = (say(ada, room, text)["seq"] for text in ("kept", "changed", "gone"))
    ada.ok("PATCH", at(room, changed), data="once")
    ada.ok("PATCH", at(room, changed), data="twice", mentions=[bob.id])
    ada.ok("DELETE", at(room, gone), 204)
    with bob.relay("?subscribe=none") as socket:
        socket.send(type="resume", channels={str(room): 1})
        frames = []
        while not frames or frames[-1]["type"] != "resumed":
            frames.append(socket.receive())
    texts = [frame for frame in frames if frame["type"] == "text"]
    assert [(f["data"], f.get("status")) for f in texts] == [("kept", None), ("twice", "edited"), ("", "deleted")]
    assert [f.get("mentions") for f in texts] == [None, [bob.id], None]
    edits = [frame for frame in frames if frame["type"] == "edited"]
    assert [(f["of"], f.get("data"), f.get("mentions")) for f in edits] == [(changed, None, None), (changed, "twice", [bob.id])]
    assert [frame["seq"] for frame in frames[:-1]] == list(range(2, 8))
    history = bob.ok("GET", f"/v1/rooms/{room}/messages?after=1")
    assert [(m["seq"], m["data"], m["status"], m["updated_seq"]) for m in history] == [
        (kept, "kept", "sent", kept), (changed, "twice", "edited", 6), (gone, "", "deleted", 7),
    ]


def test_pages_pass_over_what_is_no_message(people):
    ada, *_ = people
    room = group(ada)
    seqs = []
    for number in range(6):
        seqs.append(say(ada, room, f"{number}")["seq"])
        for emoji in (THUMB, HEART, PARTY):
            ada.ok("PUT", at(room, seqs[-1], f"/reactions/{emoji}"))
    for query, order in (({"limit": 4}, seqs[::-1]), ({"limit": 4, "after": 0}, seqs), ({"limit": 3}, seqs[::-1]), ({"limit": 6, "after": 0}, seqs)):
        seen, cursor = [], None
        while True:
            page = ada.http.get(f"/v1/rooms/{room}/messages", params=query | ({"cursor": cursor} if cursor else {})).json()
            assert page["data"]
            seen += [message["seq"] for message in page["data"]]
            cursor = page.get("meta", {}).get("next_cursor")
            if not cursor:
                break
        assert seen == order
    assert [m["seq"] for m in ada.ok("GET", f"/v1/rooms/{room}/messages?after={seqs[0]}&before={seqs[2]}")] == [seqs[1]]


def test_nano_hears_messages_only(people):
    ada, bob, *_ = people
    room = group(ada, bob)
    with bob.chat() as chat:
        chat.send(type="select_room", room_id=room)
        assert chat.receive()["data"] == "CONNECTED"
        seq = say(ada, room, "one")["seq"]
        assert chat.receive()["data"]["content"] == "one"
        ada.ok("PATCH", at(room, seq), data="two")
        ada.ok("PUT", at(room, seq, f"/reactions/{THUMB}"))
        ada.ok("DELETE", at(room, seq), 204)
        say(ada, room, "three")
        assert chat.receive()["data"]["content"] == "three"


def test_who_may_only_write_reads_nothing_by_reacting(people):
    ada, bob, *_ = people
    room = ada.ok("POST", "/v1/rooms", 201, name="a letterbox", kind="group")["id"]
    ada.ok("PUT", f"/v1/rooms/{room}/members", entity_UUID=bob.id, permissions="w", level=0)
    seq = ada.ok("POST", f"/v1/rooms/{room}/messages", 201, data="a secret", mentions=[ada.id])["seq"]
    ada.ok("PUT", f"/v1/rooms/{room}/messages/{seq}/reactions/\N{BUG}")
    message = bob.ok("PUT", f"/v1/rooms/{room}/messages/{seq}/reactions/{THUMB}", 200)
    assert (message["data"], message["content"], message["seq"]) == ("", "", seq)
    assert not {"mentions", "reactions"} & set(message)
    # One's own message is no secret.
    own = bob.ok("POST", f"/v1/rooms/{room}/messages", 201, data="mine")["seq"]
    assert bob.ok("PUT", f"/v1/rooms/{room}/messages/{own}/reactions/{THUMB}", 200)["data"] == "mine"


def test_texts_are_compared_byte_by_byte(people):
    ada, *_ = people
    room = group(ada)
    composed, decomposed = "caf\u00e9", "cafe\u0301"
    seq = ada.ok("POST", f"/v1/rooms/{room}/messages", 201, data=composed)["seq"]
    edited = ada.ok("PATCH", f"/v1/rooms/{room}/messages/{seq}", data=decomposed)
    assert (edited["data"], edited["status"]) == (decomposed, "edited")
    again = ada.http.post(f"/v1/rooms/{room}/messages", json={"data": composed, "content": decomposed})
    assert again.status_code == 422


def test_the_other_one_of_a_dialog_by_frames(people):
    ada, bob, cleo, stan, team = people
    dialog = ada.ok("POST", f"/v1/rooms/{team['room_id']}/messages", 201, data="psst", to=bob.id)["room_id"]
    with ada.relay("?subscribe=none") as socket:
        socket.send(type="text", channel_id=str(dialog), to=bob.id, data="again", client_id="1")
        assert socket.receive()["type"] == "ack"
        for to in (ada.id, cleo.id, stan.id):
            socket.send(type="text", channel_id=str(dialog), to=to, data="x", client_id="2")
            assert socket.receive()["code"] == "recipient_not_in_team"
        room = group(ada, bob)
        socket.send(type="text", channel_id=str(room), to=bob.id, data="x", client_id="3")
        assert socket.receive()["code"] == "recipient_not_in_team"
    with stan.relay("?subscribe=none") as socket:
        socket.send(type="text", channel_id=str(dialog), to=bob.id, data="x", client_id="4")
        assert socket.receive()["code"] == "room_not_found"


def test_mentions_of_people_who_have_left(people):
    ada, bob, cleo, *_ = people
    room = group(ada, bob)
    seq = ada.ok("POST", f"/v1/rooms/{room}/messages", 201, data="bob", mentions=[bob.id])["seq"]
    ada.ok("DELETE", f"/v1/rooms/{room}/people/{bob.id}", 204)
    same = ada.ok("PATCH", f"/v1/rooms/{room}/messages/{seq}", data="bob", mentions=[bob.id])
    assert same["status"] == "sent"
    assert ada.ok("PATCH", f"/v1/rooms/{room}/messages/{seq}", data="bob!", mentions=[bob.id])["mentions"] == [bob.id]
    assert ada.code("PATCH", f"/v1/rooms/{room}/messages/{seq}", data="x", mentions=[bob.id, cleo.id]) == (422, "validation_failed")
    answer = ada.http.post(f"/v1/rooms/{room}/messages", json={"data": "x", "reply_to": seq + 1000})
    assert answer.json()["error"]["details"][0]["field"] == "reply_to"


def test_a_forward_is_known_again_whatever_type_it_named(people):
    ada, *_ = people
    room = group(ada)
    seq = ada.ok("POST", f"/v1/rooms/{room}/messages", 201, data="source")["seq"]
    body = {"type": "file", "forward_of": {"room_id": room, "seq": seq}, "client_id": "f"}
    first = ada.http.post(f"/v1/rooms/{room}/messages", json=body)
    assert first.status_code == 201 and first.json()["data"]["type"] == "text"
    ada.ok("DELETE", f"/v1/rooms/{room}/messages/{seq}", 204)
    again = ada.http.post(f"/v1/rooms/{room}/messages", json=body)
    assert again.status_code == 200 and again.json()["data"]["id"] == first.json()["data"]["id"]
