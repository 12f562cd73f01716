"""RFC 6455 in the manner of the Autobahn suite, with frames made by hand: on /chat, where every text
frame is answered, so that whole messages can be told from broken ones."""

import json
import os
import socket
import struct

import pytest

HANDSHAKE = (
    b"GET /chat HTTP/1.1\r\nHost: x\r\nUpgrade: websocket\r\nConnection: keep-alive, Upgrade\r\n"
    b"Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n"
)


def frame(first, payload=b"", mask=True):
    head = bytes([first])
    bit = 0x80 if mask else 0
    if len(payload) < 126:
        head += bytes([bit | len(payload)])
    elif len(payload) < 65536:
        head += bytes([bit | 126]) + struct.pack(">H", len(payload))
    else:
        head += bytes([bit | 127]) + struct.pack(">Q", len(payload))
    if not mask:
        return head + payload
    key = os.urandom(4)
    return head + key + bytes(byte ^ key[index & 3] for index, byte in enumerate(payload))


class Socket:
    def __init__(self, server):
        self.raw = server.raw()
        self.raw.settimeout(5)
        self.raw.sendall(HANDSHAKE)
        self.buffer = b""
        while b"\r\n\r\n" not in self.buffer:
            self.buffer += self.raw.recv(65536)
        head, self.buffer = self.buffer.split(b"\r\n\r\n", 1)
        assert b" 101 " in head and b"s3pPLMBiTxaQ9kYGzzhZRbK+xOo=" in head
        assert self.frame() == (0x81, b'{"type":"query","data":"START?"}')

    def take(self, count):
        while len(self.buffer) < count:
            chunk = self.raw.recv(65536)
            if not chunk:
                raise EOFError
            self.buffer += chunk
        taken, self.buffer = self.buffer[:count], self.buffer[count:]
        return taken

    def frame(self):
        first, second = self.take(2)
        length = second & 127
        assert second & 128 == 0, "a server does not mask"
        if length == 126:
            length = struct.unpack(">H", self.take(2))[0]
        elif length == 127:
            length = struct.unpack(">Q", self.take(8))[0]
        return first, self.take(length)

    def send(self, *frames, chunk=None):
        data = b"".join(frames)
        for start in range(0, len(data), chunk or len(data)):
            self.raw.sendall(data[start : start + (chunk or len(data))])

    def closes_with(self, code):
        while True:
            first, payload = self.frame()
            if first == 0x88:
                break
        if code is None:
            assert payload == b""
        else:
            assert struct.unpack(">H", payload[:2])[0] == code, payload
        with pytest.raises(EOFError):
            self.frame()
        self.raw.close()


TOKEN_NEEDED = (0x81, b'{"type":"query","data":"TOKEN?"}')
UNKNOWN = b'{"type":"x"}'


@pytest.mark.parametrize("chunk", [None, 1, 2, 5])
def test_messages_in_any_cut(server, chunk):
    socket = Socket(server)
    big = json.dumps({"type": "x", "pad": "y" * 70000}).encode()
    socket.send(frame(0x81, UNKNOWN), chunk=chunk)
    assert socket.frame() == TOKEN_NEEDED
    socket.send(frame(0x01, UNKNOWN[:4]), frame(0x00, b""), frame(0x00, UNKNOWN[4:7]), frame(0x80, UNKNOWN[7:]), chunk=chunk)
    assert socket.frame() == TOKEN_NEEDED
    socket.send(frame(0x81, big), chunk=None if chunk is None else chunk * 1000)
    assert socket.frame() == TOKEN_NEEDED
    socket.send(frame(0x81, '{"type":"é😀"}'.encode()), chunk=chunk)
    assert socket.frame() == TOKEN_NEEDED
    socket.raw.close()


def test_control_frames_between_fragments(server):
    socket = Socket(server)
    socket.send(frame(0x01, UNKNOWN[:5]), frame(0x89, b"ping" * 31), frame(0x8A, b"unasked"), frame(0x80, UNKNOWN[5:]))
    assert socket.frame() == (0x8A, b"ping" * 31)
    assert socket.frame() == TOKEN_NEEDED
    for payload in (b"", b"\x00\xff\xfe", b"x" * 125):
        socket.send(frame(0x89, payload))
        assert socket.frame() == (0x8A, payload)
    socket.raw.close()


