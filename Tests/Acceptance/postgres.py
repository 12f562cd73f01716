"""A real Postgres on a free loopback port, from Debian's package, for one test run."""

import os
import pwd
import shutil
import socket
import subprocess
import tempfile
import time
from pathlib import Path


def binaries():
    """Debian keeps each version's programs apart; elsewhere they are on the path."""
    versions = sorted(Path("/usr/lib/postgresql").glob("*/bin/initdb"), key=lambda path: int(path.parts[-3]))
    found = versions[-1] if versions else shutil.which("initdb")
    assert found, "Postgres is not installed; scripts/install-deps --tests installs it"
    return Path(found).parent


class Postgres:
    def __init__(self):
        self.directory = Path(tempfile.mkdtemp(prefix="martlet-postgres-"))
        # Postgres refuses to run as root.
        self.user = "postgres" if os.getuid() == 0 else None
        if self.user:
            entry = pwd.getpwnam(self.user)
            os.chown(self.directory, entry.pw_uid, entry.pw_gid)
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            self.port = probe.getsockname()[1]
        self.process = None
        self.databases = 0
        self.run("initdb", "-D", self.directory / "data", "-U", "martlet", "-A", "trust", "-E", "UTF8", "--no-sync")

    def run(self, tool, *arguments):
        subprocess.run(
            [binaries() / tool, *map(str, arguments)], check=True, capture_output=True, user=self.user, cwd="/"
        )

    def start(self):
        self.log = open(self.directory / "log", "ab")
        self.process = subprocess.Popen(
            [
                binaries() / "postgres", "-D", self.directory / "data", "-p", str(self.port),
                "-c", "listen_addresses=127.0.0.1", "-c", f"unix_socket_directories={self.directory}",
                # Swift's tests open dozens of databases at the same time, with six connections each.
                "-c", "max_connections=500",
            ],
            user=self.user, cwd="/", stdout=self.log, stderr=self.log,
        )
        for _ in range(200):
            try:
                self.run("psql", "-h", "127.0.0.1", "-p", self.port, "-U", "martlet", "-c", "SELECT 1", "postgres")
                return self
            except subprocess.CalledProcessError:
                time.sleep(0.05)
        raise RuntimeError((self.directory / "log").read_text())

    def stop(self):
        if self.process:
            # SIGINT: fast shutdown, which also ends connections.
            self.process.send_signal(2)
            self.process.wait(30)
            self.process = None
            self.log.close()

    def database(self):
        """The URL of a new, empty database."""
        self.databases += 1
        name = f"martlet_{self.databases}"
        self.run("createdb", "-h", "127.0.0.1", "-p", self.port, "-U", "martlet", name)
        return f"postgres://martlet@127.0.0.1:{self.port}/{name}"

    def remove(self):
        self.stop()
        shutil.rmtree(self.directory, ignore_errors=True)


def psql(url, *commands):
    arguments = [part for command in commands for part in ("-c", command)]
    subprocess.run(["psql", "-q", url, *arguments], check=True, capture_output=True, text=True)


def rooms_by_hand(url, owner, count):
    """Rooms that no node has made: each hears of them when it compares itself with the database."""
    psql(
        url,
        f"""WITH made AS (
          INSERT INTO rooms (type, name, level_admin, owner_user, by_invitation, created_at)
          SELECT 0, 'made ' || i, 100, '\\x{owner.replace("-", "")}', 0, 0 FROM generate_series(1, {count}) AS i RETURNING id)
        INSERT INTO room_heads (room_id, last_seq, last_ts, access_version, access_changed_at) SELECT id, 0, 0, 1, 0 FROM made""",
    )


def serve():
    """For tests in other languages: a line in asks for a new database, a line out is its URL."""
    import sys

    server = Postgres().start()
    try:
        for _ in sys.stdin:
            print(server.database(), flush=True)
    finally:
        server.remove()


if __name__ == "__main__":
    serve()
