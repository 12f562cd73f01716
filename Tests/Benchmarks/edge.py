#!/usr/bin/env python3
"""What the server's edge does beside nginx, in turn, with one loop and one worker: prepared answers beside static files,
TLS, a gigabyte down and up. Prints a table; needs a release build, nginx, wrk, curl and openssl (make bench-edge)."""

import argparse
import json
import os
import re
import shutil
import signal
import socket
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from urllib.request import urlopen

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT / "Tests/Acceptance"))

from martlet import make_certificate  # noqa: E402

BENCH = ROOT / ".build/release/MartletBench"
EDGE = ROOT / ".build/release/EdgeServer"
GIGABYTE = 1 << 30


def free_port():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


class Peer:
    """A server with a plain port and one with TLS."""

    def __init__(self, folder, certificate):
        self.folder, self.certificate = folder, certificate
        self.files = folder / "files"
        self.files.mkdir(parents=True)
        self.processes = []

    def stop(self):
        for process in self.processes:
            process.send_signal(signal.SIGTERM)
        for process in self.processes:
            try:
                process.wait(5)
            except subprocess.TimeoutExpired:
                process.kill()

    def pids(self):
        found = []
        for process in self.processes:
            found.append(process.pid)
            found += map(int, Path(f"/proc/{process.pid}/task/{process.pid}/children").read_text().split())
        return found

    def resident_megabytes(self):
        total = 0
        for pid in self.pids():
            total += int(re.search(r"VmRSS:\s+(\d+)", Path(f"/proc/{pid}/status").read_text())[1])
        return total / 1024


class Martlet(Peer):
    name = "martlet"

    def start(self):
        self.port, self.tls_port = self.run(None), self.run(self.certificate)
        return self

    def run(self, certificate):
        environment = {
            "PATH": os.environ["PATH"], "MARTLET_LISTEN": "127.0.0.1:0", "MARTLET_LOOPS": "1",
            "MARTLET_RATE_LIMITS": "off", "MARTLET_LOG_LEVEL": "warning",
        }
        if certificate:
            environment |= {"MARTLET_TLS_CERTIFICATE": certificate[0], "MARTLET_TLS_KEY": certificate[1]}
        process = subprocess.Popen([EDGE, self.files], env=environment, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL)
        self.processes.append(process)
        return int(re.search(r":(\d+)$", process.stdout.readline().decode())[1])

    def prepared(self, size):
        return f"/prepared/{size}"


class Nginx(Peer):
    name = "nginx"

    def start(self):
        self.port, self.tls_port = free_port(), free_port()
        (self.folder / "nginx.conf").write_text(
            f"""
daemon off;
{"user root;" if os.getuid() == 0 else ""}
worker_processes 1;
pid {self.folder}/pid;
error_log {self.folder}/error.log;
events {{ worker_connections 16000; }}
http {{
    access_log off;
    sendfile on;
    tcp_nopush on;
    client_max_body_size 4g;
    client_body_temp_path {self.folder}/body;
    proxy_temp_path {self.folder}/proxy;
    fastcgi_temp_path {self.folder}/fastcgi;
    uwsgi_temp_path {self.folder}/uwsgi;
    scgi_temp_path {self.folder}/scgi;
    keepalive_requests 100000000;
    open_file_cache max=100;
    default_type "text/html";
    server {{
        listen 127.0.0.1:{self.port} backlog=4096;
        listen 127.0.0.1:{self.tls_port} ssl backlog=4096;
        ssl_certificate {self.certificate[0]};
        ssl_certificate_key {self.certificate[1]};
        ssl_protocols TLSv1.2 TLSv1.3;
        ssl_ciphers ECDHE-RSA-AES128-GCM-SHA256:ECDHE-RSA-AES256-GCM-SHA384;
        location / {{ root {self.files}; }}
        location /files/ {{ alias {self.files}/; dav_methods PUT; }}
    }}
}}
"""
        )
        process = subprocess.Popen(
            ["nginx", "-c", self.folder / "nginx.conf", "-p", self.folder], stderr=subprocess.DEVNULL
        )
        self.processes.append(process)
        for _ in range(100):
            with socket.socket() as probe:
                if probe.connect_ex(("127.0.0.1", self.port)) == 0:
                    return self
            time.sleep(0.05)
        raise SystemExit("nginx does not start")

    def prepared(self, size):
        return f"/{size}"


def requests_per_second(peer, path, seconds):
    pids = ",".join(map(str, peer.pids()))
    command = [BENCH, "http", "--port", str(peer.port), "--pids", pids, "--connections", "64", "--seconds", str(seconds), "--path", path]
    return json.loads(subprocess.run(command, capture_output=True, text=True, check=True).stdout.splitlines()[0])["requests_per_s"]


def tls_requests_per_second(peer, path, seconds):
    command = ["wrk", "-t1", "-c64", f"-d{max(1, round(seconds))}s", f"https://127.0.0.1:{peer.tls_port}{path}"]
    output = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    assert "Non-2xx" not in output, output
    return float(re.search(r"Requests/sec:\s+([\d.]+)", output)[1])


def handshakes_per_second(peer, seconds, *options):
    command = ["openssl", "s_time", "-connect", f"127.0.0.1:{peer.tls_port}", "-time", str(max(2, round(seconds))), *options]
    output = subprocess.run(command, capture_output=True, text=True).stdout
    found = re.search(r"(\d+) connections in (\d+) real seconds", output)
    return int(found[1]) / int(found[2])


