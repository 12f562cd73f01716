"""Streams, forms, files and prepared answers, by a server that has nothing else (Tests/EdgeServer)."""

import gzip
import os
import re
import signal
import socket
import ssl
import subprocess
import time

import httpx
import pytest

from martlet import ROOT, Server, eventually, make_certificate

EDGE = os.environ.get("MARTLET_EDGE", str(ROOT / ".build/release/EdgeServer"))


class Edge(Server):
    """The server's edge, with a folder for files."""

    def __init__(self, folder, certificate=None, **settings):
        super().__init__(folder / "unused", certificate=certificate, MARTLET_LOOPS="1", **settings)
        self.folder = folder
        for name in ("MARTLET_DATA",):
            self.environment.pop(name)

    def start(self):
        (self.folder / "files").mkdir(exist_ok=True)
        self.prefix, self.binary = [], EDGE
        self.log_path = self.folder / "edge.log"
        self.log = open(self.log_path, "ab")
        self.process = subprocess.Popen(
            [EDGE, self.folder / "files"], env=self.environment, stdout=subprocess.PIPE, stderr=self.log
        )
        line = self.process.stdout.readline().decode()
        match = re.fullmatch(r"listening on (https?)://127\.0\.0\.1:(\d+)\n", line)
        assert match, line + self.log_text()
        self.scheme, self.port = match[1], int(match[2])
        self.url = f"{match[1]}://127.0.0.1:{self.port}"
        return self

    def stop(self, how=signal.SIGKILL, timeout=12):
        assert self.process.poll() is None, self.log_text()
        return super().stop(how, timeout)


@pytest.fixture(scope="module", params=["plain", "tls"])
def edge(request, tmp_path_factory, certificate):
    folder = tmp_path_factory.mktemp("edge")
    # Read at the start; a hash in a name, one compressed before, one that is not text.
    files = folder / "files"
    (files / "sub").mkdir(parents=True)
    (files / "app.0123abcd.js").write_text("let a = 1;\n" * 1000)
    (files / "style.css").write_text("a { b: c }\n" * 100)
    (files / "style.css.gz").write_bytes(gzip.compress(b"a { b: c }\n" * 100, 9))
    (files / "sub" / "logo.png").write_bytes(os.urandom(5000))
    (files / ".hidden").write_text("secret")
    with Edge(folder, certificate if request.param == "tls" else None) as running:
        yield running


CONTENT = os.urandom(1_000_000)


@pytest.fixture(scope="module")
def file(edge):
    (edge.folder / "files" / "content").write_bytes(CONTENT)
    os.utime(edge.folder / "files" / "content", (1_700_000_000, 1_700_000_000))
    with edge.http() as http:
        answer = http.get("/files/content")
        assert answer.content == CONTENT and answer.headers["accept-ranges"] == "bytes"
        assert answer.headers["last-modified"] == "Tue, 14 Nov 2023 22:13:20 GMT"
        return answer.headers["etag"]


# Files


@pytest.mark.parametrize(
    "text, part",
    [
        ("bytes=0-0", (0, 1)), ("bytes=0-", (0, 1_000_000)), ("bytes=999999-", (999_999, 1_000_000)),
        ("bytes=10-19", (10, 20)), ("bytes=999990-2000000", (999_990, 1_000_000)), ("bytes=-1", (999_999, 1_000_000)),
        ("bytes=-5000000", (0, 1_000_000)), ("Bytes=5-5", (5, 6)), ("bytes=0-99999999999999999999999", (0, 1_000_000)),
    ],
)
def test_a_part_of_a_file(edge, file, text, part):
    with edge.http() as http:
        answer = http.get("/files/content", headers={"range": text})
    assert answer.status_code == 206 and answer.content == CONTENT[part[0] : part[1]]
    assert answer.headers["content-range"] == f"bytes {part[0]}-{part[1] - 1}/1000000"
    assert int(answer.headers["content-length"]) == part[1] - part[0]


