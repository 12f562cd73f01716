"""Starts the real binary and speaks to it. Shared by all acceptance tests."""

import functools
import json
import os
import re
import select
import signal
import socket
import sqlite3
import ssl
import subprocess
import threading
import time
import uuid
from collections import Counter
from pathlib import Path

import httpx
import jwt
from websockets.sync.client import connect

ROOT = Path(__file__).resolve().parents[2]
BINARY = os.environ.get("MARTLET_BINARY", str(ROOT / ".build/release/martlet"))
SECRET = "an-acceptance-test-secret-of-some-length"
AUDIENCE = "chat.nano-messaging.net"
ISSUER = "api.nano-messaging.net"

# How much was tried of tables that tests walk completely; printed at the end of a run.
tally = Counter()


def eventually(holds, seconds=30):
    """Waits until `holds()` is true, and returns what it was. The time is for a bug's sake: no test is about it."""
    end = time.monotonic() + seconds
    while not (result := holds()):
        assert time.monotonic() < end, "it never came to be"
        time.sleep(0.02)
    return result


class Stalls:
    """How long the machine kept its processes waiting, at the longest.

    What is promised within a second can be late because the server is slow, or because the whole machine stood still. A
    thread that wants to run every 10 ms notes how late it was: so much is forgiven.
    """

    def __init__(self):
        self.longest = 0
        self.ended = threading.Event()
        self.thread = threading.Thread(target=self.watch, daemon=True)

    def __enter__(self):
        self.thread.start()
        return self

    def __exit__(self, *_):
        self.ended.set()
        self.thread.join()

    def watch(self):
        before = time.monotonic()
        while not self.ended.wait(0.01):
            now = time.monotonic()
            self.longest = max(self.longest, now - before - 0.01)
            before = now

    def check(self, what, seconds, limit=1):
        """`seconds` is below the limit, in seconds, but for what the machine took itself, two seconds at most."""
        print(f"{what}: slowest {seconds * 1000:.0f} ms; the machine stood still for {self.longest * 1000:.0f} ms at most")
        assert seconds < limit + min(self.longest, 2), what


def token(user, entity=None, level="100", secret=SECRET, algorithm="HS256", **claims):
    """A token of another system."""
    payload = {
        "aud": AUDIENCE,
        "iss": ISSUER,
        "exp": 999999999999,
        "userUUID": str(user),
        "levelOnEntity": level,
    }
    if entity:
        payload["entityUUID"] = str(entity)
    payload.update(claims)
    payload = {name: value for name, value in payload.items() if value is not None}
    return jwt.encode(payload, secret, algorithm=algorithm)


def make_certificate(folder, name="martlet", names="IP:127.0.0.1", key="rsa:2048", days=2):
    """A certificate that signs itself: the paths of its chain and of its key."""
    folder = Path(folder)
    chain, secret = folder / f"{name}.pem", folder / f"{name}.key"
    kind = ["-newkey", key] if key.startswith("rsa") else ["-newkey", "ec", "-pkeyopt", f"ec_paramgen_curve:{key}"]
    subprocess.run(
        ["openssl", "req", "-x509", *kind, "-nodes", "-days", str(days), "-subj", f"/CN={name}",
         "-addext", f"subjectAltName={names}", "-keyout", secret, "-out", chain],
        check=True, capture_output=True,
    )
    return chain, secret


def client_frame(**fields):
    """A short text frame as clients send it, with a mask of zeros."""
    text = json.dumps(fields).encode()
    assert len(text) < 126
    return bytes([0x81, 0x80 | len(text), 0, 0, 0, 0]) + text


class LockedTLSSocket(ssl.SSLSocket):
    """A TLS socket that one thread may read while another writes, as the client of websockets does.

    Python's own may lose bytes then, and the client waits without end: OpenSSL's sessions are for one thread at a
    time, and Python before 3.13 does not keep threads apart (python/cpython#124984).
    """

    def __new__(cls, *args, **options):
        self = super().__new__(cls, *args, **options)
        self.lock = threading.Lock()
        return self

    def read(self, *args):
        return self._alone(super().read, *args)

    def send(self, *args):
        return self._alone(super().send, *args)

    def _alone(self, operation, *args):
        while True:
            with self.lock:
                timeout = self.gettimeout()
                self.settimeout(0)
                try:
                    return operation(*args)
                except ssl.SSLWantReadError:
                    ready = [self], [], []
                except ssl.SSLWantWriteError:
                    ready = [], [self], []
                finally:
                    self.settimeout(timeout)
            if not any(select.select(*ready, timeout)):
                raise TimeoutError("timed out")


