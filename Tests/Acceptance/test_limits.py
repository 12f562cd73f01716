"""Rates and counts, with their defaults."""

import json
import resource
import socket
import threading
import time
import uuid

import pytest
from websockets.exceptions import ConnectionClosed, InvalidStatus

from martlet import eventually


def test_a_connection_gets_its_burst_and_then_fifty_a_second(fresh):
    server = fresh(MARTLET_RATE_LIMITS="on")
    ada = server.person()
    room = ada.room()
    with ada.relay("?subscribe=none") as socket:
        start = time.monotonic()
        sent = 0

        def send():
            nonlocal sent
            sent += 1
            socket.say(room, "x", str(sent))

        for _ in range(200):
            send()
        begin = time.monotonic()
        while (elapsed := time.monotonic() - begin) < 10:
            while sent < 200 + elapsed * 60:
                send()
            time.sleep(0.002)
        acks = refused = 0
        try:
            while True:
                frame = socket.receive(2)
                whole = time.monotonic() - start
                if frame["type"] == "ack":
                    acks += 1
                elif frame["type"] == "error":
                    assert frame["code"] == "rate_limited" and frame["client_id"]
                    refused += 1
        except TimeoutError:
            pass
        assert acks + refused == sent
        # At least what ten seconds allow, at most what the whole time allows. A slow machine sends less.
        assert min(sent - 200, 50 * elapsed) - 10 <= acks - 200 <= 50 * whole + 10, (acks - 200, elapsed, whole)


def test_a_thousand_refusals_in_a_row_close(fresh):
    server = fresh(MARTLET_RATE_LIMITS="on")
    with server.person().relay() as socket:
        from websockets.exceptions import ConnectionClosed

        # A slow machine sends while tokens come: what those let through does not end the row.
        try:
            for _ in range(3000):
                socket.send(type="dance")
        except ConnectionClosed:
            pass
        assert socket.close_code() == 4429


def test_a_pause_ends_the_row_of_refusals(fresh):
    server = fresh(MARTLET_RATE_LIMITS="on")
    with server.person().relay() as socket:
        for _ in range(4):
            for _ in range(600):
                socket.send(type="dance")
            # The answers, of which the last tells that all were served.
            for _ in range(600):
                assert socket.receive()["code"] in ("unknown_type", "rate_limited")
            time.sleep(0.5)
        socket.send(type="dance")
        assert socket.receive()["code"] == "unknown_type"


def test_thousands_of_channels_count_as_many_frames(fresh):
    server = fresh(MARTLET_RATE_LIMITS="on")
    with server.person().relay() as socket:
        for _ in range(3):
            socket.send(type="unsubscribe", channels=["no"] * 9000)
        socket.send(type="dance", client_id="next")
        codes = []
        while not codes or codes[-1][1] != "next":
            frame = socket.receive()
            codes.append((frame["code"], frame.get("client_id")))
        assert codes[-1] == ("rate_limited", "next")


def test_chat_closes_at_once(fresh):
    server = fresh(MARTLET_RATE_LIMITS="on")
    with server.chat() as socket:
        from websockets.exceptions import ConnectionClosed

        try:
            for _ in range(260):
                socket.send(type="dance")
        except ConnectionClosed:
            pass
        assert socket.close_code() == 4429


def test_an_address_gets_429(fresh):
    server = fresh(MARTLET_RATE_LIMITS="on", MARTLET_ADDRESS_REQUESTS="20,5")
    with server.http() as http:
        answers = [http.get("/healthz") for _ in range(30)]
    assert [a.status_code for a in answers[:20]] == [200] * 20
    refused = [a for a in answers if a.status_code == 429]
    assert refused and all(int(a.headers["retry-after"]) >= 1 for a in refused)
    assert refused[0].json()["error"]["code"] == "rate_limited"


def test_twenty_sign_ups_an_hour(fresh):
    server = fresh(MARTLET_RATE_LIMITS="on")
    with server.http() as http:
        codes = [
            http.post(
                "/v1/auth/signup",
                json={"email": f"{uuid.uuid4()}@x.org", "password": "12345678", "name": "n"},
            ).status_code
            for _ in range(21)
        ]
    assert codes == [201] * 20 + [429]


def test_twenty_connections_a_user(fresh):
    server = fresh(MARTLET_RATE_LIMITS="on")
    ada = server.person()
    sockets = [ada.relay() for _ in range(10)] + [ada.chat() for _ in range(10)]
    refused = server.websocket("/v1/relay", ada.token)
    from martlet import Frames

    assert Frames(refused).close_code() == 4409
    with server.chat() as nano:
        nano.send(type="token", content=ada.token)
        assert nano.close_code() == 4409
    sockets.pop(0).close()

    def is_ready():
        with server.websocket("/v1/relay", ada.token) as socket:
            try:
                return json.loads(socket.recv(timeout=10))["type"] == "ready"
            except ConnectionClosed:
                return False

    eventually(is_ready)
    for one in sockets:
        one.close()


