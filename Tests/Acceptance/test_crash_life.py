"""kill -9 while people write, edit, delete, react and read: afterwards everything is what was acknowledged.

Each message is edited and deleted by its author only, and everybody has reactions of their own. So the acknowledged acts
of each person, one after the other, say what there must be: this is the fold of the log, made from outside.
"""

import random
import threading
import time

import httpx
import pytest

from martlet import Server, eventually
from test_crash import CUT

EMOJI = ["\N{THUMBS UP SIGN}", "\N{PARTY POPPER}"]
ANSWERS = {"ack", "error"}


class Message:
    """What a message must be, by what its author and others were told."""

    def __init__(self, id, author, data, mentions):
        self.id, self.author, self.data, self.mentions = id, author, data, mentions
        self.is_deleted = self.is_edited = False
        self.reactions = set()


class Room:
    def __init__(self, id):
        self.id = id
        self.messages = {}
        # The seq of each entry that was acknowledged, with what it did.
        self.acknowledged = {}
        self.lock = threading.Lock()


class Actor(threading.Thread):
    """Does one thing after the other in a room. What was not answered is asked again, with the same `client_id`."""

    def __init__(self, test, person, room, number):
        super().__init__(daemon=True)
        self.test, self.person, self.room, self.number = test, person, room, number
        self.random = random.Random(number)
        self.count = 0
        self.open = None
        self.mark = 0
        self.failure = None

    def run(self):
        try:
            while not (self.test.is_stopping and self.open is None):
                server = self.random.choice(self.test.servers)
                try:
                    with server.relay(self.person.token, "?subscribe=none") as socket, server.http(self.person.token) as http:
                        self.act(socket, http)
                except CUT:
                    time.sleep(0.02)
                except self.test.http_cut:
                    time.sleep(0.02)
        except Exception as failure:  # noqa: BLE001 - shown by the test
            self.failure = failure

    def act(self, socket, http):
        while not (self.test.is_stopping and self.open is None):
            if self.open is None:
                self.count += 1
                if self.count % 9 == 0:
                    self.read(http)
                self.open = self.choose()
            socket.send(**self.open)
            while (frame := socket.receive(5))["type"] not in ANSWERS:
                pass
            assert frame.get("client_id") == self.open["client_id"], frame
            if frame["type"] == "error" and frame["code"] == "unavailable":
                time.sleep(0.02)
                continue
            self.note(self.open, frame)
            self.open = None

    def read(self, http):
        """Moves the mark. Once that was answered it never goes back."""
        with self.room.lock:
            seq = self.random.choice(list(self.room.acknowledged) or [0])
        answer = http.put(f"/v1/rooms/{self.room.id}/read", json={"seq": seq})
        if answer.status_code == 200:
            self.mark = max(self.mark, seq)
        else:
            assert answer.status_code == 503, answer.text

    def choose(self):
        frame = {"channel_id": str(self.room.id), "client_id": f"{self.number}-{self.count}"}
        with self.room.lock:
            present = [(seq, message) for seq, message in self.room.messages.items() if not message.is_deleted]
        mine = [seq for seq, message in present if message.author == self.person.id]
        kind = self.random.random()
        if kind < 0.2 and mine:
            return frame | {"type": "edit", "of": self.random.choice(mine), "data": f"edit {frame['client_id']}", "mentions": self.somebody()}
        if kind < 0.27 and mine:
            return frame | {"type": "delete", "of": self.random.choice(mine)}
        if kind < 0.5 and present:
            seq, message = self.random.choice(present)
            emoji = self.random.choice(EMOJI)
            has = (self.person.id, emoji) in message.reactions
            return frame | {"type": "react", "of": seq, "emoji": emoji, "remove": has}
        return frame | {"type": "text", "to": "*", "data": f"text {frame['client_id']}", "mentions": self.somebody()}

    def somebody(self):
        return [self.random.choice(self.test.people).id] if self.random.random() < 0.3 else []

    def note(self, act, frame):
        with self.room.lock:
            if frame["type"] == "error":
                # Its author was faster.
                assert frame["code"] == "message_deleted" and act["type"] == "react", frame
                return
            if act["type"] == "text":
                assert frame["seq"] not in self.room.messages, "two messages with one seq"
                self.room.messages[frame["seq"]] = Message(frame["id"], self.person.id, act["data"], act["mentions"])
            else:
                message = self.room.messages[act["of"]]
                if act["type"] == "edit":
                    message.data, message.mentions, message.is_edited = act["data"], act["mentions"], True
                elif act["type"] == "delete":
                    message.is_deleted = True
                elif act["remove"]:
                    message.reactions.discard((self.person.id, act["emoji"]))
                else:
                    message.reactions.add((self.person.id, act["emoji"]))
            assert self.room.acknowledged.setdefault(frame["seq"], act) is act, "one seq for two acts"


