"""TLS as clients meet it: protocols, certificates, sessions, and what attackers send."""

import errno
import os
import shutil
import signal
import socket
import ssl
import struct
import subprocess
import time

import pytest

from martlet import Server, eventually, make_certificate

REQUEST = b"GET /healthz HTTP/1.1\r\nHost: x\r\n\r\n"


@pytest.fixture
def server(fresh, certificate):
    return fresh(certificate=certificate, MARTLET_LOOPS="4", MARTLET_METRICS_LISTEN="127.0.0.1:0")


def client(certificate, *protocols):
    made = ssl.create_default_context(cafile=certificate[0])
    if protocols:
        made.set_alpn_protocols(protocols)
    return made


def open_tls(server, context, name="127.0.0.1", **options):
    raw = socket.create_connection(("127.0.0.1", server.port), timeout=10)
    return context.wrap_socket(raw, server_hostname=name, **options)


def is_served(tls):
    tls.sendall(REQUEST)
    return tls.recv(65536).startswith(b"HTTP/1.1 200")


def test_a_client_that_offers_h2_is_answered_in_http_1(server, certificate):
    for protocols, chosen in [(("h2", "http/1.1"), "http/1.1"), (("http/1.1",), "http/1.1"), ((), None)]:
        for _ in range(20):
            with open_tls(server, client(certificate, *protocols)) as tls:
                assert tls.selected_alpn_protocol() == chosen
                tls.sendall(b"GET /healthz HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
                received = b""
                while chunk := tls.recv(65536):
                    received += chunk
        assert received.startswith(b"HTTP/1.1 200") and received.endswith(b"}")
    with pytest.raises(ssl.SSLError, match="no application protocol"):
        open_tls(server, client(certificate, "h2"))
    if shutil.which("curl"):
        for _ in range(10):
            answer = subprocess.run(
                ["curl", "-s", "--cacert", certificate[0], server.url + "/healthz"], capture_output=True, text=True
            )
            assert answer.returncode == 0 and '"ok"' in answer.stdout
    # Whatever such clients left behind, the process lives and ends as it should.
    assert server.process.poll() is None
    assert server.stop() == 0


def test_connections_last(server):
    """A WebSocket that says nothing, one that talks, and an HTTP connection that pauses."""
    quiet = server.chat()
    talking = server.relay(server.sign_up()["access_token"])
    kept = server.raw()
    # `/chat` waits ten seconds for a token; what that closes has its code, and nothing else is cut.
    end = time.monotonic() + 12
    while time.monotonic() < end:
        talking.send(type="unsubscribe", channels=[])
        assert is_served(kept)
        time.sleep(4)
    assert talking.socket.ping().wait(5)
    assert quiet.close_code() == 4401
    talking.close()
    kept.close()


@pytest.mark.parametrize("version", [ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3])
def test_sessions_go_on_on_every_loop(server, certificate, version):
    context = client(certificate)
    context.minimum_version = context.maximum_version = version
    reused = 0
    with open_tls(server, context) as tls:
        assert is_served(tls)
        session = tls.session
    # On four loops: where tickets were one loop's, most of these would begin anew.
    for _ in range(24):
        with open_tls(server, context, session=session) as tls:
            assert is_served(tls)
            reused += tls.session_reused
            session = tls.session
    assert reused == 24


def certificate_names(server, name):
    """The subject that a client sees who asks for this name; None asks for none."""
    asks = ["-servername", name] if name else ["-noservername"]
    answer = subprocess.run(
        ["openssl", "s_client", "-connect", f"127.0.0.1:{server.port}", *asks],
        input="", capture_output=True, text=True, timeout=20,
    )
    return next(line for line in answer.stdout.splitlines() if line.startswith("subject=")).split("=")[-1].strip()


def test_the_certificate_is_chosen_by_name(fresh, tmp_path):
    made = [
        make_certificate(tmp_path, "first", "DNS:first.example,IP:127.0.0.1"),
        make_certificate(tmp_path, "second", "DNS:status.second.example,DNS:*.wild.example", key="prime256v1"),
        make_certificate(tmp_path, "third", "DNS:third.example,DNS:first.example"),
    ]
    server = fresh(
        MARTLET_TLS_CERTIFICATE=" , ".join(str(chain) for chain, _ in made),
        MARTLET_TLS_KEY=",".join(str(key) for _, key in made),
    )
    for name, expected in [
        ("first.example", "first"), ("third.example", "third"), ("STATUS.second.example", "second"),
        ("a.wild.example", "second"), ("a.b.wild.example", "first"), ("wild.example", "first"),
        ("nobody.example", "first"), (None, "first"), ("x" * 60 + ".example", "first"),
    ]:
        assert certificate_names(server, name) == expected, name


@pytest.mark.parametrize("how", ["signal", "watch"])
def test_certificates_are_read_again(fresh, tmp_path, how):
    chain, key = make_certificate(tmp_path, "one")
    server = fresh(certificate=(chain, key), MARTLET_TLS_WATCH="1" if how == "watch" else "off")
    assert certificate_names(server, None) == "one"
    kept = server.raw()

    def replace(new_chain, new_key):
        for source, target in ((new_chain, chain), (new_key, key)):
            # As certbot does it: written beside, then renamed.
            shutil.copy(source, str(target) + ".new")
            os.replace(str(target) + ".new", target)
        if how == "signal":
            server.process.send_signal(signal.SIGHUP)

    def wait_for(event, count=1):
        eventually(lambda: server.log_text().count(event) >= count)

    two = make_certificate(tmp_path, "two")
    three = make_certificate(tmp_path, "three")
    replace(*two)
    wait_for("certificate_reloaded")
    assert certificate_names(server, None) == "two"
    # A key that does not fit changes nothing, and the log names the file.
    replace(three[0], two[1])
    wait_for("certificate_not_reloaded")
    assert "key values mismatch" in server.log_text() and str(key) in server.log_text()
    assert certificate_names(server, None) == "two"
    replace(*three)
    wait_for("certificate_reloaded", 2)
    assert certificate_names(server, None) == "three"
    assert is_served(kept)


def refusal(tmp_path, **settings):
    server = Server(tmp_path / "data", **settings)
    with pytest.raises(RuntimeError) as failure:
        server.start()
    return str(failure.value)


def test_a_start_with_files_that_cannot_be_used_names_them(tmp_path):
    one, two = make_certificate(tmp_path, "one"), make_certificate(tmp_path, "two")
    text = refusal(tmp_path, certificate=(one[0], two[1]))
    assert str(two[1]) in text and "mismatch" in text
    text = refusal(tmp_path, certificate=(tmp_path / "nowhere.pem", one[1]))
    assert "nowhere.pem" in text and "No such file" in text
    (tmp_path / "nonsense").write_text("nonsense")
    assert "nonsense" in refusal(tmp_path, certificate=(one[0], tmp_path / "nonsense"))
    subprocess.run(
        ["openssl", "rsa", "-aes128", "-passout", "pass:secret", "-in", one[1], "-out", tmp_path / "locked.key"],
        check=True, capture_output=True,
    )
    # Nobody is there to type a passphrase.
    assert "locked.key" in refusal(tmp_path, certificate=(one[0], tmp_path / "locked.key"))
    assert "one key for each" in refusal(
        tmp_path, MARTLET_TLS_CERTIFICATE=f"{one[0]},{two[0]}", MARTLET_TLS_KEY=one[1]
    )


def test_an_expired_certificate_is_served_and_told_of(fresh, tmp_path):
    chain, key = make_certificate(tmp_path, "old")
    config = tmp_path / "ca.cnf"
    (tmp_path / "index").write_text("")
    config.write_text(
        f"[ca]\ndefault_ca=a\n[a]\ndatabase={tmp_path}/index\nnew_certs_dir={tmp_path}\nrand_serial=yes\n"
        "default_md=sha256\npolicy=p\n[p]\ncommonName=supplied\n"
    )
    request = tmp_path / "request"
    subprocess.run(["openssl", "req", "-new", "-key", key, "-subj", "/CN=old", "-out", request], check=True)
    subprocess.run(
        ["openssl", "ca", "-batch", "-selfsign", "-config", config, "-keyfile", key, "-in", request,
         "-startdate", "20200101000000Z", "-enddate", "20200201000000Z", "-out", chain, "-notext"],
        check=True, capture_output=True,
    )
    server = fresh(certificate=(chain, key), MARTLET_METRICS_LISTEN="127.0.0.1:0")
    assert "certificate_expired" in server.log_text()
    assert server.metric("martlet_tls_certificate_expiry_seconds") < -86_400 * 1000
    assert is_served(server.raw())


# What is spoken, and nothing else: every protocol and cipher that OpenSSL knows is tried.
CIPHERS = {
    "-tls1": set(),
    "-tls1_1": set(),
    "-tls1_2": {
        "ECDHE-RSA-AES128-GCM-SHA256", "ECDHE-RSA-AES256-GCM-SHA384", "ECDHE-RSA-CHACHA20-POLY1305",
    },
    "-tls1_3": {"TLS_AES_128_GCM_SHA256", "TLS_AES_256_GCM_SHA384", "TLS_CHACHA20_POLY1305_SHA256"},
}


@pytest.mark.parametrize("protocol", CIPHERS)
def test_protocols_and_ciphers(server, protocol):
    listed = subprocess.run(
        ["openssl", "ciphers", "-s", protocol, "ALL:COMPLEMENTOFALL:@SECLEVEL=0"], capture_output=True, text=True
    ).stdout.strip().split(":")
    spoken = set()
    for cipher in filter(None, listed):
        choice = ["-ciphersuites", cipher] if protocol == "-tls1_3" else ["-cipher", cipher + ":@SECLEVEL=0"]
        answer = subprocess.run(
            ["openssl", "s_client", "-connect", f"127.0.0.1:{server.port}", protocol, *choice],
            input="", capture_output=True, text=True, timeout=20,
        )
        if answer.returncode == 0 and f"Cipher is {cipher}" in answer.stdout:
            spoken.add(cipher)
    assert spoken == CIPHERS[protocol]


def test_no_new_keys_in_the_middle_of_tls_1_2(server):
    # `R` asks for it (s_client(1)).
    answer = subprocess.run(
        ["openssl", "s_client", "-connect", f"127.0.0.1:{server.port}", "-tls1_2"],
        input="R\n", capture_output=True, text=True, timeout=20,
    )
    assert "no renegotiation" in answer.stderr, answer.stderr
    assert is_served(server.raw())


@pytest.mark.parametrize("count, is_fine", [(20, True), (100, False)])
def test_new_keys_in_the_middle_of_tls_1_3(fresh, certificate, count, is_fine):
    """Now and then; who asks for them without end, and says nothing, is cut."""
    server = fresh(certificate=certificate, MARTLET_LOG_LEVEL="debug")
    client = subprocess.Popen(
        ["openssl", "s_client", "-connect", f"127.0.0.1:{server.port}", "-tls1_3", "-crlf"],
        stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, bufsize=0,
    )
    try:
        # `K` at the beginning of what it reads asks for them (s_client(1)).
        time.sleep(0.3)
        for _ in range(count):
            client.stdin.write(b"K\n")
            time.sleep(0.01)
        client.stdin.write(b"GET /healthz HTTP/1.1\nHost: x\nConnection: close\n\n")
    except BrokenPipeError:
        pass
    output = client.stdout.read()
    client.wait(5)
    assert (b"HTTP/1.1 200" in output) == is_fine, output
    assert ("the peer changes its keys too often" in server.log_text()) != is_fine


def hello(with_unknown_key=False):
    """A ClientHello as OpenSSL makes it, without the header of its record."""
    outgoing = ssl.MemoryBIO()
    tls = ssl._create_unverified_context().wrap_bio(ssl.MemoryBIO(), outgoing)
    with pytest.raises(ssl.SSLWantReadError):
        tls.do_handshake()
    message = outgoing.read()[5:]
    if with_unknown_key:
        # In the list of groups, and as that of the key (RFC 8446, 4.2.7 and 4.2.8).
        for extension in (b"\x00\x0a\x00\x16\x00\x14\x00\x1d", b"\x00\x33\x00\x26\x00\x24\x00\x1d"):
            assert message.count(extension) == 1
            message = message.replace(extension, extension[:-2] + b"\x63\x99")
    return message


def record(kind, payload):
    return bytes([kind, 3, 3]) + len(payload).to_bytes(2, "big") + payload


LONG_HELLO = b"\x01" + (131_000).to_bytes(3, "big")


@pytest.mark.parametrize("how", ["at once", "in records of one byte", "as the second"])
def test_a_hello_that_is_announced_as_long_takes_no_memory(fresh, certificate, how):
    """128 KiB were held for nine bytes."""
    server = fresh(certificate=certificate, MARTLET_LOG_LEVEL="debug")
    before = server.resident_megabytes()
    crowd = []
    for _ in range(400):
        raw = socket.create_connection(("127.0.0.1", server.port), timeout=10)
        if how == "at once":
            raw.sendall(record(22, LONG_HELLO))
        elif how == "in records of one byte":
            raw.sendall(b"".join(record(22, bytes([byte])) for byte in LONG_HELLO))
        else:
            # A key of a kind that nobody knows is asked for again (RFC 8446, 4.1.4).
            raw.sendall(record(22, hello(with_unknown_key=True)) + record(20, b"\x01") + record(22, LONG_HELLO))
        crowd.append(raw)
    for raw in crowd:
        received = b""
        try:
            while chunk := raw.recv(65536):
                received += chunk
        except ConnectionResetError:
            pass
        if how == "as the second":
            # HelloRetryRequest, by its random value (RFC 8446, 4.1.3).
            assert bytes.fromhex("cf21ad74e59a6111be1d8c021e65b891") in received
    assert server.log_text().count("the client's handshake is too long") > 10
    assert server.resident_megabytes() - before < 15
    assert is_served(server.raw())


def test_a_hello_in_many_records(server):
    raw = socket.create_connection(("127.0.0.1", server.port), timeout=10)
    message = hello()
    for start in range(0, len(message), 7):
        raw.sendall(record(22, message[start : start + 7]))
    # A ServerHello.
    assert raw.recv(6)[::5] == b"\x16\x02"
    raw.close()


class Slow:
    """A TLS client whose bytes the test sends by itself."""

    def __init__(self, server):
        self.raw = socket.create_connection(("127.0.0.1", server.port), timeout=10)
        self.raw.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.incoming, self.outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
        self.tls = ssl._create_unverified_context().wrap_bio(self.incoming, self.outgoing)

    def run(self, step, chunk):
        """Repeats a step of TLS until it is done, sending what it makes in pieces of so many bytes."""
        while True:
            try:
                result = step()
                self.flush(chunk)
                return result
            except ssl.SSLWantReadError:
                self.flush(chunk)
                data = self.raw.recv(65536)
                self.incoming.write(data) if data else self.incoming.write_eof()

    def flush(self, chunk):
        data = self.outgoing.read()
        for start in range(0, len(data), chunk):
            self.raw.sendall(data[start : start + chunk])


def test_records_in_the_smallest_pieces(server):
    slow = Slow(server)
    slow.run(slow.tls.do_handshake, 1)
    for byte in REQUEST:
        # A record for each byte, and a segment for each byte of it.
        slow.tls.write(bytes([byte]))
        slow.flush(1)
    assert slow.run(lambda: slow.tls.read(65536), 1).startswith(b"HTTP/1.1 200")


def test_a_client_that_has_shut_its_side_gets_its_answer(server):
    request = REQUEST.replace(b"\r\n\r\n", b"\r\nConnection: close\r\n\r\n")
    for says_so in (True, False):
        slow = Slow(server)
        slow.run(slow.tls.do_handshake, 65536)
        slow.tls.write(request)
        if says_so:
            # close_notify, which ends one direction only (RFC 8446, 6.1).
            with pytest.raises(ssl.SSLWantReadError):
                slow.tls.unwrap()
        slow.flush(65536)
        slow.raw.shutdown(socket.SHUT_WR)
        received = b""
        while chunk := slow.raw.recv(65536):
            received += chunk
        slow.incoming.write(received)
        slow.incoming.write_eof()
        assert slow.tls.read(65536).startswith(b"HTTP/1.1 200"), says_so


@pytest.mark.parametrize(
    "bytes_sent",
    [
        os.urandom(5000), b"\x16\x03\x01\xff\xff" + b"\0" * 70000, b"\x16\x03\x01\x00\x05\x01\x00\x00\x01\x00",
        b"\x15\x03\x03\x00\x02\x02\x28", b"\x17\x03\x03\x00\x05hello", b"\x80\x2e\x01\x03\x01", b"\x16",
        b"SSH-2.0-x\r\n", b"\x16\x03\x01\x00\x00" * 1000,
    ],
)
def test_what_is_no_tls(server, bytes_sent):
    with socket.create_connection(("127.0.0.1", server.port), timeout=10) as raw:
        try:
            raw.sendall(bytes_sent)
            raw.shutdown(socket.SHUT_WR)
            while raw.recv(65536):
                pass
        except TimeoutError:
            raise
        except OSError as failure:
            # The server may cut the connection at any moment, also before all of it is sent.
            assert failure.errno in (errno.ECONNRESET, errno.EPIPE, errno.ENOTCONN)
    assert is_served(server.raw())


def test_plain_http_is_told_where_it_is(server):
    with socket.create_connection(("127.0.0.1", server.port), timeout=10) as raw:
        raw.sendall(REQUEST)
        received = b""
        while chunk := raw.recv(65536):
            received += chunk
    assert received.startswith(b"HTTP/1.1 400 ") and b"HTTPS" in received


def test_a_reset_in_the_middle_of_a_record(server):
    for cut in (1, 5, 6, 20, 100):
        slow = Slow(server)
        slow.run(slow.tls.do_handshake, 65536)
        slow.tls.write(b"GET /healthz HTTP/1.1\r\nHost: x\r\nX: " + b"a" * 10_000 + b"\r\n\r\n")
        slow.raw.sendall(slow.outgoing.read()[:cut])
        slow.raw.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        slow.raw.close()
    # And a handshake that ends in its middle.
    for _ in range(20):
        slow = Slow(server)
        with pytest.raises(ssl.SSLWantReadError):
            slow.tls.do_handshake()
        slow.raw.sendall(slow.outgoing.read()[:100])
        slow.raw.close()
    assert is_served(server.raw())
    assert server.process.poll() is None


def test_a_handshake_has_its_time(fresh, certificate, stalls):
    server = fresh(certificate=certificate, MARTLET_HANDSHAKE_SECONDS=1)
    begin = time.monotonic()
    with socket.create_connection(("127.0.0.1", server.port), timeout=30) as raw:
        raw.sendall(b"\x16\x03\x01")
        try:
            assert raw.recv(100) == b""
        except ConnectionResetError:
            pass
    # Well below the ten seconds of the default.
    stalls.check("the handshake's end", time.monotonic() - begin, limit=4)
