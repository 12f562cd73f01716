"""Power failures: every state that the disk may be left in holds all that was acknowledged."""

import os
import random
import re
import sqlite3
import threading
import time
import uuid

import pytest

from martlet import Server
from power import COMMAND, Trace

IMAGES = int(os.environ.get("MARTLET_TEST_IMAGES", "200"))
ACK = re.compile(rb'"type":"ack","client_id":"([^"]+)","channel_id":"\d+","room_id":(\d+),"id":"([^"]+)","seq":(\d+)')


def traced(tmp_path, work):
    """Runs `work` on a server under strace; its trace."""
    server = Server(tmp_path / "data", MARTLET_LOOPS=2)
    server.prefix = [*COMMAND, "-o", str(tmp_path / "trace")]
    server.start()
    try:
        work(server)
        # The tracer's child, so that nothing is written in an orderly end.
        child = int(open(f"/proc/{server.process.pid}/task/{server.process.pid}/children").read().split()[0])
        os.kill(child, 9)
        server.process.wait(20)
    finally:
        server.stop()
    return Trace(tmp_path / "trace", tmp_path / "data")


def acknowledgements(trace):
    """(moment, client id, room, id, seq) of every ack."""
    return [
        (moment, match[1].decode(), int(match[2]), match[3].decode(), int(match[4]))
        for moment, data in trace.sent
        for match in ACK.finditer(data)
    ]


def data_of(key):
    return f"content-of-{key}-" + "x" * (sum(key.encode()) * 61 % 4000)


def write(socket, room, prefix, count):
    acks = 0
    for number in range(count):
        key = f"{prefix}{number}"
        socket.say(room, data_of(key), key)
        while number - acks >= 4:
            acks += socket.receive(20)["type"] == "ack"
    while acks < count:
        acks += socket.receive(20)["type"] == "ack"


@pytest.fixture(scope="module")
def trace(tmp_path_factory):
    """Several writers in several rooms, rules that change between, enough for the log to start again."""

    def work(server):
        people = [server.person() for _ in range(4)]
        rooms = [person.room() for person in people]
        for batch in range(3):
            sockets = [person.relay() for person in people]
            threads = [
                threading.Thread(target=write, args=[socket, room, f"b{batch}w{index}n", 60])
                for index, (socket, room) in enumerate(zip(sockets, rooms))
            ]
            for thread in threads:
                thread.start()
            for thread in threads:
                thread.join()
            people[batch].rule(rooms[batch], uuid.uuid4(), "r")
            for socket in sockets:
                socket.close()
            # Nobody writes for a moment: the log is moved into the database file.
            time.sleep(0.5)

    return traced(tmp_path_factory.mktemp("power"), work)


def test_every_power_failure_leaves_what_was_acknowledged(trace, tmp_path):
    acks = acknowledgements(trace)
    assert len(acks) == 720
    assert trace.files["martlet.db"].syncs and any(
        write.begin > acks[0][0] for write in trace.files["martlet.db"].writes
    ), "no checkpoint was under way"
    starts = [write for write in trace.files["martlet.db-wal"].writes if write.offset == 0]
    assert len(starts) >= 2, "the log did not start again"
    choose = random.Random(20261121)
    moments = trace.moments(IMAGES, choose)
    checked = 0
    for number, moment in enumerate(moments):
        folder = tmp_path / str(number)
        folder.mkdir()
        for name, data in trace.image(moment, choose).items():
            (folder / name).write_bytes(data)
        expected = [ack for ack in acks if ack[0] <= moment]
        if not expected:
            continue
        with sqlite3.connect(folder / "martlet.db") as database:
            assert database.execute("PRAGMA integrity_check").fetchone() == ("ok",), f"image {number}"
            stored = {
                (client, room, uuid.UUID(bytes=bytes(id)).__str__(), seq): data
                for client, room, id, seq, data in database.execute(
                    "SELECT client_id, room_id, e.id, seq, data FROM entries e JOIN contents c ON c.id = e.id"
                )
            }
            for _, client, room, id, seq in expected:
                assert stored.get((client, room, id, seq)) == data_of(client), f"image {number}: {client} is lost"
                checked += 1
            for room, last in database.execute("SELECT room_id, last_seq FROM room_heads").fetchall():
                seqs = [seq for seq, in database.execute("SELECT seq FROM entries WHERE room_id = ? ORDER BY seq", [room])]
                assert seqs == list(range(1, last + 1)), f"image {number}: a gap"
        database.close()
        if number % 40 == 39:
            # The server itself goes on from there.
            (folder / "data").mkdir()
            for path in folder.glob("martlet.db*"):
                path.rename(folder / "data" / path.name)
            with Server(folder / "data") as server, server.http() as http:
                assert http.get("/readyz").status_code == 200
        for path in folder.glob("*"):
            if path.is_file():
                path.unlink()
    print(f"{len(moments)} power failures, {len(acks)} acknowledged, {checked} looked up, none lost")


def test_every_ack_follows_its_own_sync(trace):
    """Not only as many syncs as acks: the content was written, then synced, then acknowledged."""
    log = trace.files["martlet.db-wal"]
    written = {}
    for write in log.writes:
        for match in re.finditer(rb"content-of-(\w+)-", write.data):
            written.setdefault(match[1].decode(), write)
    acks = acknowledgements(trace)
    for moment, client, *_ in acks:
        write = written[client]
        assert write.durable is not None and write.durable < moment, f"{client} was acknowledged before its sync"
    print(f"{len(acks)} acks, each behind the sync of its content")
