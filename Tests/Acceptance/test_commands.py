"""The command line: what it does, also beside a server that runs, and what it refuses."""

import json
import os
import re
import signal
import subprocess

import pytest

from martlet import BINARY, eventually


def run(*arguments, **environment):
    return subprocess.run(
        [BINARY, *arguments], env={"PATH": os.environ["PATH"], **environment}, capture_output=True, text=True, timeout=20
    )


def lines(server, event):
    return [json.loads(line) for line in server.log_text().splitlines() if f'"{event}"' in line]


@pytest.fixture(params=["sqlite", "postgres"])
def anywhere(request, fresh, postgres):
    """Starts servers on a database of either kind."""
    if request.param == "sqlite":
        return fresh
    return lambda **settings: fresh(MARTLET_DATABASE=postgres.database(), **settings)


COMMANDS = [
    "serve", "migrate", "backup", "renew-epoch", "admin create", "admin list", "admin grant", "admin revoke", "admin suspend",
    "admin restore", "admin reset-password", "routes", "settings",
]


@pytest.mark.parametrize("command", COMMANDS)
def test_every_command_has_help_and_does_nothing_then(tmp_path, command):
    for words in ([*command.split(), "--help"], ["help", *command.split()]):
        result = subprocess.run([BINARY, *words], cwd=tmp_path, env={}, capture_output=True, text=True, timeout=20)
        assert result.returncode == 0 and result.stderr == ""
        assert result.stdout.startswith(f"martlet {command} - ") and f"Usage: martlet [--config FILE] {command}" in result.stdout
    assert list(tmp_path.iterdir()) == []


def test_help_names_every_command():
    text = run("--help").stdout
    listed = re.findall(r"^  ([a-z][a-z -]*[a-z])(?: [A-Z]+)?   ", text, re.M)
    assert listed == COMMANDS


@pytest.mark.parametrize("words, sentence", [
    ([], "A command is missing."),
    ([""], "There is no command ``."),
    (["dance"], "There is no command `dance`."),
    (["admin"], "`admin` needs one of its commands."),
    (["admin", "grant"], "`admin grant` needs EMAIL."),
    (["admin", "grant", ""], "EMAIL is empty."),
    (["admin", "grant", "a@b", "c@d"], "`admin grant` does not take `c@d`."),
    (["backup"], "`backup` needs FILE."),
    (["backup", "--into", "x"], "`backup` has no option `--into`."),
    (["serve", "--config"], "--config needs a FILE."),
    (["serve", "--config=a", "--config=b"], "--config stands twice."),
])
def test_a_wrong_call_exits_2_with_a_sentence(tmp_path, words, sentence):
    result = subprocess.run([BINARY, *words], cwd=tmp_path, env={}, capture_output=True, text=True, timeout=20)
    assert result.returncode == 2 and result.stdout == ""
    assert result.stderr.startswith(f"martlet: {sentence} See `martlet ") and result.stderr.count("\n") == 1
    assert list(tmp_path.iterdir()) == []


def test_commands_make_no_database(tmp_path):
    for words in ("admin create a@b", "admin list", "admin grant a@b", "admin revoke a@b", "admin suspend a@b", "admin restore a@b",
                  "admin reset-password a@b", "renew-epoch", "migrate", f"backup {tmp_path}/x"):
        result = run(*words.split(), MARTLET_DATA=str(tmp_path / "nowhere"))
        assert result.returncode == 1 and f"{tmp_path}/nowhere/martlet.db" in result.stderr
        assert list(tmp_path.iterdir()) == []


