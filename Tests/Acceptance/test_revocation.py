"""Access that is taken stops delivery on live sockets within a second, with the signal and without."""

import base64
import os
import re
import signal
import socket
import threading
import time
import uuid

import pytest
from websockets.exceptions import ConnectionClosed, InvalidStatus

from martlet import Server, eventually, token

LIMIT = 1.0


def wait_closed(frames, code):
    start = time.monotonic()
    assert frames.close_code(30) == code
    return time.monotonic() - start


def revoke_log_out(acting, serving, count):
    """Log-outs at one node, sockets at another (or the same)."""
    slowest = 0
    for _ in range(count):
        account = acting.sign_up()
        with serving.relay(account["access_token"]) as socket, acting.http(account["access_token"]) as http:
            assert http.post("/v1/auth/logout").status_code == 204
            slowest = max(slowest, wait_closed(socket, 4403))
        with serving.http(account["access_token"]) as http:
            assert http.get("/v1/me").status_code == 401
    return slowest


def revoke_rule(acting, serving, count):
    slowest = 0
    ada, bob = acting.person(), acting.person()
    room = ada.room()
    with serving.relay(bob.token, "?subscribe=none") as socket, serving.relay(ada.token, "?subscribe=none") as writer:
        for number in range(count):
            ada.rule(room, bob, "r")

            def is_heard():
                socket.send(type="subscribe", channels=[str(room)])
                return socket.receive()["type"] == "subscribed"

            # Until the node has heard of it, the room is not there.
            eventually(is_heard)
            assert ada.rule(room, bob, "b" if number % 2 else False).status_code == 200
            start = time.monotonic()
            frame = socket.receive()
            slowest = max(slowest, time.monotonic() - start)
            assert frame["type"] == "gone" and frame["code"] == "revoked"
            # What is said after the answer and the second does not come.
            writer.say(room, f"secret {number}", str(number))
            while writer.receive()["type"] != "ack":
                pass
        assert socket.silent()
    return slowest


def revoke_deletion(acting, serving, count):
    slowest = 0
    for _ in range(count):
        ada = acting.person()
        room = ada.room()
        with serving.relay(ada.token) as socket:
            assert [c["room_id"] for c in socket.ready["channels"]] == [room]
            assert ada.http.delete(f"/rooms/{room}").status_code == 204
            start = time.monotonic()
            frame = socket.receive()
            slowest = max(slowest, time.monotonic() - start)
            assert (frame["type"], frame["code"]) == ("gone", "deleted")
    return slowest


def expire(serving, count):
    """Tokens that end at a known moment; the leeway of 5 s counts."""
    end = int(time.time()) - 3
    sockets = [serving.relay(token(uuid.uuid4(), exp=end)) for _ in range(count)]
    closed = []

    def wait(socket):
        closed.append((socket.close_code(30), time.time()))

    # All at once: none counts the time that others take.
    waiting = [threading.Thread(target=wait, args=[socket]) for socket in sockets]
    for thread in waiting:
        thread.start()
    for thread in waiting:
        thread.join()
    for one in sockets:
        one.close()
    assert [code for code, _ in closed] == [4401] * count
    return max(moment for _, moment in closed) - (end + 5)


def test_with_the_signal(fresh, stalls):
    server = fresh()
    stalls.check("log-outs with the signal", revoke_log_out(server, server, 100))
    stalls.check("rule changes with the signal", revoke_rule(server, server, 100))
    stalls.check("deletions with the signal", revoke_deletion(server, server, 10))
    stalls.check("expiries", expire(server, 20))


