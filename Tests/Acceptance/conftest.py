import pytest

from martlet import Server


@pytest.fixture(scope="session", params=["1", "4"], ids=["1 loop", "4 loops"])
def server(request, tmp_path_factory):
    """A server without rates, shared by the tests of one session, on 1 and on 4 loops."""
    with Server(tmp_path_factory.mktemp("data") / "shared", MARTLET_LOOPS=request.param) as running:
        yield running
        assert running.process.poll() is None, running.log_text()[-3000:]


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
