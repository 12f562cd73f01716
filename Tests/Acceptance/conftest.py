import pytest

from martlet import Server, Stalls, make_certificate, tally
from postgres import Postgres
from redisserver import Proxy, Redis


def pytest_terminal_summary(terminalreporter):
    for table, count in sorted(tally.items()):
        terminalreporter.write_line(f"{table}: {count} cells")


@pytest.fixture(scope="session")
def postgres():
    server = Postgres().start()
    yield server
    server.remove()


@pytest.fixture(scope="session")
def redis():
    with Redis() as server:
        yield server


@pytest.fixture(scope="session")
def spoiled_redis(redis):
    """A Redis whose publications are lost, doubled, late, and in another order."""
    proxy = Proxy(redis.port)
    proxy.spoil(drop=0.1, double=0.1, delay=0.1, reorder=0.1, milliseconds=40)
    yield proxy
    proxy.close()


@pytest.fixture(scope="session")
def certificate(tmp_path_factory):
    return make_certificate(tmp_path_factory.mktemp("certificate"))


@pytest.fixture(scope="session", params=["sqlite, 1 loop", "sqlite, 4 loops, tls", "postgres, 2 loops"])
def server(request, tmp_path_factory, certificate):
    """A server without rates, shared by the tests of one session: both databases, 1 and more loops, plain and TLS."""
    database, loops, *tls = request.param.split(", ")
    settings = {"MARTLET_LOOPS": loops.split()[0], "certificate": certificate if tls else None}
    if database == "postgres":
        settings["MARTLET_DATABASE"] = request.getfixturevalue("postgres").database()
    with Server(tmp_path_factory.mktemp("data") / "shared", **settings) as running:
        yield running
        assert running.process.poll() is None, running.log_text()[-3000:]


@pytest.fixture
def stalls():
    """What the machine's own pauses were, for tests of what is promised within a time."""
    with Stalls() as stalls:
        yield stalls


@pytest.fixture
def fresh(tmp_path):
    """Makes servers of a test's own; stops what is left."""
    made = []

    def make(name="data", **settings):
        made.append(Server(tmp_path / name, **settings).start())
        return made[-1]

    yield make
    for server in made:
        server.stop()