@pytest.mark.parametrize(
    "text",
    ["bytes", "bytes=", "bytes=-", "bytes=a-b", "bytes=5-4", "items=0-1", "bytes=0-1,5-6", "bytes=0x0-1", "bytes=--1", "bytes=1--1",
     "bytes=" + ",".join(f"{number}-{number}" for number in range(100))],
)
def test_ranges_that_are_none_or_many_give_the_whole(edge, file, text):
    with edge.http() as http:
        answer = http.get("/files/content", headers={"range": text})
    assert answer.status_code == 200 and len(answer.content) == 1_000_000 and "content-range" not in answer.headers


@pytest.mark.parametrize("text", ["bytes=1000000-", "bytes=1000000-1000001", "bytes=-0", "bytes=99999999999999999999-"])
def test_ranges_beyond_the_end(edge, file, text):
    with edge.http() as http:
        answer = http.get("/files/content", headers={"range": text})
    assert answer.status_code == 416 and answer.headers["content-range"] == "bytes */1000000"
    assert answer.json()["error"]["code"] == "range_not_satisfiable"


def test_conditions(edge, file):
    before, same, after = ("Mon, 13 Nov 2023 22:13:20 GMT", "Tue, 14 Nov 2023 22:13:20 GMT", "Wed, 15 Nov 2023 22:13:20 GMT")
    obsolete = "Tuesday, 14-Nov-23 22:13:20 GMT", "Tue Nov 14 22:13:20 2023"
    ranged = {"range": "bytes=0-9"}
    with edge.http() as http:
        for headers, expected in [
            ({"if-none-match": file}, 304), ({"if-none-match": "W/" + file}, 304), ({"if-none-match": "*"}, 304),
            ({"if-none-match": f'"a", {file}'}, 304), ({"if-none-match": '"a", "b"'}, 200), ({"if-none-match": "nonsense"}, 200),
            ({"if-modified-since": same}, 304), ({"if-modified-since": after}, 304), ({"if-modified-since": before}, 200),
            ({"if-modified-since": obsolete[0]}, 304), ({"if-modified-since": obsolete[1]}, 304),
            ({"if-modified-since": "yesterday"}, 200), ({"if-none-match": '"a"', "if-modified-since": same}, 200),
            ({"if-match": file}, 200), ({"if-match": "*"}, 200), ({"if-match": '"a"'}, 412), ({"if-match": "W/" + file}, 412),
            ({"if-unmodified-since": before}, 412), ({"if-unmodified-since": same}, 200),
            ({"if-match": file, "if-unmodified-since": before}, 200),
            ({**ranged, "if-range": file}, 206), ({**ranged, "if-range": '"a"'}, 200), ({**ranged, "if-range": "W/" + file}, 200),
            ({**ranged, "if-range": same}, 206), ({**ranged, "if-range": after}, 200), ({**ranged, "if-none-match": file}, 304),
        ]:
            answer = http.get("/files/content", headers=headers)
            assert answer.status_code == expected, headers
            if expected == 304:
                assert answer.headers["etag"] == file and "content-length" not in answer.headers and answer.content == b""
        answer = http.head("/files/content", headers=ranged)
        assert answer.status_code == 200 and answer.headers["content-length"] == "1000000" and answer.content == b""


def test_files_of_all_sizes_and_connections_that_go_on(edge):
    with edge.http() as http:
        for size in (0, 1, 4095, 4096, 4097, 65_536, 3_000_000):
            content = os.urandom(size)
            assert http.put(f"/files/size-{size}", content=content).json()["data"]["bytes"] == size
            assert http.get(f"/files/size-{size}").content == content
        assert http.get("/files/size-0", headers={"range": "bytes=0-"}).status_code == 416
        assert http.get("/files/nothing").status_code == 404


