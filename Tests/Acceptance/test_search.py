"""The search: which messages are found, in which order, by whom; what edits and deletions leave; what is typed is only words."""

import sqlite3
import subprocess
import time
import uuid

import pytest

from martlet import Account, eventually

BEGIN, END = "\x02", "\x03"


@pytest.fixture(scope="module")
def people(server):
    ada, bob, cleo, stan = (server.account(name) for name in ("Ada", "Bob", "Cleo", "Stan"))
    return ada, bob, cleo, stan, ada.team(bob, cleo)


def group(owner, *others, **more):
    room = owner.ok("POST", "/v1/rooms", 201, **{"name": "a group", "kind": "group", **more})["id"]
    for person in others:
        owner.ok("PUT", f"/v1/rooms/{room}/people/{person.id}")
    return room


def say(person, room, data, **more):
    return person.ok("POST", f"/v1/rooms/{room}/messages", 201, data=data, **more)["seq"]


def find(person, q, **more):
    """The texts that are found, newest first."""
    return [hit["message"]["data"] for hit in hits(person, q, **more)]


def hits(person, q, **more):
    answer = person.http.get("/v1/search", params={"q": q, **more})
    assert answer.status_code == 200, answer.text
    assert all(set(hit) == {"message", "snippet"} for hit in answer.json()["data"])
    return answer.json()["data"]


def soon(person, q, texts, **more):
    """What was said a moment ago is found within a second; a little more, because machines are busy."""
    assert eventually(lambda: find(person, q, **more) == texts, 3), find(person, q, **more)


def status(person, **query):
    return person.http.get("/v1/search", params=query).status_code


def word():
    """A word that nobody has said before."""
    return "x" + uuid.uuid4().hex[:12]


def test_words(people):
    ada, bob, *_ = people
    room, key = group(ada, bob), word()
    first = f"{key} Crème brûlée, don't you?"
    second = f"{key} The quick brown fox. The END"
    say(ada, room, first), say(bob, room, second)
    soon(bob, key, [second, first])
    assert find(ada, f"{key} CREME") == [first] == find(ada, f"brûlée {key} DON")
    # All words must match, and only the last one as a beginning.
    assert find(ada, f"{key} quick crème") == [] == find(ada, f"qui {key}") == find(ada, f"{key[:-1]} fox")
    assert find(ada, f"{key} qui") == [second]
    assert find(ada, key[:-1]) == [second, first]
    # Phrases: in this order, next to each other, and to the end.
    assert find(ada, f'{key} "brown fox"') == [second] == find(ada, f'"quick brown fox" {key}')
    assert find(ada, f'{key} "fox brown"') == [] == find(ada, f'{key} "brown fo"') == find(ada, f'{key} "quick fox"')
    assert find(ada, f"“brown fox” {key}") == [second]
    # Operators are words.
    assert find(ada, f"{key} AND fox") == [] == find(ada, f"{key} OR creme") == find(ada, f"{key} NOT creme")
    assert find(ada, f"-{key} *fox*") == [second] == find(ada, f"({key}) & fox ^ :* | !'")
    assert find(ada, f"{key} the end") == [second]
    assert find(ada, f'{key} "the') == [second]


def test_scripts_without_spaces(people):
    ada, *_ = people
    room, key = group(ada), word()
    texts = [f"{key} 私は東京都に住む", f"{key} 京都へ行く", f"{key} 한국어를 배우다", f"{key} ﾃｽﾄiPhone", f"{key} мир Ёлка"]
    for text in texts:
        say(ada, room, text)
    soon(ada, key, texts[::-1])
    assert find(ada, f"{key} 東京") == [texts[0]]
    assert find(ada, f"{key} 京都") == [texts[1], texts[0]]
    assert find(ada, f"{key} 東京都") == [texts[0]]
    assert find(ada, f"{key} 都東") == []
    assert find(ada, f"{key} 京") == [texts[1], texts[0]] == find(ada, f"京 {key}")
    assert find(ada, f"한국 {key}") == [texts[2]] == find(ada, f"{key} 국어")
    assert find(ada, f"テスト {key}") == [texts[3]] == find(ada, f"{key} iphone")
    assert find(ada, f"{key} елка") == [texts[4]] == find(ada, f"{key} МИР")