class Server:
    """One running martlet with a data directory of its own."""

    def __init__(self, data, port=0, certificate=None, **settings):
        if certificate:
            settings = {"MARTLET_TLS_CERTIFICATE": certificate[0], "MARTLET_TLS_KEY": certificate[1], **settings}
        self.data = Path(data)
        self.environment = {
            "PATH": os.environ["PATH"],
            "MARTLET_LISTEN": f"127.0.0.1:{port}",
            "MARTLET_DATA": str(data),
            "MARTLET_TOKEN_SECRET": SECRET,
            "MARTLET_TOKEN_AUDIENCE": AUDIENCE,
            "MARTLET_TOKEN_ISSUER": ISSUER,
            "MARTLET_RATE_LIMITS": "off",
            "MARTLET_LOOPS": os.environ.get("MARTLET_TEST_LOOPS", "2"),
        }
        # How a sanitized binary reports (scripts/sanitize).
        self.environment |= {name: os.environ[name] for name in ("TSAN_OPTIONS", "ASAN_OPTIONS") if name in os.environ}
        for name, value in settings.items():
            if value is None:
                self.environment.pop(name, None)
            else:
                self.environment[name] = str(value)
        self.process = None
        self.url = None
        self.binary = BINARY
        # A command that runs the server, with its options.
        self.prefix = []

    def start(self):
        self.log_path = self.data.parent / (self.data.name + ".log")
        self.log = open(self.log_path, "ab")
        self.process = subprocess.Popen(
            [*self.prefix, self.binary, "serve"], env=self.environment, stdout=subprocess.PIPE, stderr=self.log
        )
        line = self.process.stdout.readline().decode()
        match = re.fullmatch(r"listening on (https?)://(127\.0\.0\.1|localhost):(\d+)\n", line)
        if not match:
            self.process.wait(5)
            raise RuntimeError(f"no start: {line!r} {self.log_text()[-2000:]}")
        self.scheme = match[1]
        self.port = int(match[3])
        self.url = f"{match[1]}://127.0.0.1:{self.port}"
        return self

    def log_text(self):
        return self.log_path.read_text(errors="replace")

    def metric(self, name):
        """A number of the metrics page; the sum where it has several. Needs MARTLET_METRICS_LISTEN."""
        address = re.search(r'"metrics_listening","address":"([^"]+)"', self.log_text())[1]
        lines = httpx.get(address).text.splitlines()
        return sum(float(line.rsplit(" ", 1)[1]) for line in lines if re.match(name + r"[ {]", line))

    def resident_megabytes(self):
        return int(re.search(r"VmRSS:\s+(\d+)", Path(f"/proc/{self.process.pid}/status").read_text())[1]) / 1024

    def stop(self, how=signal.SIGTERM, timeout=12):
        if self.process and self.process.poll() is None:
            self.process.send_signal(how)
            self.process.wait(timeout)
        if self.process:
            self.process.stdout.close()
            self.log.close()
        return self.process.returncode if self.process else None

    def kill(self):
        return self.stop(signal.SIGKILL)

    def __enter__(self):
        return self.start()

    def __exit__(self, *_):
        self.stop()

    # Clients

    def http(self, bearer=None, **options):
        headers = dict(options.pop("headers", {}))
        if bearer:
            headers["authorization"] = f"Bearer {bearer}"
        if self.scheme == "https":
            options.setdefault("verify", False)
        return httpx.Client(base_url=self.url, headers=headers, timeout=15, **options)

    def websocket(self, path, bearer=None, **options):
        headers = dict(options.pop("headers", {}))
        if bearer:
            headers["authorization"] = f"Bearer {bearer}"
        options = {**self.tls_options(), **options}
        return connect(
            self.url.replace("http", "ws", 1) + path,
            additional_headers=headers,
            open_timeout=10,
            close_timeout=3,
            compression=None,
            max_size=None,
            **options,
        )

    def relay(self, bearer, query="", **options):
        return Relay(self.websocket("/v1/relay" + query, bearer, **options))

    def silent_relay(self, bearer, query="?subscribe=none"):
        """A socket of relay v1 whose client has asked for it and reads nothing, with a small buffer."""
        client = socket.socket()
        client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        client.connect(("127.0.0.1", self.port))
        if self.scheme == "https":
            client = self.tls_context().wrap_socket(client)
        client.sendall(
            f"GET /v1/relay{query} HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {bearer}\r\n"
            "Connection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\n"
            "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n".encode()
        )
        return client

    def tls_options(self):
        """What `connect` of websockets needs besides an address."""
        return {"ssl": self.tls_context()} if self.scheme == "https" else {}

    def tls_context(self):
        """Of a client that believes whoever it talks to."""
        context = ssl._create_unverified_context()
        context.sslsocket_class = LockedTLSSocket
        return context

    def chat(self, bearer=None, path="/chat"):
        """A nano socket; with a token it is READY."""
        socket = Frames(self.websocket(path))
        assert socket.receive() == {"type": "query", "data": "START?"}
        if bearer:
            socket.send(type="token", content=bearer)
            assert socket.receive() == {"type": "status", "data": "READY"}
        return socket

    def raw(self):
        plain = socket.create_connection(("127.0.0.1", self.port), timeout=15)
        return self.tls_context().wrap_socket(plain) if self.scheme == "https" else plain

    def exchange(self, data, wait=3):
        """Sends bytes, returns all that comes until the server closes or is silent."""
        with self.raw() as connection:
            connection.settimeout(wait)
            connection.sendall(data)
            received = b""
            closed = False
            try:
                while chunk := connection.recv(65536):
                    received += chunk
                closed = True
            except TimeoutError:
                pass
            except (ConnectionResetError, ssl.SSLEOFError):
                closed = True
            return received, closed

    # Things

    def person(self, entity=None, level="100", **claims):
        return Person(self, uuid.uuid4(), entity, level, **claims)

    def account(self, name="Ada"):
        return Account(self, name)

    def platform_admin(self, name="Root"):
        """A new account that the operator has made a platform admin, beside the running server."""
        admin = Account(self, name)
        subprocess.run([self.binary, "admin", "grant", admin.email], env=self.environment, check=True, capture_output=True)
        assert eventually(lambda: admin.http.get("/v1/admin/audit").status_code == 200, seconds=5)
        return admin

    @functools.cached_property
    def administrator(self):
        """A platform admin for tests that need any."""
        return self.platform_admin()

    def execute(self, sql, *values):
        """Runs a statement in the server's database, as an operator would; values are UUIDs as text, or numbers."""
        if url := self.environment.get("MARTLET_DATABASE"):
            for value in values:
                text = f"'\\x{value.replace('-', '')}'" if isinstance(value, str) else str(value)
                sql = sql.replace("?", text, 1)
            subprocess.run(["psql", "-q", url, "-c", sql], check=True, capture_output=True, text=True)
            return
        with sqlite3.connect(self.data / "martlet.db", timeout=10) as database:
            database.execute(sql, [uuid.UUID(value).bytes if isinstance(value, str) else value for value in values])

    def organization(self, **members):
        """A new organization, with accounts by role."""
        organization = str(uuid.uuid4())
        self.execute("INSERT INTO organizations (id, name, created_at) VALUES (?, 'an organization', 1)", organization)
        for role, account in members.items():
            self.execute(
                f"INSERT INTO memberships (organization_id, user_id, role, created_at) VALUES (?, ?, '{role}', 1)",
                organization, account.id,
            )
        return organization

    def sign_up(self, name="Ada"):
        with self.http() as http:
            answer = http.post(
                "/v1/auth/signup",
                json={"email": f"{uuid.uuid4()}@example.org", "password": "correct horse", "name": name},
            )
        assert answer.status_code == 201, answer.text
        return answer.json()["data"]


