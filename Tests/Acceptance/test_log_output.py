"""The server's own log: it waits for nobody who reads it, and is complete after a crash."""

import json
import os
import re
import signal
import subprocess

import httpx
import pytest

from martlet import BINARY


class Piped:
    """A server whose standard error is a pipe that is read when the test says so."""

    def __init__(self, folder, **settings):
        self.reader, writer = os.pipe()
        self.process = subprocess.Popen(
            [BINARY, "serve"], stdout=subprocess.PIPE, stderr=writer,
            env={"PATH": os.environ["PATH"], "MARTLET_LISTEN": "127.0.0.1:0", "MARTLET_DATA": str(folder / "data"),
                 "MARTLET_RATE_LIMITS": "off", "MARTLET_LOOPS": "2", "MARTLET_ACCESS_LOG_PER_SECOND": "1000000", **settings},
        )
        os.close(writer)
        self.url = re.search(r"http://\S+", self.process.stdout.readline().decode())[0]

    def request(self, count, http):
        for number in range(count):
            assert http.get("/healthz", headers={"x-request-id": f"r{number}"}).status_code == 200

    def read(self):
        """All that is written until the process ends."""
        received = b""
        while chunk := os.read(self.reader, 1 << 20):
            received += chunk
        os.close(self.reader)
        return [json.loads(line) for line in received.splitlines()]

    def end(self, how):
        self.process.send_signal(how)
        lines = self.read()
        self.process.stdout.close()
        return lines, self.process.wait(15)


def requests_of(lines):
    return [line["request_id"] for line in lines if line["event"] == "request"]


def test_a_log_that_nobody_reads_stops_nobody(tmp_path):
    server = Piped(tmp_path)
    with httpx.Client(base_url=server.url) as http:
        # The pipe holds 64 KiB, and 1 MiB more waits: of 8,000 lines of 230 bytes some are lost, and counted.
        server.request(8000, http)
    lines, status = server.end(signal.SIGTERM)
    assert status == 0
    seen = requests_of(lines)
    lost = sum(line["count"] for line in lines if line["event"] == "log_lines_lost")
    assert seen == [f"r{number}" for number in range(len(seen))] and len(seen) > 2000
    assert lost > 0 and len(seen) + lost >= 8000


@pytest.mark.parametrize("how", [signal.SIGSEGV, signal.SIGABRT, signal.SIGILL, signal.SIGTERM])
def test_what_waits_is_written_before_the_end(tmp_path, how):
    server = Piped(tmp_path)
    with httpx.Client(base_url=server.url) as http:
        server.request(2000, http)
        lines, status = server.end(how)
    assert requests_of(lines) == [f"r{number}" for number in range(2000)]
    assert not [line for line in lines if line["event"] == "log_lines_lost"]
    assert status == (0 if how == signal.SIGTERM else -how)


def test_what_was_answered_is_in_the_log_even_after_a_kill(tmp_path):
    with open(tmp_path / "log", "wb") as log:
        process = subprocess.Popen(
            [BINARY, "serve"], stdout=subprocess.PIPE, stderr=log,
            env={"PATH": os.environ["PATH"], "MARTLET_LISTEN": "127.0.0.1:0", "MARTLET_DATA": str(tmp_path / "data"),
                 "MARTLET_RATE_LIMITS": "off", "MARTLET_ACCESS_LOG_PER_SECOND": "1000000"},
        )
        url = re.search(r"http://\S+", process.stdout.readline().decode())[0]
        with httpx.Client(base_url=url) as http:
            for number in range(500):
                http.get("/healthz", headers={"x-request-id": f"r{number}"})
        process.kill()
        process.wait()
        process.stdout.close()
    lines = [json.loads(line) for line in (tmp_path / "log").read_text().splitlines()]
    assert requests_of(lines) == [f"r{number}" for number in range(500)]
