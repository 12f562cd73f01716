"""TLS as clients meet it: what ALPN agrees on, and connections that last."""

import shutil
import socket
import ssl
import subprocess
import time

import pytest
from websockets.sync.client import connect


@pytest.fixture(scope="module")
def certificate(tmp_path_factory):
    folder = tmp_path_factory.mktemp("certificate")
    subprocess.run(
        ["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2", "-subj", "/CN=martlet",
         "-addext", "subjectAltName=IP:127.0.0.1", "-keyout", folder / "key.pem", "-out", folder / "cert.pem"],
        check=True, capture_output=True,
    )
    return folder


@pytest.fixture
def server(fresh, certificate):
    return fresh(MARTLET_TLS_CERTIFICATE=certificate / "cert.pem", MARTLET_TLS_KEY=certificate / "key.pem")


def context(certificate, *protocols):
    made = ssl.create_default_context(cafile=certificate / "cert.pem")
    if protocols:
        made.set_alpn_protocols(protocols)
    return made


def test_a_client_that_offers_h2_is_answered_in_http_1(server, certificate):
    for protocols, chosen in [(("h2", "http/1.1"), "http/1.1"), (("http/1.1",), "http/1.1"), ((), None)]:
        for _ in range(20):
            with socket.create_connection(("127.0.0.1", server.port), timeout=10) as raw:
                with context(certificate, *protocols).wrap_socket(raw, server_hostname="127.0.0.1") as tls:
                    assert tls.selected_alpn_protocol() == chosen
                    tls.sendall(b"GET /healthz HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
                    received = b""
                    while chunk := tls.recv(65536):
                        received += chunk
        assert received.startswith(b"HTTP/1.1 200") and received.endswith(b"}")
    if shutil.which("curl"):
        for _ in range(10):
            answer = subprocess.run(
                ["curl", "-s", "--cacert", certificate / "cert.pem", server.url + "/healthz"], capture_output=True, text=True
            )
            assert answer.returncode == 0 and '"ok"' in answer.stdout
    # Whatever such clients left behind, the process lives and ends as it should.
    assert server.process.poll() is None
    assert server.stop() == 0


def test_connections_last(server, certificate):
    """A WebSocket that says nothing, one that talks, and an HTTP connection that pauses."""
    ada = server.sign_up_tls(certificate)
    url = server.url.replace("https", "wss", 1)
    quiet = connect(url + "/chat", ssl=context(certificate))
    assert "START?" in quiet.recv(timeout=3)
    talking = connect(
        url + "/v1/relay", ssl=context(certificate), additional_headers={"authorization": f"Bearer {ada}"}
    )
    assert '"ready"' in talking.recv(timeout=3)
    raw = socket.create_connection(("127.0.0.1", server.port), timeout=10)
    kept = context(certificate).wrap_socket(raw, server_hostname="127.0.0.1")
    request = b"GET /healthz HTTP/1.1\r\nHost: x\r\n\r\n"
    # `/chat` waits ten seconds for a token; what that closes has its code, and nothing else is cut.
    end = time.monotonic() + 20
    while time.monotonic() < end:
        talking.send('{"type":"unsubscribe","channels":[]}')
        kept.sendall(request)
        assert kept.recv(65536).startswith(b"HTTP/1.1 200")
        time.sleep(4)
    assert talking.ping().wait(5)
    with pytest.raises(Exception) as closed:
        quiet.recv(timeout=3)
    assert closed.value.rcvd.code == 4401
    talking.close()
    kept.close()