class Account:
    """Somebody who signed up here, with an HTTP client."""

    def __init__(self, server, name="Ada"):
        self.server = server
        grant = server.sign_up(name)
        self.id = grant["user"]["id"]
        self.email = grant["user"]["email"]
        self.name = name
        self.token = grant["access_token"]
        self.http = server.http(self.token)

    def ok(self, method, path, status=None, /, **body):
        """The data of an answer that must be a success."""
        answer = self.http.request(method, path, json=body or None)
        assert answer.status_code == status if status else answer.is_success, (method, path, answer.text)
        return answer.json()["data"] if answer.content else None

    def code(self, method, path, /, **body):
        """The status and code of an answer that must be a failure."""
        answer = self.http.request(method, path, json=body or None)
        assert answer.is_error, (method, path, answer.text)
        return answer.status_code, answer.json()["error"]["code"]

    def accept_invitations(self):
        for invitation in self.ok("GET", "/v1/me/invitations"):
            self.ok("PUT", f"/v1/me/invitations/{invitation['id']}", accepted=True)

    def team(self, *members, **more):
        """A new team of this person and others, who have accepted."""
        team = self.ok("POST", "/v1/teams", 201, **{"name": "a team", **more})
        for member in members:
            self.ok("POST", f"/v1/teams/{team['id']}/members", user_id=member.id)
            if member.id not in self.ok("GET", f"/v1/teams/{team['id']}")["members"]:
                member.accept_invitations()
        return self.ok("GET", f"/v1/teams/{team['id']}")

    def relay(self, query=""):
        return self.server.relay(self.token, query)

    def chat(self):
        return self.server.chat(self.token)


