"""A database that the first release wrote, as SQL in `release-0.1`: everything in it goes on."""

import json
import sqlite3
import subprocess
import time
from pathlib import Path

import pytest

from martlet import BINARY, Server

RELEASE = Path(__file__).with_name("release-0.1")


@pytest.fixture(params=["sqlite", "postgres"])
def old(request, tmp_path):
    """Settings of a server on such a database, what was in it, and a way to run SQL on it."""
    facts = json.loads((RELEASE / f"{request.param}.json").read_text())
    dump = (RELEASE / f"{request.param}.sql").read_text()
    # So that nobody's session is too old, whenever this runs.
    dump += f"\nUPDATE {'public.' if request.param == 'postgres' else ''}sessions SET last_seen_at = {int(time.time() * 1000)};\n"
    data = tmp_path / "data"
    data.mkdir()
    if request.param == "sqlite":
        with sqlite3.connect(data / "martlet.db") as database:
            database.executescript(dump)
        database.close()

        def sql(statement):
            with sqlite3.connect(data / "martlet.db") as database:
                return database.execute(statement).fetchall()

        return {}, data, facts, sql
    url = request.getfixturevalue("postgres").database()
    subprocess.run(["psql", "-q", "-v", "ON_ERROR_STOP=1", url], input=dump, text=True, check=True, capture_output=True)

    def sql(statement):
        out = subprocess.run(["psql", "-qtA", url, "-c", statement], check=True, capture_output=True, text=True).stdout
        return [tuple(line.split("|")) for line in out.splitlines()]

    return {"MARTLET_DATABASE": url}, data, facts, sql


def test_everything_goes_on(old):
    settings, data, facts, sql = old
    with Server(data, **settings) as server:
        with server.http() as http:
            # Sessions and passwords.
            ada = http.post("/v1/auth/refresh", json={"refresh_token": facts["refresh_token"]}).json()["data"]
            assert ada["user"]["id"] == facts["ada"]
            bob = http.post("/v1/auth/login", json={"email": "BOB@example.org", "password": "correct horse"}).json()["data"]
        with server.http(ada["access_token"]) as http, server.http(bob["access_token"]) as other:
            assert http.get("/v1/me/settings").json()["data"] == {"theme": "dark"}
            # Rooms, rules and what waits for an answer.
            assert {room["id"] for room in http.get("/rooms").json()["data"]} == {facts["room"], facts["asked"]}
            assert other.get(f"/rooms/{facts['room']}").json()["data"]["permissions"] == "rw"
            assert other.get(f"/rooms/{facts['asked']}").status_code == 404
            assert [i["room_id"] for i in other.get("/v1/me/invitations").json()["data"]] == [facts["asked"]]
            assert http.get(f"/rooms/{facts['gone']}").status_code == 404
            # Messages.
            listed = http.get(f"/rooms/{facts['room']}/messages").json()["data"]
            assert [(m["seq"], m["data"]) for m in listed] == [(n, f"message {n} é世") for n in (5, 4, 3, 2, 1)]
        with server.relay(ada["access_token"]) as socket:
            socket.send(type="resume", channels={str(facts["room"]): 2})
            assert [socket.receive()["seq"] for _ in range(3)] == [3, 4, 5]
            socket.until("resumed")
            # A retry of the old release's, and another text under its key.
            socket.say(facts["room"], "message 5 é世", "key-5")
            assert socket.until("ack") == facts["ack"]
            socket.say(facts["room"], "another", "key-5")
            assert socket.until("error")["code"] == "client_id_conflict"
            socket.say(facts["room"], "new", "key-6")
            assert socket.until("text")["seq"] == 6
            socket.until("ack")
    # It is done once, and nothing was rewritten for it.
    with Server(data, **settings):
        pass
    assert sql("SELECT count(*) FROM schema_migrations") in ([(19,)], [("19",)])
    assert sql("SELECT DISTINCT non_messages FROM entries") in ([(0,)], [("0",)])