def test_many_pings_at_once(server):
    """Those that came right behind each other may have one answer, which is the last's (RFC 6455, 5.5.3)."""
    socket = Socket(server)
    pings = (frame(0x89, struct.pack(">I", number)) for number in range(20_000))
    socket.send(*pings, frame(0x81, UNKNOWN))
    answered = []
    while (received := socket.frame()) != TOKEN_NEEDED:
        assert received[0] == 0x8A
        answered.append(struct.unpack(">I", received[1])[0])
    assert answered == sorted(set(answered)) and answered[-1] == 19_999
    socket.raw.close()


@pytest.mark.parametrize("bits", [0x40, 0x20, 0x10, 0x70])
def test_reserved_bits(server, bits):
    socket = Socket(server)
    socket.send(frame(0x81 | bits, UNKNOWN))
    socket.closes_with(1002)


@pytest.mark.parametrize("opcode", [3, 4, 5, 6, 7, 11, 12, 13, 14, 15])
def test_reserved_opcodes(server, opcode):
    socket = Socket(server)
    socket.send(frame(0x80 | opcode))
    socket.closes_with(1002)


@pytest.mark.parametrize(
    "frames",
    [
        [frame(0x81, UNKNOWN, mask=False)],
        [frame(0x80, UNKNOWN)],
        [frame(0x00, UNKNOWN)],
        [frame(0x01, b"{"), frame(0x81, UNKNOWN)],
        [frame(0x01, b"{"), frame(0x02, UNKNOWN)],
        [frame(0x09, b"x")],
        [frame(0x08, b"")],
        [frame(0x89, b"x" * 126)],
        [frame(0x88, b"x" * 126)],
        [b"\x81\xff\x80\x00\x00\x00\x00\x00\x00\x00"],
    ],
)
def test_protocol_errors(server, frames):
    socket = Socket(server)
    socket.send(*frames)
    socket.closes_with(1002)


@pytest.mark.parametrize("code", [1000, 1001, 1002, 1003, 1007, 1008, 1009, 1010, 1011, 3000, 3999, 4000, 4999])
def test_close_codes_that_may_be_sent(server, code):
    socket = Socket(server)
    socket.send(frame(0x88, struct.pack(">H", code) + "wörds".encode()))
    socket.closes_with(code)


def test_close_without_code(server):
    socket = Socket(server)
    socket.send(frame(0x88))
    socket.closes_with(None)


@pytest.mark.parametrize("code", [0, 999, 1004, 1005, 1006, 1015, 1016, 1100, 2000, 2999, 5000, 65535])
def test_close_codes_that_may_not_be_sent(server, code):
    socket = Socket(server)
    socket.send(frame(0x88, struct.pack(">H", code)))
    socket.closes_with(1002)


def test_close_frames_that_are_wrong(server):
    for payload, code in ((b"\x03", 1002), (b"\x03\xe8\xce\xba\xe1", 1007)):
        socket = Socket(server)
        socket.send(frame(0x88, payload))
        socket.closes_with(code)


@pytest.mark.parametrize(
    "text",
    [b"\xff", b"\xc0\xaf", b"\xe0\x80\xaf", b"\xed\xa0\x80", b"\xed\xbf\xbf", b"\xf4\x90\x80\x80", b"\xf8\x88\x80\x80\x80", b"\x80", b"\xc3", b"a\xe2\x82", b"x" * 20 + b"\xfe"],
)
def test_text_that_is_not_utf8(server, text):
    socket = Socket(server)
    socket.send(frame(0x81, text))
    socket.closes_with(1007)
    socket = Socket(server)
    socket.send(*[frame(0x01 if index == 0 else 0x00, text[index : index + 1]) for index in range(len(text))], frame(0x80))
    socket.closes_with(1007)


def test_character_split_over_fragments(server):
    socket = Socket(server)
    text = '{"type":"κόσμε"}'.encode()
    socket.send(*[frame(0x01 if i == 0 else 0x00, text[i : i + 1]) for i in range(len(text))], frame(0x80))
    assert socket.frame() == TOKEN_NEEDED
    socket.raw.close()


def test_too_big(server):
    for frames in (
        [frame(0x81, b"x" * (128 * 1024 + 1))],
        [frame(0x01, b"x" * 100000), frame(0x80, b"x" * 100000)],
        [b"\x81\xff\x00\x00\x00\x00\x7f\xff\xff\xff"],
        [b"\x81\xff\x7f\xff\xff\xff\xff\xff\xff\xff"],
    ):
        socket = Socket(server)
        try:
            socket.send(*frames)
        except (BrokenPipeError, ConnectionResetError):
            pass
        socket.closes_with(1009)