def test_a_file_that_is_not_in_memory(edge):
    """In whole, and with holes in what the kernel has of it."""
    path = edge.folder / "files" / "cold"
    path.write_bytes(CONTENT)
    with open(path) as file, edge.http() as http:
        for forgotten in ([(0, 0)], [(65536 * part, 65536) for part in range(0, 16, 3)]):
            os.fsync(file.fileno())
            for start, count in forgotten:
                os.posix_fadvise(file.fileno(), start, count, os.POSIX_FADV_DONTNEED)
            assert http.get("/files/cold").content == CONTENT


def test_a_file_that_becomes_shorter_is_cut_off(edge):
    path = edge.folder / "files" / "shrinks"
    path.write_bytes(b"x" * 50_000_000)
    connection = edge.raw()
    connection.sendall(b"GET /files/shrinks HTTP/1.1\r\nHost: x\r\n\r\n")
    assert connection.recv(1000).startswith(b"HTTP/1.1 200")
    os.truncate(path, 1000)
    total = 0
    try:
        while chunk := connection.recv(1 << 20):
            total += len(chunk)
    except OSError:
        pass
    assert total < 50_000_000
    assert edge.process.poll() is None


# Streams


def test_streams_out(edge):
    with edge.http() as http:
        for query, known in (("bytes=1000000&piece=1000", False), ("bytes=1000000&length=known", True), ("bytes=0", False)):
            answer = http.get(f"/stream?{query}")
            assert len(answer.content) == (0 if query == "bytes=0" else 1_000_000)
            assert ("content-length" in answer.headers) == known
            assert (answer.headers.get("transfer-encoding") == "chunked") != known
        # Nothing is sent to HEAD, and the connection goes on.
        assert http.head("/stream?bytes=100").content == b""
        for query in ("bytes=1000000&broken=1", "bytes=1000000&broken=1&length=known"):
            with pytest.raises(httpx.RemoteProtocolError):
                http.get(f"/stream?{query}")
    # Clients of HTTP/1.0 know no chunks: the end of the connection is that of the body.
    answer, closed = edge.exchange(b"GET /stream?bytes=100 HTTP/1.0\r\nConnection: keep-alive\r\n\r\n")
    assert closed and answer.endswith(b"\r\n\r\n" + b"s" * 100) and b"chunked" not in answer
    assert "broken on purpose" in edge.log_text()


def test_a_slow_reader_costs_a_buffer_only(edge):
    """Streams of a gigabyte to readers that stand still."""
    before = edge.resident_megabytes()
    readers = []
    for _ in range(20):
        connection = edge.raw()
        connection.sendall(b"GET /stream?bytes=1000000000 HTTP/1.1\r\nHost: x\r\n\r\n")
        readers.append(connection)
    for connection in readers:
        connection.recv(1000)
    assert edge.resident_megabytes() - before < 20
    # Clients that leave end their streams.
    for connection in readers:
        connection.close()
    with edge.http() as http:
        assert http.get("/stream?bytes=10").content == b"s" * 10


@pytest.mark.parametrize("path", ["/files/content", "/stream?bytes=1000000000"])
def test_slow_readers_share_a_budget(tmp_path, certificate, path):
    """An address gets an eighth of `MARTLET_BUFFER_BYTES`, here 8 MiB; beyond it 503, before an answer has begun."""
    (tmp_path / "files").mkdir()
    with Edge(tmp_path, certificate, MARTLET_BUFFER_BYTES=64 * 1024 * 1024) as server:
        (tmp_path / "files" / "content").write_bytes(b"x" * 20_000_000)
        request = f"GET {path} HTTP/1.1\r\nHost: x\r\n\r\n".encode()
        before = server.resident_megabytes()
        readers = [server.raw() for _ in range(200)]
        for reader in readers:
            reader.sendall(request)
        heads = [reader.recv(1000)[:12] for reader in readers]
        assert 20 < heads.count(b"HTTP/1.1 200") < 100 and set(heads) == {b"HTTP/1.1 200", b"HTTP/1.1 503"}
        assert server.resident_megabytes() - before < 25
        for reader in readers:
            reader.close()
        # What they held is there again.
        for _ in range(3):
            with server.raw() as reader:
                reader.sendall(request)
                assert reader.recv(1000).startswith(b"HTTP/1.1 200")


