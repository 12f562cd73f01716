"""What large rooms, lists and crowds cost in the chat: chat.py [row ...], all of them if none is named.

* pages: 50 messages of a room of 1,000,000, at its start, middle and end.
* search: a word with 10,000 hits among 1,000,000 messages, in 100 readable rooms; and how fast they are indexed.
* rooms: the list of 5,000 rooms, with unread messages in each.
* people: a room of 10,000 people beside one of two: somebody comes, somebody leaves, a message.

On SQLite, and on Postgres where it makes a difference. Times are medians of requests over one connection, in ms, with
the slowest of twenty in brackets.
"""

import random
import sqlite3
import statistics
import subprocess
import sys
import tempfile
import time
import uuid
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT / "Tests/Acceptance"))

from martlet import Server  # noqa: E402
from postgres import Postgres, binaries  # noqa: E402

MESSAGES = 1_000_000
WORDS = [f"{a}{b}{c}" for a in "bdfgklmnprst" for b in "aeiou" for c in ("n", "r", "st", "ld", "mer", "")]


def start(directory, **settings):
    data = Path(tempfile.mkdtemp(dir=directory)) / "data"
    return Server(data, MARTLET_LOOPS=1, MARTLET_RATE_LIMITS="off", **settings).start()


def timed(ask, count=100):
    """The median and the 95th percentile, in ms."""
    for _ in range(5):
        ask()
    times = []
    for _ in range(count):
        begin = time.perf_counter()
        ask()
        times.append((time.perf_counter() - begin) * 1000)
    times.sort()
    return f"{statistics.median(times):.1f} ({times[int(count * 0.95)]:.1f})"


def get(person, path, **query):
    def ask():
        answer = person.http.get(path, params=query)
        assert answer.status_code == 200, answer.text
        return answer.json()["data"]

    return ask


class Loader:
    """Puts rows into a database while no server runs."""

    def __init__(self, server):
        self.url = server.environment.get("MARTLET_DATABASE")
        self.path = server.data / "martlet.db"
        self.index = server.data / "search.db"

    def copy(self, table, columns, rows):
        if not self.url:
            with sqlite3.connect(self.path) as database:
                database.executemany(
                    f"INSERT INTO {table} ({', '.join(columns)}) VALUES ({', '.join('?' * len(columns))})", rows
                )
            database.close()
            return
        copy = subprocess.Popen(
            [binaries() / "psql", "-q", self.url, "-c", f"COPY {table} ({', '.join(columns)}) FROM STDIN"],
            stdin=subprocess.PIPE, text=True,
        )
        for row in rows:
            fields = (f"\\\\x{value.hex()}" if isinstance(value, bytes) else str(value) for value in row)
            copy.stdin.write("\t".join(fields) + "\n")
        copy.stdin.close()
        assert copy.wait() == 0

    def execute(self, *statements):
        if self.url:
            for statement in statements:
                subprocess.run([binaries() / "psql", "-q", self.url, "-c", statement], check=True)
            return
        with sqlite3.connect(self.path) as database:
            for statement in statements:
                database.execute(statement)
        database.close()

    def scalar(self, sql, path=None):
        """A number; on SQLite of another file if that is said."""
        if self.url:
            return int(subprocess.run([binaries() / "psql", "-qtA", self.url, "-c", sql], check=True, capture_output=True, text=True).stdout)
        with sqlite3.connect(path or self.path, timeout=30) as database:
            value = database.execute(sql).fetchone()[0]
        database.close()
        return value