def seconds_of(command):
    start = time.monotonic()
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    return time.monotonic() - start


def download(peer, port, scheme):
    return GIGABYTE / (1 << 20) / seconds_of(["curl", "-sk", "-o", "/dev/null", f"{scheme}://127.0.0.1:{port}/files/gigabyte"])


def upload(peer, source):
    """MB/s, and by how much memory grew meanwhile at most."""
    before = peer.resident_megabytes()
    start = time.monotonic()
    client = subprocess.Popen(
        ["curl", "-sf", "-T", source, f"http://127.0.0.1:{peer.port}/files/upload", "-o", "/dev/null"]
    )
    most = before
    while client.poll() is None:
        most = max(most, peer.resident_megabytes())
        time.sleep(0.05)
    assert client.returncode == 0
    if peer.name == "nginx":
        # It answers before the disk has it.
        with open(peer.files / "upload") as file:
            os.fsync(file.fileno())
    took = time.monotonic() - start
    (peer.files / "upload").unlink()
    return GIGABYTE / (1 << 20) / took, most - before


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--seconds", type=float, default=2)
    options = parser.parse_args()
    folder = Path(tempfile.mkdtemp(prefix="martlet-edge-", dir=ROOT / ".build"))
    certificate = make_certificate(folder)
    peers = [Martlet(folder / "martlet", certificate), Nginx(folder / "nginx", certificate)]
    rows, memory = {}, {}

    def note(title, peer, value):
        rows.setdefault(title, {}).setdefault(peer.name, []).append(value)

    try:
        source = folder / "source"
        subprocess.run(["dd", "if=/dev/urandom", f"of={source}", "bs=1M", "count=1024"], check=True, capture_output=True)
        for peer in peers:
            os.link(source, peer.files / "gigabyte")
        # Read at its start; a gigabyte is nothing for memory.
        (peers[0].files / "gigabyte").rename(folder / "later")
        peers[0].start()
        (folder / "later").rename(peers[0].files / "gigabyte")
        for size in (100, 10_240, 102_400):
            with urlopen(f"http://127.0.0.1:{peers[0].port}/prepared/{size}") as answer:
                (peers[1].files / str(size)).write_bytes(answer.read())
        peers[1].start()
        for size in (100, 10_240, 102_400):
            with urlopen(f"http://127.0.0.1:{peers[1].port}/{size}") as answer:
                assert len(answer.read()) == size
        for number in range(options.rounds):
            turn = peers if number % 2 == 0 else peers[::-1]
            for size in (100, 10_240, 102_400):
                for peer in turn:
                    note(f"{size:,} bytes from memory, requests/s", peer, requests_per_second(peer, peer.prepared(size), options.seconds))
            for peer in turn:
                note("TLS handshakes/s, new sessions (openssl s_time)", peer, handshakes_per_second(peer, options.seconds, "-new"))
            for peer in turn:
                note("TLS handshakes/s, sessions that go on (TLS 1.2)", peer, handshakes_per_second(peer, options.seconds, "-reuse", "-tls1_2"))
            for size in (100, 10_240, 102_400):
                for peer in turn:
                    note(f"{size:,} bytes over TLS, requests/s (wrk)", peer, tls_requests_per_second(peer, peer.prepared(size), options.seconds))
            for peer in turn:
                note("1 GiB down, MB/s (curl)", peer, download(peer, peer.port, "http"))
            for peer in turn:
                note("1 GiB down over TLS, MB/s (curl)", peer, download(peer, peer.tls_port, "https"))
            for peer in turn:
                speed, grown = upload(peer, source)
                note("1 GiB up, on the disk, MB/s (curl)", peer, speed)
                memory.setdefault(peer.name, []).append(grown)
            took = seconds_of(["dd", f"if={source}", f"of={folder}/copy", "bs=1M", "conv=fsync"])
            rows.setdefault("1 GiB up, on the disk, MB/s (curl)", {}).setdefault("dd", []).append(1024 / took)
            print(f"  round {number + 1} of {options.rounds}", file=sys.stderr)
    finally:
        for peer in peers:
            peer.stop()
        shutil.rmtree(folder, ignore_errors=True)
    print(f"Median of {options.rounds} rounds of {options.seconds:g} s, one loop and one worker.\n")
    print("| Work | martlet | nginx | ratio | its range |\n|---|---|---|---|---|")
    for title, values in rows.items():
        ratios = sorted(a / b for a, b in zip(values["martlet"], values["nginx"]))
        cells = [f"{statistics.median(values[name]):,.0f}" for name in ("martlet", "nginx")]
        print(f"| {title} | {cells[0]} | {cells[1]} | {statistics.median(ratios):.2f} | {ratios[0]:.2f} to {ratios[-1]:.2f} |")
    print(f"\n`dd conv=fsync` of the same bytes: {statistics.median(rows['1 GiB up, on the disk, MB/s (curl)']['dd']):,.0f} MB/s.")
    print(f"Memory above idle while 1 GiB comes up: martlet {max(memory['martlet']):.1f} MB, nginx {max(memory['nginx']):.1f} MB.")


if __name__ == "__main__":
    main()
