"""A node of an earlier release and one of this, on one Postgres, under load: python rolling.py EARLIER-BINARY

Nothing that the earlier node is asked for may fail while this one changes the schema, or after that.
"""

import sys
import tempfile
import threading
import time
import uuid
from pathlib import Path

from martlet import Server
from postgres import Postgres

WRITERS = 8
SECONDS = 4


class Writer(threading.Thread):
    """Sends one message after the other, every second one without a client id."""

    def __init__(self, node, bearer, room):
        super().__init__(daemon=True)
        self.node, self.bearer, self.room = node, bearer, room
        self.acknowledged = []
        self.slowest = 0
        self.failure = None
        self.is_ending = False

    def run(self):
        try:
            with self.node.relay(self.bearer, "?subscribe=none") as socket:
                socket.send(type="subscribe", channels=[str(self.room)])
                while not self.is_ending:
                    data = str(uuid.uuid4())
                    start = time.monotonic()
                    socket.say(self.room, data, data if len(self.acknowledged) % 2 else None)
                    # Its own broadcast: there is no ack for what has no client id.
                    while (frame := socket.receive(10)).get("data") != data:
                        assert frame["type"] != "error", frame
                    self.acknowledged.append(frame["id"])
                    self.slowest = max(self.slowest, time.monotonic() - start)
        except Exception as failure:  # noqa: BLE001 - shown below
            self.failure = failure


def main(earlier):
    folder = Path(tempfile.mkdtemp(prefix="martlet-rolling-"))
    postgres = Postgres().start()
    try:
        url = postgres.database()
        old, new = (Server(folder / name, MARTLET_DATABASE=url) for name in ("old", "new"))
        old.binary = earlier
        with old:
            ada = old.person()
            rooms = [ada.room() for _ in range(WRITERS)]
            writers = [Writer(old, ada.token, room) for room in rooms]
            for writer in writers:
                writer.start()
            time.sleep(SECONDS)
            with new:
                print("this release serves", flush=True)
                later = [Writer(new, ada.token, room) for room in rooms]
                for writer in later:
                    writer.start()
                time.sleep(SECONDS)
                for writer in writers + later:
                    writer.is_ending = True
                for writer in writers + later:
                    writer.join(30)
                lost = 0
                with new.http(ada.token) as http:
                    for room, pair in zip(rooms, zip(writers, later)):
                        ids, after = [], 0
                        while page := http.get(f"/rooms/{room}/messages", params={"after": after, "limit": 200}).json()["data"]:
                            ids += [message["id"] for message in page]
                            after = page[-1]["seq"]
                        assert after == len(ids) == len(set(ids)), "a gap or a duplicate"
                        lost += len(set(pair[0].acknowledged + pair[1].acknowledged) - set(ids))
        for name, some in (("earlier", writers), ("this", later)):
            count = sum(len(writer.acknowledged) for writer in some)
            print(f"{name} release: {count} acknowledged, slowest {max(writer.slowest for writer in some) * 1000:.0f} ms")
            for writer in some:
                if writer.failure:
                    print(f"  failed: {writer.failure!r}")
        print(f"lost: {lost}")
        sys.exit(1 if lost or any(writer.failure for writer in writers + later) else 0)
    finally:
        postgres.remove()


if __name__ == "__main__":
    main(sys.argv[1])
