"""docs/protocols: every example in them is played against the server, frame by frame.

A block of kind `frames` has lines like `ada > {...}` (Ada sends a frame), `ada < {...}` (she receives one),
`ada > PUT /v1/rooms/17/members {...}` with `ada < 200 {...}` (HTTP), `ada opens /chat`, `ada breaks off` and
`ada closed 4400`. Ids and tokens in the documents stand for the server's: the first time that one comes it is learnt, and
from then on it must be the same. Times only have to look like times.
"""

import json
import re

import httpx
import pytest
from websockets.exceptions import ConnectionClosed

from martlet import ROOT, Frames

# Members whose values the server chooses.
LEARNT = {
    "id", "user_id", "room_id", "channel_id", "from", "emitter", "owner_user_id", "entity_UUID", "epoch",
    "access_token", "refresh_token",
}
TIMES = {"ts", "expires_at", "created_at"}


def lines(page):
    """Every line of a page's examples, with its number in the file."""
    inside = False
    for number, line in enumerate((ROOT / "docs/protocols" / page).read_text().splitlines(), 1):
        if line.startswith("```"):
            inside = line == "```frames"
        elif inside:
            yield number, line


class Player:
    """Plays the examples of one page against a server."""

    def __init__(self, server):
        self.server = server
        self.known = {}
        self.sockets = {}
        self.clients = {}
        self.answers = {}

    def learn(self, written, real):
        written, real = str(written), str(real)
        assert self.known.setdefault(written, real) == real, f"{written} was {self.known[written]} and is {real}"

    def real(self, value, key=None):
        """What a document says, in the server's words."""
        if isinstance(value, dict):
            return {self.known.get(each, each): self.real(inner, each) for each, inner in value.items()}
        if isinstance(value, list):
            return [self.real(each, key) for each in value]
        if isinstance(value, str):
            return self.known.get(value, value)
        if key == "room_id":
            return int(self.known.get(str(value), value))
        return value

    def compare(self, written, real, key=None):
        if key in TIMES and written is not None:
            assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z", real), f"{key}: {real}"
        elif key in LEARNT and not isinstance(written, (dict, list)) and written is not None:
            assert type(written) is type(real), f"{key}: {real}"
            self.learn(written, real)
        elif isinstance(written, dict):
            assert list(written) == list(real), f"{key}: {list(real)}"
            for each in written:
                self.compare(written[each], real[each], each)
        elif isinstance(written, list):
            assert len(written) == len(real), f"{key}: {real}"
            for one, other in zip(written, real):
                self.compare(one, other, key)
        else:
            assert written == real, f"{key}: {real}"

    def play(self, line):
        if match := re.fullmatch(r"(\w+) opens (\S+)", line):
            name, path = match.groups()
            bearer = None if path == "/chat" else self.known[f"<{name}'s token>"]
            self.sockets[name] = Frames(self.server.websocket(path, bearer))
        elif match := re.fullmatch(r"(\w+) breaks off", line):
            self.sockets.pop(match[1]).socket.socket.close()
        elif match := re.fullmatch(r"(\w+) closed (\d+)", line):
            assert self.sockets[match[1]].close_code() == int(match[2])
        elif match := re.fullmatch(r"(\w+) > (GET|POST|PUT|PATCH|DELETE) (\S+)(?: (\{.*\}))?", line):
            self.request(*match.groups())
        elif match := re.fullmatch(r"(\w+) < (\d{3})(?: (\{.*\}))?", line):
            answer = self.answers.pop(match[1])
            assert answer.status_code == int(match[2]), answer.text
            if match[3]:
                self.compare(json.loads(match[3]), answer.json())
            else:
                assert answer.content == b""
        elif match := re.fullmatch(r"(\w+) > (.*)", line):
            name, text = match.groups()
            self.sockets[name].socket.send(json.dumps(self.real(json.loads(text))) if text.startswith("{") else text)
        elif match := re.fullmatch(r"(\w+) < (\{.*\})", line):
            frame = self.sockets[match[1]].receive()
            while frame["type"] == "heartbeat":
                frame = self.sockets[match[1]].receive()
            self.compare(json.loads(match[2]), frame)
        else:
            raise AssertionError("not a line of an example")

    def request(self, name, method, path, body):
        assert name not in self.answers, "the answer before was not shown"
        path = "/".join(self.known.get(part, part) for part in path.split("/"))
        token = self.known.get(f"<{name}'s token>")
        if name not in self.clients:
            self.clients[name] = self.server.http()
        # By the token, not by the cookie that a log-in sets.
        self.clients[name].cookies.clear()
        headers = {"authorization": f"Bearer {token}"} if token else {}
        self.answers[name] = self.clients[name].request(method, path, json=self.real(json.loads(body)) if body else None, headers=headers)

    def finish(self):
        """Nothing came that the examples do not show."""
        assert not self.answers
        for name, socket in self.sockets.items():
            try:
                with pytest.raises(TimeoutError):
                    raise AssertionError(f"{name} also received {socket.socket.recv(timeout=0.1)}")
            except ConnectionClosed:
                pass
            socket.socket.close()
        for client in self.clients.values():
            client.close()


