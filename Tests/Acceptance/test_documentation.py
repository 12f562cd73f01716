"""What is written down is what the server does."""

import importlib.machinery
import importlib.util
import json
import os
import re
import subprocess
import sys

import pytest

from martlet import BINARY, ROOT


def martlet(*arguments):
    return subprocess.run([BINARY, *arguments], env={}, capture_output=True, text=True, check=True).stdout


def test_configuration_page_is_generated():
    assert (ROOT / "docs/CONFIGURATION.md").read_text() == martlet("settings")


def test_every_route_and_frame_has_a_policy():
    lines = martlet("routes").splitlines()
    assert len(lines) > 40
    for line in lines:
        assert re.fullmatch(r"(GET|POST|PUT|PATCH|DELETE|WS|FRAME) +\S+( \S+)? +(anyone|caller|localUser)(, platform admin|, (room|team): .+)?", line), line


def test_the_binary_needs_no_swift():
    # As the README says.
    libraries = subprocess.run(["ldd", BINARY], env={}, capture_output=True, text=True, check=True).stdout
    assert "libsqlite3" in libraries and "swift" not in libraries


@pytest.mark.parametrize("python", ["python3 of the path", "/usr/bin/python3"])
def test_readme_walk_works_as_written(fresh, tmp_path, python):
    """Pastes the README's blocks into a shell, on a port of its own: `make run` may have the README's."""
    text = (ROOT / "README.md").read_text()
    script = re.findall(r"```sh\n(.*?)```", text, re.S)[1]
    assert script.count("127.0.0.1:8080") == 1
    server = fresh(MARTLET_RATE_LIMITS="on")
    tools, folder = tmp_path / "tools", tmp_path / "empty"
    folder.mkdir()
    tools.mkdir()
    if python.startswith("/"):
        (tools / "python3").symlink_to(python)
    result = subprocess.run(
        ["bash", "-e", "-u", "-o", "pipefail", "-c", script.replace("127.0.0.1:8080", f"127.0.0.1:{server.port}")],
        cwd=folder, env={"PATH": f"{tools}:{os.environ['PATH']}", "HOME": str(folder)}, capture_output=True, text=True, timeout=60,
    )
    assert result.returncode == 0 and result.stderr == "", result.stderr
    assert '"type":"ack"' in result.stdout and result.stdout.count("db is back") >= 3
    assert re.search(r'"type":"text".*"data":"confirmed".*"reply_to":', result.stdout)
    # The history shows the correction, once.
    history = json.loads(result.stdout.splitlines()[-1])["data"]
    assert [message["data"] for message in history if message["type"] == "text"] == ["confirmed", "db is back, all of it"]
    assert list(folder.iterdir()) == [], "it leaves nothing behind"


def test_pages_are_made_from_the_documents():
    """`scripts/pages` after a change of openapi.yaml or of a document."""
    loader = importlib.machinery.SourceFileLoader("pages", str(ROOT / "scripts/pages"))
    pages = importlib.util.module_from_spec(importlib.util.spec_from_loader("pages", loader))
    sys.dont_write_bytecode, before = True, sys.dont_write_bytecode
    loader.exec_module(pages)
    sys.dont_write_bytecode = before
    for file, text in pages.make().items():
        assert (pages.PAGES / file).read_text() == text, f"run scripts/pages: {file}"


def test_pages_link_to_each_other_and_need_nothing_from_outside(server):
    with server.http() as http:
        seen, left = set(), {"/docs"}
        while left:
            address = left.pop()
            seen.add(address)
            answer = http.get(address)
            assert answer.status_code == 200, address
            assert "<script" not in answer.text and "style=" not in answer.text
            links = set(re.findall(r'(?:href|src)="([^"]*)"', answer.text))
            for link in links:
                path, _, anchor = link.partition("#")
                assert path == "" or path.startswith("/"), f"{address} links to {link}"
                if anchor:
                    assert f'id="{anchor}"' in (http.get(path).text if path else answer.text), f"{address} links to {link}"
            left |= {link.partition("#")[0] for link in links} - seen - {"", "/openapi.yaml", "/docs/style.css"}
        assert len(seen) == 8
