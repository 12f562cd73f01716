"""Secret rooms, whose messages are destroyed for good; rooms that keep messages for some days; what is left of deleted ones."""

import base64
import os
import time
import uuid

import pytest

from martlet import Server, eventually
from test_fanout import hears, nodes, pair, redis_alone  # noqa: F401


@pytest.fixture(scope="module")
def people(server):
    return tuple(server.account(name) for name in ("Ada", "Bob", "Cleo"))


def secret(owner, *others, **more):
    room = owner.ok("POST", "/v1/rooms", 201, **{"name": "hush", "kind": "secret", **more})
    assert room["kind"] == "secret" and room["type"] == "group" and room.get("ttl_seconds") == more.get("ttl_seconds")
    for person in others:
        owner.ok("PUT", f"/v1/rooms/{room['id']}/people/{person.id}", role_id=None)
        if not owner.ok("GET", f"/v1/rooms/{room['id']}/members/{person.id}")["is_member"]:
            person.accept_invitations()
    return room["id"]


def say(person, room, data, **more):
    return person.ok("POST", f"/v1/rooms/{room}/messages", 201, data=data, **more)["seq"]


def at(room, seq, rest=""):
    return f"/v1/rooms/{room}/messages/{seq}{rest}"


def until(socket, type):
    while (frame := socket.receive())["type"] != type:
        assert frame["type"] != "error", frame
    return frame


def tombstone(person, room, seq):
    message = person.ok("GET", at(room, seq))
    return message["status"] == "deleted" and message["data"] == message["content"] == ""


def test_a_secret_room_is_a_room(people):
    ada, bob, cleo = people
    room = secret(ada, bob)
    with ada.relay() as hers, bob.relay() as his:
        seq = say(ada, room, "psst", mentions=[bob.id])
        assert until(hers, "text")["data"] == until(his, "text")["data"] == "psst"
        his.send(type="text", channel_id=str(room), to="*", data="what?", client_id="1", reply_to=seq)
        answer = until(hers, "text")
        assert (answer["data"], answer["reply_to"]) == ("what?", seq)
        # Edits leave nothing of what was said before.
        ada.ok("PATCH", at(room, seq), data="psst!")
        assert until(his, "edited")["data"] == "psst!"
        assert ada.ok("GET", at(room, seq, "/edits")) == []
        assert [m["data"] for m in bob.ok("GET", f"/v1/rooms/{room}/messages") if m["type"] == "text"] == ["what?", "psst!"]
        bob.ok("PUT", at(room, seq, "/reactions/\N{THUMBS UP SIGN}"))
        [item] = [item for item in bob.ok("GET", "/v1/me/rooms") if item["id"] == room]
        assert item["last_message"]["data"] == "what?"
    with bob.relay("?subscribe=none") as late:
        late.send(type="resume", channels={str(room): 0})
        frames = []
        while not frames or frames[-1]["type"] != "resumed":
            frames.append(late.receive())
        texts = [frame for frame in frames if frame["type"] == "text"]
        assert [(frame["data"], frame.get("status")) for frame in texts] == [("psst!", "edited"), ("what?", None)]
        [edited] = [frame for frame in frames if frame["type"] == "edited"]
        assert edited["data"] == "psst!"
        # Who came is no secret.
        event = [frame for frame in frames if frame["type"] == "event"][0]
        assert event["subject"] == bob.id and "unknown" not in [frame["type"] for frame in frames]
        [first] = [item for item in ada.ok("GET", f"/v1/rooms/{room}/messages") if item["seq"] == event["seq"]]
        assert first["type"] == "event" and first["event"] == {"event": event["event"], "subject": bob.id}
    # The same text again is no edit, and a deletion is one.
    assert ada.ok("PATCH", at(room, seq), data="psst!")["updated_seq"] == bob.ok("GET", at(room, seq))["updated_seq"]
    ada.ok("DELETE", at(room, seq), 204)
    assert tombstone(bob, room, seq)
    # Never forwarded, never found.
    other = say(ada, room, "needle in a secret room")
    assert ada.code("POST", f"/v1/rooms/{secret(ada)}/messages", forward_of={"room_id": room, "seq": other}) == (403, "secret_room")
    plain = ada.ok("POST", "/v1/rooms", 201, name="plain", kind="group")["id"]
    found = say(ada, plain, "needle in a plain room")
    assert eventually(lambda: [hit["message"]["data"] for hit in ada.ok("GET", "/v1/search?q=needle+room")] == ["needle in a plain room"])
    assert ada.ok("GET", f"/v1/search?q=needle&room_id={room}") == []
    copy = ada.ok("POST", f"/v1/rooms/{room}/messages", 201, forward_of={"room_id": plain, "seq": found})
    assert ada.ok("GET", at(room, copy["seq"]))["data"] == "needle in a plain room"


