"""Starting, stopping, settings, metrics."""

import json
import os
import re
import signal
import socket
import subprocess
import time
import uuid

import pytest

from martlet import BINARY, Server, eventually, token


def run(*arguments, **environment):
    return subprocess.run(
        [BINARY, *arguments], env={"PATH": os.environ["PATH"], **environment}, capture_output=True, text=True, timeout=20
    )


def test_standard_output_is_one_line(fresh):
    server = fresh(MARTLET_LOOPS=4)
    assert server.stop() == 0
    # Closed by stop(); what was written before it is in the pipe no more, so ask again.
    process = subprocess.Popen([BINARY, "serve"], env=server.environment, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL)
    line = process.stdout.readline().decode()
    assert re.fullmatch(r"listening on http://127\.0\.0\.1:\d+\n", line)
    process.send_signal(signal.SIGTERM)
    assert process.stdout.read() == b""
    assert process.wait(12) == 0


def test_second_server_on_the_same_data_refuses(fresh):
    server = fresh()
    second = run("serve", **server.environment)
    assert second.returncode != 0 and "data directory" in second.stderr and second.stdout == ""
    server.kill()
    # A killed one leaves nothing that blocks the next.
    server.start()
    with server.http() as http:
        assert http.get("/readyz").status_code == 200


def test_a_port_in_use_is_said_and_not_shared(fresh, tmp_path):
    server = fresh()
    other = {**server.environment, "MARTLET_DATA": str(tmp_path / "elsewhere"), "MARTLET_LISTEN": f"127.0.0.1:{server.port}"}
    second = run("serve", **other)
    assert second.returncode != 0 and "in use" in second.stderr and second.stdout == ""


def test_files_of_others_are_left_alone(tmp_path):
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "notes.txt").write_text("mine")
    with Server(tmp_path / "data"):
        pass
    assert (tmp_path / "data" / "notes.txt").read_text() == "mine"


@pytest.mark.parametrize(
    "environment, words",
    [
        ({"MARTLET_NONSENSE": "1"}, "MARTLET_NONSENSE"),
        ({"MARTLET_LOOPS": "0"}, "MARTLET_LOOPS"),
        ({"MARTLET_LISTEN": "somewhere"}, "MARTLET_LISTEN"),
        ({"MARTLET_RATE_LIMITS": "off", "MARTLET_LISTEN": "0.0.0.0:0"}, "MARTLET_RATE_LIMITS"),
        ({"MARTLET_RATE_LIMITS": "off", "MARTLET_METRICS_LISTEN": "0.0.0.0:0"}, "MARTLET_RATE_LIMITS"),
        ({"MARTLET_SIGNUP": "maybe"}, "MARTLET_SIGNUP"),
        ({"MARTLET_TRUSTED_PROXIES": "10.0.0.0/33"}, "MARTLET_TRUSTED_PROXIES"),
        ({"MARTLET_TLS_CERTIFICATE": "x.pem"}, "MARTLET_TLS_KEY"),
        ({"MARTLET_DATABASE": "mysql://secret@x"}, "MARTLET_DATABASE"),
    ],
)
def test_wrong_settings_stop_the_start_with_a_sentence(tmp_path, environment, words):
    result = run("serve", MARTLET_DATA=str(tmp_path / "d"), **{"MARTLET_LISTEN": "127.0.0.1:0", **environment})
    assert result.returncode != 0 and result.stdout == ""
    assert words in result.stderr and len(result.stderr.splitlines()) == 1
    assert "secret" not in result.stderr


def test_settings_from_a_file_and_the_environment_wins(tmp_path):
    file = tmp_path / "martlet.conf"
    file.write_text(f"# ours\nMARTLET_LISTEN=127.0.0.1:1\nMARTLET_DATA={tmp_path}/d\n\nMARTLET_LOG_LEVEL = error\n")
    process = subprocess.Popen(
        [BINARY, "--config", str(file), "serve"],
        env={"PATH": os.environ["PATH"], "MARTLET_LISTEN": "127.0.0.1:0"}, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
    )
    assert process.stdout.readline().startswith(b"listening on http://127.0.0.1:")
    process.send_signal(signal.SIGTERM)
    assert process.wait(12) == 0
    assert process.stderr.read() == b""
    file.write_text("MARTLET_NO_SUCH=1\n")
    assert "MARTLET_NO_SUCH" in run("--config", str(file), "serve").stderr


