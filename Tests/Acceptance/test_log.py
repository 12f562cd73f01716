"""The log of a room as outsiders meet it: pages that are bounded, entries that cannot be shown, and logs
that were replaced by older ones."""

import re
import sqlite3
import subprocess
import time

import httpx
import pytest

from martlet import BINARY

LARGE = 64 * 1024


def fill(server, person, room, count, data):
    """So many messages, a few in flight."""
    with person.relay() as socket:
        acks = 0
        for number in range(count):
            socket.say(room, data, str(number))
            while number - acks >= 8:
                acks += socket.receive()["type"] == "ack"
        while acks < count:
            acks += socket.receive()["type"] == "ack"


def run(server, *arguments):
    return subprocess.run([BINARY, *arguments], env=server.environment, capture_output=True, text=True, timeout=60)


# Pages


def test_a_page_ends_before_a_mebibyte(server):
    ada = server.person()
    room = ada.room()
    fill(server, ada, room, 40, "x" * LARGE)
    for query in ({"limit": 200}, {"limit": 200, "after": 0}):
        seen, cursor, pages = [], None, 0
        while True:
            answer = ada.http.get(f"/rooms/{room}/messages", params=query | ({"cursor": cursor} if cursor else {}))
            assert answer.status_code == 200 and len(answer.content) <= 1024 * 1024
            page = answer.json()
            assert page["data"], "an empty page"
            seen += [message["seq"] for message in page["data"]]
            pages += 1
            cursor = page.get("meta", {}).get("next_cursor")
            if not cursor:
                break
        assert sorted(seen) == list(range(1, 41)) and seen in (sorted(seen), sorted(seen, reverse=True))
        assert pages >= 6
    # What is counted is what leaves: such a character is written in six.
    fill(server, ada, other := ada.room(), 6, "\x01" * 20_000)
    answer = ada.http.get(f"/rooms/{other}/messages").json()
    assert [message["seq"] for message in answer["data"]] == [6, 5, 4, 3] and answer["meta"]["next_cursor"] == "3"


@pytest.mark.parametrize(
    "data, fields",
    [("x" * LARGE, ""), ("\x01" * 21_000, ""), ("\x01" * 21_000, "Accept-Encoding: gzip\r\n")],
    ids=["large", "escaped", "escaped and compressed"],
)
def test_many_pages_that_nobody_reads(fresh, stalls, data, fields):
    """Sixty clients ask for pages of large messages and read nothing; others do not notice."""
    server = fresh(MARTLET_LOOPS=2)
    ada = server.person()
    room = ada.room()
    fill(server, ada, room, 200, data)
    before = server.resident_megabytes()
    request = (
        f"GET /rooms/{room}/messages?limit=200 HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {ada.token}\r\n{fields}\r\n"
    ).encode()
    clients = [server.raw() for _ in range(60)]
    slowest = highest = 0
    try:
        for client in clients:
            client.sendall(request)
        end = time.monotonic() + 4
        with server.http() as http:
            while time.monotonic() < end:
                start = time.monotonic()
                assert http.get("/healthz").status_code == 200
                slowest = max(slowest, time.monotonic() - start)
                highest = max(highest, server.resident_megabytes())
    finally:
        for client in clients:
            client.close()
    print(f"60 unread pages: {before:.0f} -> {highest:.0f} MB")
    assert highest < 150
    stalls.check("/healthz beside 60 unread pages", slowest)


# What cannot be shown


def spoil(server, request, *statements):
    """Runs statements on the server's database, beside it."""
    if "MARTLET_DATABASE" in server.environment:
        arguments = [part for statement in statements for part in ("-c", statement)]
        subprocess.run(["psql", "-q", "-v", "ON_ERROR_STOP=1", server.environment["MARTLET_DATABASE"], *arguments], check=True)
    else:
        with sqlite3.connect(server.data / "martlet.db", timeout=10) as database:
            for statement in statements:
                database.execute(statement.replace("'\\x", "x'"))


@pytest.mark.parametrize("kind", ["sqlite", "postgres"])
def test_lost_and_unknown_entries_stall_nothing(fresh, request, kind):
    settings = {"MARTLET_METRICS_LISTEN": "127.0.0.1:0"}
    if kind == "postgres":
        settings["MARTLET_DATABASE"] = request.getfixturevalue("postgres").database()
    server = fresh(**settings)
    ada = server.person()
    room = ada.room()
    with ada.relay() as socket, ada.chat() as nano:
        nano.send(type="select_room", room_id=room)
        assert nano.receive()["data"] == "CONNECTED"
        ids = []
        for number in range(1, 10):
            socket.say(room, f"m{number}", str(number))
            ids.append(socket.until("text")["id"].replace("-", ""))
            assert socket.until("ack")["seq"] == number
        spoil(
            server, request,
            f"DELETE FROM contents WHERE id = '\\x{ids[2]}'",
            f"UPDATE entries SET type = 99 WHERE room_id = {room} AND seq = 5",
            f"DELETE FROM entries WHERE room_id = {room} AND seq = 7",
        )
        socket.say(room, "after", "after")
        assert socket.until("text")["seq"] == 10
        socket.until("ack")
        # Another client comes back from before all of it.
        with ada.relay("?subscribe=none") as other:
            other.send(type="resume", channels={str(room): 0})
            frames = [other.receive() for _ in range(11)]
    assert frames[-1]["type"] == "resumed" and frames[-1]["seq"] == 10
    assert [frame["seq"] for frame in frames[:-1]] == list(range(1, 11))
    unknown = [frame for frame in frames if frame["type"] == "unknown"]
    assert [frame["seq"] for frame in unknown] == [3, 5, 7]
    assert all(set(frame) == {"type", "channel_id", "room_id", "seq", "ts"} for frame in unknown)
    assert {frame["data"] for frame in frames if frame["type"] == "text"} == {"m1", "m2", "m4", "m6", "m8", "m9", "after"}
    # History shows what there is, and says of the rest that it is unknown.
    listed = ada.messages(room, limit=50)
    assert [m["seq"] for m in listed if m["type"] == "text"] == [10, 9, 8, 6, 4, 2, 1]
    assert [m["seq"] for m in listed if m["type"] == "unknown"] == [5, 3]
    assert "entry_unknown" in server.log_text()
    address = re.search(r'"address":"(http://[^"]+)"', server.log_text())[1]
    assert re.search(r"martlet_unknown_entries_total [1-9]", httpx.get(address).text)


