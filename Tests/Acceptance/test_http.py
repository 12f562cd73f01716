"""HTTP/1.1 at its edges (RFC 9112)."""

import json
import os
import re
import socket
import struct
import threading
import time

import pytest

from martlet import eventually

HEAD = b"GET /healthz HTTP/1.1\r\nHost: x\r\n"


def status(answer):
    return int(answer.split(b" ", 2)[1]) if answer else None


def body(answer):
    return json.loads(answer.split(b"\r\n\r\n", 1)[1])


@pytest.mark.parametrize(
    "request_bytes, expected",
    [
        (b"GET /healthz HTTP/1.1\nHost: x\n\n", 400),
        (b"GET /healthz HTTP/1.1\r\nHost: x\n\r\n", 400),
        (HEAD + b"X-A: b\r\n folded\r\n\r\n", 400),
        (HEAD + b"\tX-A: b\r\n\r\n", 400),
        (HEAD + b"X-A : b\r\n\r\n", 400),
        (HEAD + b": b\r\n\r\n", 400),
        (HEAD + b"X-A\r\n\r\n", 400),
        (HEAD + b"X-A: a\0b\r\n\r\n", 400),
        (HEAD + b"X-A: a\rb\r\n\r\n", 400),
        (HEAD + b"X(A): b\r\n\r\n", 400),
        (HEAD + b"Host: y\r\n\r\n", 400),
        (b"GET /healthz HTTP/1.1\r\n\r\n", 400),
        (b"GET /healthz HTTP/1.1\r\nHost: a b\r\n\r\n", 400),
        (b"GET /healthz\r\n\r\n", 400),
        (b"GET  /healthz HTTP/1.1\r\nHost: x\r\n\r\n", 400),
        (b"GET healthz HTTP/1.1\r\nHost: x\r\n\r\n", 400),
        (b"GET /healthz#a HTTP/1.1\r\nHost: x\r\n\r\n", 400),
        (b"GET /\xc3\xa4 HTTP/1.1\r\nHost: x\r\n\r\n", 400),
        (b"G@T /healthz HTTP/1.1\r\nHost: x\r\n\r\n", 400),
        (b"GET /healthz HTTP/2.0\r\nHost: x\r\n\r\n", 505),
        (b"GET /healthz HTTP/1.2\r\nHost: x\r\n\r\n", 505),
        (b"GET /healthz http/1.1\r\nHost: x\r\n\r\n", 400),
        (b"POST /rooms HTTP/1.1\r\nHost: x\r\nContent-Length: 5\r\nContent-Length: 6\r\n\r\nhello", 400),
        (b"POST /rooms HTTP/1.1\r\nHost: x\r\nContent-Length: 5\r\nContent-Length: 5\r\n\r\nhello", 400),
        (b"POST /rooms HTTP/1.1\r\nHost: x\r\nContent-Length: 5, 5\r\n\r\nhello", 400),
        (b"POST /rooms HTTP/1.1\r\nHost: x\r\nContent-Length: +5\r\n\r\nhello", 400),
        (b"POST /rooms HTTP/1.1\r\nHost: x\r\nContent-Length: -5\r\n\r\nhello", 400),
        (b"POST /rooms HTTP/1.1\r\nHost: x\r\nContent-Length: 0x5\r\n\r\nhello", 400),
        (b"POST /rooms HTTP/1.1\r\nHost: x\r\nContent-Length: 5 5\r\n\r\nhello", 400),
        (b"POST /rooms HTTP/1.1\r\nHost: x\r\nContent-Length: \r\n\r\n", 400),
        (b"POST /rooms HTTP/1.1\r\nHost: x\r\nContent-Length: 99999999999999999999\r\n\r\n", 400),
        (b"POST /rooms HTTP/1.1\r\nHost: x\r\nContent-Length: 1048577\r\n\r\n", 413),
        (b"POST /rooms HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: xchunked\r\n\r\n0\r\n\r\n", 400),
        (b"POST /rooms HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: identity, chunked\r\n\r\n", 400),
        (b"POST /rooms HTTP/1.1\r\nHost: x\r\nTransfer-Encoding : chunked\r\n\r\n0\r\n\r\n", 400),
        (b"POST /rooms HTTP/1.1\r\nHost: x\r\nTransfer-Encoding\t: chunked\r\n\r\n0\r\n\r\n", 400),
        (b"POST /rooms HTTP/1.1\r\nHost: x\r\nTransfer-Encoding:\x0bchunked\r\n\r\n0\r\n\r\n", 400),
        (b"POST /rooms HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n\r\n", 400),
        (b"POST /rooms HTTP/1.1\r\nHost: x\r\nContent-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n", 400),
        (b"GET /" + b"a" * 20000 + b" HTTP/1.1\r\nHost: x\r\n\r\n", 431),
        (HEAD + b"X-A: " + b"a" * 20000 + b"\r\n\r\n", 431),
        (HEAD + b"X-A: b\r\n" * 3000 + b"\r\n", 431),
        (b"BREW /healthz HTTP/1.1\r\nHost: x\r\n\r\n", 405),
    ],
)
def test_refused_and_closed(server, request_bytes, expected):
    smuggled = b"GET /readyz HTTP/1.1\r\nHost: x\r\n\r\n"
    answer, closed = server.exchange(request_bytes + smuggled)
    assert status(answer) == expected, answer
    assert closed, "the connection must end: what follows cannot be trusted"
    assert answer.count(b"HTTP/1.1 ") == 1, "nothing behind it may be read as a request"
    error = body(answer)["error"]
    assert error["code"] and error["message"] and error["request_id"]