SETTINGS = {
    "as it is": {},
    "with rates and small limits": {
        "MARTLET_RATE_LIMITS": "on", "MARTLET_MAX_FRAME_BYTES": 2048, "MARTLET_MAX_CONTENT_BYTES": 512, "MARTLET_LOOPS": 1,
        "MARTLET_CONNECTION_FRAMES": "50,20",
    },
    "another public address": {"MARTLET_PUBLIC_URL": "https://chat.example.org", "MARTLET_LOOPS": 4, "MARTLET_LOG_LEVEL": "debug"},
    "postgres": {"MARTLET_DATABASE": None},
}


@pytest.mark.parametrize("settings", SETTINGS)
@pytest.mark.parametrize("page", ["relay-v1.md", "nano.md"])
def test_examples_are_what_the_server_says(fresh, postgres, page, settings):
    settings = dict(SETTINGS[settings])
    if "MARTLET_DATABASE" in settings:
        settings["MARTLET_DATABASE"] = postgres.database()
    player = Player(fresh(**settings))
    played = 0
    for number, line in lines(page):
        try:
            player.play(line)
        except (AssertionError, KeyError, TimeoutError, ConnectionClosed, httpx.HTTPError) as failure:
            raise AssertionError(f"docs/protocols/{page}, line {number}: {line}\n{failure!r}") from failure
        played += 1
    assert played > 40
    player.finish()


def test_every_type_of_frame_is_described():
    import subprocess

    from martlet import BINARY

    pages = {"/v1/relay": "relay-v1.md", "/chat": "nano.md"}
    output = subprocess.run([BINARY, "routes"], env={}, capture_output=True, text=True, check=True).stdout
    frames = [line.split()[1:3] for line in output.splitlines() if line.startswith("FRAME")]
    assert len(frames) > 12
    for path, kind in frames:
        text = (ROOT / "docs/protocols" / pages[path]).read_text()
        assert f'"type":"{kind}"' in text or f"`{kind}`" in text, f"{path} {kind}"


def test_tokens_made_as_the_page_says_are_taken(fresh):
    """The Python of docs/tokens.md, as it stands."""
    server = fresh(MARTLET_TOKEN_AUDIENCE="chat.example.org", MARTLET_TOKEN_ISSUER="intranet.example.org")
    code = re.search(r"```python\n(.*?)```", (ROOT / "docs/tokens.md").read_text(), re.S)[1]
    from martlet import SECRET

    made = {"secret": SECRET}
    exec(code, made)
    with server.http(made["token"]) as http:
        assert http.post("/v1/rooms", json={"name": "x", "level_admin": 1, "type": "group"}).status_code == 201
