"""What is written down is what the server does."""

import re
import subprocess

from martlet import BINARY, ROOT


def martlet(*arguments):
    return subprocess.run([BINARY, *arguments], env={}, capture_output=True, text=True, check=True).stdout


def test_configuration_page_is_generated():
    assert (ROOT / "docs/CONFIGURATION.md").read_text() == martlet("settings")


def test_every_route_and_frame_has_a_policy():
    lines = martlet("routes").splitlines()
    assert len(lines) > 40
    for line in lines:
        assert re.fullmatch(r"(GET|POST|PUT|PATCH|DELETE|WS|FRAME) +\S+( \S+)? +(anyone|caller|localUser)(, room: .+)?", line), line


def test_help_names_every_command():
    text = martlet("--help")
    for command in ("serve", "migrate", "admin grant", "admin reset-password", "backup", "routes", "settings", "--version"):
        assert command in text


def test_readme_walk_works_as_written(tmp_path):
    """Pastes the README's blocks into a shell beside a server on the README's port."""
    import os
    import socket

    from martlet import Server

    text = (ROOT / "README.md").read_text()
    script = re.findall(r"```sh\n(.*?)```", text, re.S)[1]
    with socket.socket() as probe:
        if probe.connect_ex(("127.0.0.1", 8080)) == 0:
            raise AssertionError("port 8080 is taken; the walk needs it")
    with Server(tmp_path / "data", port=8080, MARTLET_RATE_LIMITS="on"):
        path = f"{ROOT / '.build/venv/bin'}:{os.environ['PATH']}"
        result = subprocess.run(
            ["bash", "-e", "-c", script], cwd=tmp_path, env={**os.environ, "PATH": path}, capture_output=True, text=True, timeout=60
        )
    assert result.returncode == 0, result.stderr
    assert '"type":"ack"' in result.stdout and result.stdout.count("db is back") >= 3
    assert '"data":"confirmed"' in result.stdout
