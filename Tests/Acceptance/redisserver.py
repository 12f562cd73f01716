"""A real Redis on a free loopback port, from Debian's package, and a proxy before it that spoils what subscribers get."""

import heapq
import json
import random
import shutil
import signal
import socket
import subprocess
import tempfile
import threading
import time
from pathlib import Path


def free_port():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


class Redis:
    """Keeps nothing: each start is an empty one."""

    def __init__(self, *options, tls=False):
        self.directory = Path(tempfile.mkdtemp(prefix="martlet-redis-"))
        self.port = free_port()
        self.options = [*options, *(self._tls() if tls else ["--port", str(self.port)])]
        self.process = None

    def _tls(self):
        """For `localhost`, signed by itself: `cert.pem` is what clients have to believe."""
        key, certificate = self.directory / "key.pem", self.directory / "cert.pem"
        subprocess.run(
            ["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2", "-subj", "/CN=redis",
             "-addext", "subjectAltName=DNS:localhost", "-keyout", key, "-out", certificate],
            check=True, capture_output=True,
        )
        return [
            "--port", "0", "--tls-port", str(self.port), "--tls-auth-clients", "no", "--tls-key-file", str(key),
            "--tls-cert-file", str(certificate), "--tls-ca-cert-file", str(certificate),
        ]

    @property
    def url(self):
        return f"redis://127.0.0.1:{self.port}"

    def start(self):
        self.log = open(self.directory / "log", "ab")
        self.process = subprocess.Popen(
            [
                "redis-server", "--bind", "127.0.0.1", "--save", "", "--appendonly", "no",
                "--dir", str(self.directory), *self.options,
            ],
            stdout=self.log, stderr=self.log,
        )
        for _ in range(200):
            with socket.socket() as probe:
                if probe.connect_ex(("127.0.0.1", self.port)) == 0:
                    return self
            time.sleep(0.02)
        raise RuntimeError((self.directory / "log").read_text())

    def kill(self):
        self.stop(signal.SIGKILL)

    def pause(self):
        self.process.send_signal(signal.SIGSTOP)

    def go_on(self):
        self.process.send_signal(signal.SIGCONT)

    def stop(self, how=signal.SIGTERM):
        if self.process:
            self.go_on()
            self.process.send_signal(how)
            self.process.wait(10)
            self.process = None
            self.log.close()

    def remove(self):
        # It keeps nothing that it would have to write.
        self.kill()
        shutil.rmtree(self.directory, ignore_errors=True)

    def __enter__(self):
        return self.start()

    def __exit__(self, *_):
        self.remove()


class Recorder:
    """Keeps what is published in some channels, and publishes it again."""

    def __init__(self, port, channels):
        self.port = port
        self.kept = []
        self.marks = threading.Semaphore(0)
        self.channels = channels
        self.socket = socket.create_connection(("127.0.0.1", port))
        self.socket.sendall(self.command(b"SUBSCRIBE", *[channel.encode() for channel in channels]))
        self.replies = Replies()
        for _ in channels:
            next(self.read())
        threading.Thread(target=self._keep, daemon=True).start()

    @staticmethod
    def command(*arguments):
        return b"*%d\r\n" % len(arguments) + b"".join(b"$%d\r\n%s\r\n" % (len(part), part) for part in arguments)

    def read(self):
        while True:
            yield from self.replies.feed(b"")
            if not (data := self.socket.recv(65536)):
                return
            yield from self.replies.feed(data)

    def _keep(self):
        for reply in self.read():
            # *3, $7, message, the channel's length, the channel, the frame's length, the frame
            _, _, _, _, channel, rest = reply.split(b"\r\n", 5)
            frame = rest.split(b"\r\n", 1)[1][:-2]
            if frame == b"mark":
                self.marks.release()
            else:
                self.kept.append((channel, frame))

    def replay(self):
        with socket.create_connection(("127.0.0.1", self.port)) as client:
            # What was published before this has come when this has.
            client.sendall(self.command(b"PUBLISH", self.channels[0].encode(), b"mark"))
            client.recv(64)
            assert self.marks.acquire(timeout=10)
            for channel, frame in list(self.kept):
                client.sendall(self.command(b"PUBLISH", channel, frame))
                client.recv(64)


class Liar:
    """Answers whatever is said to it with the same bytes, again and again; with none it only listens."""

    def __init__(self, answer):
        self.answer = answer
        self.listener = socket.create_server(("127.0.0.1", 0))
        self.port = self.listener.getsockname()[1]
        threading.Thread(target=self._accept, daemon=True).start()

    def _accept(self):
        while True:
            client, _ = self.listener.accept()
            threading.Thread(target=self._lie, args=[client], daemon=True).start()

    def _lie(self, client):
        try:
            while client.recv(65536):
                client.sendall(self.answer)
        except OSError:
            pass
        client.close()


class Replies:
    """Cuts a stream of RESP 2 into whole replies, as bytes."""

    def __init__(self):
        self.data = b""

    def feed(self, data):
        self.data += data
        while end := self._end(0):
            reply, self.data = self.data[:end], self.data[end:]
            yield reply

    def _end(self, start):
        """Where the reply that begins here ends; 0 while it is not whole."""
        line = self.data.find(b"\r\n", start)
        if line < 0:
            return 0
        kind, number, end = self.data[start : start + 1], self.data[start + 1 : line], line + 2
        if kind == b"$" and int(number) >= 0:
            end += int(number) + 2
            return end if len(self.data) >= end else 0
        if kind == b"*":
            for _ in range(int(number)):
                end = self._end(end)
                if not end:
                    return 0
        return end