def test_commands_make_no_tables(tmp_path, postgres):
    url = postgres.database()

    def tables():
        listed = "SELECT count(*) FROM information_schema.tables WHERE table_schema = 'public'"
        return int(subprocess.run(["psql", "-Atq", url, "-c", listed], check=True, capture_output=True, text=True).stdout)

    settings = {"MARTLET_DATA": str(tmp_path / "d"), "MARTLET_DATABASE": url}
    for words in (["admin", "list"], ["admin", "create", "a@b"], ["renew-epoch"]):
        result = run(*words, **settings)
        assert result.returncode == 1 and "no tables of Martlet yet" in result.stderr and tables() == 0
    assert run("migrate", **settings).returncode == 0
    assert tables() > 5 and not (tmp_path / "d").exists()
    assert run("admin", "create", "a@b", **settings).returncode == 0
    subprocess.run(["psql", "-q", url, "-c", "DELETE FROM schema_migrations WHERE feature = 'chat' AND number > 1"], check=True)
    result = run("admin", "list", **settings)
    assert result.returncode == 1 and "older Martlet" in result.stderr
    # One of a newer release.
    subprocess.run(["psql", "-q", url, "-c", "INSERT INTO schema_migrations VALUES ('chat', 1000, 1, 1)"], check=True)
    result = run("admin", "list", **settings)
    assert result.returncode == 1 and "newer Martlet" in result.stderr


def test_an_older_schema_is_left_alone(fresh):
    import sqlite3

    server = fresh()
    server.stop()
    with sqlite3.connect(server.data / "martlet.db") as database:
        database.execute("DELETE FROM schema_migrations WHERE feature = 'accounts' AND number = 4")
        database.execute("ALTER TABLE users DROP COLUMN suspended_at")
    result = run("admin", "list", **server.environment)
    assert result.returncode == 1 and "older Martlet" in result.stderr and "martlet migrate" in result.stderr
    assert run("migrate", **server.environment).returncode == 0
    assert run("admin", "list", **server.environment).returncode == 0


@pytest.mark.parametrize("mode", ["closed", "invited"])
def test_a_server_where_nobody_signs_up_begins_with_admin_create(anywhere, mode):
    server = anywhere(MARTLET_SIGNUP=mode)
    assert lines(server, "no_account_yet")[0]["next"] == "martlet admin create EMAIL"
    made = run("admin", "create", "Ada@example.org", "--name", "Ada L.", **server.environment)
    assert made.returncode == 0, made.stderr
    password = re.search(r"The password is (\S+)\n", made.stdout)[1]
    with server.http() as http:
        answer = http.post("/v1/auth/login", json={"email": "ada@example.org", "password": password})
        assert answer.status_code == 200
        assert answer.json()["data"]["user"] | {"id": 0} == {"id": 0, "email": "Ada@example.org", "name": "Ada L.", "platform_admin": True}
    again = run("admin", "create", "ada@EXAMPLE.org", **server.environment)
    assert again.returncode == 1 and "already" in again.stderr
    for email in ("nobody", "a b@c", "a@b@c", "a@" + "b" * 260):
        assert run("admin", "create", email, **server.environment).returncode == 1
    assert run("admin", "create", "x@y", "--name", "n" * 121, **server.environment).returncode == 1
    server.stop()
    server.start()
    assert len(lines(server, "no_account_yet")) == 1, "not once there is one"


def test_suspending_ends_sessions_and_keeps_out(anywhere):
    server = anywhere()
    account = server.sign_up()
    email = account["user"]["email"]
    with server.http(account["access_token"]) as http, server.relay(account["access_token"]) as relay:
        assert run("admin", "suspend", email.upper(), **server.environment).returncode == 0
        eventually(lambda: http.get("/v1/me").status_code == 401)
        assert relay.close_code(5) == 4403
        assert http.post("/v1/auth/refresh", json={"refresh_token": account["refresh_token"]}).status_code == 401
    with server.http() as http:
        right, wrong = ({"email": email, "password": password} for password in ("correct horse", "wrong horse"))
        refused = http.post("/v1/auth/login", json=right)
        assert (refused.status_code, refused.json()["error"]["code"]) == (403, "suspended")
        # To who does not know the password it says no more than of others.
        assert http.post("/v1/auth/login", json=wrong).json()["error"]["code"] == "invalid_credentials"
        assert http.post("/v1/auth/signup", json={**right, "name": "n"}).json()["error"]["code"] == "email_taken"
        assert f"{email}\tsuspended\t" in run("admin", "list", **server.environment).stdout
        assert run("admin", "restore", email, **server.environment).returncode == 0
        assert http.post("/v1/auth/login", json=right).status_code == 200
    assert email not in run("admin", "list", **server.environment).stdout


