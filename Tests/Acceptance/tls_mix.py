#!/usr/bin/env python3
"""A thousand connections of curl, openssl s_client and Chromium to a server with TLS, mixed, with and without sessions that
go on: no crash, right answers. `make test-tls` runs it; with a binary under AddressSanitizer: tls_mix.py BINARY."""

import random
import subprocess
import sys
import tempfile
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import martlet
from martlet import Server, make_certificate

COUNT = int(sys.argv[2]) if len(sys.argv) > 2 else 1000
CHROMIUM_SHARE = 0.02
AT_ONCE = 4
REQUEST = "GET /healthz HTTP/1.1\nHost: x\nConnection: close\n\n".replace("\n", "\r\n")


def curl(server, folder, chain):
    how = random.choice([[], ["--tlsv1.3"], ["--tls-max", "1.2"], ["--http1.1"], ["--http2"], ["--no-alpn"]])
    # Twice on one connection, or on two with one session.
    again = [server.url + "/healthz"] if random.random() < 0.5 else []
    answer = subprocess.run(
        ["curl", "-sf", "--cacert", chain, *how, server.url + "/healthz", *again], capture_output=True, text=True, timeout=30
    )
    assert answer.returncode == 0 and answer.stdout.count('"ok"') == 1 + len(again), (how, answer)
    return "curl " + " ".join(how)


def s_client(server, folder, chain):
    how = random.choice(["-tls1_2", "-tls1_3"])
    session = folder / f"session{how}"
    goes_on = ["-sess_in", session] if session.exists() and random.random() < 0.7 else []
    answer = subprocess.run(
        ["openssl", "s_client", "-connect", f"127.0.0.1:{server.port}", how, "-alpn", "h2,http/1.1", "-CAfile", chain,
         "-ign_eof", *goes_on, "-sess_out", session],
        input=REQUEST, capture_output=True, text=True, timeout=30,
    )
    assert "HTTP/1.1 200 OK" in answer.stdout and '"ok"' in answer.stdout, answer
    assert goes_on or "ALPN protocol: http/1.1" in answer.stdout, answer.stdout
    return f"s_client {how}{' resumed' if 'Reused, ' in answer.stdout else ''}"


def chromium(server, folder, chain):
    answer = subprocess.run(
        ["chromium", "--headless", "--no-sandbox", "--disable-gpu", "--ignore-certificate-errors",
         f"--user-data-dir={folder}/chromium", "--dump-dom", server.url + "/healthz"],
        capture_output=True, text=True, timeout=60,
    )
    assert '"ok"' in answer.stdout, answer
    return "chromium"


def run_some(server, folder, chain, count):
    """One client after the other, with sessions and a profile of their own."""
    folder.mkdir()
    counts = Counter()
    for _ in range(count):
        draw = random.random()
        client = chromium if draw < CHROMIUM_SHARE else curl if draw < 0.6 else s_client
        counts[client(server, folder, chain)] += 1
    return counts


def main():
    random.seed(7)
    if len(sys.argv) > 1:
        martlet.BINARY = sys.argv[1]
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        chain, key = make_certificate(folder)
        with Server(folder / "data", certificate=(chain, key), MARTLET_LOOPS="2") as server, ThreadPoolExecutor(AT_ONCE) as pool:
            runs = [pool.submit(run_some, server, folder / str(each), chain, COUNT // AT_ONCE) for each in range(AT_ONCE)]
            counts = sum((run.result() for run in runs), Counter())
            assert server.process.poll() is None, server.log_text()[-3000:]
        assert server.process.returncode == 0
        assert "AddressSanitizer" not in server.log_text(), server.log_text()[-5000:]
    for client, count in sorted(counts.items()):
        print(f"{count:5} {client}")
    print(f"{sum(counts.values()):5} connections of clients, all answered; the server ended with 0")


if __name__ == "__main__":
    main()