def test_what_a_retry_says(people):
    ada, *_ = people
    room = secret(ada)

    def post(data, key, status):
        answer = ada.http.post(f"/v1/rooms/{room}/messages", json={"data": data, "client_id": key})
        assert answer.status_code == status, answer.text
        return answer.json().get("data", answer.json().get("error"))

    first = post("one", "a", 201)
    assert post("one", "a", 200)["id"] == first["id"]
    assert post("two", "a", 409)["code"] == "client_id_conflict"
    # What it was compared with is destroyed together with the text. From then on the key alone counts.
    ada.ok("PATCH", at(room, first["seq"]), data="other")
    assert post("two", "a", 200)["data"] == "other" == post("one", "a", 200)["data"]
    second = post("three", "b", 201)
    ada.ok("DELETE", at(room, second["seq"]), 204)
    for data in ("three", "four"):
        again = post(data, "b", 200)
        assert (again["id"], again["data"], again["status"]) == (second["id"], "", "deleted")
    # The same for edits by frames, and for what has no text.
    third = post("five", "c", 201)["seq"]
    with ada.relay("?subscribe=none") as socket:
        def ask(**frame):
            socket.send(channel_id=str(room), **frame)
            answer = socket.receive()
            return answer.get("seq") or answer["code"]

        edit = {"type": "edit", "of": third, "client_id": "e"}
        entry = ask(**edit, data="six")
        assert ask(**edit, data="six") == entry and ask(**edit, data="seven") == "client_id_conflict"
        assert ask(type="edit", of=third, client_id="f", data="eight") == entry + 1
        assert ask(**edit, data="seven") == entry
        react = {"type": "react", "of": third, "client_id": "r"}
        entry = ask(**react, emoji="\N{THUMBS UP SIGN}")
        assert ask(**react, emoji="\N{THUMBS UP SIGN}") == entry and ask(**react, emoji="\N{BUG}") == "client_id_conflict"
        # A key that was used for something else.
        assert post("x", "r", 409)["code"] == "client_id_conflict"


def test_bad_secrets(people):
    ada, bob, _ = people
    for more in ({"ttl_seconds": 0}, {"ttl_seconds": -1}, {"ttl_seconds": 31_536_001}, {"ttl_seconds": 1.5}, {"ttl_seconds": None}, {"type": "user2user"}, {"retention_days": 0}):
        assert ada.code("POST", "/v1/rooms", **{"name": "x", "kind": "secret", **more}) == (422, "validation_failed"), more
    assert ada.code("POST", "/v1/rooms", name="x", kind="group", ttl_seconds=5) == (422, "validation_failed")
    room = secret(ada, bob, ttl_seconds=1000)
    assert ada.code("PUT", f"/v1/rooms/{room}", ttl_seconds=5) == (422, "validation_failed")
    assert ada.ok("PUT", f"/v1/rooms/{room}", ttl_seconds=1000, name="y")["ttl_seconds"] == 1000
    assert bob.code("PUT", f"/v1/rooms/{room}", retention_days=5) == (403, "forbidden")


