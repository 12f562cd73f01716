"""What people have read: marks, unread messages, mentions, who has seen what, the list of rooms, muted rooms."""

import threading
import time
import uuid

import pytest

from martlet import eventually

THUMB = "\N{THUMBS UP SIGN}"


@pytest.fixture(scope="module")
def people(server):
    ada, bob, cleo, stan = (server.account(name) for name in ("Ada", "Bob", "Cleo", "Stan"))
    team = ada.team(bob, cleo)
    return ada, bob, cleo, stan, team


def group(owner, *others, **more):
    room = owner.ok("POST", "/v1/rooms", 201, **{"name": "a group", "kind": "group", **more})["id"]
    for person in others:
        owner.ok("PUT", f"/v1/rooms/{room}/people/{person.id}")
    return room


def say(person, room, data="hello", **more):
    return person.ok("POST", f"/v1/rooms/{room}/messages", 201, data=data, **more)["seq"]


def mine(person, room, **query):
    """The room as its entry in the person's list, which must have it."""
    [found] = [item for item in listed(person, **query) if item["id"] == room]
    return found


def listed(person, **query):
    items, cursor = [], None
    while True:
        answer = person.http.get("/v1/me/rooms", params=query | ({"cursor": cursor} if cursor else {}))
        assert answer.status_code == 200, answer.text
        items += answer.json()["data"]
        cursor = answer.json().get("meta", {}).get("next_cursor")
        if not cursor:
            return items


def unread(person, room):
    item = mine(person, room)
    return item["unread"], item["mentions"]


def read(person, room, seq):
    return person.ok("PUT", f"/v1/rooms/{room}/read", 200, seq=seq)


def test_marks_move_forward(people):
    ada, bob, cleo, stan, _ = people
    room = group(ada, bob)
    seqs = [say(ada, room, f"{number}") for number in range(4)]
    assert unread(bob, room) == (4, 0) and unread(ada, room) == (0, 0)
    assert read(bob, room, seqs[1]) == {"room_id": room, "last_read_seq": seqs[1], "unread": 2, "mentions": 0}
    # Lower, or the same again: as it is.
    for seq in (0, seqs[0], seqs[1]):
        assert read(bob, room, seq) == {"room_id": room, "last_read_seq": seqs[1], "unread": 2, "mentions": 0}
    item = mine(bob, room)
    assert (item["unread"], item["last_read_seq"], item["last_message"]["data"]) == (2, seqs[1], "3")
    assert bob.code("PUT", f"/v1/rooms/{room}/read", seq=seqs[3] + 1) == (422, "validation_failed")
    for seq in (-1, "x", None, 1.5, 2**60):
        assert bob.code("PUT", f"/v1/rooms/{room}/read", seq=seq) == (422, "validation_failed")
    assert stan.code("PUT", f"/v1/rooms/{room}/read", seq=1) == stan.code("PUT", f"/v1/rooms/{room}/read", seq=-1) == (404, "room_not_found")
    assert stan.code("PUT", "/v1/rooms/999999/read", seq=1) == (404, "room_not_found")
    # Sending moves the sender's own mark, and what is said after that is unread.
    own = say(bob, room, "I am here")
    assert unread(bob, room) == (0, 0) and mine(bob, room)["last_read_seq"] == own
    assert read(bob, room, seqs[3])["last_read_seq"] == own
    say(ada, room, "good")
    assert unread(bob, room) == (1, 0) and unread(ada, room) == (0, 0)
    # What is no message does not count; a deleted one does.
    ada.ok("PUT", f"/v1/rooms/{room}/messages/{own}/reactions/{THUMB}")
    ada.ok("PUT", f"/v1/rooms/{room}/people/{cleo.id}")
    gone = say(ada, room, "gone")
    ada.ok("DELETE", f"/v1/rooms/{room}/messages/{gone}", 204)
    assert unread(bob, room) == (2, 0)
    head = bob.ok("GET", f"/v1/rooms/{room}")["last_seq"]
    assert read(bob, room, head) == {"room_id": room, "last_read_seq": head, "unread": 0, "mentions": 0}


