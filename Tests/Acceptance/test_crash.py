"""kill -9 under load: nothing acknowledged is lost, no gap, no duplicate, one order."""

import random
import threading
import time
import uuid

import pytest
from websockets.exceptions import ConnectionClosed, InvalidHandshake

from martlet import Person, Server, token

WRITERS = 8
READERS = 8
# What a socket or a handshake may end with while its server is killed. A wrong frame is none of them.
CUT = (ConnectionClosed, InvalidHandshake, OSError, EOFError, TimeoutError)


class Client(threading.Thread):
    """Reconnects and resumes until it is told to stop."""

    def __init__(self, test, number):
        super().__init__(daemon=True)
        self.test = test
        self.room = test.rooms[number % len(test.rooms)]
        self.token = token(uuid.uuid4(), test.entity)
        self.last = 0
        self.entries = []
        self.failure = None

    def run(self):
        try:
            while not self.test.is_over(self):
                try:
                    with self.test.server.relay(self.token, "?subscribe=none") as socket:
                        self.connected(socket)
                except CUT:
                    time.sleep(random.uniform(0.01, 0.1))
        except Exception as failure:  # noqa: BLE001 - shown by the test
            self.failure = failure

    def note(self, frame):
        """An entry of the room, in order and once."""
        if frame["room_id"] == self.room and "data" in frame:
            assert_order(frame["seq"] == self.last + 1, f"{frame['seq']} after {self.last}")
            self.last = frame["seq"]
            self.entries.append((frame["seq"], frame["id"], frame["from"], frame["data"], frame["ts"]))


class OrderError(Exception):
    pass


def assert_order(is_right, message):
    if not is_right:
        raise OrderError(message)


class Reader(Client):
    def connected(self, socket):
        socket.send(type="resume", channels={str(self.room): self.last})
        while not self.test.is_over(self):
            try:
                frame = socket.receive(0.3)
            except TimeoutError:
                continue
            if frame["type"] == "reset":
                for message in self.test.history(self.room, self.last, frame["seq"]):
                    self.note(message)
            else:
                self.note(frame)


class Writer(Client):
    """Sends one message after the other; what was not acknowledged is sent again, as it was."""

    def __init__(self, test, number):
        super().__init__(test, number)
        self.acks = {}
        self.count = 0
        self.open = None

    def connected(self, socket):
        while not self.test.is_over(self):
            if self.open is None:
                if self.test.is_stopping:
                    return
                self.count += 1
                self.open = f"{self.number}-{self.count}"
            socket.say(self.room, f"data of {self.open}", self.open)
            while True:
                frame = socket.receive(5)
                if frame["type"] == "ack" and frame["client_id"] == self.open:
                    break
                if frame["type"] == "error":
                    assert_order(frame["code"] == "unavailable", frame)
                    time.sleep(0.02)
                    socket.say(self.room, f"data of {self.open}", self.open)
            self.acks[self.open] = (frame["id"], frame["seq"])
            self.open = None
            if self.count % 10 == 0:
                # A retry of something old gives its first ack again.
                old = random.choice(list(self.acks))
                socket.say(self.room, f"data of {old}", old)
                frame = socket.receive(5)
                assert_order((frame["id"], frame["seq"]) == self.acks[old], f"another ack for {old}")


class CrashTest:
    """Clients that write and read while `disturb` is called again and again, and what they must agree on."""

    # How long clients may take to come to the end of the log, after the last message.
    catch_up_seconds = 30

    def __init__(self, servers, kills):
        self.servers = servers
        self.kills = kills
        self.is_stopping = False
        self.heads = None
        self.entity = uuid.uuid4()
        self.owner = Person(servers[0], uuid.uuid4(), self.entity)
        self.rooms = [self.owner.room(), self.owner.room()]

    @property
    def server(self):
        """Any of the nodes."""
        return random.choice(self.servers)

    def disturb(self, number):
        server = self.servers[number % len(self.servers)]
        server.kill()
        server.environment["MARTLET_LISTEN"] = f"127.0.0.1:{server.port}"
        server.start()

    def is_over(self, client):
        if not self.is_stopping:
            return False
        if isinstance(client, Writer):
            return client.open is None
        return self.heads is not None and client.last >= self.heads[client.room]

    def history(self, room, after, through):
        messages = []
        with self.server.http(self.owner.token) as http:
            while after < through:
                page = http.get(f"/rooms/{room}/messages", params={"after": after, "limit": 200}).json()["data"]
                messages += page
                after = page[-1]["seq"]
        return messages

    def run(self):
        clients = []
        for number in range(WRITERS):
            clients.append(Writer(self, number))
            clients[-1].number = number
        clients += [Reader(self, number) for number in range(READERS)]
        for client in clients:
            client.start()
        for number in range(self.kills):
            time.sleep(random.uniform(0.2, 0.8))
            self.disturb(number)
        time.sleep(0.5)
        self.is_stopping = True
        writers = [client for client in clients if isinstance(client, Writer)]
        for writer in writers:
            writer.join(30)
        # In one assignment: the readers look at it meanwhile.
        self.heads = {room: self.owner_view(room)["last_seq"] for room in self.rooms}
        deadline = time.monotonic() + self.catch_up_seconds
        for client in clients:
            client.join(max(0, deadline - time.monotonic()))
            assert not client.is_alive(), "a client did not come to its end"
            assert client.failure is None, client.failure
        return self.check(clients, writers)

    def owner_view(self, room):
        with self.server.http(self.owner.token) as http:
            return http.get(f"/rooms/{room}").json()["data"]

    def check(self, clients, writers):
        acknowledged = 0
        for room in self.rooms:
            head = self.heads[room]
            log = self.history(room, 0, head)
            assert [message["seq"] for message in log] == list(range(1, head + 1)), "a gap in the log"
            assert len({message["id"] for message in log}) == head, "a duplicate in the log"
            assert [m["ts"] for m in log] == sorted(m["ts"] for m in log), "time goes backwards"
            by_data = {}
            for message in log:
                assert by_data.setdefault(message["data"], message) is message, "a message twice"
            lines = [(m["seq"], m["id"], m["from"], m["data"], m["ts"]) for m in log]
            for client in clients:
                if client.room == room and isinstance(client, Reader):
                    assert client.entries == lines, "a reader saw something else than the log"
            for writer in writers:
                if writer.room == room:
                    for key, (id, seq) in writer.acks.items():
                        message = by_data.get(f"data of {key}")
                        assert message, f"acknowledged and lost: {key}"
                        assert (message["id"], message["seq"]) == (id, seq)
                        acknowledged += 1
        return acknowledged


@pytest.mark.parametrize("database, kills, loops", [("sqlite", 10, 1), ("sqlite", 10, 4), ("postgres", 5, 2)])
def test_kill_9(tmp_path, request, database, kills, loops):
    settings = {"MARTLET_LOOPS": loops}
    if database == "postgres":
        settings["MARTLET_DATABASE"] = request.getfixturevalue("postgres").database()
    server = Server(tmp_path / "data", **settings).start()
    try:
        acknowledged = CrashTest([server], kills).run()
        print(f"{database}: {kills} kills, {acknowledged} acknowledged, none lost")
        assert acknowledged > kills * WRITERS, "the test did next to nothing"
    finally:
        server.stop()