def test_what_is_read_ahead_shares_a_budget(tmp_path):
    """Bodies that are taken slowly, and requests behind one that takes long: an address gets 8 MiB, and a little for each
    connection."""
    (tmp_path / "files").mkdir()
    with Edge(tmp_path, MARTLET_BUFFER_BYTES=64 * 1024 * 1024) as server:
        later = b"GET /never HTTP/1.1\r\nHost: x\r\nX-Padding: " + b"x" * 15_000 + b"\r\n\r\n"
        for begin in (
            b"POST /slow HTTP/1.1\r\nHost: x\r\nContent-Length: 100000000\r\n\r\n" + b"x" * 300_000,
            b"GET /never HTTP/1.1\r\nHost: x\r\n\r\n" + later * 20,
        ):
            before = server.resident_megabytes()
            crowd = [server.raw() for _ in range(600)]
            for connection in crowd:
                connection.setblocking(False)
                connection.send(begin)
            time.sleep(0.5)
            assert server.resident_megabytes() - before < 8 + 600 * 48 / 1024
            for connection in crowd:
                connection.close()


def test_a_slow_writer_to_disk_has_its_client_wait(edge):
    before = edge.resident_megabytes()
    sent = 0
    connection = edge.raw()
    connection.settimeout(0.3)
    connection.sendall(b"POST /slow HTTP/1.1\r\nHost: x\r\nContent-Length: 300000000\r\n\r\n")
    end = time.monotonic() + 2
    try:
        while time.monotonic() < end:
            sent += connection.send(b"x" * 65_536)
    except TimeoutError:
        pass
    # It takes 3 MB a second. The rest is what the kernels hold, and 256 KiB.
    assert sent < 30_000_000 and edge.resident_megabytes() - before < 10
    connection.close()


def test_a_reader_that_stops_early(edge):
    with edge.http() as http:
        # Little is left: it is dropped, and the connection goes on.
        assert http.post("/first", content=b"x" * 1000).json()["data"]["bytes"] == 1000
    connection = edge.raw()
    connection.settimeout(10)
    connection.sendall(b"POST /first HTTP/1.1\r\nHost: x\r\nContent-Length: 100000000\r\n\r\n" + b"x" * 100_000)
    received = connection.recv(65_536)
    assert received.startswith(b"HTTP/1.1 200") and b"connection: close" in received
    connection.close()
    # A client that goes on sending gets its answer, too.
    answer = httpx.post(edge.url + "/first", content=b"x" * 20_000_000, verify=False)
    assert answer.status_code == 200


def test_a_client_that_leaves_in_the_middle(edge):
    for _ in range(20):
        connection = edge.raw()
        connection.sendall(b"PUT /files/left HTTP/1.1\r\nHost: x\r\nContent-Length: 1000000\r\n\r\n" + b"x" * 1000)
        connection.close()
    with edge.http() as http:
        assert http.get("/prepared/100").status_code == 200
    assert edge.process.poll() is None


def test_work_that_never_ends_is_given_up(tmp_path):
    with Edge(tmp_path, MARTLET_REQUEST_SECONDS=1) as edge:
        answer, closed = edge.exchange(b"GET /never HTTP/1.1\r\nHost: x\r\n\r\n", wait=5)
        assert answer.startswith(b"HTTP/1.1 503") and closed


def test_uploads_in_chunks_and_with_a_length(edge):
    content = os.urandom(5_000_000)
    pieces = (content[start : start + 70_001] for start in range(0, len(content), 70_001))
    with edge.http() as http:
        assert http.put("/files/chunks", content=pieces).json()["data"]["bytes"] == len(content)
    assert (edge.folder / "files" / "chunks").read_bytes() == content
    with edge.http() as http:
        assert http.put("/files/length", content=content).json()["data"]["bytes"] == len(content)
    assert (edge.folder / "files" / "length").read_bytes() == content