def test_where_marks_begin(people):
    ada, bob, cleo, stan, team = people
    # Who is named begins at the head, and so does who comes again.
    room = group(ada)
    say(ada, room, "before")
    ada.ok("PUT", f"/v1/rooms/{room}/people/{bob.id}")
    say(ada, room, "after")
    assert unread(bob, room) == (1, 0)
    bob.ok("DELETE", f"/v1/rooms/{room}/people/{bob.id}", 204)
    say(ada, room, "while away")
    ada.ok("PUT", f"/v1/rooms/{room}/people/{bob.id}")
    assert unread(bob, room) == (0, 0)
    # By rule, and by a team: at the head when they first list or open it.
    other = ada.ok("POST", "/v1/rooms", 201, name="n", kind="group")["id"]
    for person in (cleo, stan):
        ada.ok("PUT", f"/v1/rooms/{other}/members", entity_UUID=person.id, permissions="rw", level=0)
    say(ada, other, "before")
    assert unread(cleo, other) == (0, 0)
    stan.ok("GET", f"/v1/rooms/{other}")
    say(ada, other, "after")
    assert unread(cleo, other) == (1, 0) and unread(stan, other) == (1, 0)
    say(ada, team["room_id"], "to all")
    late = people[0].server.account("Late")
    ada.ok("POST", f"/v1/teams/{team['id']}/members", user_id=late.id)
    late.accept_invitations()
    late.ok("GET", f"/v1/rooms/{team['room_id']}/messages")
    say(ada, team["room_id"], "to all again")
    assert unread(late, team["room_id"]) == (1, 0)
    ada.ok("DELETE", f"/v1/teams/{team['id']}/members/{late.id}", 204)
    # In a dialog nothing was before.
    with bob.relay("?subscribe=none"):
        message = ada.ok("POST", f"/v1/rooms/{team['room_id']}/messages", 201, data="psst", to=bob.id)
    assert unread(bob, message["room_id"]) == (1, 0)
    dialog = ada.ok("PUT", f"/v1/dialogs/{cleo.id}")["id"]
    say(ada, dialog, "hello")
    assert unread(cleo, dialog) == (1, 0)


def test_unread_mentions(people):
    ada, bob, *_ = people
    room = group(ada, bob)
    say(ada, room, "one")
    first = say(ada, room, "two", mentions=[bob.id])
    second = say(ada, room, "three", mentions=[bob.id, ada.id])
    assert unread(bob, room) == (3, 2) and unread(ada, room) == (0, 0)
    assert read(bob, room, first)["mentions"] == 1
    ada.ok("PATCH", f"/v1/rooms/{room}/messages/{second}", data="three", mentions=[ada.id])
    assert unread(bob, room) == (1, 0)
    ada.ok("PATCH", f"/v1/rooms/{room}/messages/{second}", data="three", mentions=[bob.id])
    assert unread(bob, room) == (1, 1)
    ada.ok("DELETE", f"/v1/rooms/{room}/messages/{second}", 204)
    assert unread(bob, room) == (1, 0)
    say(ada, room, "four", mentions=[bob.id])
    say(bob, room, "read all")
    assert unread(bob, room) == (0, 0)


def test_three_devices_at_once(people):
    ada, bob, *_ = people
    room = group(ada, bob)
    seqs = [say(ada, room, f"{number}") for number in range(12)]
    answers = []
    threads = [threading.Thread(target=lambda seq=seq: answers.append(read(bob, room, seq))) for seq in seqs[::-1] * 3]
    [thread.start() for thread in threads]
    [thread.join() for thread in threads]
    assert len(answers) == 36 and mine(bob, room)["last_read_seq"] == seqs[-1]
    for answer in answers:
        assert answer["unread"] == 11 - seqs.index(answer["last_read_seq"])