class Life:
    def __init__(self, servers):
        self.http_cut = httpx.TransportError
        self.servers = servers
        self.is_stopping = False
        self.people = [servers[0].account(name) for name in ("Ada", "Bob", "Cleo", "Dora")]
        ada, *others = self.people
        team = ada.team(*others)
        rooms = [team["room_id"]] + [ada.ok("POST", "/v1/rooms", 201, name=kind, kind=kind)["id"] for kind in ("group", "secret")]
        for room in rooms[1:]:
            for other in others:
                ada.ok("PUT", f"/v1/rooms/{room}/people/{other.id}")
        self.rooms = [Room(id) for id in rooms]

    def run(self, kills):
        actors = [Actor(self, person, room, number * 10 + index) for number, person in enumerate(self.people) for index, room in enumerate(self.rooms)]
        for actor in actors:
            actor.start()
        for number in range(kills):
            time.sleep(random.uniform(0.3, 0.8))
            server = self.servers[number % len(self.servers)]
            server.kill()
            server.environment["MARTLET_LISTEN"] = f"127.0.0.1:{server.port}"
            server.start()
        time.sleep(0.5)
        self.is_stopping = True
        for actor in actors:
            actor.join(40)
            assert not actor.is_alive(), "an actor did not come to its end"
            assert actor.failure is None, actor.failure
        for server in self.servers:
            for room in self.rooms:
                self.check_log(server, room)
                self.check_messages(server, room)
                self.check_marks(server, room, [actor for actor in actors if actor.room is room])
        self.check_search()
        return sum(len(room.acknowledged) for room in self.rooms)

    def check_log(self, server, room):
        """All entries, once and without gaps, and each that was acknowledged is what it was then."""
        head = server.http(self.people[0].token).get(f"/v1/rooms/{room.id}").json()["data"]["last_seq"]
        seen = {}
        with server.relay(self.people[0].token, "?subscribe=none") as socket:
            last = 0
            socket.send(type="resume", channels={str(room.id): 0})
            while last < head:
                frame = socket.receive()
                if frame["type"] == "reset":
                    # Too far behind for a replay: the log goes on there.
                    last = frame["seq"]
                elif "seq" in frame and frame.get("room_id") == room.id and frame["type"] not in ("resumed", "seen", "read"):
                    assert frame["seq"] == last + 1, f"{frame['seq']} after {last}"
                    last = frame["seq"]
                    seen[last] = frame
        types = {"text": "text", "edit": "edited", "delete": "deleted", "react": "reacted"}
        for seq, act in room.acknowledged.items():
            if frame := seen.get(seq):
                assert frame["type"] == types[act["type"]] and frame.get("of") == act.get("of"), (act, frame)

    def messages(self, server, person, room):
        found, cursor = [], {"after": 0}
        with server.http(person.token) as http:
            while cursor:
                page = http.get(f"/v1/rooms/{room.id}/messages", params={"limit": 200} | cursor).json()
                found += [message for message in page["data"] if message["type"] != "event"]
                cursor = {"after": page["data"][-1]["seq"]} if page["data"] else None
        return found

    def check_messages(self, server, room):
        found = {message["seq"]: message for message in self.messages(server, self.people[0], room)}
        assert set(found) == set(room.messages), "a message that nobody was told of, or one that is lost"
        assert len({message["id"] for message in found.values()}) == len(found), "a message twice"
        for seq, expected in room.messages.items():
            message = found[seq]
            assert (message["id"], message["from"]) == (expected.id, expected.author)
            if expected.is_deleted:
                assert (message["status"], message["data"], message.get("reactions", [])) == ("deleted", "", [])
                continue
            assert (message["data"], message["status"] == "edited") == (expected.data, expected.is_edited), seq
            assert sorted(message.get("mentions", [])) == sorted(expected.mentions), seq
            counts = {emoji: sum(1 for _, one in expected.reactions if one == emoji) for _, emoji in expected.reactions}
            assert {item["emoji"]: item["count"] for item in message.get("reactions", [])} == counts, seq

    def check_marks(self, server, room, actors):
        for actor in actors:
            messages = self.messages(server, actor.person, room)
            with server.http(actor.person.token) as http:
                [item] = [item for item in http.get("/v1/me/rooms").json()["data"] if item["id"] == room.id]
            own = [message["seq"] for message in messages if message["from"] == actor.person.id]
            assert item["last_read_seq"] >= max([actor.mark, *own]), "a mark went back"
            later = [message for message in messages if message["seq"] > item["last_read_seq"]]
            assert item["unread"] == len(later)
            assert item["mentions"] == sum(actor.person.id in message.get("mentions", []) for message in later)

    def check_search(self):
        """The index holds what there is now, and of no message what it was before."""
        expected = {(room.id, seq) for room in self.rooms[:2] for seq, message in room.messages.items() if not message.is_deleted}

        def found(word):
            places, query = set(), {"q": word, "limit": 200}
            with self.servers[0].http(self.people[0].token) as http:
                while True:
                    page = http.get("/v1/search", params=query).json()
                    places |= {(hit["message"]["room_id"], hit["message"]["seq"]) for hit in page["data"]}
                    if not (cursor := page.get("meta", {}).get("next_cursor")):
                        return places
                    query["cursor"] = cursor

        edited = {(room.id, seq) for room in self.rooms[:2] for seq, message in room.messages.items() if message.is_edited and not message.is_deleted}
        assert eventually(lambda: (found("text"), found("edit")) == (expected - edited, edited))


@pytest.mark.parametrize("database, kills", [("sqlite", 10), ("postgres", 5)])
def test_everything_that_was_acknowledged_is_there(tmp_path, request, database, kills):
    if database == "sqlite":
        servers = [Server(tmp_path / "data", MARTLET_LOOPS=2).start()]
    else:
        settings = {"MARTLET_DATABASE": request.getfixturevalue("postgres").database(), "MARTLET_FANOUT": request.getfixturevalue("redis").url}
        servers = [Server(tmp_path / name, MARTLET_LOOPS=2, **settings).start() for name in ("a", "b")]
    try:
        acknowledged = Life(servers).run(kills)
        print(f"{database}: {kills} kills, {acknowledged} entries acknowledged, none lost")
        assert acknowledged > kills * 20, "the test did next to nothing"
    finally:
        for server in servers:
            server.stop()