def test_a_body_that_stands_still(tmp_path):
    with Edge(tmp_path, MARTLET_REQUEST_SECONDS=1) as edge:
        for head in (b"Content-Length: 100", b"Transfer-Encoding: chunked"):
            answer, closed = edge.exchange(b"PUT /files/a HTTP/1.1\r\nHost: x\r\n" + head + b"\r\n\r\n5\r\nhe", wait=5)
            assert answer.startswith(b"HTTP/1.1 408") and closed
        # One that moves may take longer.
        with edge.raw() as connection:
            connection.sendall(b"PUT /files/a HTTP/1.1\r\nHost: x\r\nContent-Length: 5\r\n\r\n")
            for byte in b"hello":
                time.sleep(0.5)
                connection.sendall(bytes([byte]))
            assert connection.recv(1000).startswith(b"HTTP/1.1 200")


# Forms


def test_forms_by_a_client(edge):
    big = os.urandom(3_000_000)
    with edge.http() as http:
        answer = http.post(
            "/form",
            data={"name": "naïve", "empty": ""},
            files=[("file", ('a "quoted" \\ name.bin', big, "image/png")), ("other", ("b.txt", b"\r\n--", None))],
        )
    assert answer.json()["data"] == [
        {"name": "name", "filename": "-", "type": "-", "bytes": 6, "sum": sum("naïve".encode())},
        {"name": "empty", "filename": "-", "type": "-", "bytes": 0, "sum": 0},
        {"name": "file", "filename": 'a "quoted" \\ name.bin', "type": "image/png", "bytes": 3_000_000, "sum": sum(big)},
        {"name": "other", "filename": "b.txt", "type": "text/plain", "bytes": 4, "sum": sum(b"\r\n--")},
    ]


def part(headers=b'Content-Disposition: form-data; name="a"', content=b"x", boundary=b"B"):
    return b"--" + boundary + b"\r\n" + headers + b"\r\n\r\n" + content + b"\r\n"


def post_form(edge, body, boundary="B", **headers):
    with edge.http() as http:
        return http.post(
            "/form", content=body, headers={"content-type": f"multipart/form-data; boundary={boundary}", **headers}
        )


def test_forms_that_are_odd_and_right(edge):
    boundaries_inside = b"\r\n--C\r\r\n--\r\n-B--B\r\n--A" * 100
    for body, expected in [
        (b"--B--\r\n", []), (b"--B--", []), (part() + b"--B--\r\nwhat follows is nothing", [("a", 1)]),
        (part(content=b"") + part(content=b"\r\n") + b"--B--", [("a", 0), ("a", 2)]),
        (part(content=boundaries_inside) + b"--B--", [("a", len(boundaries_inside))]),
        (b"--B  \t\r\n" + part()[5:] + b"--B--", [("a", 1)]),
        (part(b"content-disposition:form-data;name=a;filename=b") + b"--B--", [("a", 1)]),
        (part(b'X-Other: y\r\nContent-Disposition: form-data; name="a"; size=1') + b"--B--", [("a", 1)]),
    ]:
        for send in (lambda: body, lambda: (bytes([byte]) for byte in body)):
            answer = post_form(edge, send())
            assert answer.status_code == 200, (body, answer.text)
            assert [(found["name"], found["bytes"]) for found in answer.json()["data"]] == expected
    long = "b" * 70
    assert post_form(edge, part(boundary=long.encode()) + f"--{long}--".encode(), long).status_code == 200
    assert post_form(edge, part(boundary=b"a b=c") + b"--a b=c--", '"a b=c"').status_code == 200