@pytest.mark.parametrize("between", ["nothing", "redis", "spoiled_redis"])
def test_on_another_node(tmp_path, postgres, request, stalls, between):
    """Two nodes on one Postgres: with nothing between them every signal is lost."""
    settings = {"MARTLET_DATABASE": postgres.database()}
    if between != "nothing":
        settings["MARTLET_FANOUT"] = request.getfixturevalue(between).url
    with Server(tmp_path / "one", **settings) as one, Server(tmp_path / "two", **settings) as two:
        count = 30 if between == "spoiled_redis" else 100
        stalls.check(f"log-outs, {between} between", revoke_log_out(one, two, count))
        stalls.check(f"rule changes, {between} between", revoke_rule(one, two, count))
        stalls.check(f"deletions, {between} between", revoke_deletion(one, two, 10))
        if between == "nothing":
            stalls.check("expiries", expire(two, 20))


def slow_reader(server, bearer):
    """A relay socket whose client takes nothing by itself, and whose kernel takes little."""
    slow = socket.socket()
    slow.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
    slow.connect(("127.0.0.1", server.port))
    key = base64.b64encode(os.urandom(16)).decode()
    slow.sendall(
        f"GET /v1/relay HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {bearer}\r\nConnection: Upgrade\r\n"
        f"Upgrade: websocket\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Key: {key}\r\n\r\n".encode()
    )
    return slow


def numbers_read(slow, seconds):
    """The numbers of the messages that it reads from now on, and whether that was all."""
    slow.settimeout(seconds)
    got = b""
    try:
        while chunk := slow.recv(1 << 20):
            got += chunk
    except (TimeoutError, ConnectionResetError):
        pass
    return [int(number) for number in re.findall(rb'"data":"m(\d+)-', got)]


def fill(ada, room, count=58):
    """More than kernels hold between two processes, and less than makes a reader too slow."""
    with ada.relay() as writer:
        for number in range(count):
            writer.say(room, f"m{number}-" + "x" * 60_000, str(number))
            writer.until("text"), writer.until("ack")


@pytest.mark.parametrize("ends", ["", "half-closed", "close frame"])
def test_what_waits_for_a_slow_reader_goes_with_its_session(fresh, ends):
    """Also if the reader has ended its side, so that no revocation reaches its socket any more."""
    server = fresh()
    ada, account = server.person(), server.sign_up()
    room = ada.room()
    ada.rule(room, account["user"]["id"], "r")
    with slow_reader(server, account["access_token"]) as slow:
        fill(ada, room)
        if ends == "half-closed":
            slow.shutdown(socket.SHUT_WR)
        elif ends == "close frame":
            slow.sendall(bytes([0x88, 0x82, 0, 0, 0, 0, 0x03, 0xE8]))
        time.sleep(0.2)
        with server.http(account["access_token"]) as http:
            assert http.post("/v1/auth/logout").status_code == 204
        time.sleep(LIMIT)
        read = numbers_read(slow, 3)
    assert read == list(range(len(read))) and len(read) < 58


@pytest.mark.parametrize("half_closes", [False, True])
def test_a_node_that_was_stopped_sends_nothing_that_waited_to_the_revoked(tmp_path, postgres, half_closes):
    """What waits in a queue is held like all delivery, until this node knows again who may hear what."""
    url = postgres.database()
    with Server(tmp_path / "one", MARTLET_DATABASE=url) as one, Server(tmp_path / "two", MARTLET_DATABASE=url) as two:
        ada, account, bob = two.person(), two.sign_up(), two.sign_up()
        room = ada.room()
        for person in (account, bob):
            ada.rule(room, person["user"]["id"], "r")
        with slow_reader(two, account["access_token"]) as slow, slow_reader(two, bob["access_token"]) as other:
            fill(ada, room)
            time.sleep(0.5)
            os.kill(two.process.pid, signal.SIGSTOP)
            try:
                with one.http(account["access_token"]) as http:
                    assert http.post("/v1/auth/logout").status_code == 204
                time.sleep(2)
                # What its kernel had already.
                read = numbers_read(slow, 0.5)
                others = numbers_read(other, 0.5)
                if half_closes:
                    slow.shutdown(socket.SHUT_WR)
            finally:
                os.kill(two.process.pid, signal.SIGCONT)
            # The rest of the message that was half out, at most.
            assert len(numbers_read(slow, 3)) <= 1, "after the revocation"
            assert 0 < len(read) < 57
            # Who was not revoked loses nothing.
            others += numbers_read(other, 3)
            assert others == sorted(set(others)) and others[-1] == 57


