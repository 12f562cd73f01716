"""The main job through Debian's nginx with deploy/nginx.conf, in front of two nodes on one Postgres."""

import socket
import subprocess
import time
import uuid

import httpx
import pytest
from websockets.sync.client import connect

from martlet import ROOT, Frames, Relay, Server, token


def free_port():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


@pytest.fixture
def proxy(tmp_path, postgres):
    url = postgres.database()
    front = free_port()
    settings = {
        "MARTLET_DATABASE": url,
        "MARTLET_PUBLIC_URL": f"http://127.0.0.1:{front}",
        "MARTLET_TRUSTED_PROXIES": "127.0.0.1",
    }
    with Server(tmp_path / "one", **settings) as one, Server(tmp_path / "two", **settings) as two:
        sample = (ROOT / "deploy/nginx.conf").read_text()
        sample = sample.replace("127.0.0.1:8080", f"127.0.0.1:{front}")
        sample = sample.replace("127.0.0.1:8081", f"127.0.0.1:{one.port}").replace("127.0.0.1:8082", f"127.0.0.1:{two.port}")
        temporary = "\n".join(
            f"{kind}_temp_path {tmp_path}/{kind};" for kind in ("client_body", "proxy", "fastcgi", "uwsgi", "scgi")
        )
        (tmp_path / "nginx.conf").write_text(
            f"daemon off; worker_processes 1; pid {tmp_path}/nginx.pid; error_log {tmp_path}/nginx.log;\n"
            f"events {{ worker_connections 512; }}\nhttp {{ access_log off; {temporary}\n{sample}\n}}\n"
        )
        nginx = subprocess.Popen(["nginx", "-c", tmp_path / "nginx.conf", "-p", tmp_path])
        try:
            deadline = time.monotonic() + 5
            while socket.socket().connect_ex(("127.0.0.1", front)) != 0:
                assert time.monotonic() < deadline and nginx.poll() is None
                time.sleep(0.02)
            yield f"http://127.0.0.1:{front}", (one, two)
        finally:
            nginx.terminate()
            nginx.wait(10)


def test_main_job_through_nginx(proxy):
    url, nodes = proxy
    ada = token(uuid.uuid4(), uuid.uuid4())
    with httpx.Client(base_url=url, headers={"authorization": f"Bearer {ada}"}, timeout=15) as http:
        room = http.post("/rooms", json={"name": "n", "level_admin": 1, "type": "group"}).json()["data"]["id"]
        # Both nodes are asked in turn; both know.
        assert [http.get(f"/rooms/{room}").status_code for _ in range(4)] == [200] * 4
    websocket = url.replace("http", "ws") + "/v1/relay"
    headers = {"authorization": f"Bearer {ada}"}
    with connect(websocket, additional_headers=headers, compression=None) as raw:
        relay = Relay(raw)
        relay.say(room, "through nginx", "1")
        assert relay.until("text")["seq"] == 1
        assert relay.until("ack")["seq"] == 1
    with connect(url.replace("http", "ws") + "/chat", compression=None) as raw:
        nano = Frames(raw)
        assert nano.receive()["data"] == "START?"
        nano.send(type="token", content=ada)
        assert nano.receive()["data"] == "READY"
    logs = nodes[0].log_text() + nodes[1].log_text()
    assert '"path":"/rooms"' in logs


def test_the_client_s_address_is_believed(proxy):
    url, nodes = proxy
    with httpx.Client(base_url=url, timeout=15) as http:
        answer = http.post(
            "/v1/auth/signup",
            json={"email": f"{uuid.uuid4()}@x.org", "password": "12345678", "name": "n"},
            headers={"x-forwarded-for": "198.51.100.7"},
        )
        account = answer.json()["data"]
        sessions = http.get("/v1/me/sessions", headers={"authorization": f"Bearer {account['access_token']}"}).json()["data"]
    # nginx appends the address it sees, 127.0.0.1, which is trusted: the one before counts.
    assert sessions[0]["ip"] == "198.51.100.7"
    # So it does for sockets.
    with connect(url.replace("http", "ws") + "/chat", compression=None, additional_headers={"x-forwarded-for": "198.51.100.8"}) as raw:
        nano = Frames(raw)
        assert nano.receive()["data"] == "START?"
        nano.send(type="token", content="nonsense")
        assert nano.receive()["data"] == "TOKEN?"
    logs = nodes[0].log_text() + nodes[1].log_text()
    refused = [line for line in logs.splitlines() if "token_refused" in line]
    assert any("198.51.100.8" in line for line in refused)
    # The cookie works with the public URL as Origin, through the proxy.
    cookie = answer.headers["set-cookie"].split(";")[0]
    assert httpx.patch(url + "/v1/me", json={"name": "m"}, headers={"cookie": cookie, "origin": url}).status_code == 200


def test_two_nodes_hear_each_other_at_the_next_heads(proxy):
    """Without a fanout between them, entries of the other node are found by comparing heads."""
    _, (one, two) = proxy
    entity = uuid.uuid4()
    ada, bob = one.person(entity), token(uuid.uuid4(), entity)
    room = ada.room()
    with two.relay(bob) as far, ada.relay() as near:
        assert [c["room_id"] for c in far.ready["channels"]] == [room]
        near.say(room, "hello over there", "1")
        near.until("text")
        near.until("ack")
        assert far.receive(timeout=30)["data"] == "hello over there"