def test_a_platform_admin_is_granted_and_revoked_while_the_server_runs(anywhere):
    server = anywhere()
    account = server.sign_up()
    email = account["user"]["email"]
    with server.http(account["access_token"]) as http:
        for command, is_admin in (("grant", True), ("grant", True), ("revoke", False), ("revoke", False)):
            result = run("admin", command, email, **server.environment)
            assert result.returncode == 0 and json.loads(result.stderr)["act"] == f"{command}_platform_admin"
            eventually(lambda: ("platform_admin" in http.get("/v1/me").json()["data"]) == is_admin)
            listed = run("admin", "list", **server.environment).stdout
            assert (f"{email}\tplatform admin\t" in listed) == is_admin
    for command in ("grant", "revoke", "suspend", "restore", "reset-password"):
        result = run("admin", command, "nobody@example.org", **server.environment)
        assert result.returncode == 1 and "no account" in result.stderr


def test_a_list_is_safe_to_print(fresh):
    import sqlite3

    server = fresh()
    names = ["\x1b[2Jgone", "two\nlines", "\u202eleft", "täb\there"]
    for _ in names:
        server.sign_up()
    # Whatever a release of before, or after, lets in.
    with sqlite3.connect(server.data / "martlet.db", isolation_level=None) as database:
        for name, (account,) in zip(names, database.execute("SELECT id FROM users ORDER BY id").fetchall()):
            database.execute("UPDATE users SET name = ? WHERE id = ?", (name, account))
    listed = run("admin", "list", "--all", **server.environment).stdout
    assert [line.split("\t")[3] for line in listed.splitlines()] == ["?[2Jgone", "two?lines", "?left", "täb?here"]
    assert all(re.fullmatch(r"\d{4}-\d\d-\d\d", line.split("\t")[2]) for line in listed.splitlines())
    assert run("admin", "list", **server.environment).stdout == ""


@pytest.mark.parametrize("make, sentence", [
    (lambda path: path.mkdir(), "Is a directory"),
    (lambda path: None, "No such file"),
    (lambda path: path.write_bytes(b"MARTLET_LOOPS=\xff\n"), "not UTF-8"),
    (lambda path: path.write_text("MARTLET_LOOPS=1\n# x\nMARTLET_LOOPS=2\n"), "line 3: MARTLET_LOOPS stands in line 1 already"),
    (lambda path: path.write_text("MARTLET_LOOPS\n"), "line 1: expected NAME=value"),
    (lambda path: path.write_text("MARTLET_LOPS=1\n"), "MARTLET_LOPS is not a setting"),
    (lambda path: path.write_text("LOOPS=1\n"), "LOOPS is not a setting"),
])
def test_a_file_of_settings_that_is_none_is_said(tmp_path, make, sentence):
    path = tmp_path / "martlet.conf"
    make(path)
    result = run("serve", "--config", str(path), MARTLET_DATA=str(tmp_path / "d"))
    assert result.returncode == 1 and sentence in result.stderr and len(result.stderr.splitlines()) == 1
    assert not (tmp_path / "d").exists()