def test_pipelining_keeps_order(server):
    answer, closed = server.exchange((HEAD + b"\r\n") + b"GET /nothing HTTP/1.1\r\nHost: x\r\n\r\n" + HEAD + b"Connection: close\r\n\r\n")
    assert [part[:3] for part in answer.split(b"HTTP/1.1 ")[1:]] == [b"200", b"404", b"200"]
    assert closed


def test_many_who_pipeline_are_all_answered_in_order(server):
    """More than is answered in one turn: by one connection, and by all of them."""
    account = server.sign_up()
    connections = [server.raw() for _ in range(24)]
    try:
        for name, connection in enumerate(connections):
            connection.sendall(
                b"".join(
                    f"GET /v1/me HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {account['access_token']}\r\n"
                    f"X-Request-Id: {name}-{number}\r\n{'Connection: close' if number == 99 else 'X: y'}\r\n\r\n".encode()
                    for number in range(100)
                )
            )
        for name, connection in enumerate(connections):
            answer = b""
            while piece := connection.recv(65536):
                answer += piece
            assert re.findall(rb"x-request-id: (\S+)", answer) == [f"{name}-{number}".encode() for number in range(100)]
            assert answer.count(b"HTTP/1.1 200 OK") == 100 and answer.count(account["user"]["id"].encode()) == 100
    finally:
        for connection in connections:
            connection.close()


