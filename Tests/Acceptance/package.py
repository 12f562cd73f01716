"""The Debian package in a clean Debian without Swift: `make test-deb`. Needs root; takes a few minutes.

debootstrap makes the system once, in .build/chroot. There the package is installed, and the server runs as the unit says it
must: as its own user, without privileges, with the system read-only but for its state, with the unit's filter of system
calls. Then the README's walk is done against it, and the package is upgraded, downgraded, removed and purged.
"""

import re
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import httpx

ROOT = Path(__file__).resolve().parents[2]
CHROOT = ROOT / ".build/chroot"
MIRROR = "http://deb.debian.org/debian"


def run(*words, check=True, **options):
    result = subprocess.run([str(word) for word in words], capture_output=True, text=True, **options)
    if check and result.returncode != 0:
        raise SystemExit(f"{words}: {result.returncode}\n{result.stdout[-3000:]}{result.stderr[-3000:]}")
    return result


def inside(*words, **options):
    """Runs a command in the system, with a /proc of its own that goes with it."""
    environment = {"PATH": "/usr/sbin:/usr/bin:/sbin:/bin", "DEBIAN_FRONTEND": "noninteractive", "LC_ALL": "C"}
    mounted = f'mount -t proc proc {CHROOT}/proc && exec chroot {CHROOT} "$@"'
    return run("unshare", "--mount", "sh", "-c", mounted, "sh", *words, env=environment, **options)


def make_system():
    """A minimal Debian, with what the package depends on, made once."""
    if not (CHROOT / "etc/debian_version").exists():
        shutil.rmtree(CHROOT, ignore_errors=True)
        run("debootstrap", "--variant=minbase", "bookworm", CHROOT, MIRROR)
    # Nothing starts by itself.
    policy = CHROOT / "usr/sbin/policy-rc.d"
    policy.write_text("#!/bin/sh\nexit 101\n")
    policy.chmod(0o755)
    inside("dpkg", "--purge", "martlet", check=False)
    shutil.rmtree(CHROOT / "var/lib/martlet", ignore_errors=True)
    shutil.rmtree(CHROOT / "etc/martlet", ignore_errors=True)
    inside("sh", "-c", "deluser --quiet martlet; delgroup --quiet martlet", check=False)


def package(version=None):
    """The package, copied to where the system inside sees it; with another version where one is given."""
    [built] = (ROOT / ".build/deb").glob("martlet_*.deb")
    target = CHROOT / "tmp" / f"martlet-{version or 'built'}.deb"
    if version:
        work = CHROOT / "tmp/repack"
        shutil.rmtree(work, ignore_errors=True)
        run("dpkg-deb", "-R", built, work)
        control = work / "DEBIAN/control"
        control.write_text(re.sub(r"^Version: .*$", f"Version: {version}", control.read_text(), flags=re.M))
        run("dpkg-deb", "-b", work, target)
        shutil.rmtree(work)
    else:
        shutil.copy(built, target)
    return f"/tmp/{target.name}"


def install(file):
    inside("apt-get", "update", "-q")
    return inside("apt-get", "install", "-y", "-q", "--no-install-recommends", "--allow-downgrades", file).stdout


def system_calls():
    """The numbers that the unit's SystemCallFilter leaves, as systemd knows the groups."""
    def group(name):
        found = set()
        for line in run("systemd-analyze", "syscall-filter", name).stdout.splitlines():
            word = line.strip()
            if word.startswith("@") and word != name:
                found |= group(word)
            elif word and not word.startswith(("#", "@")):
                found.add(word)
        return found

    filters = re.findall(r"^SystemCallFilter=(~?)(\S+)$", (ROOT / "deploy/martlet.service").read_text(), re.M)
    allowed = set()
    for without, name in filters:
        allowed = allowed - group(name) if without else allowed | group(name)
    # What systemd itself allows to every unit with a list (systemd.exec(5)).
    return allowed | group("@default")