def test_snippets(people):
    ada, *_ = people
    room, key = group(ada), word()
    long = "lorem ipsum " * 100 + key + " dolor\x02 sit\x03 amet" * 100
    say(ada, room, f"one {key} two {key.upper()}")
    say(ada, room, long)
    soon(ada, key, [long, f"one {key} two {key.upper()}"])
    newest, oldest = hits(ada, key)
    assert oldest["snippet"] == f"one {BEGIN}{key}{END} two {BEGIN}{key.upper()}{END}"
    assert newest["snippet"].count(BEGIN) == newest["snippet"].count(END) == 1
    assert f"{BEGIN}{key}{END} dolor sit amet" in newest["snippet"] and len(newest["snippet"]) < 250
    assert newest["message"]["data"] == long


def test_edits_and_deletions(people):
    ada, bob, *_ = people
    room, key = group(ada, bob), word()
    seq = say(ada, room, f"{key} before")
    soon(ada, key, [f"{key} before"])
    # The old words are gone with the answer, the new ones come a moment later.
    ada.ok("PATCH", f"/v1/rooms/{room}/messages/{seq}", data=f"{key} after")
    assert find(ada, f"{key} before") == []
    soon(bob, f"{key} after", [f"{key} after"])
    assert hits(bob, key)[0]["message"]["status"] == "edited"
    bob.ok("PUT", f"/v1/rooms/{room}/messages/{seq}/reactions/\N{THUMBS UP SIGN}")
    assert hits(bob, key)[0]["message"]["reactions"] == [{"emoji": "\N{THUMBS UP SIGN}", "count": 1, "me": True}]
    ada.ok("DELETE", f"/v1/rooms/{room}/messages/{seq}", 204)
    assert find(ada, key) == [] == find(bob, f"{key} after")
    # Changed before it was indexed, or deleted.
    seqs = [say(ada, room, f"{key} quick {number}") for number in range(20)]
    for seq in seqs[:10]:
        ada.ok("PATCH", f"/v1/rooms/{room}/messages/{seq}", data=f"{key} slow {seq}")
    for seq in seqs[5:15]:
        ada.ok("DELETE", f"/v1/rooms/{room}/messages/{seq}", 204)
    assert all(f"{key} quick {number}" not in find(ada, f"{key} quick", limit=50) for number in range(15))
    soon(ada, f"{key} slow", [f"{key} slow {seq}" for seq in reversed(seqs[:5])])
    soon(ada, f"{key} quick", [f"{key} quick {number}" for number in range(19, 14, -1)])


def test_only_rooms_that_one_may_read(people):
    ada, bob, cleo, stan, team = people
    key = word()
    room, letterbox = group(ada, bob), ada.ok("POST", "/v1/rooms", 201, name="w", kind="group")["id"]
    ada.ok("PUT", f"/v1/rooms/{letterbox}/members", entity_UUID=cleo.id, permissions="w", level=0)
    say(ada, room, f"{key} group"), say(cleo, letterbox, f"{key} letterbox")
    say(ada, team["room_id"], f"{key} team"), say(ada, team["room_id"], f"{key} private", to=bob.id)
    say(ada, ada.ok("PUT", f"/v1/dialogs/{cleo.id}")["id"], f"{key} dialog")
    said = [f"{key} {name}" for name in ("dialog", "private", "team", "letterbox", "group")]
    soon(ada, key, said)
    assert find(bob, key) == [said[1], said[2], said[4]]
    assert find(cleo, key) == [said[0], said[2]]
    assert find(stan, key) == []
    # At once, when rights change.
    ada.ok("DELETE", f"/v1/rooms/{room}/people/{bob.id}", 204)
    assert find(bob, key) == [said[1], said[2]]
    ada.ok("PUT", f"/v1/rooms/{room}/members", entity_UUID=stan.id, permissions="r", level=0)
    assert find(stan, key) == [said[4]]
    ada.ok("DELETE", f"/v1/rooms/{room}", 204)
    assert find(stan, key) == [] and find(ada, key) == said[:4]
    # Tokens of another system search, too.
    joe = people[0].server.person()
    other = joe.room()
    joe.http.post(f"/rooms/{other}/messages", json={"data": f"{key} elsewhere"})
    soon(joe, key, [f"{key} elsewhere"])