def test_who_has_seen_what(people):
    ada, bob, cleo, stan, _ = people
    room = group(ada, bob, cleo)
    seqs = [say(ada, room, f"{number}") for number in range(3)]
    path = f"/v1/rooms/{room}/messages/{{}}/seen"
    assert ada.ok("GET", path.format(seqs[0])) == []
    read(bob, room, seqs[1])
    time.sleep(0.01)
    read(cleo, room, seqs[2])
    time.sleep(0.01)
    read(bob, room, seqs[2])
    seen = ada.ok("GET", path.format(seqs[0]))
    assert [reader["user_id"] for reader in seen] == [cleo.id, bob.id] and [set(reader) for reader in seen] == [{"user_id", "seen_at"}] * 2
    assert [reader["user_id"] for reader in ada.ok("GET", path.format(seqs[2]))] == [bob.id, cleo.id]
    first = ada.ok("GET", path.format(seqs[1]))
    assert first[1] == seen[1], "when the mark first reached it, not when it moved on"
    # By sending, too; and not the author.
    own = say(bob, room, "mine")
    say(ada, room, "answer")
    assert [r["user_id"] for r in bob.ok("GET", path.format(own))] == [ada.id]
    assert eventually(lambda: [r["user_id"] for r in bob.ok("GET", path.format(own))] == [ada.id])
    # Pages.
    page = ada.http.get(path.format(seqs[0]), params={"limit": 1}).json()
    rest = ada.http.get(path.format(seqs[0]), params={"limit": 1, "cursor": page["meta"]["next_cursor"]}).json()
    assert page["data"] + rest["data"] == ada.ok("GET", path.format(seqs[0])) and "meta" not in rest
    # Who hides it is hidden, in the past too.
    cleo.ok("PUT", "/v1/me/settings", seen=False, theme="dark")
    assert [r["user_id"] for r in ada.ok("GET", path.format(seqs[0]))] == [bob.id]
    cleo.ok("PUT", "/v1/me/settings", theme="light")
    assert cleo.ok("GET", "/v1/me/settings") == {"theme": "light", "seen": False}
    cleo.ok("PUT", "/v1/me/settings", theme="light", seen=True)
    assert cleo.id in [r["user_id"] for r in ada.ok("GET", path.format(seqs[0]))]
    assert stan.code("GET", path.format(seqs[0])) == (404, "room_not_found")
    assert ada.code("GET", path.format(999)) == (404, "message_not_found")


def test_who_opened_a_room_late_has_seen_what_they_say(people):
    ada, bob, *_ = people
    room = ada.ok("POST", "/v1/rooms", 201, name="n", kind="group")["id"]
    ada.ok("PUT", f"/v1/rooms/{room}/members", entity_UUID=bob.id, permissions="rw", level=0)
    seqs = [say(ada, room, f"{number}") for number in range(2)]
    assert unread(bob, room) == (0, 0) and ada.ok("GET", f"/v1/rooms/{room}/messages/{seqs[0]}/seen") == []
    with ada.relay() as socket:
        assert read(bob, room, seqs[0]) == {"room_id": room, "last_read_seq": seqs[1], "unread": 0, "mentions": 0}
        assert until(socket, "seen")["seq"] == seqs[0]
    assert [r["user_id"] for r in ada.ok("GET", f"/v1/rooms/{room}/messages/{seqs[0]}/seen")] == [bob.id]
    assert ada.ok("GET", f"/v1/rooms/{room}/messages/{seqs[1]}/seen") == []
    read(bob, room, seqs[1])
    assert [r["user_id"] for r in ada.ok("GET", f"/v1/rooms/{room}/messages/{seqs[1]}/seen")] == [bob.id]