def test_sigterm_drains(fresh, stalls):
    server = fresh()
    ada = server.person()
    with ada.relay() as relay, ada.chat() as chat, server.raw(), server.http() as http:
        http.get("/healthz")
        start = time.monotonic()
        server.process.send_signal(signal.SIGTERM)
        statuses = set()
        while time.monotonic() - start < 0.2:
            statuses.add(http.get("/readyz").status_code)
            assert http.get("/healthz").status_code == 200
        assert 503 in statuses, "/readyz fails first"
        assert relay.close_code(8) == 1001
        assert chat.close_code(8) == 1001
        assert server.process.wait(30) == 0
        stalls.check("the drain", time.monotonic() - start, limit=10)
        with pytest.raises(OSError):
            socket.create_connection(("127.0.0.1", server.port), timeout=1)


def test_metrics(fresh):
    server = fresh(MARTLET_METRICS_LISTEN="127.0.0.1:0")
    address = re.search(r'"address":"(http://[^"]+)"', server.log_text())[1]
    import httpx

    ada = server.person()
    room = ada.room()
    with ada.relay() as socket:
        socket.say(room, "x", "1")
        socket.until("text")
        page = httpx.get(address).text
    for name in (
        "martlet_connections", "martlet_websockets", "martlet_frames_received_total", "martlet_deliveries_total",
        "martlet_commit_seconds_count", "martlet_commit_batch_count", "martlet_fdatasync_seconds_count",
        "martlet_wal_bytes", "martlet_room_heads_healed_total", "martlet_password_queue", "martlet_dropped_total",
        "martlet_queue_bytes", "martlet_frames_sent_total", "martlet_message_batch_count", "martlet_frames_refused_total",
        "martlet_http_request_seconds_count", "martlet_topic_writes_total", "martlet_logins_failed_total",
        "martlet_connections_refused_total", "martlet_connections_evicted_total", "martlet_buffer_bytes",
    ):
        assert re.search(rf"^{name}(\{{.*\}})? \S+$", page, re.M), name
    assert re.search(r'^martlet_http_requests_total\{method="POST",route="/rooms",status="201"\} 1$', page, re.M)
    assert re.search(r'^martlet_build_info\{version="[0-9.]+"\} 1$', page, re.M)
    # What the process takes is what the system says that it takes.
    assert abs(server.metric("process_resident_memory_bytes") / 2**20 - server.resident_megabytes()) < 5
    assert 0 < server.metric("process_cpu_seconds_total") < 60 and server.metric("process_open_fds") > 10
    assert server.metric("process_max_fds") >= 1024 and abs(server.metric("process_start_time_seconds") - time.time()) < 60
    assert server.metric("martlet_disk_free_bytes") > 2**20
    with server.http() as http:
        assert http.post("/v1/auth/login", json={"email": "a@b.c", "password": "12345678"}).status_code == 401
        assert server.metric("martlet_logins_failed_total") == 1
        assert http.get("/metrics").status_code == 404, "not on the public listener"


def test_a_line_when_a_socket_ends(fresh):
    server = fresh()

    def ending(request_id):
        def found():
            lines = [json.loads(line) for line in server.log_text().splitlines() if '"socket_ended"' in line]
            return [line for line in lines if line["request_id"] == request_id]

        return eventually(found)[0]

    start = time.monotonic()
    with server.websocket("/chat", headers={"x-request-id": "one"}) as socket:
        socket.recv()
        for _ in range(3):
            socket.send('{"type":"dance"}')
            socket.recv()
        socket.close(3456)
    line = ending("one")
    assert (line["closed_by"], line["code"], line["messages"], line["address"]) == ("client", 3456, 3, "127.0.0.1")
    assert 0 <= line["ms"] <= (time.monotonic() - start) * 1000
    with server.websocket("/chat", headers={"x-request-id": "two"}) as socket:
        socket.send('{"type":"quit"}')
        with pytest.raises(Exception):
            while True:
                socket.recv(timeout=3)
    assert (ending("two")["closed_by"], ending("two")["code"]) == ("server", 1000)
    socket = server.websocket("/chat", headers={"x-request-id": "three"})
    socket.recv()
    socket.socket.shutdown(2)
    assert (ending("three")["closed_by"], ending("three")["code"]) == ("nobody", 1006)