def test_connections_an_address(fresh):
    server = fresh(MARTLET_RATE_LIMITS="on", MARTLET_CONNECTIONS_PER_ADDRESS=3)
    # Of any kind: a WebSocket, one that waits for its next request, one that says nothing.
    chat, idle, silent = server.chat(), server.raw(), server.raw()
    idle.sendall(b"GET /healthz HTTP/1.1\r\nHost: x\r\n\r\n")
    assert idle.recv(4096).startswith(b"HTTP/1.1 200")
    for _ in range(3):
        with server.raw() as more:
            more.settimeout(3)
            try:
                assert more.recv(1) == b"", "beyond its share it is closed at once"
            except ConnectionResetError:
                pass
    silent.close()
    eventually(lambda: is_served(server))
    chat.close()
    idle.close()


def is_served(server):
    try:
        with server.raw() as connection:
            connection.sendall(b"GET /healthz HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
            return connection.recv(4096).startswith(b"HTTP/1.1 200")
    except OSError:
        return False


def test_connections_of_a_proxy_count_for_its_clients(fresh):
    server = fresh(
        MARTLET_RATE_LIMITS="on", MARTLET_CONNECTIONS_PER_ADDRESS=3, MARTLET_TRUSTED_PROXIES="127.0.0.0/8"
    )
    silent = [server.raw() for _ in range(20)]
    with server.http(headers={"x-forwarded-for": "198.51.100.1"}) as http:
        assert http.get("/healthz").status_code == 200
    # An IPv6 customer has a /64, and counts once with all of its addresses.
    for clients in (["198.51.100.7"] * 4, ["2001:db8:1:2::1", "2001:db8:1:2::2", "2001:db8:1:2:3::", "2001:db8:1:2::"]):
        sockets = [server.websocket("/chat", headers={"x-forwarded-for": client}) for client in clients[:3]]
        with pytest.raises(InvalidStatus) as failure:
            server.websocket("/chat", headers={"x-forwarded-for": clients[3]})
        assert failure.value.response.status_code == 503
        assert int(failure.value.response.headers["retry-after"]) >= 1
        server.websocket("/chat", headers={"x-forwarded-for": "198.51.100.8"}).close()
        sockets.pop().close()
        eventually(lambda: opens(server, clients[3]))
        for one in sockets:
            one.close()
    for connection in silent:
        connection.close()


def opens(server, client):
    try:
        server.websocket("/chat", headers={"x-forwarded-for": client}).close()
        return True
    except InvalidStatus:
        return False


def test_a_silent_crowd_locks_nobody_out(tmp_path):
    """As many silent connections as there are places, and more all the time: requests are answered, sockets stay."""
    from martlet import Server

    server = Server(tmp_path / "data", MARTLET_METRICS_LISTEN="127.0.0.1:0")
    server.prefix = ["prlimit", "--nofile=800:800"]
    with server:
        chat = server.chat()
        under_way = server.raw()
        under_way.sendall(b"POST /v1/auth/login HTTP/1.1\r\nHost: x\r\nContent-Length: 2\r\n\r\n")
        crowd = []
        for _ in range(1500):
            crowd.append(server.raw())
            if len(crowd) % 50 == 0:
                assert is_served(server)
        # Who talks is not who has to go.
        under_way.sendall(b"{}")
        assert under_way.recv(4096).startswith(b"HTTP/1.1 422")
        chat.send(type="quit")
        assert chat.close_code() == 1000
        assert server.metric("martlet_connections_evicted_total") > 500
        assert '"level":"error"' not in server.log_text()
        for connection in crowd:
            connection.close()


def test_nineteen_thousand_silent_sockets(tmp_path):
    """All that a process may open, from twenty addresses with less than their share each: others are served meanwhile, and
    after; what a silent socket costs is measured in kilobytes."""
    from martlet import Server

    maximum = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    resource.setrlimit(resource.RLIMIT_NOFILE, (maximum, maximum))
    server = Server(
        tmp_path / "data", MARTLET_RATE_LIMITS="on", MARTLET_METRICS_LISTEN="127.0.0.1:0", MARTLET_HANDSHAKE_SECONDS=120
    )
    server.prefix = ["prlimit", "--nofile=20000:20000"]
    with server:
        before = server.resident_megabytes()
        crowd = []
        for host in range(1, 21):
            for count in range(980):
                crowd.append(socket.create_connection(("127.0.0.1", server.port), timeout=5, source_address=(f"127.0.9.{host}", 0)))
                if count % 490 == 0:
                    assert is_served(server), len(crowd)
        assert is_served(server)
        # More than there are places for: the oldest have gone.
        assert server.metric("martlet_connections_evicted_total") >= 19_600 - (20_000 - 512)
        assert server.resident_megabytes() - before < 19.6 * 8, "8 KB for each"
        for connection in crowd:
            connection.close()
        eventually(lambda: server.metric("martlet_connections") < 10)
        assert '"level":"error"' not in server.log_text()


def test_sockets_leave_descriptors_for_the_rest(tmp_path):
    from martlet import Server

    server = Server(tmp_path / "data")
    server.prefix = ["prlimit", "--nofile=560:560"]
    with server:
        sockets = [server.chat() for _ in range(560 - 512)]
        with pytest.raises(InvalidStatus) as failure:
            server.websocket("/chat")
        assert failure.value.response.status_code == 503
        assert int(failure.value.response.headers["retry-after"]) >= 1
        # Who is refused and stays takes no place from who comes next, and is no error of ours.
        refused = []
        for _ in range(300):
            refused.append(server.raw())
            refused[-1].sendall(
                b"GET /chat HTTP/1.1\r\nHost: x\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
                b"Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n"
            )
            assert refused[-1].recv(4096).startswith(b"HTTP/1.1 503")
        with server.http() as http:
            assert http.get("/readyz").status_code == 200
        for connection in refused:
            connection.close()
        assert '"level":"error"' not in server.log_text()
        sockets.pop().close()

        def is_open():
            try:
                sockets.append(server.chat())
                return True
            except InvalidStatus:
                return False

        eventually(is_open)
        for one in sockets:
            one.close()


def test_a_bad_bearer_token_costs_nothing_but_the_request(fresh):
    server = fresh(MARTLET_RATE_LIMITS="on")
    with server.http("nonsense") as http:
        assert [http.get("/v1/me").status_code for _ in range(50)] == [401] * 50
    account = server.sign_up()
    with server.http(account["access_token"]) as http:
        assert http.get("/v1/me").status_code == 200


def test_oversized_frame_is_1009(fresh):
    server = fresh()
    with server.person().relay() as socket:
        socket.socket.send('{"a":"' + "x" * (128 * 1024) + '"}')
        assert socket.close_code() == 1009


def test_addresses_behind_a_trusted_proxy_only(fresh):
    server = fresh(MARTLET_RATE_LIMITS="on", MARTLET_ADDRESS_REQUESTS="5,0.1", MARTLET_TRUSTED_PROXIES="127.0.0.0/8")
    with server.http() as http:
        for number in range(20):
            headers = {"x-forwarded-for": f"198.51.100.{number}, 127.0.0.9"}
            assert http.get("/healthz", headers=headers).status_code == 200
        codes = [http.get("/healthz", headers={"x-forwarded-for": "1.1.1.1, 203.0.113.7"}).status_code for _ in range(6)]
        assert codes == [200] * 5 + [429]
    untrusting = fresh("other", MARTLET_RATE_LIMITS="on", MARTLET_ADDRESS_REQUESTS="5,0.1")
    with untrusting.http() as http:
        codes = [http.get("/healthz", headers={"x-forwarded-for": f"198.51.100.{n}"}).status_code for n in range(6)]
        assert codes == [200] * 5 + [429]


@pytest.mark.parametrize("tls", [False, True])
def test_readers_may_be_slow_but_not_asleep(fresh, certificate, tls):
    """Answers of 1 MiB: who reads a little every second gets all of it, who reads nothing is cut after 30 s."""
    server = fresh(certificate=certificate if tls else None, MARTLET_LOOPS="1", MARTLET_METRICS_LISTEN="127.0.0.1:0")
    ada = server.person()
    room = ada.room()
    with ada.relay() as relay:
        for number in range(16):
            relay.say(room, "x" * 65_000, client_id=str(number))
        for _ in range(32):
            relay.receive()
    ada.http.close()

    def ask(close):
        plain = socket.socket()
        plain.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 16 * 1024)
        plain.connect(("127.0.0.1", server.port))
        connection = server.tls_context().wrap_socket(plain) if tls else plain
        connection.settimeout(40)
        connection.sendall(
            f"GET /rooms/{room}/messages?limit=200 HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {ada.token}\r\n"
            f"{'Connection: close' if close else 'X: y'}\r\n\r\n".encode()
        )
        return connection

    def expected_bytes(head):
        length = int(head.split(b"content-length: ", 1)[1].split(b"\r\n", 1)[0])
        return head.index(b"\r\n\r\n") + 4 + length

    outcomes = {}

    def read_slowly(close):
        with ask(close) as connection:
            received = connection.recv(4096)
            total = expected_bytes(received)
            assert total > 900_000
            # 64 KiB a second: for longer than any time that once counted from the answer's beginning.
            while len(received) < total:
                second = b""
                while len(second) < 64 * 1024 and len(received) + len(second) < total:
                    chunk = connection.recv(16 * 1024)
                    if not chunk:
                        break
                    second += chunk
                received += second
                if not second:
                    break
                time.sleep(0.9)
            outcomes[close] = (len(received), total)

    start = time.monotonic()
    asleep = ask(True)
    readers = [threading.Thread(target=read_slowly, args=(close,)) for close in (True, False)]
    for reader in readers:
        reader.start()
    for reader in readers:
        reader.join(40)
    assert all(received == total for received, total in outcomes.values()) and len(outcomes) == 2
    eventually(lambda: server.metric("martlet_connections") == 1)
    eventually(lambda: server.metric("martlet_connections") == 0, seconds=90)
    assert time.monotonic() - start > 29
    asleep.close()