class Person:
    """A user of another system, with a token and an HTTP client."""

    def __init__(self, server, user, entity=None, level="100", **claims):
        self.server = server
        self.id = str(user)
        self.entity = str(entity) if entity else None
        self.token = token(user, entity, level, **claims)
        self.http = server.http(self.token)

    def room(self, type="group", level_admin=9999, **more):
        answer = self.http.post(
            "/rooms", json={"name": "a room", "level_admin": level_admin, "type": type, **more}
        )
        assert answer.status_code == 201, answer.text
        return answer.json()["data"]["id"]

    def rule(self, room, subject, permissions="rw", level=0):
        subject = subject.id if isinstance(subject, Person) else str(subject)
        return self.http.put(
            f"/rooms/{room}/members",
            json={"entity_UUID": subject, "permissions": permissions, "level": level},
        )

    def messages(self, room, **query):
        answer = self.http.get(f"/rooms/{room}/messages", params=query)
        assert answer.status_code == 200, answer.text
        return answer.json()["data"]

    def relay(self, query=""):
        return self.server.relay(self.token, query)

    def chat(self):
        return self.server.chat(self.token)


class Frames:
    """A WebSocket that speaks JSON objects."""

    def __init__(self, socket):
        self.socket = socket

    def send(self, **frame):
        self.socket.send(json.dumps(frame, ensure_ascii=False))

    def receive(self, timeout=15):
        """The next frame; heartbeats come when they come, and are passed over."""
        while True:
            frame = json.loads(self.socket.recv(timeout=timeout))
            if frame["type"] != "heartbeat":
                return frame

    def silent(self, seconds=0.3):
        """Whether nothing but heartbeats comes for so long."""
        try:
            frame = self.socket.recv(timeout=seconds)
            if json.loads(frame)["type"] == "heartbeat":
                return self.silent(seconds)
        except TimeoutError:
            return True
        raise AssertionError(f"not silent: {frame}")

    def close_code(self, timeout=15):
        """Reads until the server closes; the code it closed with."""
        from websockets.exceptions import ConnectionClosed

        end = time.monotonic() + timeout
        try:
            while time.monotonic() < end:
                self.socket.recv(timeout=max(0.01, end - time.monotonic()))
        except ConnectionClosed as closed:
            return closed.rcvd.code if closed.rcvd else 1006
        raise AssertionError("the server did not close")

    def close(self):
        self.socket.close()

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.close()


class Relay(Frames):
    """A socket of relay v1, after its `ready`."""

    def __init__(self, socket):
        super().__init__(socket)
        self.ready = self.receive()
        assert self.ready["type"] == "ready", self.ready

    def say(self, room, data, client_id=None, **more):
        frame = {"channel_id": str(room), "to": "*", "type": "text", "data": data, **more}
        if client_id is not None:
            frame["client_id"] = client_id
        self.send(**frame)

    def until(self, type, timeout=15):
        """The next frame, which must be of this type."""
        frame = self.receive(timeout)
        assert frame["type"] == type, frame
        return frame