@pytest.mark.parametrize(
    "body",
    [
        b"", b"x", b"--A--", b"--B", b"--B\r\n", part(), part()[:-2], part() + b"--B", part() + b"--B-",
        b"preamble\r\n" + part() + b"--B--", part(b"") + b"--B--", part(b"Content-Disposition: form-data") + b"--B--",
        part(b'Content-Disposition: attachment; name="a"') + b"--B--", part(b'Content-Disposition: form-data; name="a') + b"--B--",
        part(b'Content-Disposition: form-data; name="a"; name="b"') + b"--B--", part(b"Content-Disposition form-data") + b"--B--",
        part(b'Content-Disposition: form-data; name="\xff"') + b"--B--", part(b'Content-Disposition: form-data; name="a" b') + b"--B--",
        part(b'Content-Disposition: form-data; name="' + b"a" * 2000 + b'"') + b"--B--",
        part(b'Content-Disposition: form-data; name="a"\r\nContent-Disposition: form-data; name="b"') + b"--B--",
        part() * 10_000 + b"--B--", b"--B" + b" " * 100 + b"\r\n" + part()[5:] + b"--B--", b"--Bx\r\n" + part()[5:] + b"--B--",
        b"--B\r\nX: " + b"a" * 1_000_000, b"--B\r\n" + b"X: a\r\n" * 10_000, b"--B\n" + part()[5:] + b"--B--",
    ],
)
def test_forms_that_are_broken(edge, body):
    answer = post_form(edge, body)
    assert answer.status_code == 400, answer.text
    assert edge.resident_megabytes() < 100


def test_boundaries_that_are_none(edge):
    for boundary in ("", "b" * 71, "b" * 200, '"a', '""', '"a "', "a<b", "a@b"):
        assert post_form(edge, b"--B--", boundary).status_code == 400, boundary
    with edge.http() as http:
        for kind in ("multipart/form-data", "multipart/mixed; boundary=B", "application/json", "text/plain"):
            expected = 400 if kind == "multipart/form-data" else 415
            assert http.post("/form", content=b"--B--", headers={"content-type": kind}).status_code == expected
        assert http.post("/form", content=b"--B--").status_code == 415


# What is prepared


def test_prepared_answers(edge):
    with edge.http() as http:
        plain = {}
        for size in (100, 10_240, 102_400):
            answer = http.get(f"/prepared/{size}", headers={"accept-encoding": "identity"})
            assert answer.status_code == 200 and len(answer.content) == size and "content-encoding" not in answer.headers
            plain[size] = answer.content
            assert answer.headers["cache-control"] == "public, max-age=15" and len(answer.headers["x-request-id"]) == 36
            assert answer.headers["x-content-type-options"] == "nosniff" and "date" in answer.headers
            assert ("vary" in answer.headers) == (size > 256)
            assert ("strict-transport-security" in answer.headers) == (edge.scheme == "https")
        tags = set()
        for accepted, coding in [("gzip", "gzip"), ("br", "br"), ("gzip, br", "br"), ("br;q=0, gzip", "gzip"), ("*", "br"), ("", None)]:
            with http.stream("GET", "/prepared/10240", headers={"accept-encoding": accepted}) as answer:
                raw = b"".join(answer.iter_raw())
            assert answer.headers.get("content-encoding") == coding and answer.headers["vary"] == "accept-encoding"
            assert len(raw) == int(answer.headers["content-length"]) and (coding is None or len(raw) < 10_240)
            if coding == "gzip":
                assert gzip.decompress(raw) == plain[10_240]
            tags.add(answer.headers["etag"])
            known = http.get(
                "/prepared/10240", headers={"accept-encoding": accepted, "if-none-match": answer.headers["etag"]}
            )
            assert known.status_code == 304 and known.content == b"" and known.headers["etag"] == answer.headers["etag"]
            assert known.headers["cache-control"] == "public, max-age=15" and "content-length" not in known.headers
        # Strong, so one for each coding.
        assert len(tags) == 3 and not any(tag.startswith("W/") for tag in tags)
        assert http.get("/prepared/10240", headers={"if-none-match": '"other"'}).status_code == 200
        head = http.head("/prepared/102400", headers={"accept-encoding": "identity"})
        assert head.content == b"" and head.headers["content-length"] == "102400"
        missing = http.get("/prepared/nothing")
        assert missing.status_code == 404 and missing.json()["error"]["code"] == "not_found"
        assert http.post("/prepared/100").status_code == 405
        assert http.get("/prepared/100", headers={"x-request-id": "mine"}).headers["x-request-id"] == "mine"