# Runs in a child, behind the fork: the unit's restrictions, as far as they go without systemd.
CONFINED = """
import ctypes, os, sys
import pyseccomp as seccomp

chroot, uid, gid, allowed, command = sys.argv[1], int(sys.argv[2]), int(sys.argv[3]), sys.argv[4].split(","), sys.argv[5:]
libc = ctypes.CDLL(None, use_errno=True)

def mount(source, target, kind, flags):
    if libc.mount(source and source.encode(), target.encode(), kind and kind.encode(), flags, None):
        raise OSError(ctypes.get_errno(), target)

BIND, REMOUNT, READ_ONLY, RECURSIVE, PRIVATE = 4096, 32, 1, 16384, 1 << 18
if libc.unshare(0x20000):
    raise OSError("unshare")
mount(None, "/", None, RECURSIVE | PRIVATE)
# ProtectSystem=strict, StateDirectory, PrivateTmp, PrivateDevices, /proc.
mount(chroot, chroot, None, BIND)
for path in ("/var/lib/martlet",):
    mount(chroot + path, chroot + path, None, BIND)
mount("none", chroot + "/tmp", "tmpfs", 0)
mount("proc", chroot + "/proc", "proc", 0)
mount(None, chroot, None, BIND | REMOUNT | READ_ONLY)
os.chroot(chroot)
os.chdir("/var/lib/martlet")
os.umask(0o077)
PR_SET_NO_NEW_PRIVS, PR_CAPBSET_DROP, PR_SET_MDWE = 38, 24, 65
for capability in range(41):
    libc.prctl(PR_CAPBSET_DROP, capability, 0, 0, 0)
os.setgroups([])
os.setresgid(gid, gid, gid)
os.setresuid(uid, uid, uid)
libc.prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0)
# MemoryDenyWriteExecute.
libc.prctl(PR_SET_MDWE, 1, 0, 0, 0)
EPERM = 1
rules = seccomp.SyscallFilter(seccomp.ERRNO(EPERM))
known = 0
for name in allowed:
    try:
        rules.add_rule(seccomp.ALLOW, name)
        known += 1
    except (RuntimeError, OSError, ValueError):
        pass  # of another architecture
if known < 200:
    raise SystemExit("systemd named few system calls")
# It has to be started.
rules.load()
os.execve(command[0], command, {"PATH": "/usr/bin:/bin"})
"""