def test_the_list_of_rooms(people):
    server = people[0].server
    ada, bob = server.account("Ada"), server.account("Bob")
    assert listed(ada) == []
    quiet, loud = group(ada, name="quiet"), group(ada, name="loud")
    ada.team(bob, name="the team")
    [channel] = [item for item in listed(ada) if item["kind"] == "channel"]
    dialog = ada.ok("PUT", f"/v1/dialogs/{bob.id}")["id"]
    assert [item["id"] for item in listed(ada)] == [dialog, channel["id"], loud, quiet]
    item = mine(ada, quiet)
    room = ada.ok("GET", f"/v1/rooms/{quiet}")
    assert set(item) - set(room) == {"last_message", "unread", "mentions", "is_muted", "last_read_seq"}
    assert {key: item[key] for key in room} == room and item["last_message"] is None and item["is_muted"] is False
    # The last message counts, no other entry.
    seq = say(ada, quiet, "hello")
    ada.ok("PUT", f"/v1/rooms/{loud}", name="louder")
    ada.ok("PUT", f"/v1/rooms/{loud}/people/{bob.id}")
    assert [item["id"] for item in listed(ada)] == [quiet, dialog, channel["id"], loud]
    ada.ok("PATCH", f"/v1/rooms/{quiet}/messages/{seq}", data="hello!")
    assert mine(ada, quiet)["last_message"] == ada.ok("GET", f"/v1/rooms/{quiet}/messages/{seq}")
    assert mine(ada, quiet)["last_message"]["status"] == "edited"
    ada.ok("DELETE", f"/v1/rooms/{quiet}/messages/{seq}", 204)
    assert mine(ada, quiet)["last_message"]["status"] == "deleted"
    for kind, ids in (("group", [quiet, loud]), ("dialog", [dialog]), ("channel", [channel["id"]]), ("secret", [])):
        assert [item["id"] for item in listed(ada, kind=kind)] == ids
    for limit in (1, 2, 3):
        assert [item["id"] for item in listed(ada, limit=limit)] == [quiet, dialog, channel["id"], loud]
    assert listed(ada, unread="true") == []
    say(bob, channel["id"], "news")
    say(bob, dialog, "psst")
    assert [(item["id"], item["unread"]) for item in listed(ada, unread="true")] == [(dialog, 1), (channel["id"], 1)]
    assert [item["id"] for item in listed(ada, unread="true", limit=1)] == [dialog, channel["id"]]
    assert len(listed(ada, unread="false")) == 4
    read(ada, dialog, 1)
    assert [item["id"] for item in listed(ada, unread="true")] == [channel["id"]]
    for query in ({"kind": "x"}, {"unread": "yes"}, {"limit": "0"}, {"cursor": "x"}, {"cursor": "1.x"}, {"cursor": "9" * 40 + ".1"}):
        assert ada.http.get("/v1/me/rooms", params=query).status_code == 422, query
    # A room that was left or deleted is gone.
    ada.ok("DELETE", f"/v1/rooms/{quiet}", 204)
    assert quiet not in [item["id"] for item in listed(ada)]
    bob.ok("DELETE", f"/v1/rooms/{loud}/people/{bob.id}", 204)
    assert loud not in [item["id"] for item in listed(bob)]


def test_foreign_users_have_marks_too(server):
    ada, bob = server.person(), server.person()
    room = ada.room()
    assert ada.rule(room, bob).status_code == 200
    assert bob.http.get("/v1/me/rooms").json()["data"][0]["unread"] == 0
    assert ada.http.post(f"/rooms/{room}/messages", json={"data": "x"}).status_code == 201
    assert bob.http.get("/v1/me/rooms").json()["data"][0]["unread"] == 1
    assert bob.http.put(f"/rooms/{room}/read", json={"seq": 1}).json()["data"] == {"room_id": room, "last_read_seq": 1, "unread": 0, "mentions": 0}
    assert ada.http.get(f"/rooms/{room}/messages/1/seen").json()["data"][0]["user_id"] == bob.id


