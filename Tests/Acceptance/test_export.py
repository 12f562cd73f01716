"""The export of everything that is kept about somebody."""

import io
import json
import os
import zipfile

import httpx
import pytest

from martlet import eventually


def at(room, seq):
    return f"/v1/rooms/{room}/messages/{seq}"


def say(person, room, data, **more):
    return person.ok("POST", f"/v1/rooms/{room}/messages", 201, data=data, **more)["seq"]


def export(person):
    """The files of an export, by their paths."""
    answer = person.http.get("/v1/me/export")
    assert answer.status_code == 200, answer.text
    assert answer.headers["content-type"] == "application/zip" and answer.headers["cache-control"] == "no-store"
    assert answer.headers["content-disposition"].startswith("attachment")
    with zipfile.ZipFile(io.BytesIO(answer.content)) as archive:
        assert archive.testzip() is None
        return {name: archive.read(name).decode() for name in archive.namelist()}


def lines(text):
    return [json.loads(line) for line in text.splitlines()]


def test_everything_of_mine(server):
    ada, bob, cleo = (server.account(name) for name in ("Ada", "Bob", "Cleo"))
    team = ada.team(bob, cleo, name="Ops")
    room = bob.ok("POST", "/v1/rooms", 201, name="Zürich 東", kind="group")["id"]
    left = bob.ok("POST", "/v1/rooms", 201, name="left", kind="group")["id"]
    secret = bob.ok("POST", "/v1/rooms", 201, name="s", kind="secret")["id"]
    secret_left = bob.ok("POST", "/v1/rooms", 201, name="t", kind="secret")["id"]
    for place in (room, left, secret, secret_left):
        bob.ok("PUT", f"/v1/rooms/{place}/people/{ada.id}")
    mine = [(place, say(ada, place, f"mine {number} Grüße\n\"{place}\"", **({"client_id": "a"} if number else {})))
            for place in (team["room_id"], room, left, secret, secret_left) for number in range(2)]
    first = mine[0]
    ada.ok("PATCH", at(*first), data="edited")
    ada.ok("DELETE", at(*mine[3]), 204)
    say(bob, room, "not mine")
    bob.ok("PUT", at(*first) + "/reactions/\N{THUMBS UP SIGN}")
    for place in (left, secret_left):
        ada.ok("DELETE", f"/v1/rooms/{place}/people/{ada.id}", 204)
    ada.ok("PUT", f"/v1/me/blocks/{cleo.id}")
    ada.ok("PUT", "/v1/me/settings", theme="dark")
    files = export(ada)
    assert list(files) == ["me.json", "rooms.json", "messages.ndjson", "files/"]
    me = json.loads(files["me.json"])
    assert (me["id"], me["email"], me["name"], me["settings"]) == (ada.id, ada.email, "Ada", {"theme": "dark"})
    assert [session["ip"] for session in me["sessions"]] == ["127.0.0.1"]
    assert [(item["id"], item["name"], item["role"]) for item in me["teams"]] == [(team["id"], "Ops", "super_admin")]
    assert [item["user_id"] for item in me["blocks"]] == [cleo.id]
    rooms = json.loads(files["rooms.json"])
    assert rooms == ada.ok("GET", "/v1/rooms") and {item["id"] for item in rooms} == {team["room_id"], room, secret}
    # What was deleted is gone, and what was said in a secret room that she has left is not hers to read.
    kept = [place for place in mine if place != mine[3] and place[0] != secret_left]
    found = lines(files["messages.ndjson"])
    assert [(item["room_id"], item["seq"]) for item in found] == sorted(kept)
    for item in found:
        if item["room_id"] != left:
            assert item == ada.ok("GET", at(item["room_id"], item["seq"]))
    assert found[0]["data"] == "edited" and all(item["from"] == ada.id for item in found)


def test_of_a_new_account(server):
    files = export(server.account())
    assert (files["rooms.json"], files["messages.ndjson"]) == ("[]", "")


def test_many_rooms_and_messages(fresh):
    server = fresh()
    ada = server.account()
    rooms = [ada.ok("POST", "/v1/rooms", 201, name=str(number), kind="group")["id"] for number in range(205)]
    with ada.relay() as socket:
        for number in range(300):
            socket.send(type="text", channel_id=str(rooms[number % 7]), to="*", data=f"message {number}", client_id=str(number))
        acks = 0
        while acks < 300:
            acks += socket.receive()["type"] == "ack"
    files = export(ada)
    assert [item["id"] for item in json.loads(files["rooms.json"])] == rooms
    found = lines(files["messages.ndjson"])
    assert {item["data"] for item in found} == {f"message {number}" for number in range(300)} and len(found) == 300
    assert [(item["room_id"], item["seq"]) for item in found] == sorted((item["room_id"], item["seq"]) for item in found)


@pytest.fixture
def large(server):
    """Somebody whose export does not fit into the buffers of a socket."""
    ada = server.account()
    room = ada.ok("POST", "/v1/rooms", 201, name="r", kind="group")["id"]
    for _ in range(60):
        say(ada, room, os.urandom(45_000).hex()[:64_000])
    return ada


def test_one_at_a_time(server, large):
    other = server.account()
    with large.http.stream("GET", "/v1/me/export") as first:
        assert first.status_code == 200
        with server.http(large.token) as http:
            refused = http.get("/v1/me/export")
            assert (refused.status_code, refused.json()["error"]["code"]) == (429, "rate_limited")
            assert int(refused.headers["retry-after"]) > 0
            assert http.get("/v1/me").status_code == 200
        assert export(other)
        content = b"".join(first.iter_raw())
    assert zipfile.ZipFile(io.BytesIO(content)).testzip() is None
    # Who goes away in the middle may ask again.
    with large.http.stream("GET", "/v1/me/export") as second:
        assert second.status_code == 200
    with server.http(large.token) as http:
        assert eventually(lambda: http.get("/v1/me/export").status_code == 200)


def test_it_ends_with_the_session(server, large):
    with server.http() as http:
        login = {"email": large.email, "password": "correct horse"}
        bearer = http.post("/v1/auth/login", json=login).json()["data"]["access_token"]
    with server.http(bearer) as http, http.stream("GET", "/v1/me/export") as answer:
        assert answer.status_code == 200
        large.ok("POST", "/v1/auth/logout-all", 204)
        with pytest.raises(httpx.RemoteProtocolError):
            answer.read()


def test_a_head_costs_nothing(server):
    ada = server.account()
    for _ in range(3):
        answer = ada.http.head("/v1/me/export")
        assert answer.status_code == 200 and answer.headers["content-type"] == "application/zip"
    assert export(ada)