def test_what_cannot_be_used_is_named_with_its_setting(tmp_path):
    def unprivileged(*words, **environment):
        drop = ["setpriv", "--reuid", "nobody", "--regid", "nogroup", "--clear-groups"] if os.geteuid() == 0 else []
        return subprocess.run([*drop, BINARY, *words], env={"PATH": os.environ["PATH"], **environment}, capture_output=True, text=True, timeout=20)

    # The folders above are for this user only.
    for folder in (tmp_path, *tmp_path.parents):
        if folder.stat().st_uid == os.geteuid() and folder != folder.parent and str(folder).startswith("/tmp/"):
            folder.chmod(0o755)
    others = tmp_path / "others"
    others.mkdir(mode=0o700)
    for folder in (others, others / "below"):
        result = unprivileged("serve", MARTLET_DATA=str(folder), MARTLET_LISTEN="127.0.0.1:0")
        assert result.returncode == 1 and "MARTLET_DATA" in result.stderr and "Permission denied" in result.stderr
    secret = tmp_path / "secret.conf"
    secret.write_text("MARTLET_LOOPS=1\n")
    secret.chmod(0o600)
    result = unprivileged("settings", "--config", str(secret))
    assert result.returncode == 0, "it reads none"
    result = unprivileged("routes", "--config", str(secret))
    assert result.returncode == 1 and "--config" in result.stderr and "Permission denied" in result.stderr
    result = run("serve", MARTLET_DATA=str(tmp_path / "d"), MARTLET_LISTEN="127.0.0.1:0", MARTLET_TLS_CERTIFICATE=f"{tmp_path}/no.pem", MARTLET_TLS_KEY="x")
    assert result.returncode == 1 and f"{tmp_path}/no.pem" in result.stderr


def test_signals(fresh):
    server = fresh()
    server.process.send_signal(signal.SIGHUP)
    eventually(lambda: lines(server, "nothing_to_reload"))
    # One that never finishes its request holds up the drain; a second signal does not wait for it.
    with server.raw() as connection:
        connection.sendall(b"POST /v1/auth/login HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\nContent-Length: 10\r\n\r\n")
        server.process.send_signal(signal.SIGTERM)
        eventually(lambda: lines(server, "draining"))
        server.process.send_signal(signal.SIGHUP)
        server.process.send_signal(signal.SIGTERM)
        assert server.process.wait(30) == 128 + signal.SIGTERM and lines(server, "drain_cut_short")


def test_a_probe_that_fails_is_no_error(fresh):
    server = fresh()
    with server.http() as http:
        server.process.send_signal(signal.SIGTERM)
        eventually(lambda: http.get("/readyz").status_code == 503)
    assert server.process.wait(12) == 0
    assert [line for line in server.log_text().splitlines() if '"error"' in line or '"warning"' in line] == []


def test_an_office_at_its_limit_is_said_once(fresh):
    server = fresh(MARTLET_RATE_LIMITS="on", MARTLET_SIGNUPS_PER_HOUR=2, MARTLET_METRICS_LISTEN="127.0.0.1:0")
    with server.http() as http:
        def sign_up(number):
            return http.post("/v1/auth/signup", json={"email": f"p{number}@example.org", "password": "correct horse", "name": "n"})

        assert [sign_up(number).status_code for number in range(5)] == [201, 201, 429, 429, 429]
        assert int(sign_up(6).headers["retry-after"]) > 3000
    said = lines(server, "sign_ups_limited")
    assert len(said) == 1 and said[0]["setting"] == "MARTLET_SIGNUPS_PER_HOUR" and said[0]["address"] == "127.0.0.1"
    assert server.metric("martlet_signups_limited_total") == 4


def test_a_changing_condition_of_the_database_is_said_once(fresh):
    import sqlite3

    server = fresh()
    with sqlite3.connect(server.data / "martlet.db", isolation_level=None) as other, server.http() as http:
        other.execute("BEGIN IMMEDIATE")
        eventually(lambda: http.get("/readyz").json()["data"]["database"] == "locked")
        other.execute("ROLLBACK")
        eventually(lambda: http.get("/readyz").json()["data"]["database"] == "writable")
    assert [(line["was"], line["is"]) for line in lines(server, "database_condition")] == [("writable", "locked"), ("locked", "writable")]