def frames_of(socket, type, seconds=1.0):
    """The frames of this type that come within so long."""
    found, end = [], time.monotonic() + seconds
    while True:
        try:
            frame = socket.receive(timeout=max(0.01, end - time.monotonic()))
        except TimeoutError:
            return found
        if frame["type"] == type:
            found.append(frame)


def until(socket, type):
    while (frame := socket.receive())["type"] != type:
        pass
    return frame


def test_marks_by_frames(people):
    ada, bob, cleo, stan, _ = people
    room = group(ada, bob)
    seqs = [say(ada, room, f"{number}", mentions=[bob.id]) for number in range(3)]
    with ada.relay() as hers, bob.relay() as phone, bob.relay() as laptop, cleo.relay() as other:
        phone.send(type="seen", channel_id=str(room), seq=seqs[1])
        heard = until(hers, "seen")
        assert heard == {"type": "seen", "channel_id": str(room), "room_id": room, "user_id": bob.id, "seq": seqs[1], "ts": heard["ts"]}
        # The other sockets learn what is left; the one that said so knows.
        assert until(laptop, "read") == {"type": "read", "room_id": room, "last_read_seq": seqs[1], "unread": 1, "mentions": 1}
        assert frames_of(phone, "read", 0.5) == [] and frames_of(other, "seen", 0.1) == []
        # Back, or not at all: nothing is told.
        phone.send(type="seen", channel_id=str(room), seq=seqs[0])
        assert frames_of(hers, "seen", 0.8) == []
        assert bob.ok("PUT", f"/v1/rooms/{room}/read", 200, seq=seqs[2])["unread"] == 0
        assert until(hers, "seen")["seq"] == seqs[2] and until(phone, "read")["last_read_seq"] == seqs[2]
        for wrong, code in (
            ({"seq": seqs[2] + 99}, "invalid_frame"), ({"seq": -1}, "invalid_frame"), ({"seq": "1"}, "invalid_frame"), ({"seq": None}, "invalid_frame"),
            ({"channel_id": "999999"}, "room_not_found"), ({"channel_id": 5}, "invalid_frame"), ({"channel_id": str(uuid.uuid4())}, "room_not_found"),
        ):
            phone.send(**{"type": "seen", "channel_id": str(room), "seq": 1, "client_id": "s", **wrong})
            error = until(phone, "error")
            assert (error["code"], error["client_id"]) == (code, "s"), wrong
        # Who hides it is heard by nobody else.
        bob.ok("PUT", "/v1/me/settings", seen=False)
        assert until(phone, "settings") == {"type": "settings", "settings": {"seen": False}}
        seq = say(ada, room, "hidden?")
        phone.send(type="seen", channel_id=str(room), seq=seq)
        assert until(laptop, "read")["last_read_seq"] and frames_of(hers, "seen", 0.6) == []
        bob.ok("PUT", "/v1/me/settings", seen=True)


def test_typing(people):
    ada, bob, cleo, stan, team = people
    room = group(ada, bob, default_permissions="r")
    with ada.relay() as hers, bob.relay() as his, ada.relay() as second, cleo.relay() as other:
        for _ in range(3):
            hers.send(type="typing", channel_id=str(room))
        assert until(his, "typing") == {"type": "typing", "channel_id": str(room), "room_id": room, "user_id": ada.id}
        # Once in three seconds, and not to oneself.
        assert frames_of(his, "typing", 0.5) == frames_of(second, "typing", 0.1) == frames_of(hers, "typing", 0.1) == frames_of(other, "typing", 0.1) == []
        # What was sent around it comes all the same.
        say(ada, room, "there")
        assert until(his, "text")["data"] == until(second, "text")["data"] == "there"
        his.send(type="typing", channel_id=str(room), client_id="t")
        error = until(his, "error")
        assert (error["code"], error["client_id"]) == ("forbidden", "t")
        his.send(type="typing", channel_id="999999")
        assert until(his, "error")["code"] == "room_not_found"
        # A team's id means its channel.
        other.send(type="typing", channel_id=team["id"])
        assert until(his, "typing") == {"type": "typing", "channel_id": team["id"], "room_id": team["room_id"], "user_id": cleo.id}