def test_secrets_are_not_in_the_log(fresh):
    server = fresh(MARTLET_LOG_LEVEL="debug")
    account = server.sign_up()
    secret = token(uuid.uuid4(), secret="wrong-secret-wrong-secret-wrong-secret")
    with server.http(secret) as http:
        http.get("/rooms?token=hidden")
    with server.http() as http:
        http.post("/v1/auth/login", json={"email": "a@b.c", "password": "hunter2hunter2"})
        http.post("/v1/auth/refresh", json={"refresh_token": account["refresh_token"]})
    server.stop()
    log = server.log_text()
    for word in (account["access_token"], account["refresh_token"], secret, "hunter2", "hidden", "correct horse"):
        assert word not in log
    from martlet import SECRET

    assert SECRET not in log


def test_slow_reader_is_closed_and_others_go_on(fresh):
    server = fresh(MARTLET_SEND_QUEUE_BYTES=65536, MARTLET_LOOPS=1)
    entity = uuid.uuid4()
    ada, bob = server.person(entity), server.person(entity)
    room = ada.room()
    raw = server.raw()
    raw.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 256 * 1024)
    raw.sendall(
        b"GET /v1/relay HTTP/1.1\r\nHost: x\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
        b"Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n"
        b"Authorization: Bearer " + bob.token.encode() + b"\r\n\r\n"
    )
    with ada.relay() as socket_:
        for number in range(200):
            socket_.say(room, "x" * 60000, str(number))
            assert socket_.receive()["seq"] == number + 1
            socket_.until("ack")
    raw.settimeout(10)
    received = b""
    try:
        while chunk := raw.recv(1 << 20):
            received += chunk
    except ConnectionResetError:
        pass
    raw.close()
    assert b"\x88" in received[-40:] and (4408).to_bytes(2, "big") in received[-40:]
    assert len(received) < 200 * 60000


def test_postgres_goes_away_and_comes_back(tmp_path):
    from postgres import Postgres

    postgres = Postgres().start()
    try:
        with Server(tmp_path / "data", MARTLET_DATABASE=postgres.database()) as server:
            ada = server.person()
            room = ada.room()
            with ada.relay() as relay:
                relay.say(room, "before", "1")
                relay.until("text")
                relay.until("ack")
                postgres.stop()
                assert ada.http.get("/rooms").status_code == 503
                assert ada.http.get("/readyz").status_code == 503
                assert ada.http.get("/healthz").status_code == 200
                relay.say(room, "during", "2")
                assert relay.until("error")["code"] == "unavailable"
                postgres.start()
                eventually(lambda: ada.http.get("/readyz").status_code == 200)
                relay.say(room, "during", "2")
                assert relay.until("text")["seq"] == 2
                assert relay.until("ack")["seq"] == 2
    finally:
        postgres.remove()


@pytest.fixture
def own_postgres():
    """A Postgres of a test's own, which it may stop."""
    from postgres import Postgres

    postgres = Postgres().start()
    yield postgres
    postgres.remove()


def test_sockets_are_answered_while_postgres_is_away(tmp_path, own_postgres):
    with Server(tmp_path / "data", MARTLET_DATABASE=own_postgres.database()) as server:
        ada = server.person()
        room = ada.room()
        with ada.relay() as relay, server.chat(ada.token) as chat:
            chat.send(type="select_room", room_id=room)
            assert chat.receive()["data"] == "CONNECTED"
            own_postgres.stop()
            # Long enough that nothing is delivered any more.
            time.sleep(1.5)
            relay.say(room, "lost", "1")
            relay.send(type="subscribe", channels=[str(room)], client_id="2")
            chat.send(type="message", content="lost")
            chat.send(type="select_room", room_id=room)
            for client_id in ("1", "2"):
                error = relay.receive(10)
                assert (error["code"], error["client_id"]) == ("unavailable", client_id)
            for _ in range(2):
                assert chat.receive(10) == {"type": "status", "data": "UNAVAILABLE"}
            # Who comes now is told what it needs to know.
            with server.chat() as late:
                late.send(type="token", content=ada.token)
                assert late.receive(10) == {"type": "status", "data": "UNAVAILABLE"}
            with server.chat() as late:
                late.socket.send("nonsense")
                assert late.receive() == {"type": "status", "data": "BADJSON"}
                assert late.close_code() == 1003
            own_postgres.start()
            eventually(lambda: ada.http.get("/readyz").status_code == 200)
            # What was refused was not stored.
            relay.say(room, "kept", "3")
            assert (relay.until("text")["data"], relay.until("ack")["seq"]) == ("kept", 1)
            assert chat.receive()["data"]["content"] == "kept"


