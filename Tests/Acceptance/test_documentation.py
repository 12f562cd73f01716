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


def test_the_binary_needs_no_swift():
    # As the README says.
    libraries = subprocess.run(["ldd", BINARY], env={}, capture_output=True, text=True, check=True).stdout
    assert "libsqlite3" in libraries and "swift" not in libraries


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


def operations():
    """What openapi.yaml lists: (method, path) to its set of statuses."""
    import yaml

    document = yaml.safe_load((ROOT / "openapi.yaml").read_text())
    found = {}
    for path, item in document["paths"].items():
        for method, operation in item.items():
            if method != "parameters":
                found[(method.upper(), path)] = set(operation["responses"])
    return found


def test_openapi_lists_the_routes_and_no_others():
    routes = set()
    for line in martlet("routes").splitlines():
        method, path = line.split()[:2]
        if method != "FRAME":
            routes.add(("GET" if method == "WS" else method, path))
    assert routes == set(operations())


def test_openapi_lists_the_statuses_that_policies_bring():
    listed = operations()
    for line in martlet("routes").splitlines():
        method, path, policy = re.match(r"(\S+) +(\S+) +(.*)", line).groups()
        if method == "FRAME":
            continue
        statuses = listed[("GET" if method == "WS" else method, path)]
        if policy.startswith(("caller", "localUser")):
            assert "401" in statuses, line
        if policy.startswith("localUser"):
            assert "403" in statuses, line
        if "{id}" in path:
            assert "404" in statuses, line
        if method == "WS":
            assert {"101", "426", "503"} <= statuses, line


def test_schemathesis_finds_no_undocumented_answer(fresh, tmp_path):
    """Requests made from openapi.yaml: no server error, no status that it does not list."""
    server = fresh(MARTLET_LOOPS=2)
    account = server.sign_up()
    # A cookie of another session, so that log-outs among the requests do not end the run's credential.
    person = server.person()
    for name, bearer in (("local", account["access_token"]), ("foreign", person.token)):
        result = subprocess.run(
            [
                str(ROOT / ".build/venv/bin/schemathesis"), "run", str(ROOT / "openapi.yaml"), "--url", server.url,
                "--header", f"Authorization: Bearer {bearer}", "--checks", "not_a_server_error,status_code_conformance",
                "--phases", "fuzzing", "--max-examples", "40", "--exclude-path-regex", "logout|relay|chat",
                "--suppress-health-check", "all", "--seed", "1",
            ],
            cwd=tmp_path, capture_output=True, text=True, timeout=300,
        )
        assert result.returncode == 0, f"{name}: {result.stdout[-4000:]}"
    assert server.process.poll() is None
