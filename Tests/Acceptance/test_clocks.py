"""Nodes whose clocks differ, clocks that jump, and nodes that stood still: what was taken away stays taken
away, and late by less than a second."""

import os
import signal
import threading
import time

import pytest
from websockets.exceptions import ConnectionClosed

from clocks import ShiftedServer
from martlet import Server
from test_revocation import revoke_deletion, revoke_log_out, revoke_rule

PAUSES = int(os.environ.get("MARTLET_TEST_PAUSES", "4"))


@pytest.mark.parametrize("seconds", [90, -90, 600, -600])
def test_revocation_between_clocks_that_differ(tmp_path, postgres, stalls, seconds):
    """Nothing between the nodes but the database."""
    url = postgres.database()
    with Server(tmp_path / "right", MARTLET_DATABASE=url) as right:
        with ShiftedServer(tmp_path / "wrong", seconds, MARTLET_DATABASE=url) as wrong:
            for acting, serving, names in [(right, wrong, "right -> wrong"), (wrong, right, "wrong -> right")]:
                stalls.check(f"{seconds:+} s, {names}: log-outs", revoke_log_out(acting, serving, 10))
                stalls.check(f"{seconds:+} s, {names}: rule changes", revoke_rule(acting, serving, 10))
                stalls.check(f"{seconds:+} s, {names}: deletions", revoke_deletion(acting, serving, 5))


@pytest.mark.parametrize("kind", ["sqlite", "postgres"])
def test_a_clock_that_jumps_revives_no_session(tmp_path, request, kind):
    settings = {"MARTLET_DATABASE": request.getfixturevalue("postgres").database()} if kind == "postgres" else {}
    with ShiftedServer(tmp_path / "data", 0, **settings) as server:
        account = server.sign_up()
        with server.http(account["access_token"]) as http:
            assert http.post("/v1/auth/logout").status_code == 204
            assert http.get("/v1/me").status_code == 401
            server.set_clock(1100)
            # Whatever is forgotten is forgotten within these.
            end = time.monotonic() + 11
            while time.monotonic() < end:
                assert http.get("/v1/me").status_code == 401
                time.sleep(0.25)
            server.set_clock(0)
            assert http.get("/v1/me").status_code == 401
        # Nor does a restart.
        server.stop()
        server.start()
        with server.http(account["access_token"]) as http:
            assert http.get("/v1/me").status_code == 401


class Reader(threading.Thread):
    """Notes when which messages came."""

    def __init__(self, socket):
        super().__init__(daemon=True)
        self.socket = socket
        self.came = []
        self.start()

    def run(self):
        try:
            while True:
                frame = self.socket.receive(30)
                self.came.append((time.monotonic(), frame))
        except (ConnectionClosed, TimeoutError, EOFError, OSError):
            pass

    def late(self, limit):
        return [frame for at, frame in self.came if at > limit and "data" in frame]


class Writer(threading.Thread):
    """Writes without end; `sent` is how many."""

    def __init__(self, socket, room, pause):
        super().__init__(daemon=True)
        self.socket, self.room, self.pause = socket, room, pause
        self.sent = 0
        self.is_over = threading.Event()
        self.start()

    def run(self):
        try:
            while not self.is_over.wait(self.pause):
                self.socket.say(self.room, str(self.sent))
                self.sent += 1
        except (ConnectionClosed, OSError):
            pass


def stand_still(acting, stopped, seconds):
    """Takes rights away while the other node stands still; how many frames came late, and how many
    messages were taken of someone who had logged out."""
    ada = stopped.person()
    room = ada.room()
    banned = stopped.person()
    accounts = [stopped.sign_up() for _ in range(2)]
    ada.rule(room, banned, "r")
    for account in accounts:
        ada.rule(room, account["user"]["id"], "rw")
    reading, writing = accounts
    sockets = [stopped.relay(banned.token), stopped.relay(reading["access_token"]), stopped.relay(writing["access_token"])]
    readers = [Reader(socket) for socket in sockets]
    mine = stopped.relay(ada.token)
    mine_reader = Reader(mine)
    writer = Writer(mine, room, 0.001)
    leaving = Writer(sockets[2], room, 0.01)
    try:
        time.sleep(0.5)
        stopped.process.send_signal(signal.SIGSTOP)
        ban = acting.person()
        ban.id, ban.token = ada.id, ada.token
        ban.http = acting.http(ada.token)
        assert ban.rule(room, banned, "b").status_code == 200
        for account in accounts:
            with acting.http(account["access_token"]) as http:
                assert http.post("/v1/auth/logout").status_code == 204
        answered = time.monotonic()
        sent_before = leaving.sent
        time.sleep(seconds)
        stopped.process.send_signal(signal.SIGCONT)
        woken = time.monotonic()
        # Whoever may hears on.
        while not any(at > woken and "data" in frame for at, frame in mine_reader.came):
            assert time.monotonic() < woken + 8, "the node delivers nothing any more"
            time.sleep(0.01)
        time.sleep(0.7)
        late = sum(len(reader.late(answered + 1)) for reader in readers)
        texts = [
            int(message["data"]) for message in ada.messages(room, limit=200) if message["from"] == writing["user"]["id"]
        ]
        accepted = len([text for text in texts if text > sent_before])
    finally:
        stopped.process.send_signal(signal.SIGCONT)
        writer.is_over.set()
        leaving.is_over.set()
        for socket in [*sockets, mine]:
            socket.close()
    return late, accepted


def test_a_node_that_stood_still_delivers_and_takes_nothing_late(tmp_path, postgres):
    url = postgres.database()
    with Server(tmp_path / "one", MARTLET_DATABASE=url) as one, Server(tmp_path / "two", MARTLET_DATABASE=url) as two:
        outcomes = [stand_still(one, two, 6 if PAUSES > 10 else 2.5) for _ in range(PAUSES)]
    print(f"{PAUSES} pauses: {sum(late for late, _ in outcomes)} frames late, {sum(taken for _, taken in outcomes)} messages taken late")
    assert outcomes == [(0, 0)] * PAUSES