def test_prepared_answers_in_a_row_and_to_old_clients(edge):
    request = b"GET /prepared/102400 HTTP/1.1\r\nHost: x\r\n\r\n"
    with edge.raw() as connection:
        connection.sendall(request * 50 + request.replace(b"\r\n\r\n", b"\r\nConnection: close\r\n\r\n"))
        received = b""
        while chunk := connection.recv(1 << 20):
            received += chunk
    assert received.count(b"HTTP/1.1 200 OK\r\n") == 51 and len(received) > 51 * 102_400
    answer, closed = edge.exchange(b"GET /prepared/100 HTTP/1.0\r\n\r\n")
    assert closed and b"connection: close" in answer


def test_assets(edge):
    with edge.http() as http:
        script = http.get("/assets/app.0123abcd.js")
        assert script.headers["content-type"] == "text/javascript; charset=utf-8" and script.text.startswith("let a")
        assert script.headers["cache-control"] == "public, max-age=31536000, immutable"
        with http.stream("GET", "/assets/style.css", headers={"accept-encoding": "gzip"}) as style:
            raw = b"".join(style.iter_raw())
        assert raw == (edge.folder / "files" / "style.css.gz").read_bytes() and style.headers["cache-control"] == "no-cache"
        logo = http.get("/assets/sub/logo.png", headers={"accept-encoding": "gzip, br"})
        assert logo.headers["content-type"] == "image/png" and "content-encoding" not in logo.headers and len(logo.content) == 5000
        for path in (
            "/assets/", "/assets", "/assets/none.js", "/assets/sub", "/assets/sub/", "/assets//style.css", "/assets/.hidden",
            "/assets/../etc/passwd", "/assets/%2e%2e/x", "/assets/style.css.gz", "/assets/style.css%00",
        ):
            raw_path = edge.exchange(f"GET {path} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n".encode())[0]
            assert raw_path.startswith(b"HTTP/1.1 404"), path


@pytest.mark.parametrize("version", [ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3])
def test_ticket_keys_are_renewed(tmp_path, version):
    """Sessions of before begin anew, with the certificates of before; those of after go on."""
    leaf, key = make_certificate(tmp_path, "leaf")
    authority, _ = make_certificate(tmp_path, "authority")
    chain = tmp_path / "chain.pem"
    chain.write_text(leaf.read_text() + authority.read_text())
    context = ssl.create_default_context(cafile=leaf)
    context.minimum_version = context.maximum_version = version

    def open_session(server, session=None):
        """Whether it went on, and the session to go on with."""
        raw = socket.create_connection(("127.0.0.1", server.port), timeout=10)
        with context.wrap_socket(raw, server_hostname="127.0.0.1", session=session) as tls:
            tls.sendall(b"GET /prepared/100 HTTP/1.1\r\nHost: x\r\n\r\n")
            assert tls.recv(65536).startswith(b"HTTP/1.1 200")
            return tls.session_reused, tls.session

    def shown(server):
        command = ["openssl", "s_client", "-connect", f"127.0.0.1:{server.port}", "-showcerts"]
        answer = subprocess.run(command, input="", capture_output=True, text=True, timeout=20).stdout
        return re.findall("-----BEGIN CERTIFICATE-----[^-]+", answer)

    with Edge(tmp_path, (chain, key)) as server:
        certificates = shown(server)
        assert len(certificates) >= 2
        for _ in range(3):
            _, session = open_session(server)
            assert open_session(server, session)[0]
            server.process.send_signal(signal.SIGUSR1)
            eventually(lambda: not open_session(server, session)[0])
            assert shown(server) == certificates