def test_nothing_counts_after_close(server):
    socket = Socket(server)
    socket.send(frame(0x88, struct.pack(">H", 1000)), frame(0x81, UNKNOWN))
    socket.closes_with(1000)


@pytest.mark.parametrize(
    "change, status",
    [
        ((b"Sec-WebSocket-Version: 13", b"Sec-WebSocket-Version: 12"), 426),
        ((b"Sec-WebSocket-Version: 13\r\n", b""), 426),
        ((b"dGhlIHNhbXBsZSBub25jZQ==", b"short"), 400),
        ((b"Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n", b""), 400),
        ((b"Upgrade: websocket\r\n", b""), 426),
        ((b"keep-alive, Upgrade", b"keep-alive"), 426),
        ((b"GET", b"POST"), 405),
        ((b"GET", b"HEAD"), 405),
        ((b"HTTP/1.1", b"HTTP/1.0"), 426),
        ((b"\r\n\r\n", b"\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n"), 400),
        ((b"\r\n\r\n", b"\r\nSec-WebSocket-Version: 13\r\n\r\n"), 400),
        ((b"\r\n\r\n", b"\r\nOrigin: a\r\nOrigin: b\r\n\r\n"), 400),
        ((b"\r\n\r\n", b"\r\nContent-Length: 2\r\n\r\n{}"), 400),
        ((b"\r\n\r\n", b"\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n"), 400),
    ],
)
def test_handshakes_that_are_wrong(server, change, status):
    answer, _ = server.exchange(HANDSHAKE.replace(*change), wait=0.5)
    assert answer.split(b" ", 2)[1] == str(status).encode(), answer
    if status == 426:
        assert b"sec-websocket-version: 13" in answer


def test_the_first_words_come_with_the_handshake(server):
    """In one piece: a storm of clients costs half as many packets."""
    raw = server.raw()
    raw.settimeout(5)
    raw.sendall(HANDSHAKE)
    received = raw.recv(65536)
    assert received.startswith(b"HTTP/1.1 101 ") and received.endswith(b'{"type":"query","data":"START?"}')
    raw.close()


def test_frames_right_behind_the_handshake(server):
    raw = server.raw()
    raw.settimeout(5)
    raw.sendall(HANDSHAKE + frame(0x81, UNKNOWN) + frame(0x81, b'{"type":"quit"}'))
    received = b""
    try:
        while chunk := raw.recv(65536):
            received += chunk
    except socket.timeout:
        pass
    assert received.index(b"START?") < received.index(b"TOKEN?") and received.endswith(b"\x88\x02\x03\xe8")


@pytest.mark.parametrize(
    "frames",
    [
        # A frame whose rest never comes.
        frame(0x81, b"x" * 10 + b"\xed\xa0\x80" + b"y" * 100)[:30],
        # A fragment, with more to come.
        frame(0x01, b"x\xff"),
        # A character that breaks off between fragments.
        frame(0x01, b"x\xf4") + frame(0x00, b"\x90")[:7],
    ],
)
def test_broken_text_is_refused_at_once(server, frames):
    socket = Socket(server)
    socket.send(frames)
    socket.closes_with(1007)


def test_unfinished_messages_share_the_budget(fresh):
    """Those of one address hold an eighth of it. Who comes too late is told to come again; the others are served."""
    server = fresh(MARTLET_BUFFER_BYTES=4 * 1024 * 1024, MARTLET_METRICS_LISTEN="127.0.0.1:0")
    served = []

    def begin():
        """Sends most of a message; returns its socket where the server keeps that."""
        socket = Socket(server)
        socket.send(frame(0x01, UNKNOWN[:-2] + b"x" * 100_000), frame(0x89))
        if socket.frame() == (0x8A, b""):
            try:
                socket.send(frame(0x89))
            except OSError:
                pass
            if socket.frame() == (0x8A, b""):
                served.append(socket)
                return True
        socket.raw.close()
        return False

    assert sum(begin() for _ in range(20)) in range(2, 7)
    assert server.metric("martlet_buffer_bytes") > 150_000
    for one in served:
        one.send(frame(0x80, b'"}'))
        assert one.frame() == TOKEN_NEEDED
    assert server.metric("martlet_buffer_bytes") == 0
    assert begin()
    assert server.metric("martlet_websockets_closed_total") >= 14
    for one in served:
        one.raw.close()
