"""What comes with the server for who runs it: the unit, the example settings, nginx, containers, the board."""

import json
import os
import re
import subprocess
from pathlib import Path

import httpx
import pytest
import yaml

from martlet import BINARY, ROOT

DEPLOY = ROOT / "deploy"


def run(*words, **options):
    result = subprocess.run([str(word) for word in words], capture_output=True, text=True, timeout=60, **options)
    assert result.returncode == 0, f"{words}: {result.stdout}{result.stderr}"
    return result.stdout + result.stderr


def test_the_unit_is_right_and_confined(tmp_path):
    unit = tmp_path / "martlet.service"
    # It names the program where the package puts it.
    unit.write_text((DEPLOY / "martlet.service").read_text().replace("/usr/bin/martlet", BINARY))
    assert run("systemd-analyze", "verify", "--man=no", unit) == ""
    exposure = run("systemd-analyze", "security", "--offline=true", "--threshold=30", unit)
    assert float(re.search(r"Overall exposure level for martlet.service: ([\d.]+)", exposure)[1]) <= 3


def test_the_example_settings_are_settings(tmp_path):
    text = (DEPLOY / "martlet.conf").read_text()
    (tmp_path / "as-it-is").write_text(text)
    (tmp_path / "all").write_text(re.sub(r"^MARTLET_LISTEN=127.*\n", "", re.sub(r"^#MARTLET", "MARTLET", text, flags=re.M), flags=re.M))
    for name in ("as-it-is", "all"):
        run(BINARY, "--config", tmp_path / name, "routes", env={})
    assert len(re.findall(r"^MARTLET", (tmp_path / "all").read_text(), re.M)) > 9


@pytest.mark.parametrize("file", ["nginx.conf", "nginx-compose.conf"])
def test_nginx_takes_its_configuration(tmp_path, file):
    sample = (DEPLOY / file).read_text().replace("node-a:", "127.0.0.1:").replace("node-b:", "127.0.0.1:")
    (tmp_path / "nginx.conf").write_text(
        f"pid {tmp_path}/pid; error_log {tmp_path}/log;\nevents {{}}\nhttp {{ access_log off; client_body_temp_path {tmp_path}/b;"
        f" proxy_temp_path {tmp_path}/p; fastcgi_temp_path {tmp_path}/f; uwsgi_temp_path {tmp_path}/u; scgi_temp_path {tmp_path}/s;\n{sample}\n}}\n"
    )
    said = run("nginx", "-t", "-q", "-c", tmp_path / "nginx.conf", "-p", tmp_path)
    assert said == "", said


def test_compose_takes_its_file():
    run("docker-compose", "-f", ROOT / "compose.yaml", "config", "-q")
    services = yaml.safe_load((ROOT / "compose.yaml").read_text())["services"]
    assert [name for name, service in services.items() if "profiles" not in service] == ["martlet"]
    assert set(services) == {"martlet", "node-a", "node-b", "nginx", "postgres", "redis"}
    known = set(re.findall(r"`(MARTLET_\w+)`", (ROOT / "docs/CONFIGURATION.md").read_text()))
    for service in services.values():
        used = {name for name in service.get("environment", {}) if name.startswith("MARTLET_")}
        assert used <= known
        for volume in service.get("volumes", []):
            if volume.startswith("."):
                assert (ROOT / volume.split(":")[0]).exists()


def test_the_container_has_what_the_binary_needs():
    text = (ROOT / "Dockerfile").read_text().replace("\\\n", " ")
    for sources in re.findall(r"^COPY (?!--from)(.*) \S+$", text, re.M):
        for source in sources.split():
            assert (ROOT / source).exists(), source
    final = text[text.rindex("FROM "):]
    listed = set(re.search(r"--no-install-recommends\s+(.*?) &&", final, re.S)[1].split())
    needed = set()
    libraries = run("ldd", BINARY)
    for name in re.findall(r"NEEDED\s+(\S+)", run("objdump", "-p", BINARY)):
        path = re.search(rf"{re.escape(name)} => (\S+)", libraries)
        if path:
            real = Path(path[1]).resolve()
            # A package may know the file by its path from before /lib was a link.
            owner = subprocess.run(["dpkg", "-S", f"*/{real.name}"], capture_output=True, text=True).stdout
            needed.add(owner.split(":")[0])
    assert needed - {"libc6", "libgcc-s1", "libstdc++6"} <= listed, needed
    assert len(needed) > 7
    version = re.search(r"swift-tools-version: (\S+)", (ROOT / "Package.swift").read_text())[1]
    assert f"FROM swift:{version}-bookworm" in text


def test_metrics_are_well_formed_and_the_board_shows_what_there_is(fresh):
    server = fresh(MARTLET_METRICS_LISTEN="127.0.0.1:0")
    ada = server.person()
    room = ada.room()
    with ada.relay() as relay:
        relay.say(room, "x", "1")
        relay.until("text")
        relay.until("ack")
    page = httpx.get(re.search(r'"metrics_listening","address":"([^"]+)"', server.log_text())[1]).text
    checked = subprocess.run(["promtool", "check", "metrics"], input=page, capture_output=True, text=True)
    assert (checked.returncode, checked.stdout, checked.stderr) == (0, "", "")
    served = set(re.findall(r"^(\w+)(?:\{.*\})? ", page, re.M))
    board = json.loads((DEPLOY / "grafana.json").read_text())
    expressions = [target["expr"] for panel in board["panels"] for target in panel["targets"]]
    used = {name for text in expressions for name in re.findall(r"\b((?:martlet|process)_\w+)", text)}
    assert used <= served and len(used) > 20, used - served
    # What docs/operations.md says is worth an alarm.
    alarms = set(re.findall(r"\b((?:martlet|process)_\w+)", (ROOT / "docs/operations.md").read_text()))
    assert alarms <= served | {name.rsplit("_", 1)[0] for name in served} | {"martlet_tls_certificate_expiry_seconds"}


def test_install_puts_everything_where_it_says(tmp_path):
    environment = {**os.environ, "DESTDIR": str(tmp_path)}
    # The binary is built already; the rest of the recipe is what is looked at.
    run("make", "-C", ROOT, "--assume-old=build", "install", "PREFIX=/opt/martlet", f"DESTDIR={tmp_path}", env=environment)
    prefix = tmp_path / "opt/martlet"
    assert run(prefix / "bin/martlet", "--version").startswith("martlet ")
    assert "ExecStart=/opt/martlet/bin/martlet " in (prefix / "lib/systemd/system/martlet.service").read_text()
    assert {path.name for path in (prefix / "share/martlet").iterdir()} == {"martlet.conf", "nginx.conf", "grafana.json"}
