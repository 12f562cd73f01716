"""What a disk holds after a power failure, rebuilt from the system calls of a server.

`strace` notes every write and sync. A crash at any moment leaves what was synced, and of the rest any part:
whole writes, none of them, or some sectors of one.
"""

import re
from dataclasses import dataclass, field

SECTOR = 512
CALLS = "openat,close,write,writev,pwrite64,pwritev,ftruncate,fdatasync,fsync,unlink,sendto,sendmsg"
COMMAND = ["strace", "-f", "-qq", "-xx", "-s", "400000", "-e", f"trace={CALLS}", "-e", "signal=none"]


@dataclass
class Call:
    name: str
    arguments: str
    # Places in the order of lines; a call takes effect somewhere between.
    begin: int
    end: int | None = None
    result: int | None = None


def calls(path):
    """The calls of a trace, in the order in which they began; the unfinished ones have no end."""
    found, pending = [], {}
    with open(path, encoding="latin-1") as lines:
        for place, line in enumerate(lines):
            match = re.match(r"(\d+) +(.*)", line)
            thread, rest = match[1], match[2]
            if resumed := re.match(r"<\.\.\. \w+ resumed>(.*?)\)? += (-?\d+)", rest):
                if call := pending.pop(thread, None):
                    call.arguments += resumed[1]
                    call.end, call.result = place, int(resumed[2])
                continue
            begun = re.match(r"(\w+)\((.*?)( <unfinished \.\.\.>|\) += (-?\d+).*)$", rest)
            if not begun:
                continue
            call = Call(begun[1], begun[2], place)
            if begun[4] is None:
                pending[thread] = call
            else:
                call.end, call.result = place, int(begun[4])
            found.append(call)
    return found


def text(quoted):
    return bytes.fromhex(quoted.replace("\\x", ""))


@dataclass
class Write:
    begin: int
    end: int
    offset: int
    data: bytes
    # Nil, or the place from which a sync made it durable.
    durable: int | None = None


@dataclass
class File:
    writes: list = field(default_factory=list)
    # (begin, end) of each sync that ended.
    syncs: list = field(default_factory=list)


class Trace:
    """The files below a directory, and what was sent to clients."""

    def __init__(self, path, directory):
        self.files = {}
        self.sent = []
        self.last = 0
        directory = str(directory)
        open_files = {}
        for call in calls(path):
            self.last = max(self.last, call.end or call.begin)
            if call.name == "openat" and call.result is not None and call.result >= 0:
                name = text(re.search(r'"([^"]*)"', call.arguments)[1]).decode()
                open_files.pop(call.result, None)
                if name.startswith(directory) and name.rsplit("/", 1)[1] in ("martlet.db", "martlet.db-wal"):
                    open_files[call.result] = self.files.setdefault(name.rsplit("/", 1)[1], File())
            elif call.name in ("sendto", "sendmsg", "write", "writev"):
                quoted = re.search(r'"((?:\\x..)*)"', call.arguments)
                if quoted and call.name == "sendto":
                    self.sent.append((call.begin, text(quoted[1])))
            elif call.name == "close":
                open_files.pop(int(call.arguments), None)
            elif match := re.match(r"(\d+)", call.arguments):
                if file := open_files.get(int(match[1])):
                    self.note(file, call)

    def note(self, file, call):
        end = call.end if call.end is not None else 1 << 60
        if call.name == "pwrite64":
            parts = re.match(r'\d+, "((?:\\x..)*)", \d+, (\d+)', call.arguments)
            assert parts, f"a write that was cut: {call.arguments[-60:]}"
            file.writes.append(Write(call.begin, end, int(parts[2]), text(parts[1])))
        elif call.name in ("fdatasync", "fsync") and call.result == 0:
            file.syncs.append((call.begin, call.end))
            for write in file.writes:
                # Durable is what had been written when the sync began.
                if write.durable is None and write.end < call.begin:
                    write.durable = call.end
        elif call.name == "ftruncate":
            # A whole checkpoint ends by giving the file the size that it has.
            size = int(call.arguments.split(",")[1])
            end_of_file = max((write.offset + len(write.data) for write in file.writes), default=0)
            assert size >= end_of_file, "a file was cut; the images do not know that"

    def image(self, moment, choose):
        """The files as a crash at that moment may leave them, by name."""
        images = {}
        for name, file in self.files.items():
            image = bytearray()
            for write in file.writes:
                if write.begin > moment:
                    continue
                if write.durable is not None and write.durable <= moment:
                    put(image, write.offset, write.data)
                    continue
                fate = choose.random()
                if fate < 0.4:
                    continue
                if fate < 0.7 and write.end <= moment:
                    put(image, write.offset, write.data)
                    continue
                # Torn: some of its sectors.
                for start in range(0, len(write.data), SECTOR):
                    if choose.random() < 0.5:
                        put(image, write.offset + start, write.data[start : start + SECTOR])
            images[name] = bytes(image)
        return images

    def moments(self, count, choose):
        """Moments of which half are right behind something that was sent, and the others anywhere."""
        near = [place + choose.randrange(3) for place, _ in self.sent]
        first = min((write.begin for file in self.files.values() for write in file.writes), default=0)
        return sorted(choose.choice(near) if number % 2 else choose.randint(first, self.last) for number in range(count))


def put(image, offset, data):
    if len(image) < offset + len(data):
        image.extend(bytes(offset + len(data) - len(image)))
    image[offset : offset + len(data)] = data