class Proxy:
    """Between nodes and a Redis: drops, doubles, delays and reorders what is published, each with a probability."""

    def __init__(self, redis_port, seed=1):
        self.redis_port = redis_port
        self.random = random.Random(seed)
        self.faults = {}
        self.sockets = set()
        # Nobody is let through while it is shut.
        self.is_shut = False
        self.listener = socket.create_server(("127.0.0.1", 0))
        self.port = self.listener.getsockname()[1]
        threading.Thread(target=self._accept, daemon=True).start()

    @property
    def url(self):
        return f"redis://127.0.0.1:{self.port}"

    def spoil(self, **faults):
        """drop, double, delay, reorder: probabilities; milliseconds: the longest delay."""
        self.faults = faults

    def cut(self):
        """Ends every connection."""
        for end in list(self.sockets):
            try:
                end.shutdown(socket.SHUT_RDWR)
            except OSError:
                pass

    def shut(self):
        self.is_shut = True
        self.cut()

    def close(self):
        self.listener.close()
        self.cut()

    def _accept(self):
        while True:
            try:
                client, _ = self.listener.accept()
            except OSError:
                return
            try:
                if self.is_shut:
                    raise OSError
                server = socket.create_connection(("127.0.0.1", self.redis_port), timeout=5)
            except OSError:
                client.close()
                continue
            server.settimeout(None)
            for end in (client, server):
                end.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            self.sockets |= {client, server}
            threading.Thread(target=self._carry, args=[client, server], daemon=True).start()
            Return(self, server, client)

    def _carry(self, source, target):
        try:
            while data := source.recv(65536):
                target.sendall(data)
        except OSError:
            pass
        self._end(source, target)

    def _end(self, *ends):
        for end in ends:
            self.sockets.discard(end)
            try:
                end.shutdown(socket.SHUT_RDWR)
            except OSError:
                pass

    def fate(self, reply):
        """After how many seconds a reply goes on: none, once, or twice."""
        if not self.faults or b"\r\nmessage\r\n" not in reply[:20]:
            return [0]
        for name in ("drop", "double", "delay", "reorder"):
            if self.random.random() < self.faults.get(name, 0):
                later = self.random.random() * self.faults.get("milliseconds", 10) / 1000
                return {"drop": [], "double": [0, later], "delay": [later], "reorder": [0.002]}[name]
        return [0]


class Return:
    """What Redis says to one client, each reply at its time. A delayed one does not hold up those behind it."""

    def __init__(self, proxy, source, target):
        self.proxy, self.source, self.target = proxy, source, target
        self.queue = []
        self.number = 0
        self.changed = threading.Condition()
        self.is_over = False
        threading.Thread(target=self._read, daemon=True).start()
        threading.Thread(target=self._write, daemon=True).start()

    def _read(self):
        replies = Replies()
        try:
            while data := self.source.recv(65536):
                with self.changed:
                    for reply in replies.feed(data):
                        for later in self.proxy.fate(reply):
                            self.number += 1
                            heapq.heappush(self.queue, (time.monotonic() + later, self.number, reply))
                    self.changed.notify()
        except OSError:
            pass
        with self.changed:
            self.is_over = True
            self.changed.notify()

    def _write(self):
        try:
            while True:
                with self.changed:
                    while not self.queue and not self.is_over:
                        self.changed.wait()
                    if not self.queue:
                        break
                    pause = self.queue[0][0] - time.monotonic()
                    if pause > 0:
                        self.changed.wait(pause)
                        continue
                    data = heapq.heappop(self.queue)[2]
                self.target.sendall(data)
        except OSError:
            pass
        self.proxy._end(self.source, self.target)


def serve():
    """For tests in other languages. A line in is a method with its arguments as JSON; a line out is its outcome.

    ["redis", [options], tls] starts a Redis with a proxy before it and answers with their ports, and with the
    certificate; ["liar", answer] starts one that is none. ["kill", n], ["start", n],
    ["pause", n], ["go_on", n] are the n-th Redis's, ["spoil", n, faults], ["shut", n], ["open", n] its
    proxy's; ["record", n, channels] and ["replay", n] keep what is published there, and publish it again.
    """
    import sys

    servers, recorders = [], {}
    try:
        for line in sys.stdin:
            method, *arguments = json.loads(line)
            answer = None
            if method == "redis":
                server = Redis(*arguments[0], tls=arguments[1]).start()
                servers.append((server, Proxy(server.port, seed=len(servers))))
                answer = {
                    "number": len(servers) - 1, "port": server.port, "proxy": servers[-1][1].port,
                    "certificate": str(server.directory / "cert.pem"),
                }
            elif method == "liar":
                answer = {"port": Liar(arguments[0].encode("latin-1")).port}
            else:
                server, proxy = servers[arguments[0]]
                if method in ("kill", "start", "pause", "go_on"):
                    getattr(server, method)()
                elif method == "record":
                    recorders[arguments[0]] = Recorder(server.port, arguments[1])
                elif method == "replay":
                    recorders[arguments[0]].replay()
                elif method == "spoil":
                    proxy.spoil(**arguments[1])
                elif method == "open":
                    proxy.is_shut = False
                else:
                    getattr(proxy, method)()
            print(json.dumps(answer), flush=True)
    finally:
        for server, proxy in servers:
            proxy.close()
            server.remove()


if __name__ == "__main__":
    serve()