def test_a_token_that_a_stopped_node_finds_is_served(tmp_path, own_postgres):
    with Server(tmp_path / "data", MARTLET_DATABASE=own_postgres.database(), MARTLET_LOOPS="1") as server:
        ada = server.person()
        sockets = [server.chat() for _ in range(8)]
        server.process.send_signal(signal.SIGSTOP)
        time.sleep(1.5)
        # They are read before the node knows again who may do what.
        for one in sockets:
            one.send(type="token", content=ada.token)
        server.process.send_signal(signal.SIGCONT)
        for one in sockets:
            assert one.receive() == {"type": "status", "data": "READY"}


def test_a_short_restart_of_postgres_costs_nobody_a_failure(tmp_path):
    from concurrent.futures import ThreadPoolExecutor

    from martlet import Server
    from postgres import Postgres

    database = Postgres().start()
    try:
        with Server(tmp_path / "data", MARTLET_DATABASE=database.database()) as server:
            ada = server.person()
            room = ada.room()
            with ThreadPoolExecutor(12) as pool:
                assert set(pool.map(lambda _: ada.http.get(f"/rooms/{room}").status_code, range(60))) == {200}
            with ada.relay() as socket_:
                database.stop()
                database.start()
                socket_.say(room, "after", "k")
                assert socket_.until("text")["data"] == "after"
                assert [ada.http.get(f"/rooms/{room}").status_code for _ in range(12)] == [200] * 12
    finally:
        database.remove()


def test_locked_database_is_503_and_recovers(fresh):
    import sqlite3

    server = fresh()
    ada = server.person()
    room = ada.room()
    with ada.relay() as relay:
        other = sqlite3.connect(server.data / "martlet.db", isolation_level=None)
        other.execute("BEGIN IMMEDIATE")
        relay.say(room, "locked out", "1")
        assert relay.until("error")["code"] == "unavailable"
        assert ada.http.post("/rooms", json={"name": "n", "level_admin": 1, "type": "group"}).status_code == 503
        other.execute("ROLLBACK")
        relay.say(room, "locked out", "1")
        assert relay.until("text")["seq"] == 1
        other.close()


def test_nearly_full_disk_refuses_growth_but_not_log_out(fresh):
    server = fresh()
    account = server.sign_up()
    server.stop()
    server.environment["MARTLET_DISK_RESERVE_BYTES"] = str(1 << 49)
    server.start()
    ada = server.person()
    answer = ada.http.post("/rooms", json={"name": "n", "level_admin": 1, "type": "group"})
    assert answer.status_code == 503 and answer.headers["retry-after"]
    with server.http(account["access_token"]) as http:
        assert http.get("/v1/me").status_code == 200
        assert http.post("/v1/auth/logout").status_code == 204


def test_a_server_without_work_is_lean(fresh):
    server = fresh()
    rss = int(re.search(r"VmRSS:\s+(\d+)", open(f"/proc/{server.process.pid}/status").read())[1])
    assert rss < 40_000


