"""What crowds and many rooms cost, of one or more releases: crowds.py [name=binary ...]

Three experiments, each on a server of its own with one loop and SQLite:

* large: a 60 KB message to each of 3,000 rooms that one socket hears: resident memory afterwards.
* turns: 100,000 rooms that 100 sockets hear, a ping every 2 ms for a minute: how many turns of the loop took more than
  5 ms of its thread's time (releases that count them), and how long pongs took.
* stalled: a writer in a room beside sockets that resume 900 entries of 8 KB in it and do not read: time a message.
"""

import re
import sqlite3
import sys
import tempfile
import time
import uuid
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT / "Tests/Acceptance"))

import httpx  # noqa: E402

from martlet import Server, client_frame, token  # noqa: E402


def server(binary, directory):
    made = Server(Path(tempfile.mkdtemp(dir=directory)) / "data", MARTLET_LOOPS=1, MARTLET_RATE_LIMITS="off", MARTLET_METRICS_LISTEN="127.0.0.1:0")
    made.binary = binary
    return made.start()


def insert_rooms(data, owners, count):
    """Rooms of these owners, put into the database while no server runs."""
    database = sqlite3.connect(data / "martlet.db")
    database.executemany(
        "INSERT INTO rooms (type, name, level_admin, owner_user, by_invitation, created_at) VALUES (0, 'made', 100, ?, 0, 0)",
        ((owners[number % len(owners)].bytes,) for number in range(count)),
    )
    columns, values = "room_id, last_seq, last_ts, access_version", "id, 0, 0, 1"
    if database.execute("SELECT 1 FROM pragma_table_info('room_heads') WHERE name = 'access_changed_at'").fetchone():
        # Release 0.1.
        columns, values = columns + ", access_changed_at", values + ", 0"
    database.execute(f"INSERT INTO room_heads ({columns}) SELECT {values} FROM rooms")
    database.commit()
    database.close()


def large(binary, directory):
    running = server(binary, directory)
    user = uuid.uuid4()
    running.stop()
    insert_rooms(running.data, [user], 3000)
    running.start()
    before = running.resident_megabytes()
    with running.relay(token(user), "?subscribe=none") as relay:
        content = "x" * 60_000
        for first in range(1, 3001, 500):
            rooms = [str(room) for room in range(first, first + 500)]
            relay.send(type="subscribe", channels=rooms)
            for _ in rooms:
                relay.until("subscribed", timeout=20)
        for room in range(1, 3001):
            relay.say(room, content, str(room))
            while relay.receive(20)["type"] != "ack":
                pass
        time.sleep(2)
        outcome = f"{before:.0f} MB before, {running.resident_megabytes():.0f} MB after"
    running.stop()
    return outcome


def turns_over_5_ms(running):
    """Turns so far, and those that took more than 5 ms of the thread's time; None where the release does not say."""
    # The last of them: it was started twice.
    address = re.findall(r'"metrics_listening","address":"([^"]+)"', running.log_text())[-1]
    text = httpx.get(address).text
    found = dict(re.findall(r'martlet_loop_turn_cpu_seconds_bucket\{le="([^"]+)"\} (\d+)', text))
    return (int(found["+Inf"]), int(found["+Inf"]) - int(found["0.005"])) if found else None


def turns(binary, directory, rooms=100_000, users=100, seconds=60):
    running = server(binary, directory)
    running.stop()
    people = [uuid.uuid4() for _ in range(users)]
    insert_rooms(running.data, people, rooms)
    running.start()
    relays = [running.relay(token(user), "?subscribe=none") for user in people]
    for number, relay in enumerate(relays):
        mine = [str(1 + number + users * index) for index in range(rooms // users)]
        relay.send(type="subscribe", channels=mine)
        for _ in mine:
            relay.until("subscribed", timeout=20)
    before = turns_over_5_ms(running)
    pongs = []
    with running.websocket("/v1/relay?subscribe=none", token(uuid.uuid4())) as pinging:
        end = time.monotonic() + seconds
        while time.monotonic() < end:
            start = time.monotonic()
            pinging.ping().wait()
            pongs.append((time.monotonic() - start) * 1000)
            time.sleep(0.002)
    after = turns_over_5_ms(running)
    pongs.sort()
    outcome = f"pong median {pongs[len(pongs) // 2]:.2f}, 99.9 % {pongs[len(pongs) * 999 // 1000]:.1f}, slowest {pongs[-1]:.1f} ms"
    if after:
        outcome = f"{after[1] - before[1]} of {after[0] - before[0]} turns over 5 ms; {outcome}"
    running.kill()
    return outcome


def processor_seconds(running):
    fields = Path(f"/proc/{running.process.pid}/stat").read_text().rsplit(")", 1)[1].split()
    return (int(fields[11]) + int(fields[12])) / 100


def stalled(binary, directory, crowds=(1, 100, 300, 600), messages=300):
    found = {"while they are sent what they take": [], "then": []}
    over = []
    for crowd in crowds:
        running = server(binary, directory)
        writer = running.person()
        room = writer.room()
        content = "x" * 8000
        with writer.relay() as relay:
            for number in range(900):
                relay.say(room, content, f"a{number}")
                relay.until("text"), relay.until("ack")
            before = turns_over_5_ms(running)
            silent = [running.silent_relay(writer.token) for _ in range(crowd)]
            for client in silent:
                client.sendall(client_frame(type="resume", channels={str(room): 0}))

            def write(name):
                start = time.monotonic()
                for number in range(messages):
                    relay.say(room, "short", f"{name}{number}")
                    relay.until("text", timeout=20), relay.until("ack", timeout=20)
                found[name].append(f"{(time.monotonic() - start) * 1000 / messages:.2f}")

            write("while they are sent what they take")
            used = -1
            while processor_seconds(running) - used > 0.02:
                used = processor_seconds(running)
                time.sleep(1)
            write("then")
            after = turns_over_5_ms(running)
            if after:
                over.append(f"{after[1] - before[1]} of {after[0] - before[0]}")
        for client in silent:
            client.close()
        running.kill()
    texts = [f"{name} {' / '.join(values)} ms" for name, values in found.items()]
    return f"beside {' / '.join(map(str, crowds))}: {'; '.join(texts)}; turns over 5 ms: {', '.join(over)}"


def main():
    releases = [argument.split("=", 1) for argument in sys.argv[1:] if "=" in argument]
    chosen = [argument for argument in sys.argv[1:] if "=" not in argument]
    releases = releases or [["this", str(ROOT / ".build/release/martlet")]]
    for experiment in (large, turns, stalled):
        if chosen and experiment.__name__ not in chosen:
            continue
        for name, binary in releases:
            with tempfile.TemporaryDirectory() as directory:
                print(f"{experiment.__name__}, {name}: {experiment(binary, directory)}", flush=True)


if __name__ == "__main__":
    main()