def test_what_narrows_it_down(people):
    ada, bob, cleo, stan, _ = people
    key = word()
    rooms = [group(ada, bob), group(ada, bob)]
    times = []
    for number in range(6):
        seq = say((ada, bob)[number % 2], rooms[number // 3], f"{key} {number}")
        times.append(ada.ok("GET", f"/v1/rooms/{rooms[number // 3]}/messages/{seq}")["ts"])
        time.sleep(0.002)
    soon(ada, key, [f"{key} {number}" for number in (5, 4, 3, 2, 1, 0)])
    assert find(ada, key, room_id=rooms[0]) == [f"{key} {number}" for number in (2, 1, 0)]
    assert find(ada, key, **{"from": bob.id}) == [f"{key} {number}" for number in (5, 3, 1)]
    assert find(ada, key, room_id=rooms[1], **{"from": ada.id}) == [f"{key} 4"]
    assert find(ada, key, since=times[2]) == [f"{key} {number}" for number in (5, 4, 3, 2)]
    assert find(ada, key, until=times[2]) == [f"{key} {number}" for number in (1, 0)]
    assert find(ada, key, since=times[1], until=times[4], room_id=rooms[1]) == [f"{key} 3"]
    assert find(ada, key, **{"from": str(uuid.uuid4())}) == [] == find(ada, key, since="2999-01-01T00:00:00Z")
    assert find(ada, key, until="1970-01-01T00:00:00Z") == []
    # Page by page.
    seen, cursor = [], None
    while True:
        answer = ada.http.get("/v1/search", params={"q": key, "limit": 4} | ({"cursor": cursor} if cursor else {})).json()
        seen += [hit["message"]["data"] for hit in answer["data"]]
        cursor = answer.get("meta", {}).get("next_cursor")
        if not cursor:
            break
    assert seen == [f"{key} {number}" for number in (5, 4, 3, 2, 1, 0)]
    for room, code in ((999999, 404), ("x", 404), (group(stan), 404)):
        assert status(ada, q=key, room_id=room) == code
    letterbox = stan.ok("POST", "/v1/rooms", 201, name="w", kind="group")["id"]
    stan.ok("PUT", f"/v1/rooms/{letterbox}/members", entity_UUID=ada.id, permissions="w", level=0)
    assert status(ada, q=key, room_id=letterbox) == 403


def test_bad_queries(people):
    ada, *_ = people
    for q in ("", "a", "\N{THUMBS UP SIGN}" * 200, "!? --", '""', "' \" ' \"", "x" * 201, "..", "\N{THUMBS UP SIGN}" * 300):
        assert status(ada, q=q) == 422, q
    assert status(ada) == 422
    for more in ({"from": "x"}, {"since": "yesterday"}, {"until": "1"}, {"limit": 0}, {"limit": 201}, {"cursor": "x"}, {"cursor": "-1"}, {"cursor": "9" * 30}):
        assert status(ada, q="word", **more) == 422, more
    with ada.server.http() as anonymous:
        assert anonymous.get("/v1/search", params={"q": "word"}).status_code == 401
    # Nothing of it is an operator, and nothing fails.
    for q in ("a'b", 'a"b', "NEAR(a b", "a* *", "{a b}: c", "-- a", "a & | ! <-> b", ":*a", "a:*", "\\a\\", "a OR OR b", "^a + b", "%%", "__ a", "$1 $2", "a" * 200, "東" * 200, '"' * 199 + "a", "a " * 100):
        assert status(ada, q=q) in (200, 422) and (status(ada, q=q) == 200) == any(c.isalnum() for c in q), q


def test_very_long_messages(people):
    ada, *_ = people
    room, key = group(ada), word()
    last, far = word(), word()
    texts = [
        " ".join(f"w{number}" for number in range(9000)) + f" {key} {last}",
        "a " * 30_000 + f"{key} {far}",
        "z" * 60_000 + f" {key}",
        "東" * 20_000 + f" {key}",
        "\N{THUMBS UP SIGN}" * 10_000 + f" {key}",
    ]
    for text in texts:
        say(ada, room, text)
    eventually(lambda: len(find(ada, key)) == len(texts))
    assert find(ada, last) == [texts[0]] and find(ada, far) == [texts[1]]
    assert find(ada, f"{key} w8999") == [texts[0]] == find(ada, f'{key} "w8000 w8001"')
    assert find(ada, f"{key} " + "z" * 150) == [texts[2]] and find(ada, f"{key} 東東") == [texts[3]]
    # A page ends where it would be too large, and goes on.
    seen, cursor, pages = [], None, 0
    while True:
        answer = ada.http.get("/v1/search", params={"q": key} | ({"cursor": cursor} if cursor else {}))
        assert len(answer.content) < 2**20 + 200_000
        seen += [hit["message"]["seq"] for hit in answer.json()["data"]]
        pages += 1
        cursor = answer.json().get("meta", {}).get("next_cursor")
        if not cursor:
            break
    assert seen == [5, 4, 3, 2, 1]


def test_found_after_a_crash(fresh):
    server = fresh()
    ada = server.account()
    room, key = group(ada), word()
    for number in range(30):
        say(ada, room, f"{key} {number}")
    server.kill()
    server.start()
    assert eventually(lambda: len(find(Again(server, ada), key)) == 30)


def refused_index(server, how):
    """Ends the server, and leaves an index that it cannot use."""
    files = [server.data / f"search.db{part}" for part in ("", "-wal", "-shm")]
    if how == "from another log":
        other = server.data.parent / "copy.db"
        subprocess.run([server.binary, "backup", str(other)], env=server.environment, check=True, capture_output=True)
    server.stop() if how != "killed" else server.kill()
    if how == "none":
        for file in files:
            file.unlink(missing_ok=True)
    elif how == "no database":
        files[0].write_bytes(b"not a database" * 1000)
        for file in files[1:]:
            file.unlink(missing_ok=True)
    elif how == "from another log":
        for part in ("", "-wal", "-shm"):
            (server.data / f"martlet.db{part}").unlink(missing_ok=True)
        other.rename(server.data / "martlet.db")
    elif how == "ahead of the log":
        with sqlite3.connect(files[0]) as index:
            index.execute("UPDATE search_heads SET indexed_seq = indexed_seq + 1000")
    elif how == "of a newer release":
        with sqlite3.connect(files[0]) as index:
            index.execute("INSERT INTO schema_migrations VALUES ('search', 99, 1, 1)")


@pytest.mark.parametrize("how", ["killed", "none", "no database", "from another log", "ahead of the log", "of a newer release"])
def test_the_index_is_made_again(fresh, how):
    """The index is made of the log. Whatever becomes of its file, everything is found."""
    server = fresh()
    ada = server.account()
    room, key = group(ada), word()
    for number in range(20):
        say(ada, room, f"{key} {number} " + "more words " * 200)
    soon(ada, f"{key} 7", [f"{key} 7 " + "more words " * 200])
    if how in ("from another log", "ahead of the log"):
        # What was said before the index of the other log was made has other words by now.
        ada.ok("PATCH", f"/v1/rooms/{room}/messages/2", data=f"{key} other")
        soon(ada, f"{key} other", [f"{key} other"])
    refused_index(server, how)
    server.start()
    again = Again(server, ada)
    assert eventually(lambda: len(find(again, key)) == 20)
    again.ok("PATCH", f"/v1/rooms/{room}/messages/3", data=f"{key} third")
    soon(again, f"{key} third", [f"{key} third"])
    assert (server.data / "search.db").stat().st_mode & 0o777 == 0o600
    told = "search_index_unusable" in server.log_text() or "search_index_outdated" in server.log_text()
    assert told == (how not in ("killed", "none")), server.log_text()[-2000:]


class Again:
    """The same person at a server that was started again."""

    def __init__(self, server, person):
        self.http = server.http(person.token)

    ok = Account.ok
