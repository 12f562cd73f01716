"""Servers whose wall clock is wrong, and can be set while they run."""

import struct
import subprocess
from pathlib import Path

from martlet import Server

SOURCE = Path(__file__).with_name("clock.c")


class ShiftedServer(Server):
    """A server whose wall clock differs from everyone's by so many seconds."""

    def __init__(self, data, seconds, **settings):
        super().__init__(data, **settings)
        library = Path(data).parent / "clock.so"
        if not library.exists():
            # The compiler that comes with Swift.
            subprocess.run(["clang", "-shared", "-fPIC", "-O1", "-o", library, SOURCE, "-ldl"], check=True)
        self.shift_file = Path(str(data) + ".shift")
        self.set_clock(seconds)
        self.environment |= {"LD_PRELOAD": str(library), "CLOCK_SHIFT_FILE": str(self.shift_file)}

    def set_clock(self, seconds):
        # In place, since the server has the file mapped.
        with open(self.shift_file, "r+b" if self.shift_file.exists() else "wb") as file:
            file.write(struct.pack("<q", round(seconds * 1000)))