def test_command_line_ends_sessions_of_a_running_server(fresh, stalls):
    import subprocess

    from martlet import BINARY

    server = fresh()
    with server.http() as http:
        email = f"{uuid.uuid4()}@example.org"
        answer = http.post("/v1/auth/signup", json={"email": email, "password": "correct horse", "name": "A"})
        account = answer.json()["data"]
        with server.relay(account["access_token"]) as socket:
            result = subprocess.run(
                [BINARY, "admin", "reset-password", email], env=server.environment, capture_output=True, text=True
            )
            assert result.returncode == 0, result.stderr
            stalls.check("a command's revocation", wait_closed(socket, 4403))
        password = result.stdout.split(" is ")[1].split()[0]
        assert http.post("/v1/auth/login", json={"email": email, "password": "correct horse"}).status_code == 401
        assert http.post("/v1/auth/login", json={"email": email, "password": password}).status_code == 200
        result = subprocess.run([BINARY, "admin", "grant", email], env=server.environment, capture_output=True, text=True)
        assert result.returncode == 0, result.stderr
        again = http.post("/v1/auth/login", json={"email": email, "password": password}).json()["data"]
        assert again["user"]["platform_admin"] is True
        missing = subprocess.run([BINARY, "admin", "grant", "no@one"], env=server.environment, capture_output=True, text=True)
        assert missing.returncode == 1 and "no@one" in missing.stderr


def test_backup_is_a_copy_with_another_epoch(fresh, tmp_path):
    import shutil
    import subprocess

    from martlet import BINARY

    server = fresh()
    ada = server.person()
    room = ada.room()
    with ada.relay() as socket:
        epoch = socket.ready["epoch"]
        for number in range(20):
            socket.say(room, f"m{number}", str(number))
            socket.until("text")
            socket.until("ack")
        saved = subprocess.run(
            [BINARY, "backup", str(tmp_path / "copy.db")], env=server.environment, capture_output=True, text=True
        )
        assert saved.returncode == 0, saved.stderr
        socket.say(room, "after the backup", "x")
        socket.until("text")
    again = subprocess.run([BINARY, "backup", str(tmp_path / "copy.db")], env=server.environment, capture_output=True, text=True)
    assert again.returncode == 1
    (tmp_path / "restored").mkdir()
    shutil.move(tmp_path / "copy.db", tmp_path / "restored" / "martlet.db")
    restored = fresh("restored")
    with restored.relay(ada.token) as socket:
        assert socket.ready["epoch"] != epoch
        assert socket.ready["channels"][0]["seq"] == 20
        socket.send(type="resume", epoch=epoch, channels={str(room): 20})
        assert socket.receive()["type"] == "reset"
    # The running one keeps its own.
    with server.relay(ada.token) as socket:
        assert socket.ready["epoch"] == epoch


def test_sockets_that_open_while_their_session_ends(server):
    """A session ends between the check of its token and the socket's beginning: the socket ends all the same."""
    opened = 0
    for attempt in range(20):
        account = server.sign_up()
        sockets, lock = [], threading.Lock()

        def open_some():
            for _ in range(6):
                try:
                    socket = server.websocket("/v1/relay?subscribe=none", account["access_token"])
                except (InvalidStatus, ConnectionClosed, OSError):
                    return
                with lock:
                    sockets.append(socket)

        threads = [threading.Thread(target=open_some) for _ in range(8)]
        with server.http(account["access_token"]) as http:
            for thread in threads:
                thread.start()
            time.sleep(attempt % 10 / 500)
            assert http.post("/v1/auth/logout").status_code == 204
        for thread in threads:
            thread.join()
        opened += len(sockets)
        for one in sockets:
            with pytest.raises(ConnectionClosed) as closed:
                while True:
                    one.recv(timeout=3)
            assert closed.value.rcvd.code == 4403
    assert opened > 20