def test_a_newer_release_is_told(old, tmp_path):
    settings, data, facts, sql = old
    if settings:
        sql("INSERT INTO schema_migrations VALUES ('chat', 999, 1, 1)")
    else:
        with sqlite3.connect(data / "martlet.db") as database:
            database.execute("INSERT INTO schema_migrations VALUES ('chat', 999, 1, 1)")
        database.close()
    server = Server(data, **settings)
    result = subprocess.run([BINARY, "serve"], env=server.environment, capture_output=True, text=True, timeout=20)
    assert result.returncode != 0 and "newer Martlet" in result.stderr and result.stdout == ""


# What a node of release 0.1 does for a message, as that release's source has it. `:room` is a room's id.
OLD_APPEND = r"""
BEGIN;
SELECT last_seq + 1 AS next FROM room_heads WHERE room_id = :room FOR UPDATE \gset
INSERT INTO entries (room_id, seq, id, type, sender, ts, client_id, digest)
  VALUES (:room, :next, decode(md5(:room || '-' || :next), 'hex'), 1, '\x00', 1, 'c' || :next, NULL);
INSERT INTO contents (id, data) VALUES (decode(md5(:room || '-' || :next), 'hex'), 'x');
UPDATE room_heads SET last_seq = :next, last_ts = 1 WHERE room_id = :room;
COMMIT;
"""


def test_older_nodes_go_on_while_the_schema_changes(postgres, tmp_path):
    """Nodes are replaced one after the other: none of what the older ones do may fail, or get slow, meanwhile."""
    for attempt in range(3):
        url = postgres.database()
        dump = (RELEASE / "postgres.sql").read_text()
        heads = "".join(f"INSERT INTO public.room_heads VALUES ({100 + n}, 0, 0, 1, 0);" for n in range(4))
        subprocess.run(["psql", "-q", "-v", "ON_ERROR_STOP=1", url], input=dump + heads, text=True, check=True, capture_output=True)
        nodes = []
        for number in range(4):
            script = tmp_path / f"{attempt}-{number}.sql"
            script.write_text(f"\\set room {100 + number}\n" + OLD_APPEND * 1500)
            nodes.append(
                subprocess.Popen(["psql", "-q", "-v", "ON_ERROR_STOP=1", url, "-f", script], stderr=subprocess.PIPE, text=True)
            )
        time.sleep(0.3)
        with Server(tmp_path / f"new-{attempt}", MARTLET_DATABASE=url):
            assert any(node.poll() is None for node in nodes), "the older nodes were done before the newer one came"
            for node in nodes:
                _, errors = node.communicate(timeout=120)
                assert node.returncode == 0, errors
        answer = subprocess.run(
            ["psql", "-qtA", url, "-c", "SELECT last_seq, count(*) FROM room_heads JOIN entries USING (room_id) WHERE room_id >= 100 GROUP BY 1",
             "-c", "SELECT indexdef FROM pg_indexes WHERE indexname = 'entries_by_id'"],
            check=True, capture_output=True, text=True,
        ).stdout
        assert answer.startswith("1500|6000\n"), answer
        # They look entries without a client id up by their id alone.
        assert "(id)" in answer and "WHERE" not in answer


def test_a_table_that_is_held_is_waited_for(postgres, tmp_path):
    url = postgres.database()
    dump = (RELEASE / "postgres.sql").read_text()
    subprocess.run(["psql", "-q", "-v", "ON_ERROR_STOP=1", url], input=dump, text=True, check=True, capture_output=True)
    # As pg_dump does.
    hold = ["BEGIN", "LOCK TABLE public.entries IN ACCESS SHARE MODE", "SELECT 1", "SELECT pg_sleep(4)", "COMMIT"]
    arguments = [part for command in hold for part in ("-c", command)]
    with subprocess.Popen(["psql", "-qtA", url, *arguments], stdout=subprocess.PIPE, text=True) as holder:
        assert holder.stdout.readline() == "1\n"
        with Server(tmp_path / "data", MARTLET_DATABASE=url) as server, server.http() as http:
            assert holder.wait(5) == 0
            assert http.get("/readyz").status_code == 200