class Confined:
    """The server of the package, run as the unit says."""

    def __init__(self):
        passwd = (CHROOT / "etc/passwd").read_text()
        self.uid, self.gid = map(int, re.search(r"^martlet:x:(\d+):(\d+):", passwd, re.M).groups())

    def __enter__(self):
        exec_start = re.search(r"^ExecStart=(.*)$", (CHROOT / "lib/systemd/system/martlet.service").read_text(), re.M)[1].split()
        words = [sys.executable, "-c", CONFINED, str(CHROOT), str(self.uid), str(self.gid), ",".join(sorted(system_calls())), *exec_start]
        self.process = subprocess.Popen(words, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
        line = self.process.stdout.readline()
        if not line.startswith("listening on http://"):
            raise SystemExit(f"no start: {line}{self.process.stderr.read()}")
        self.url = line.split()[2]
        return self

    def __exit__(self, *_):
        self.process.send_signal(signal.SIGTERM)
        status = self.process.wait(15)
        errors = [line for line in self.process.stderr.read().splitlines() if '"error"' in line]
        assert status == 0 and not errors, (status, errors)


def free_address():
    import socket

    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return f"127.0.0.1:{probe.getsockname()[1]}"


def check_installed():
    status = inside("stat", "-c", "%U:%G %a", "/etc/martlet/martlet.conf", "/var/lib/martlet").stdout.split("\n")
    assert status[:2] == ["root:martlet 640", "martlet:martlet 700"], status
    assert inside("sh", "-c", "command -v swift || ldd /usr/bin/martlet | grep -i -E 'swift|not found'", check=False).stdout == ""
    assert inside("martlet", "--version").stdout.startswith("martlet ")
    refused = inside("setpriv", "--reuid", "nobody", "--clear-groups", "cat", "/etc/martlet/martlet.conf", check=False)
    assert "Permission denied" in refused.stderr


def walk(url, folder):
    script = re.findall(r"```sh\n(.*?)```", (ROOT / "README.md").read_text(), re.S)[1]
    script = script.replace("127.0.0.1:8080", url.removeprefix("http://"))
    result = run("bash", "-eu", "-c", script, cwd=folder)
    assert '"type":"ack"' in result.stdout and '"data":"confirmed"' in result.stdout, result.stdout
    return result.stdout


def main():
    said = []

    def shown(text):
        said.append(text)
        print(text, flush=True)

    make_system()
    shown(f"clean Debian {(CHROOT / 'etc/debian_version').read_text().strip()}, {len(list((CHROOT / 'var/lib/dpkg/info').glob('*.list')))} packages")
    install(package())
    check_installed()
    shown("installed: user martlet, configuration root:martlet 0640, data martlet:martlet 0700, no Swift")
    configuration = CHROOT / "etc/martlet/martlet.conf"
    address = free_address()
    configuration.write_text(configuration.read_text().replace("127.0.0.1:8080", address))
    with Confined() as server:
        status = Path(f"/proc/{server.process.pid}/status").read_text()
        facts = {name: re.search(rf"^{name}:\s+(\S+)", status, re.M)[1] for name in ("Uid", "NoNewPrivs", "Seccomp", "CapEff", "CapBnd")}
        assert facts == {"Uid": str(server.uid), "NoNewPrivs": "1", "Seccomp": "2", "CapEff": "0" * 16, "CapBnd": "0" * 16}, facts
        shown(f"runs as {facts}, on a read-only system, with the unit's {len(system_calls())} system calls")
        folder = CHROOT / "tmp"
        walk(server.url, folder)
        shown("the README's walk passed")
        as_user = ["setpriv", "--reuid", "martlet", "--regid", "martlet", "--clear-groups", "martlet", "--config", "/etc/martlet/martlet.conf"]
        made = inside(*as_user, "admin", "create", "first@example.org").stdout
        listed = inside(*as_user, "admin", "list").stdout
        assert "platform admin" in made and listed.startswith("first@example.org\tplatform admin\t")
        inside(*as_user, "backup", "/var/lib/martlet/copy.db")
        shown("admin create, admin list and backup beside it passed")
    for version in ("9.0-1", "0.0.1-1"):
        install(package(version))
        check_installed()
        assert inside("dpkg-query", "-W", "-f", "${Version}", "martlet").stdout == version
        assert address in configuration.read_text(), "the operator's settings stay"
        with Confined() as server:
            assert httpx.get(server.url + "/readyz").status_code == 200
        shown(f"{version} over it: settings and data stay, and it runs")
    owner = inside("find", "/var/lib/martlet", "!", "-user", "martlet").stdout
    assert owner == "", owner
    inside("apt-get", "remove", "-y", "-q", "martlet")
    assert configuration.exists() and (CHROOT / "var/lib/martlet/martlet.db").exists() and not (CHROOT / "usr/bin/martlet").exists()
    purged = inside("apt-get", "purge", "-y", "-q", "martlet")
    assert not configuration.exists() and (CHROOT / "var/lib/martlet/martlet.db").exists() and "data in /var/lib/martlet is kept" in purged.stdout
    shown("removed, then purged: settings are gone, the data is kept and said to be")
    install(package())
    check_installed()
    shown("installed again over the data of before")


if __name__ == "__main__":
    started = time.monotonic()
    main()
    print(f"passed in {time.monotonic() - started:.0f} s")