def test_a_start_that_waits_can_be_called_off(tmp_path):
    import subprocess

    from martlet import BINARY

    with socket.socket() as silent:
        silent.bind(("127.0.0.1", 0))
        silent.listen()
        environment = {
            "MARTLET_DATA": str(tmp_path / "d"), "MARTLET_LISTEN": "127.0.0.1:0",
            "MARTLET_DATABASE": f"postgres://m@127.0.0.1:{silent.getsockname()[1]}/x",
        }
        process = subprocess.Popen([BINARY, "serve"], env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
        connection, _ = silent.accept()
        process.terminate()
        assert process.wait(5) == 0 and process.stdout.read() == b""
        process.stdout.close()
        process.stderr.close()
        connection.close()


@pytest.mark.parametrize("url", [
    "postgres://user:geheim%zz@host/db", "postgres://user:geheim@[::1/db", "postgres://u:geheim/x@127.0.0.1:1/db",
    "postgres://u:Pw@geheim@127.0.0.1:1/db", "host=127.0.0.1 password=geheim",
])
def test_a_wrong_database_url_does_not_show_its_password(tmp_path, url):
    import subprocess

    from martlet import BINARY

    environment = {"MARTLET_DATA": str(tmp_path / "d"), "MARTLET_LISTEN": "127.0.0.1:0", "MARTLET_DATABASE": url}
    result = subprocess.run([BINARY, "serve"], env=environment, capture_output=True, text=True, timeout=10)
    assert result.returncode == 1 and "MARTLET_DATABASE" in result.stderr and "geheim" not in result.stderr


def test_what_holds_secrets_is_private(fresh, tmp_path):
    import subprocess

    from martlet import BINARY

    server = fresh()
    target = tmp_path / "backup.db"
    (tmp_path / "backup.db.unfinished").write_text("of one that was killed")
    for expected in (0, 1):
        result = subprocess.run([BINARY, "backup", str(target)], env=server.environment, capture_output=True, text=True)
        assert result.returncode == expected, result.stderr
    assert target.stat().st_mode & 0o077 == 0 and (server.data / "martlet.db").stat().st_mode & 0o077 == 0
    assert [path.name for path in tmp_path.iterdir() if "unfinished" in path.name] == []


def test_a_short_token_secret_stops_the_start(tmp_path):
    for length in (1, 31):
        result = run("serve", MARTLET_DATA=str(tmp_path / "d"), MARTLET_LISTEN="127.0.0.1:0", MARTLET_TOKEN_SECRET="s" * length)
        assert result.returncode != 0 and "MARTLET_TOKEN_SECRET" in result.stderr and "ssss" not in result.stderr


def test_a_file_that_is_no_database_is_named(tmp_path):
    (tmp_path / "d").mkdir()
    (tmp_path / "d" / "martlet.db").write_bytes(b"not a database at all, and long enough to look at " * 100)
    result = run("serve", MARTLET_DATA=str(tmp_path / "d"), MARTLET_LISTEN="127.0.0.1:0")
    assert result.returncode != 0 and f"{tmp_path}/d/martlet.db" in result.stderr


def test_nothing_is_logged_behind_stopped(fresh, postgres):
    for settings in ({}, {"MARTLET_DATABASE": postgres.database()}):
        server = fresh("sqlite" if not settings else "postgres", **settings)
        with server.person().relay():
            pass
        assert server.stop() == 0
        lines = server.log_text().splitlines()
        assert '"stopped"' in lines[-1]
        assert not [line for line in lines if '"warning"' in line or '"error"' in line]


def test_readiness_says_what_the_database_can_do(fresh, postgres):
    import sqlite3

    import httpx

    def metric(server):
        address = re.search(r'"address":"(http://[^"]+)"', server.log_text())[1]
        return re.search(r"^martlet_database_writable (\d)", httpx.get(address).text, re.M)[1]

    def until(server, status, state):
        def is_so():
            answer = http.get("/readyz")
            return answer.status_code == status and answer.json().get("data", {}).get("database") == state

        with server.http() as http:
            eventually(is_so)

    server = fresh("locked", MARTLET_METRICS_LISTEN="127.0.0.1:0")
    until(server, 200, "writable")
    assert metric(server) == "1"
    with sqlite3.connect(server.data / "martlet.db", isolation_level=None) as other:
        other.execute("BEGIN IMMEDIATE")
        until(server, 200, "locked")
        assert metric(server) == "0"
        with server.http() as http:
            assert http.get("/healthz").status_code == 200
        other.execute("ROLLBACK")
    until(server, 200, "writable")
    assert metric(server) == "1"
    full = fresh("full", MARTLET_DISK_RESERVE_BYTES=1 << 49)
    until(full, 200, "disk_low")
    # A Postgres that only reads gets no requests.
    url = postgres.database()
    reading = fresh("reading", MARTLET_DATABASE=url, MARTLET_METRICS_LISTEN="127.0.0.1:0")
    ada = reading.person()
    room = ada.room()
    name = url.rsplit("/", 1)[1]

    def sql(statement):
        writing = {**os.environ, "PGOPTIONS": "-c default_transaction_read_only=off"}
        subprocess.run(["psql", "-q", url, "-c", statement], check=True, capture_output=True, env=writing)

    def allow(setting):
        sql(f"ALTER DATABASE {name} SET default_transaction_read_only = {setting}")
        # Counts for new connections.
        sql(f"SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = '{name}' AND pid <> pg_backend_pid()")

    allow("on")
    until(reading, 503, None)
    assert metric(reading) == "0"
    assert ada.http.put(f"/rooms/{room}", json={"name": "x"}).status_code == 503
    assert ada.http.get(f"/rooms/{room}").status_code == 200
    with ada.relay() as socket:
        socket.say(room, "x", "1")
        assert socket.until("error")["code"] == "unavailable"
    allow("off")
    until(reading, 200, "writable")