def test_keep_alive_and_close(server):
    with server.raw() as connection:
        for _ in range(3):
            connection.sendall(HEAD + b"\r\n")
            assert b'"ok"' in connection.recv(65536)
    answer, closed = server.exchange(b"GET /healthz HTTP/1.0\r\n\r\n")
    assert status(answer) == 200 and closed
    answer, closed = server.exchange(b"\r\n\r\nGET /healthz HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
    assert status(answer) == 200 and closed


def test_head_in_pieces(server):
    with server.raw() as connection:
        for byte in HEAD + b"\r\n":
            connection.send(bytes([byte]))
        assert b"200 OK" in connection.recv(65536)


def test_head_method_and_expect_continue(server):
    answer, _ = server.exchange(b"HEAD /healthz HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
    assert status(answer) == 200 and answer.endswith(b"\r\n\r\n") and b"content-length: 24" in answer
    with server.raw() as connection:
        connection.sendall(
            b"POST /v1/auth/login HTTP/1.1\r\nHost: x\r\nContent-Length: 2\r\nExpect: 100-continue\r\n\r\n"
        )
        assert connection.recv(65536) == b"HTTP/1.1 100 Continue\r\n\r\n"
        connection.sendall(b"{}")
        assert b" 422 " in connection.recv(65536)


def test_slow_head_and_slow_body(fresh):
    server = fresh(MARTLET_HANDSHAKE_SECONDS=1, MARTLET_REQUEST_SECONDS=1)
    answer, closed = server.exchange(b"GET /heal")
    assert status(answer) == 408 and closed
    answer, closed = server.exchange(
        b"POST /v1/auth/login HTTP/1.1\r\nHost: x\r\nContent-Length: 100\r\n\r\n{"
    )
    assert status(answer) == 408 and closed
    # A sender that drips gains nothing by each byte: it is cut off long before its end.
    with server.raw() as connection:
        connection.settimeout(5)
        sent = 0
        with pytest.raises((BrokenPipeError, ConnectionResetError)):
            for byte in b"GET /healthz HTTP/1.1\r\nX: " + b"a" * 1000:
                connection.send(bytes([byte]))
                sent += 1
                time.sleep(0.05)
        assert sent < 500


def test_errors_have_one_form(server):
    with server.http() as http:
        for method, path, code, word in (
            ("GET", "/nothing", 404, "not_found"),
            ("DELETE", "/healthz", 405, "method_not_allowed"),
            ("GET", "/v1/me", 401, "unauthenticated"),
            ("GET", "/rooms", 401, "unauthenticated"),
            ("GET", "/v1/relay", 401, "unauthenticated"),
            ("GET", "/chat", 426, "upgrade_required"),
        ):
            answer = http.request(method, path)
            assert answer.status_code == code, (path, answer.text)
            error = answer.json()["error"]
            assert error["code"] == word
            assert error["request_id"] == answer.headers["x-request-id"]
        assert http.delete("/healthz").headers["allow"] == "GET, HEAD"
        # A WebSocket is opened with GET only.
        assert http.head("/chat").status_code == 405 and http.head("/chat").headers["allow"] == "GET"


@pytest.mark.parametrize(
    "content, expected",
    [
        (b"", 400), (b"nope", 400), (b"[]", 400), (b'"x"', 400), (b"{", 400), (b'{"a":1}x', 400),
        (b'{"a":1,"a":1}', 400), (b'{"a":"\\ud800"}', 400), (b'{"a":"\xff"}', 400), (b"{'a':1}", 400),
        (b'{"a":' + b"[" * 16 + b"]" * 16 + b"}", 400), (b'{"a":01}', 400), (b'{"a":1e}', 400),
        (b'{"a":"\x01"}', 400), (b"{}", 422), (b'{"email":"a@b.c","password":"x\\u0000xxxxxxx","name":"n"}', 422),
    ],
)
def test_bodies(server, content, expected):
    with server.http() as http:
        answer = http.post("/v1/auth/signup", content=content, headers={"content-type": "application/json"})
    assert answer.status_code == expected, answer.text


def test_all_fields_at_fault_at_once(server):
    with server.http() as http:
        answer = http.post("/v1/auth/signup", json={"email": "nobody", "password": "short", "name": ""})
        assert answer.status_code == 422
        assert {d["field"] for d in answer.json()["error"]["details"]} == {"email", "password", "name"}
        answer = http.post("/v1/auth/login", content=b"{}", headers={"content-type": "text/plain"})
        assert answer.status_code == 415


def test_request_ids(server):
    with server.http() as http:
        assert http.get("/healthz", headers={"x-request-id": "mine-1"}).headers["x-request-id"] == "mine-1"
        for bad in ("a b", "x" * 129):
            given = http.get("/healthz", headers={"x-request-id": bad}).headers["x-request-id"]
            assert given != bad and len(given) == 36


@pytest.mark.parametrize(
    "request_bytes, expected",
    [
        (b"POST /rooms HTTP/1.1\r\nHost: x\r\nX-Request-Id: mine\r\nContent-Length: 1048577\r\n\r\n", 413),
        (b"POST /rooms HTTP/1.1\r\nX-Request-Id: mine\r\nHost: x\r\nContent-Length: x\r\n\r\n", 400),
        (b"BREW /rooms HTTP/1.1\r\nX-Request-Id: mine\r\nHost: x\r\n\r\n", 405),
        (b"GET /healthz HTTP/1.1\r\nX-Request-Id: mine\r\n\r\n", 400),
        (b"GET / HTTP/3.1\r\nHost: x\r\nX-Request-Id: mine\r\n\r\n", 505),
        (b"GET  / HTTP/1.1\r\nHost: x\r\nX-Request-Id: mine\r\n\r\n", 400),
    ],
)
def test_refusals_keep_the_request_id(server, request_bytes, expected):
    answer, closed = server.exchange(request_bytes)
    assert status(answer) == expected and closed
    assert b"\r\nx-request-id: mine\r\n" in answer
    assert body(answer)["error"]["request_id"] == "mine"


def test_security_headers_and_gzip(server):
    ada = server.person()
    for _ in range(12):
        ada.room()
    answer = ada.http.get("/rooms", headers={"accept-encoding": "gzip"})
    assert answer.headers["content-encoding"] == "gzip"
    assert answer.headers["x-content-type-options"] == "nosniff"
    assert len(answer.json()["data"]) == 12
    assert "content-encoding" not in ada.http.get("/rooms", headers={"accept-encoding": "gzip;q=0"}).headers


def test_cors_for_allowed_origins_only(fresh):
    server = fresh(MARTLET_ALLOWED_ORIGINS="https://app.example.org")
    with server.http() as http:
        preflight = {"access-control-request-method": "POST"}
        answer = http.options("/v1/rooms", headers={"origin": "https://app.example.org", **preflight})
        assert answer.status_code == 204
        assert answer.headers["access-control-allow-origin"] == "https://app.example.org"
        answer = http.options("/v1/rooms", headers={"origin": "https://evil.example", **preflight})
        assert "access-control-allow-origin" not in answer.headers


def test_tls(fresh, tmp_path):
    import ssl
    import subprocess

    import httpx

    def certificate(name):
        subprocess.run(
            ["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2", "-subj", f"/CN={name}",
             "-addext", "subjectAltName=IP:127.0.0.1", "-keyout", tmp_path / "key.pem", "-out", tmp_path / "cert.pem"],
            check=True, capture_output=True,
        )

    certificate("first")
    server = fresh(MARTLET_TLS_CERTIFICATE=tmp_path / "cert.pem", MARTLET_TLS_KEY=tmp_path / "key.pem")
    assert server.scheme == "https"
    context = ssl.create_default_context(cafile=tmp_path / "cert.pem")
    with httpx.Client(verify=context) as http:
        answer = http.get(server.url + "/healthz")
        assert answer.status_code == 200
        assert "max-age" in answer.headers["strict-transport-security"]
    from websockets.sync.client import connect

    with connect(server.url.replace("https", "wss") + "/chat", ssl=context) as websocket:
        assert "START?" in websocket.recv(timeout=3)

    def subject():
        plain = ssl._create_unverified_context()
        with socket.create_connection(("127.0.0.1", server.port)) as raw, plain.wrap_socket(raw) as tls:
            return tls.getpeercert(binary_form=True)

    import signal

    before = subject()
    certificate("second")
    server.process.send_signal(signal.SIGHUP)
    eventually(lambda: subject() != before)
    # Files that cannot be used change nothing, and the log says so.
    after = subject()
    (tmp_path / "cert.pem").write_text("nonsense")
    server.process.send_signal(signal.SIGHUP)
    eventually(lambda: "certificate_not_reloaded" in server.log_text())
    assert subject() == after


def test_a_head_of_exactly_the_limit(server):
    for size, expected in ((16384, 200), (16385, 431)):
        line = b"GET /healthz HTTP/1.1\r\nHost: x\r\nX: "
        head = line + b"a" * (size - len(line) - 4) + b"\r\n\r\n"
        assert len(head) == size
        answer, _ = server.exchange(head, wait=1)
        assert status(answer) == expected


def test_every_query_parameter_counts(server):
    person = server.person()
    query = "&".join(f"a{number}=1" for number in range(500))
    assert person.http.get(f"/rooms?{query}&limit=0").status_code == 422


def test_upgrades_carry_the_request_id(server):
    with server.websocket("/chat", headers={"x-request-id": "mine"}) as socket:
        assert socket.response.headers["x-request-id"] == "mine"


def test_early_bytes_behind_an_upgrade_are_read(server):
    import base64

    from martlet import token

    frame = b'{"type":"dance","x":"' + b"y" * 100 + b'"}'
    masked = bytes([0x81, 0xFE, 0, len(frame), 0, 0, 0, 0]) + frame
    key = base64.b64encode(b"0123456789abcdef")
    with server.raw() as connection:
        connection.sendall(
            b"GET /v1/relay?subscribe=none HTTP/1.1\r\nHost: x\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
            b"Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: " + key + b"\r\nAuthorization: Bearer "
            + token("2eb6d5a4-1b1f-4c43-8e0b-5a7f7a1f0f02").encode() + b"\r\n\r\n" + masked * 1000
        )
        connection.settimeout(5)
        received = b""
        while received.count(b"unknown_type") < 1000:
            received += connection.recv(1 << 20)


def test_preflights_count_as_requests(fresh):
    server = fresh(MARTLET_RATE_LIMITS="on", MARTLET_ADDRESS_REQUESTS="20,1", MARTLET_ALLOWED_ORIGINS="https://a.example")
    headers = {"origin": "https://a.example:443", "access-control-request-method": "PUT"}
    with server.http(headers=headers) as http:
        codes = [http.options("/rooms").status_code for _ in range(30)]
    assert codes[:20] == [204] * 20 and 429 in codes[20:]


UPGRADE = (
    b"GET /chat HTTP/1.1\r\nHost: x\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
    b"Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n"
)


@pytest.mark.parametrize("count", [30, 31, 32, 63])
@pytest.mark.parametrize("how", ["close", "reset"])
def test_a_client_that_leaves_behind_many_requests(fresh, certificate, count, how):
    """Requests that are answered at once, then one that is worked on, and its client is gone in the same turn. The server
    died of it."""
    for tls in (None, certificate):
        server = fresh(f"data-{bool(tls)}", MARTLET_LOOPS="1", certificate=tls)
        for attempt in range(60):
            connection = server.raw()
            try:
                connection.sendall(b"GET /nix HTTP/1.1\r\nHost: x\r\n\r\n" * count + HEAD + b"\r\n")
                if how == "reset":
                    connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
                if attempt % 2:
                    time.sleep(0.002)
            except OSError:
                pass
            # At once, also with TLS.
            os.close(connection.detach())
        assert server.exchange(HEAD + b"Connection: close\r\n\r\n")[0].startswith(b"HTTP/1.1 200"), server.log_text()[-2000:]


@pytest.mark.parametrize(
    "request_bytes, expected, allow",
    [
        (b"BREW /healthz HTTP/1.1\r\nHost: x\r\n\r\n", 405, b"GET, HEAD"),
        (b"BREW /rooms HTTP/1.1\r\nHost: x\r\n\r\n", 405, b"GET, HEAD, POST"),
        (b"BREW /rooms/5 HTTP/1.1\r\nHost: x\r\n\r\n", 405, b"DELETE, GET, HEAD, PUT"),
        (b"PATCH /rooms/5 HTTP/1.1\r\nHost: x\r\n\r\n", 405, b"DELETE, GET, HEAD, PUT"),
        (b"TRACE /healthz HTTP/1.1\r\nHost: x\r\n\r\n", 405, b"GET, HEAD"),
        (b"get /healthz HTTP/1.1\r\nHost: x\r\n\r\n", 405, b"GET, HEAD"),
        (b"HEAD /chat HTTP/1.1\r\nHost: x\r\n\r\n", 405, b"GET"),
        (UPGRADE.replace(b"GET", b"HEAD"), 405, b"GET"),
        (b"BREW /nothing HTTP/1.1\r\nHost: x\r\n\r\n", 404, None),
    ],
)
def test_every_405_says_what_is_allowed(server, request_bytes, expected, allow):
    answer, _ = server.exchange(request_bytes, wait=0.5)
    assert status(answer) == expected
    if allow:
        assert b"\r\nallow: " + allow + b"\r\n" in answer


def test_of_two_origins_none_counts(server):
    """A page's own Origin behind or before an allowed one, on requests that a cookie vouches for."""
    with server.http() as http:
        form = {"email": f"{time.monotonic_ns()}@x.org", "password": "12345678", "name": "n"}
        cookie = http.post("/v1/auth/signup", json=form).headers["set-cookie"].split(";")[0]
    for origins in ([server.url, "https://evil.example"], ["https://evil.example", server.url]):
        fields = "".join(f"Origin: {origin}\r\n" for origin in origins)
        answer, _ = server.exchange(
            f"POST /v1/auth/logout HTTP/1.1\r\nHost: x\r\nCookie: {cookie}\r\n{fields}Content-Length: 0\r\n\r\n".encode()
        )
        assert status(answer) == 400


@pytest.mark.parametrize(
    "target, expected",
    [
        (b"http://x/healthz", 200), (b"HTTP://X/healthz?a=/b", 200), (b"https://x:1/healthz", 200),
        (b"http://x?/healthz", 404), (b"http://x?a=/healthz", 404), (b"http:///healthz", 400),
        (b"http://a b/healthz", 400), (b"ftp://x/healthz", 400), (b"http://x@y/healthz", 400),
    ],
)
def test_absolute_targets(server, target, expected):
    answer, _ = server.exchange(b"GET " + target + b" HTTP/1.1\r\nHost: x\r\n\r\n", wait=0.3)
    assert status(answer) == expected


def test_options_of_the_server(server):
    answer, _ = server.exchange(b"OPTIONS * HTTP/1.1\r\nHost: x\r\n\r\n", wait=0.3)
    assert status(answer) == 204 and b"\r\nallow: GET, HEAD, " in answer
    answer, _ = server.exchange(b"GET * HTTP/1.1\r\nHost: x\r\n\r\n", wait=0.3)
    assert status(answer) == 400


@pytest.mark.parametrize(
    "host",
    ["", "a/b", "a@b", "a:b", "a:99999", "[::1", "::1", "[nope]", "a%", "a\\b", "a b", "<a>", "a|b", "a{b}", "a^b", "a,b:c", "\"a\""],
)
def test_hosts_that_are_none(server, host):
    answer, closed = server.exchange(f"GET /healthz HTTP/1.1\r\nHost: {host}\r\n\r\n".encode())
    assert status(answer) == 400 and closed


def test_codings_that_are_not_wanted(server):
    ada = server.person()
    for _ in range(12):
        ada.room()
    for value, taken in [
        ("gzip ;q = 0", False), ("gzip;Q=0", False), ("gzip; q=0.000", False), ("gzip;q=x", False), ("*;q=0", False),
        ("identity", False), ("gzip;q=0, *", False), ("deflate, GZip;q=0.1", True), ("*", True), ("br;q=1, gzip ; q=0.5", True),
    ]:
        answer = ada.http.get("/rooms", headers={"accept-encoding": value})
        assert ("content-encoding" in answer.headers) == taken, value


# Bodies


def chunked(*chunks, trailers=b""):
    return b"".join(b"%x\r\n%s\r\n" % (len(chunk), chunk) for chunk in chunks) + b"0\r\n" + trailers + b"\r\n"


POST = b"POST /v1/auth/login HTTP/1.1\r\nHost: x\r\n"
CHUNKED = POST + b"Transfer-Encoding: chunked\r\n\r\n"


def test_chunked_bodies(server):
    form = json.dumps({"email": "nobody@x.org", "password": "12345678"}).encode()
    for body in (chunked(form), chunked(*[bytes([byte]) for byte in form]), chunked(form, trailers=b"X-A: b\r\nY:\r\n"),
                 b"%04X;a=b;c=\"d e\"\r\n%s\r\n0\r\n\r\n" % (len(form), form)):
        answer, _ = server.exchange(CHUNKED + body + HEAD + b"Connection: close\r\n\r\n")
        assert [part[:3] for part in answer.split(b"HTTP/1.1 ")[1:]] == [b"401", b"200"], answer
    # The same one byte at a time.
    with server.raw() as connection:
        for byte in CHUNKED + chunked(form):
            connection.send(bytes([byte]))
        assert b" 401 " in connection.recv(65536)


@pytest.mark.parametrize(
    "body",
    [
        b"x\r\n", b"-1\r\n", b"0x2\r\n{}\r\n0\r\n\r\n", b"2 \r\n{}\r\n0\r\n\r\n", b" 2\r\n{}\r\n0\r\n\r\n", b"2\n{}\r\n0\r\n\r\n",
        b"2\r\n{}\n0\r\n\r\n", b"2\r\n{}0\r\n\r\n", b"1\r\n{}\r\n0\r\n\r\n", b"99999999999999999999\r\n{}\r\n0\r\n\r\n",
        b"00000000000000002\r\n{}\r\n0\r\n\r\n", b"8000000000000000\r\n{}\r\n0\r\n\r\n", b"2;" + b"a" * 10_240 + b"\r\n{}\r\n0\r\n\r\n",
        b"2;\0\r\n{}\r\n0\r\n\r\n", b"2\r\n{}\r\n0\r\nbroken\r\n\r\n", b"2\r\n{}\r\n0\r\nX: " + b"a" * 1_000_000 + b"\r\n\r\n",
        b"2\r\n{}\r\n0\r\n folded: x\r\n\r\n",
    ],
)
def test_chunks_that_are_malformed(server, body):
    smuggled = b"GET /readyz HTTP/1.1\r\nHost: x\r\n\r\n"
    with server.raw() as connection:
        connection.settimeout(5)
        try:
            connection.sendall(CHUNKED + body + smuggled)
        except (BrokenPipeError, ConnectionResetError):
            pass
        received = b""
        try:
            while chunk := connection.recv(65536):
                received += chunk
        except ConnectionResetError:
            pass
    assert received.count(b"HTTP/1.1 ") == 1 and status(received) == 400, received


def test_a_chunked_body_that_is_too_large(server):
    piece = b"%x\r\n%s\r\n" % (65536, b"a" * 65536)
    with server.raw() as connection:
        connection.settimeout(5)
        try:
            connection.sendall(CHUNKED + piece * 17 + b"0\r\n\r\n")
        except (BrokenPipeError, ConnectionResetError):
            pass
        assert status(connection.recv(65536)) == 413


def test_a_body_is_asked_for_only_where_it_is_wanted(server):
    with server.raw() as connection:
        for head, first in [
            (b"POST /v1/auth/login", b"100"), (b"POST /nothing", b"404"), (b"DELETE /healthz", b"405"),
            (b"POST /rooms", b"401"), (b"GET /healthz", b"200"),
        ]:
            with server.raw() as connection:
                connection.sendall(head + b" HTTP/1.1\r\nHost: x\r\nContent-Length: 2\r\nExpect: 100-continue\r\n\r\n")
                answer = connection.recv(65536)
                assert answer.startswith(b"HTTP/1.1 " + first), (head, answer)
        with server.raw() as connection:
            connection.sendall(POST + b"Content-Length: 1048577\r\nExpect: 100-continue\r\n\r\n")
            assert status(connection.recv(65536)) == 413
        with server.raw() as connection:
            # HTTP/1.0 does not know it.
            connection.sendall(
                b"POST /v1/auth/login HTTP/1.0\r\nContent-Length: 2\r\nExpect: 100-continue\r\n\r\n{}"
            )
            assert connection.recv(65536).startswith(b"HTTP/1.1 422")


def test_what_is_decided_on_the_head_waits_for_no_body(server):
    """The body is announced and never comes: the answer does."""
    for head, expected in [
        (b"POST /nothing", 404), (b"PUT /healthz", 405), (b"POST /rooms", 401), (b"PATCH /v1/me", 401),
    ]:
        answer, closed = server.exchange(head + b" HTTP/1.1\r\nHost: x\r\nContent-Length: 1000000\r\n\r\n")
        assert status(answer) == expected and closed and b"\r\nconnection: close\r\n" in answer
    ada = server.person()
    answer, _ = server.exchange(
        b"POST /rooms HTTP/1.1\r\nHost: x\r\nContent-Type: text/plain\r\nContent-Length: 1000000\r\nAuthorization: Bearer "
        + ada.token.encode() + b"\r\n\r\n"
    )
    assert status(answer) == 415


def test_a_half_closed_client_gets_its_answers(fresh):
    """On a plain socket; with TLS it is in test_tls.py."""
    server = fresh()
    form = json.dumps({"email": "nobody@x.org", "password": "12345678"}).encode()
    for request, expected in [
        (HEAD + b"\r\n", [b"200"]),
        (POST + b"Content-Length: %d\r\n\r\n" % len(form) + form + HEAD + b"\r\n", [b"401", b"200"]),
        # Its body is not complete, and never will be.
        (POST + b"Content-Length: 100\r\n\r\n" + form, [b"400"]),
        (CHUNKED + b"5\r\nhel", [b"400"]),
    ]:
        with socket.create_connection(("127.0.0.1", server.port), timeout=10) as connection:
            connection.sendall(request)
            connection.shutdown(socket.SHUT_WR)
            received = b""
            while chunk := connection.recv(65536):
                received += chunk
        assert [part[:3] for part in received.split(b"HTTP/1.1 ")[1:]] == expected


def test_bodies_that_nobody_wants_take_no_memory(fresh):
    """400 bodies of 1 MiB, each without its last byte, to a path that does not exist (402 MB once)."""
    server = fresh(MARTLET_LOOPS="1", MARTLET_RATE_LIMITS="on", MARTLET_ADDRESS_REQUESTS="10000,10000")
    before = server.resident_megabytes()
    body = b"x" * (1024 * 1024 - 1)
    crowd = []
    for _ in range(400):
        connection = server.raw()
        connection.setblocking(False)
        try:
            connection.sendall(b"POST /nothing HTTP/1.1\r\nHost: x\r\nContent-Length: 1048576\r\n\r\n")
            connection.sendall(body)
        except BlockingIOError:
            pass
        crowd.append(connection)
    assert server.resident_megabytes() < 60 and server.resident_megabytes() - before < 20
    for connection in crowd:
        connection.close()


@pytest.mark.parametrize("element", [b"0", b'{"":0}', b"[0]", b"[" * 13 + b"0" + b"]" * 13])
def test_what_is_made_of_bodies_shares_the_budget(fresh, element):
    """Fields that nobody knows, of very many values: a mebibyte of text became 36 MiB of memory. Each of these fits, and all
    together do not."""
    server = fresh(MARTLET_LOOPS="1", MARTLET_BUFFER_BYTES=128 * 1024 * 1024)
    count = 256 * 1024 // (len(element) + 1)
    body = b'{"email":"a@example.org","password":"correct horse","x":[' + b",".join([element] * count) + b"]}"
    request = POST + f"Content-Length: {len(body)}\r\nConnection: close\r\n\r\n".encode() + body
    before = server.resident_megabytes()
    answers = []

    def send():
        with server.raw() as connection:
            connection.sendall(request)
            answers.append(status(connection.recv(65536)))

    threads = [threading.Thread(target=send) for _ in range(24)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    # Wrong passwords, or more than the address's sixteen mebibytes.
    assert len(answers) == 24 and set(answers) <= {401, 429, 503} and 503 in answers and {401, 429} & set(answers)
    # Those, and as much again that is on its way.
    assert server.resident_megabytes() - before < 60


def test_large_json(fresh):
    """It is parsed beside the loop, with the answers that small ones get."""
    server = fresh(MARTLET_LOOPS="1")

    def post(body):
        with server.raw() as connection:
            connection.sendall(POST + f"Content-Length: {len(body)}\r\nConnection: close\r\n\r\n".encode() + body)
            received = b""
            while chunk := connection.recv(65536):
                received += chunk
        return status(received), json.loads(received.split(b"\r\n\r\n", 1)[1])

    padding = b'"x":"' + b"a,:{[" * 200_000 + b'"'
    assert post(b'{"email":"a@example.org","password":"correct horse",' + padding + b"}")[0] == 401
    answer, problem = post(b"{" + padding + b",}")
    assert answer == 400 and problem["error"]["code"] == "invalid_json" and "at byte 1000008" in problem["error"]["message"]
    assert post(b"[" + padding + b"]")[0] == 400
    assert post(b"[{" + padding + b"}]")[1]["error"]["code"] == "invalid_json"
    answer, problem = post(b'{"x":[' + b"[]," * 340_000 + b"0]}")
    assert answer == 413 and problem["error"]["code"] == "body_too_large" and "memory" in problem["error"]["message"]


def test_bodies_share_a_budget(fresh):
    """Bodies that somebody wants, unfinished: an address holds an eighth of what there is, and others go on."""
    server = fresh(MARTLET_LOOPS="1", MARTLET_BUFFER_BYTES=64 * 1024 * 1024, MARTLET_TRUSTED_PROXIES="127.0.0.0/8")
    body = b"{" + b" " * (1024 * 1024 - 2)

    def begin(address):
        connection = server.raw()
        connection.sendall(
            POST + f"X-Forwarded-For: {address}\r\nContent-Length: 1048576\r\n\r\n".encode()
        )
        try:
            connection.sendall(body)
        except (BrokenPipeError, ConnectionResetError):
            pass
        return connection

    before = server.resident_megabytes()
    crowd = [begin("198.51.100.1") for _ in range(40)]
    refused = 0
    for connection in crowd:
        connection.settimeout(0.2)
        try:
            answer = connection.recv(65536)
            assert status(answer) == 503 and b"retry-after" in answer
            refused += 1
        except TimeoutError:
            pass
    assert 40 - refused <= 8 and server.resident_megabytes() - before < 30
    other = begin("198.51.100.2")
    other.sendall(b"}")
    assert status(other.recv(65536)) == 422
    other.close()
    # What is let go of can be had again.
    for connection in crowd:
        connection.close()

    def is_read():
        with begin("198.51.100.1") as again:
            again.sendall(b"}")
            return status(again.recv(65536)) == 422

    eventually(is_read)


def test_clients_that_leave_are_no_errors_of_ours(fresh):
    """Reset in the middle of a body, and while their log-in waits: the log has nothing to say of it."""
    server = fresh(MARTLET_PASSWORD_HASHERS="1", MARTLET_METRICS_LISTEN="127.0.0.1:0")
    form = json.dumps({"email": "nobody@x.org", "password": "12345678"}).encode()
    requests = [POST + b"Content-Length: 100\r\n\r\n" + form[:10]] * 30 + [
        POST + b"Content-Length: %d\r\n\r\n" % len(form) + form
    ] * 30
    for request in requests:
        connection = server.raw()
        connection.sendall(request)
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        connection.close()
    with server.http() as http:
        assert http.get("/healthz").status_code == 200
    eventually(lambda: server.metric("martlet_connections") == 0)
    assert '"level":"error"' not in server.log_text(), server.log_text()[-2000:]


def test_who_sends_many_requests_at_once_gets_them_all(server):
    count = 5000
    with server.raw() as connection:
        sender = threading.Thread(target=connection.sendall, args=((HEAD + b"\r\n") * count,))
        sender.start()
        answers = 0
        rest = b""
        while answers < count:
            chunk = connection.recv(1 << 20)
            assert chunk
            answers += (rest + chunk).count(b"HTTP/1.1 200 OK")
            rest = chunk[-14:]
        sender.join()
    assert answers == count