def test_timers(people):
    ada, bob, _ = people
    room, kept = secret(ada, bob, ttl_seconds=2), secret(ada, bob, ttl_seconds=600)
    with bob.relay() as socket:
        stays = say(ada, kept, "for ten minutes")
        begin = time.monotonic()
        first = say(ada, room, "gone in two seconds")
        assert until(socket, "text")["room_id"] == kept and until(socket, "text")["room_id"] == room
        gone = until(socket, "deleted")
        assert 1.9 < time.monotonic() - begin < 6
        assert (gone["room_id"], gone["of"], gone["from"]) == (room, first, None)
    assert tombstone(ada, room, first) and ada.ok("GET", at(room, first))["deleted_at"]
    # What was edited meanwhile is destroyed when its own time is over, and what was deleted not again.
    second, third = say(ada, room, "edited"), say(ada, room, "deleted")
    ada.ok("PATCH", at(room, second), data="edited!")
    ada.ok("DELETE", at(room, third), 204)
    assert eventually(lambda: tombstone(bob, room, second), 10)
    time.sleep(1.2)
    assert bob.ok("GET", f"/v1/rooms/{room}")["last_seq"] == third + 3
    assert bob.ok("GET", at(kept, stays))["data"] == "for ten minutes"


def files(server, postgres):
    folders = [server.data] + ([postgres.directory] if server.environment.get("MARTLET_DATABASE") else [])
    for folder in folders:
        for parent, _, names in os.walk(folder):
            for name in names:
                try:
                    yield os.path.join(parent, name), open(os.path.join(parent, name), "rb").read()
                except OSError:
                    continue


def forms(text):
    """The text as it might be found in a file: as it is, as base64 at three places, as hexadecimal."""
    data = text.encode()
    yield data
    yield data.hex().encode()
    for skip in range(3):
        # What lies beside decides about the first and last character.
        yield base64.b64encode(b"\0" * skip + data)[4:-4]


@pytest.mark.parametrize("kind", ["sqlite", "postgres"])
def test_no_byte_of_it_is_in_any_file(fresh, postgres, kind):
    server = fresh(**({"MARTLET_DATABASE": postgres.database()} if kind == "postgres" else {}))
    ada, bob = server.account(), server.account()
    ada.team(bob)
    room, short, doomed = secret(ada, bob), secret(ada, bob, ttl_seconds=3), secret(ada, bob)
    control = ada.ok("POST", "/v1/rooms", 201, name="plain", kind="group")["id"]
    texts = {name: f"{name} {uuid.uuid4().hex} {uuid.uuid4().hex}" for name in ("kept", "edited", "after the edit", "deleted", "timer", "doomed", "by frame", "edit by frame", "control")}

    def found():
        """The texts of which a byte pattern is in a file."""
        if kind == "postgres":
            # Everything to the files.
            server.execute("CHECKPOINT")
        wanted = {name: list(forms(text.split(" ", text.count(" ") - 1)[-1])) for name, text in texts.items()}
        hits = set()
        for path, content in files(server, postgres):
            hits |= {name for name, patterns in wanted.items() if any(pattern in content for pattern in patterns)}
        return hits

    say(ada, control, texts["control"])
    say(ada, room, texts["kept"], client_id="k")
    edited, deleted = say(ada, room, texts["edited"], client_id="e"), say(ada, room, texts["deleted"])
    timer = say(ada, short, texts["timer"])
    say(bob, doomed, texts["doomed"], mentions=[ada.id])
    with bob.relay() as socket:
        socket.send(type="text", channel_id=str(room), to="*", data=texts["by frame"], client_id="f")
        ack = until(socket, "ack")
        socket.send(type="edit", channel_id=str(room), of=ack["seq"], data=texts["edit by frame"])
        until(socket, "edited")
    time.sleep(1)
    assert found() == {"control"}
    ada.ok("PATCH", at(room, edited), data=texts["after the edit"])
    ada.ok("DELETE", at(room, deleted), 204)
    ada.ok("DELETE", f"/v1/rooms/{doomed}", 204)
    assert eventually(lambda: tombstone(ada, short, timer), 10)
    assert found() == {"control"}
    # The keys of what is gone are gone, and the others are not.
    keys = {"sqlite": "SELECT count(*) FROM message_keys"}
    assert count(server, keys["sqlite"]) == 3
    assert [m["data"] for m in bob.ok("GET", f"/v1/rooms/{room}/messages") if m["status"] != "deleted" and m["type"] == "text"] == [
        texts["edit by frame"], texts["after the edit"], texts["kept"],
    ]
    server.stop()
    assert found() == {"control"}
    log = server.log_text()
    assert not [name for name, text in texts.items() if text.split()[-1] in log]