# Logs that were replaced


def test_two_backups_to_one_file(fresh, tmp_path):
    server = fresh()
    ada = server.person()
    room = ada.room()
    fill(server, ada, room, 200, "y" * 10_000)
    for number in range(5):
        target = tmp_path / f"copy{number}.db"
        runs = [
            subprocess.Popen([BINARY, "backup", str(target)], env=server.environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
            for _ in range(4)
        ]
        outcomes = [(process.wait(60), process.stderr.read()) for process in runs]
        assert sorted(code for code, _ in outcomes) == [0, 1, 1, 1], outcomes
        assert all("under way" in words or "exists" in words or "File exists" in words for code, words in outcomes if code)
        with sqlite3.connect(target) as copy:
            assert copy.execute("PRAGMA integrity_check").fetchone() == ("ok",)
            assert copy.execute("SELECT count(*) FROM entries").fetchone() == (200,)
            assert copy.execute("SELECT count(*) FROM instance WHERE key = 'epoch'").fetchone() == (0,)
        assert [path.name for path in tmp_path.iterdir() if "unfinished" in path.name] == []


def test_an_older_dump_under_a_running_server(fresh, postgres):
    """Postgres goes back to an older state: the server notices, and `renew-epoch` makes clients reload."""
    server = fresh(MARTLET_DATABASE=postgres.database(), MARTLET_METRICS_LISTEN="127.0.0.1:0")
    ada = server.person()
    room = ada.room()
    with ada.relay() as socket:
        epoch = socket.ready["epoch"]
        for number in range(1, 11):
            socket.say(room, f"old {number}", str(number))
            socket.until("text")
            socket.until("ack")
        spoil(
            server, None, "BEGIN", f"DELETE FROM contents WHERE id IN (SELECT id FROM entries WHERE room_id = {room} AND seq > 6)",
            f"DELETE FROM entries WHERE room_id = {room} AND seq > 6", f"UPDATE room_heads SET last_seq = 6 WHERE room_id = {room}", "COMMIT",
        )
        # The next message gets a seq that was delivered already.
        socket.say(room, "new 7", "n7")
        frame = socket.receive()
        if frame["type"] == "ack":
            frame = socket.receive()
        assert frame["type"] == "reset"
        assert frame["room_id"] == room and frame["seq"] in (6, 7)
        assert "log_rewound" in server.log_text()
        address = re.search(r'"address":"(http://[^"]+)"', server.log_text())[1]
        assert re.search(r"martlet_room_heads_rewound_total [1-9]", httpx.get(address).text)
        renewed = run(server, "renew-epoch")
        assert renewed.returncode == 0, renewed.stderr
        # Every socket ends in a way that makes its client come back.
        assert socket.close_code(5) == 1001
    with ada.relay() as socket:
        assert socket.ready["epoch"] != epoch
        socket.send(type="resume", epoch=epoch, channels={str(room): 6})
        assert socket.receive()["type"] == "reset"
        socket.send(type="resume", epoch=socket.ready["epoch"], channels={str(room): 6})
        assert socket.until("text")["data"] == "new 7"
    assert [m["data"] for m in ada.messages(room)][:2] == ["new 7", "old 6"]


# Retries


def send(person, room, numbers):
    """Sends messages with their numbers as client ids, some in flight; their seqs by number."""
    seqs, waiting = {}, list(numbers)[::-1]
    with person.relay() as socket:
        in_flight = 0
        while waiting or in_flight:
            while waiting and in_flight < 100:
                number = waiting.pop()
                socket.say(room, f"data of {number}", str(number))
                in_flight += 1
            frame = socket.receive()
            if frame["type"] == "ack":
                seqs[int(frame["client_id"])] = frame["seq"]
                in_flight -= 1
    return seqs


def test_a_kill_while_the_keys_of_retries_are_moved(fresh):
    """With SQLite the keys of new messages are in memory until there are 16,384 of them."""
    server = fresh(MARTLET_RATE_LIMITS="off")
    ada = server.person()
    room = ada.room()
    seqs = send(ada, room, range(16_300))
    with sqlite3.connect(f"file:{server.data}/martlet.db?mode=ro", uri=True) as database:
        moved = lambda: database.execute("SELECT count(*) FROM client_keys").fetchone()[0]  # noqa: E731
        assert moved() == 0
        seqs |= send(ada, room, range(16_300, 16_500))
        deadline = time.monotonic() + 10
        while not moved() and time.monotonic() < deadline:
            pass
        server.kill()
        # Most likely in the middle: it takes a pause after each thousand.
        assert moved() > 0
    assert seqs == {number: number + 1 for number in range(16_500)}
    server.start()
    again = [*range(0, 16_500, 50), *range(16_400, 16_600)]
    assert send(ada, room, again) == {number: number + 1 for number in again}
    with server.http(ada.token) as http:
        newest = http.get(f"/rooms/{room}/messages", params={"limit": 1}).json()["data"]
    assert [message["seq"] for message in newest] == [16_600]