def fill(server, person, rooms, count):
    """Messages in these rooms in turn, ten words each; every hundredth says `needle`."""
    loader = Loader(server)
    random.seed(1)
    start = 1_700_000_000_000
    sender = uuid.UUID(person.id).bytes
    ids = [(start + n).to_bytes(6) + random.randbytes(10) for n in range(count)]
    place = lambda n: (rooms[n % len(rooms)], n // len(rooms) + 1)  # noqa: E731

    def text(n):
        words = random.choices(WORDS, k=10)
        if n % 100 == 0:
            words[5] = "needle"
        return " ".join(words)

    loader.copy(
        "entries", ("room_id", "seq", "id", "type", "sender", "ts", "non_messages"),
        ((*place(n), ids[n], 0, sender, start + n, 0) for n in range(count)),
    )
    loader.copy("contents", ("id", "data"), ((ids[n], text(n)) for n in range(count)))
    each = count // len(rooms)
    where = f"WHERE room_id IN ({', '.join(map(str, rooms))})"
    loader.execute(
        f"UPDATE room_heads SET last_seq = {each}, last_ts = {start + count}, message_seq = {each}, message_ts = {start + count}, marked_seq = {each} {where}",
        *(["ANALYZE"] if loader.url else []),
    )


def make_rooms(person, count):
    return [person.ok("POST", "/v1/rooms", 201, name=f"room {n}", kind="group")["id"] for n in range(count)]


def pages(directory, name, **settings):
    server = start(directory, **settings)
    ada = server.account()
    [room] = make_rooms(ada, 1)
    server.stop()
    fill(server, ada, [room], MESSAGES)
    server.start()
    ada.http = server.http(ada.token)
    path = f"/v1/rooms/{room}/messages"
    print(f"pages, {name}: newest {timed(get(ada, path))}, middle {timed(get(ada, path, before=MESSAGES // 2))}, "
          f"oldest {timed(get(ada, path, after=0))}, since a time {timed(get(ada, path, **{'from': '2023-11-14T22:20:00Z', 'to': '2023-11-14T22:21:00Z'}))}", flush=True)
    server.stop()


def search(directory, name, **settings):
    server = start(directory, **settings)
    ada = server.account()
    rooms = make_rooms(ada, 100)
    server.stop()
    fill(server, ada, rooms, MESSAGES)
    loader = Loader(server)
    size = lambda: sum(f.stat().st_size for f in server.data.glob("*.db*")) if not loader.url else loader.scalar("SELECT pg_database_size(current_database())")  # noqa: E731
    before = size()
    server.start()
    ada.http = server.http(ada.token)
    begin = time.monotonic()
    while (done := loader.scalar("SELECT coalesce(sum(indexed_seq), 0) FROM search_heads", loader.index)) < MESSAGES:
        time.sleep(1)
        assert time.monotonic() - begin < 1200, done
    took = time.monotonic() - begin
    server.stop()
    if loader.url:
        loader.execute("ANALYZE")
    print(f"search, {name}: indexed {MESSAGES / took:,.0f} messages/s, {(size() - before) / MESSAGES:.0f} bytes each", flush=True)
    server.start()
    ada.http = server.http(ada.token)
    assert len(get(ada, "/v1/search", q="needle")()) == 50
    rows = {
        "a word with 10,000 hits": get(ada, "/v1/search", q="needle "),
        "and in one room": get(ada, "/v1/search", q="needle", room_id=rooms[0]),
        "two words": get(ada, "/v1/search", q=f"needle {WORDS[7]}"),
        "a frequent word (27,000 hits)": get(ada, "/v1/search", q=WORDS[7] + " "),
        "three letters": get(ada, "/v1/search", q="ban"),
        "two letters": get(ada, "/v1/search", q="ba"),
        "a phrase": get(ada, "/v1/search", q=f'"{WORDS[7]} {WORDS[9]}"'),
        "nothing": get(ada, "/v1/search", q="nothing like it"),
    }
    for row, ask in rows.items():
        print(f"  {row}: {timed(ask, 40)}", flush=True)
    stranger = server.account()
    [own] = make_rooms(stranger, 1)
    print(f"  a word with 10,000 hits, none of them readable: {timed(get(stranger, '/v1/search', q='needle'), 40)}")
    many = make_rooms(stranger, 30)
    print(f"  and with 31 readable rooms: {timed(get(stranger, '/v1/search', q='needle'), 40)}")
    print(f"  a frequent word, none readable, 31 rooms: {timed(get(stranger, '/v1/search', q=WORDS[7]), 40)}", flush=True)
    assert own and many
    server.stop()


def rooms(directory, name, **settings):
    """As after a weekend: ten messages unread in each."""
    server = start(directory, **settings)
    ada, bob = server.account(), server.account()
    [first] = make_rooms(ada, 1)
    server.stop()
    loader, count = Loader(server), 5000
    owner, reader = uuid.UUID(ada.id).bytes, uuid.UUID(bob.id).bytes
    ids = range(first + 1, first + 1 + count)
    loader.copy(
        "rooms", ("id", "type", "name", "level_admin", "owner_user", "by_invitation", "created_at"),
        ((n, 0, f"room {n}", 100, owner, 0, 1_700_000_000_000) for n in ids),
    )
    loader.copy("room_rules", ("room_id", "subject", "permissions", "level", "accepted"), ((n, reader, 3, 0, 1) for n in ids))
    loader.copy(
        "room_heads", ("room_id", "last_seq", "last_ts", "access_version", "message_seq", "message_ts"),
        ((n, 0, 0, 1, 0, 0) for n in ids),
    )
    loader.copy("room_marks", ("user_id", "room_id", "seq", "ordinal"), ((reader, n, 0, 0) for n in ids))
    fill(server, ada, list(ids), count * 10)
    server.start()
    bob.http = server.http(bob.token)
    everything = get(bob, "/v1/me/rooms", limit=200)
    assert all(item["unread"] == 10 for item in everything())

    def all_pages():
        cursor, seen = None, 0
        while True:
            answer = bob.http.get("/v1/me/rooms", params={"limit": 200} | ({"cursor": cursor} if cursor else {})).json()
            seen += len(answer["data"])
            cursor = answer.get("meta", {}).get("next_cursor")
            if not cursor:
                assert seen == count
                return

    print(f"rooms, {name}: first 50 {timed(get(bob, '/v1/me/rooms'))}, first 200 {timed(everything)}, "
          f"only unread {timed(get(bob, '/v1/me/rooms', unread='true'))}, all 25 pages {timed(all_pages, 5)}", flush=True)
    server.stop()


def people(directory, name, **settings):
    """Adding and removing takes turns, so that the number stays."""
    server = start(directory, MARTLET_DIRECTORY="everyone", **settings)
    ada, bob, cleo = (server.account() for _ in range(3))
    large, small = make_rooms(ada, 2)
    ada.ok("PUT", f"/v1/rooms/{small}/members", entity_UUID=bob.id, permissions="rw", level=0)
    server.stop()
    loader, count = Loader(server), 9998
    random.seed(2)
    ids = [random.randbytes(16) for _ in range(count)]
    loader.copy(
        "users", ("id", "email", "email_key", "name", "password_hash", "is_platform_admin", "settings", "created_at"),
        ((id, f"{n}@example.org", f"{n}@example.org", f"Person {n}", "none", 0, "{}", 1_700_000_000_000) for n, id in enumerate(ids)),
    )
    loader.copy("room_people", ("room_id", "user_id", "state", "version", "joined_at"), ((large, id, 1, 1, 1_700_000_000_000) for id in ids))
    server.start()
    ada.http = server.http(ada.token)
    assert ada.ok("GET", f"/v1/rooms/{large}")["people_count"] == count

    def times(room, method, path, body=None, undo=None):
        taken = []
        for number in range(60):
            begin = time.perf_counter()
            answer = ada.http.request(method, f"/v1/rooms/{room}{path}", json=body)
            taken.append((time.perf_counter() - begin) * 1000)
            assert answer.is_success, answer.text
            if undo:
                assert ada.http.request(undo, f"/v1/rooms/{room}{path}", json={} if undo == "PUT" else None).is_success
        taken.sort()
        return f"{statistics.median(taken):.1f} ({taken[57]:.1f})"

    for title, room in (("10,000 people", large), ("one rule", small)):
        someone = f"/people/{cleo.id}"
        joining = times(room, "PUT", someone, {}, "DELETE")
        ada.ok("PUT", f"/v1/rooms/{room}{someone}", role_id=None)
        leaving = times(room, "DELETE", someone, None, "PUT")
        print(f"people, {name}, a room with {title}: comes {joining}, leaves {leaving}, "
              f"message {times(room, 'POST', '/messages', {'data': 'x' * 100})}", flush=True)
    server.stop()


ROWS = {"pages": pages, "search": search, "rooms": rooms, "people": people}


def main(wanted):
    with tempfile.TemporaryDirectory(prefix="martlet-bench-") as directory:
        postgres = Postgres().start()
        try:
            for row in wanted or ROWS:
                ROWS[row](directory, "SQLite")
                ROWS[row](directory, "Postgres", MARTLET_DATABASE=postgres.database())
        finally:
            postgres.stop()


if __name__ == "__main__":
    main(sys.argv[1:])