def test_muted_rooms(people):
    ada, bob, cleo, stan, _ = people
    room = group(ada, bob)
    path = f"/v1/rooms/{room}/me"
    assert set(bob.ok("PUT", path, 200, is_muted=True)) == {"room_id", "is_muted", "last_read_seq", "unread", "mentions"}
    assert mine(bob, room)["is_muted"] is True and mine(ada, room)["is_muted"] is False
    assert bob.ok("PUT", path, 200, is_muted=False)["is_muted"] is False
    soon = bob.ok("PUT", path, 200, muted_until="2100-01-01T00:00:00.000Z")
    assert (soon["is_muted"], soon["muted_until"]) == (True, "2100-01-01T00:00:00.000Z")
    assert mine(bob, room)["muted_until"] == "2100-01-01T00:00:00.000Z"
    # For good, from now on.
    always = bob.ok("PUT", path, 200, is_muted=True, muted_until=None)
    assert always["is_muted"] and "muted_until" not in always
    past = bob.ok("PUT", path, 200, is_muted=True, muted_until="2020-01-01T00:00:00Z")
    assert past["is_muted"] is False and "muted_until" not in past
    for body in ({"is_muted": 1}, {"is_muted": None}, {"muted_until": "tomorrow"}, {"muted_until": 5}):
        assert bob.code("PUT", path, **body) == (422, "validation_failed"), body
        assert stan.code("PUT", path, **body) == (404, "room_not_found"), body
    assert stan.code("PUT", path, is_muted=True) == (404, "room_not_found")
    # What is muted is unread all the same.
    bob.ok("PUT", path, is_muted=True)
    say(ada, room, "x")
    assert unread(bob, room) == (1, 0)


def test_who_is_notified(people):
    ada, bob, cleo, stan, team = people
    room = group(ada, bob, cleo)
    dialog = ada.ok("PUT", f"/v1/dialogs/{bob.id}")["id"]
    by_rule = ada.ok("POST", "/v1/rooms", 201, name="n", kind="dialog")["id"]
    ada.ok("PUT", f"/v1/rooms/{by_rule}/members", entity_UUID=bob.id, permissions="rw", level=0)

    def heard(*sockets):
        return [until(socket, "text").get("notify") for socket in sockets]

    with ada.relay() as hers, bob.relay() as his, bob.relay() as laptop, cleo.relay() as other:
        say(ada, room, "to all")
        assert heard(hers, his, laptop, other) == [None] * 4
        hers.say(room, "bob!", "1", mentions=[bob.id, ada.id])
        assert heard(hers, his, laptop, other) == [None, True, True, None]
        for place in (dialog, by_rule):
            say(ada, place, "psst", client_id="p")
            assert heard(hers, his, laptop) == [None, True, True]
        say(bob, team["room_id"], "ada", to=ada.id)
        assert heard(hers, his, laptop) == [True, None, None]
        # Muted: at once, for a time, and no more.
        bob.ok("PUT", f"/v1/rooms/{room}/me", is_muted=True)
        bob.ok("PUT", f"/v1/rooms/{dialog}/me", muted_until="2100-01-01T00:00:00Z")
        assert eventually(lambda: (say(ada, dialog, "muted?"), heard(his, laptop))[1] == [None, None])
        say(ada, room, "bob!", mentions=[bob.id, cleo.id])
        assert heard(his, other) == [None, True]
        # For those who connect later, too.
        with bob.relay("?subscribe=none") as late:
            late.send(type="resume", channels={str(room): 4, str(by_rule): 0})
            frames = {}
            while len(frames) < 2:
                frame = late.receive()
                if frame["type"] == "text":
                    frames[frame["room_id"]] = frame.get("notify")
            assert frames == {room: None, by_rule: True}
        bob.ok("PUT", f"/v1/rooms/{dialog}/me", muted_until="2020-01-01T00:00:00Z")
        assert eventually(lambda: (say(ada, dialog, "again?"), heard(his))[1] == [True])