def count(server, sql):
    import sqlite3
    import subprocess

    if url := server.environment.get("MARTLET_DATABASE"):
        return int(subprocess.run(["psql", "-qtA", url, "-c", sql], check=True, capture_output=True, text=True).stdout)
    with sqlite3.connect(server.data / "martlet.db", timeout=10) as database:
        return database.execute(sql).fetchone()[0]


def test_timers_survive_a_crash(fresh):
    server = fresh()
    ada = server.account()
    room = secret(ada, ttl_seconds=3)
    seqs = [say(ada, room, f"{number}") for number in range(5)]
    server.kill()
    time.sleep(3.2)
    server.start()
    # Gone before anybody can ask.
    with server.http(ada.token) as http:
        for seq in seqs:
            assert http.get(at(room, seq)).json()["data"]["status"] == "deleted"


def test_timers_run_once_over_nodes(nodes):  # noqa: F811
    first, second = nodes
    ada = first.account()
    room = secret(ada, ttl_seconds=2)
    with second.relay(ada.token) as socket:
        seqs = [say(ada, room, f"{number}") for number in range(100)]
        heard = []
        while len(heard) < 100:
            heard.append(until(socket, "deleted")["of"])
        assert sorted(heard) == seqs
    time.sleep(1.5)
    assert ada.ok("GET", f"/v1/rooms/{room}")["last_seq"] == 200


def test_rooms_that_keep_messages_for_some_days(fresh):
    server = fresh(MARTLET_DELETED_DAYS=7)
    ada, bob = server.account(), server.account()
    ada.team(bob)
    room = ada.ok("POST", "/v1/rooms", 201, name="short memory", kind="group", retention_days=3)
    assert room["retention_days"] == 3
    room = room["id"]
    ada.ok("PUT", f"/v1/rooms/{room}/people/{bob.id}")
    old = [say(ada, room, f"old {number}") for number in range(5)]
    ada.ok("PATCH", at(room, old[0]), data="older")
    new = say(ada, room, "new")
    other = ada.ok("POST", "/v1/rooms", 201, name="long memory", kind="group")["id"]
    kept, deleted, recent = (say(ada, other, text) for text in ("kept", "deleted", "deleted lately"))
    ada.ok("PATCH", at(other, deleted), data="and edited")
    ada.ok("DELETE", at(other, deleted), 204), ada.ok("DELETE", at(other, recent), 204)
    day = 86_400_000
    server.execute(f"UPDATE entries SET ts = ts - {4 * day} WHERE room_id = ? AND seq <= ?", room, old[-1])
    server.execute(f"UPDATE entries SET ts = ts - {400 * day} WHERE room_id = ?", other)
    server.execute(f"UPDATE earlier_texts SET deleted_at = deleted_at - {8 * day} WHERE room_id = ? AND seq = ?", other, deleted)
    server.stop()
    server.start()
    http = server.http(ada.token)

    def status(room, seq):
        return http.get(at(room, seq)).json()["data"]["status"]

    assert eventually(lambda: [status(room, seq) for seq in old] == ["deleted"] * 5)
    assert (status(room, new), status(other, kept)) == ("sent", "sent")
    # Nothing of what is gone by itself is kept; what somebody deleted is, for a week.
    assert eventually(lambda: count(server, "SELECT count(*) FROM earlier_texts") == 1)
    assert count(server, f"SELECT count(*) FROM earlier_texts WHERE room_id = {other} AND seq = {recent}") == 1
    assert http.put(f"/v1/rooms/{room}", json={"retention_days": None}).json()["data"].get("retention_days") is None
    for days in (0, -1, "x", 1.5, 36_501):
        assert http.put(f"/v1/rooms/{room}", json={"retention_days": days}).status_code == 422
    http.close()


def test_nothing_is_removed_where_that_is_said(tmp_path):
    with Server(tmp_path / "data", MARTLET_DELETED_DAYS=0) as server:
        ada = server.account()
        room = ada.ok("POST", "/v1/rooms", 201, name="x", kind="group")["id"]
        seq = say(ada, room, "deleted")
        ada.ok("DELETE", at(room, seq), 204)
        server.execute("UPDATE earlier_texts SET deleted_at = 1 WHERE room_id = ?", room)
        server.stop()
        server.start()
        time.sleep(1.5)
        assert count(server, "SELECT count(*) FROM earlier_texts") == 1