def test_unread_is_a_count_of_rows_whatever_happens(server, people):
    """Messages of everyone at once, marks that move meanwhile; then the numbers are compared with the log."""
    ada, bob, cleo, *_ = people
    room = group(ada, bob, cleo)

    def work(person):
        for number in range(30):
            seq = say(person, room, f"{number}", mentions=[ada.id] if number % 5 == 0 else [])
            if number % 3 == 0:
                person.ok("PUT", f"/v1/rooms/{room}/messages/{seq}/reactions/{THUMB}")
            if number % 7 == 0:
                person.ok("DELETE", f"/v1/rooms/{room}/messages/{seq}", 204)

    threads = [threading.Thread(target=work, args=(person,)) for person in (bob, cleo)]
    threads.append(threading.Thread(target=lambda: [read(ada, room, ada.ok("GET", f"/v1/rooms/{room}")["last_seq"] // 2) for _ in range(5)]))
    [thread.start() for thread in threads]
    [thread.join() for thread in threads]
    messages = []
    page = {"meta": {"next_cursor": None}}
    while cursor := page.get("meta", {"next_cursor": False})["next_cursor"] or (not messages and "first"):
        page = ada.http.get(f"/v1/rooms/{room}/messages", params={"after": 0, "limit": 200} | ({"cursor": cursor} if cursor != "first" else {})).json()
        messages += page["data"]
    for person in (ada, bob, cleo):
        item = mine(person, room)
        later = [m for m in messages if m["seq"] > item["last_read_seq"] and m["type"] != "event"]
        assert item["unread"] == len(later) and not any(m["from"] == person.id for m in later)
        assert item["mentions"] == sum(person.id in m.get("mentions", []) for m in later)


def test_one_wrong_mark_does_not_undo_another(people):
    """Two devices at once, within the time in which marks are gathered: one asks for more than there is."""
    ada, bob, *_ = people
    room = group(ada, bob)
    seqs = [say(ada, room, f"{number}") for number in range(4)]
    answers = {}

    def move(name, seq):
        answers[name] = bob.http.put(f"/v1/rooms/{room}/read", json={"seq": seq})

    for wanted in seqs[:3]:
        threads = [threading.Thread(target=move, args=args) for args in (("right", wanted), ("wrong", seqs[-1] + 7))]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert answers["wrong"].status_code == 422
        assert answers["right"].json()["data"]["last_read_seq"] == wanted == mine(bob, room)["last_read_seq"]


def test_the_list_is_in_order_for_everyone(people):
    ada, bob, *_ = people
    first, second = group(ada, bob), group(ada, bob)
    seq = say(ada, first, "older")
    say(ada, second, "newer")
    # A reaction is no message.
    ada.ok("PUT", f"/v1/rooms/{first}/messages/{seq}/reactions/{THUMB}")
    for person in (ada, bob):
        order = [item["id"] for item in listed(person) if item["id"] in (first, second)]
        assert order == [second, first]


def test_who_writes_before_looking(server, people):
    """By rule one begins at the head when one first looks; but what one has said oneself is read."""
    ada, bob, cleo, *_ = people
    for wait in (0, 1.6):
        room = ada.ok("POST", "/v1/rooms", 201, name="by rule", kind="group")["id"]
        ada.ok("PUT", f"/v1/rooms/{room}/members", entity_UUID=cleo.id, permissions="rw", level=0)
        own = say(cleo, room, "first!")
        say(ada, room, "second", mentions=[cleo.id])
        time.sleep(wait)
        item = mine(cleo, room)
        assert (item["last_read_seq"], item["unread"], item["mentions"]) == (own, 1, 1)


def test_where_marks_begin_again(people):
    ada, bob, cleo, stan, team = people
    # Naming somebody who could read already leaves their mark.
    room = ada.ok("POST", "/v1/rooms", 201, name="by rule", kind="group")["id"]
    ada.ok("PUT", f"/v1/rooms/{room}/members", entity_UUID=bob.id, permissions="rw", level=0)
    assert unread(bob, room) == (0, 0)
    for number in range(3):
        say(ada, room, f"{number}", mentions=[bob.id])
    ada.ok("PUT", f"/v1/rooms/{room}/people/{bob.id}")
    assert unread(bob, room) == (3, 3)
    # One way in is left, so nothing changes.
    ada.ok("DELETE", f"/v1/rooms/{room}/members/{bob.id}", 204)
    assert unread(bob, room) == (3, 3)
    # Who comes back begins at the head again, behind the event about them, whichever way they come.
    ways = {
        "person": (lambda: ada.ok("DELETE", f"/v1/rooms/{room}/people/{bob.id}", 204), lambda: ada.ok("PUT", f"/v1/rooms/{room}/people/{bob.id}")),
        "rule": (
            lambda: ada.ok("DELETE", f"/v1/rooms/{room}/members/{bob.id}", 204),
            lambda: ada.ok("PUT", f"/v1/rooms/{room}/members", entity_UUID=bob.id, permissions="rw", level=0),
        ),
        "ban": (
            lambda: ada.ok("PUT", f"/v1/rooms/{room}/members", entity_UUID=bob.id, permissions="b", level=0),
            lambda: ada.ok("PUT", f"/v1/rooms/{room}/members", entity_UUID=bob.id, permissions="rw", level=0),
        ),
    }
    ways["person"][0]()
    ways["rule"][1]()
    for name in ("rule", "ban", "rule", "person"):
        leave, come = ways[name]
        if name == "person":
            ways["rule"][0]()
            come()
            assert mine(bob, room)["last_read_seq"] == ada.ok("GET", f"/v1/rooms/{room}")["last_seq"]
        leave()
        say(ada, room, "missed", mentions=[])
        come()
        assert unread(bob, room) == (0, 0), name
        say(ada, room, "heard")
        assert unread(bob, room) == (1, 0), name
    # And in a team: its channel, and the dialog with somebody there.
    team = ada.team(bob, cleo)
    dialog = ada.ok("POST", f"/v1/rooms/{team['room_id']}/messages", 201, data="psst", to=cleo.id)["room_id"]
    say(ada, team["room_id"], "hello")
    assert unread(cleo, team["room_id"]) == (0, 0) and unread(cleo, dialog) == (1, 0)
    say(ada, team["room_id"], "one")
    ada.ok("DELETE", f"/v1/teams/{team['id']}/members/{cleo.id}", 204)
    say(ada, team["room_id"], "two")
    ada.ok("POST", f"/v1/teams/{team['id']}/members", user_id=cleo.id)
    cleo.accept_invitations()
    assert unread(cleo, team["room_id"]) == (0, 0) and unread(cleo, dialog) == (0, 0)


def test_no_news_of_marks_that_do_not_move(people):
    ada, bob, *_ = people
    room = group(ada, bob)
    with ada.relay("?subscribe=none") as socket:
        socket.send(type="subscribe", channels=[str(room)])
        until(socket, "subscribed")
        last = [say(bob, room, f"{number}") for number in range(3)][-1]
        time.sleep(1.6)
        read(bob, room, last)
        read(bob, room, last - 1)
        say(ada, room, "end")
        frames = []
        while not frames or frames[-1].get("data") != "end":
            frames.append(socket.receive())
        assert [frame for frame in frames if frame["type"] in ("seen", "read")] == []
