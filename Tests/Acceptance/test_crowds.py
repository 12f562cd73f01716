"""Clients that ask for very much, and what others notice of it."""

import threading

import pytest

from martlet import client_frame, token
from postgres import rooms_by_hand

ROOMS = 10_000
RESUMING = 1000
ENTRIES = 900


class Writer(threading.Thread):
    """Sends one message after the other until it is told to stop; each must be acknowledged."""

    def __init__(self, person, room):
        super().__init__(daemon=True)
        self.person, self.room = person, room
        self.acknowledged = 0
        self.is_stopping = False
        self.failure = None

    def run(self):
        try:
            with self.person.relay("?subscribe=none") as relay:
                while not self.is_stopping:
                    relay.say(self.room, "still here", str(self.acknowledged))
                    assert relay.until("ack", timeout=5)["seq"]
                    self.acknowledged += 1
        except Exception as failure:  # noqa: BLE001 - shown by the test
            self.failure = failure

    def end(self):
        self.is_stopping = True
        self.join(10)
        assert self.failure is None, self.failure
        return self.acknowledged


@pytest.mark.parametrize("between", ["nothing", "redis"])
def test_who_comes_and_goes_in_ten_thousand_rooms(fresh, postgres, request, between):
    url = postgres.database()
    settings = {"MARTLET_DATABASE": url, "MARTLET_LOOPS": 1}
    if between == "redis":
        settings["MARTLET_FANOUT"] = request.getfixturevalue("redis").url
    server = fresh(**settings)
    ada, bob = server.person(), server.person()
    rooms_by_hand(url, ada.id, ROOMS)
    room = bob.room()
    channels = [str(id) for id in range(1, ROOMS + 1)]
    writer = Writer(bob, room)
    writer.start()
    sizes = []
    with ada.relay("?subscribe=none") as relay:
        for _ in range(8):
            for asked, answered in (("subscribe", "subscribed"), ("unsubscribe", "unsubscribed")):
                relay.send(type=asked, channels=channels)
                for channel in channels:
                    frame = relay.until(answered, timeout=20)
                    assert frame["channel_id"] == channel
            sizes.append(server.resident_megabytes())
    print(f"{between} between: MB after each round {[round(size) for size in sizes]}, {writer.end()} acknowledged meanwhile")
    assert sizes[-1] < sizes[2] * 1.1, sizes


def test_a_thousand_that_resume_and_do_not_read(fresh):
    server = fresh(MARTLET_LOOPS=1)
    ada = server.person()
    room, other = ada.room(), ada.room()
    with ada.relay() as relay:
        for number in range(ENTRIES):
            relay.say(room, f"{number} " + "x" * 2000, str(number))
            relay.until("text"), relay.until("ack")
    before = server.resident_megabytes()
    bearer = token(ada.id, level="100")
    silent = []
    try:
        for _ in range(RESUMING):
            silent.append(server.silent_relay(bearer))
            silent[-1].sendall(client_frame(type="resume", channels={str(room): 0}))
        writer = Writer(ada, other)
        writer.start()
        with ada.relay("?subscribe=none") as relay:
            # Whoever reads is made whole beside them.
            for _ in range(5):
                relay.send(type="resume", channels={str(room): 0})
                assert [relay.until("text", timeout=10)["seq"] for _ in range(ENTRIES)] == list(range(1, ENTRIES + 1))
                assert relay.until("resumed")["seq"] == ENTRIES
                relay.send(type="unsubscribe", channels=[str(room)])
                relay.until("unsubscribed")
        grown = server.resident_megabytes() - before
        print(f"{RESUMING} that do not read: {grown / RESUMING * 1024:.0f} KB each, {writer.end()} acknowledged meanwhile")
        # All of it would be 1.9 MB for each.
        assert grown < RESUMING * 0.4
    finally:
        for client in silent:
            client.close()


def test_what_a_subscription_takes(fresh):
    """80 sockets that hear 500 rooms each."""
    rooms, sockets = 500, 80
    server = fresh(MARTLET_LOOPS=1, MARTLET_RATE_LIMITS="off")
    ada = server.person()
    for _ in range(rooms):
        ada.room()
    # The first serve the rooms, and fill what is kept for all.
    opened = [ada.relay() for _ in range(8)]
    before = server.resident_megabytes()
    opened += [ada.relay() for _ in range(sockets)]
    assert all(len(relay.ready["channels"]) == rooms for relay in opened)
    grown = (server.resident_megabytes() - before) * 2**20 / (sockets * rooms)
    print(f"{grown:.0f} bytes for each room of each socket, its connection included")
    assert grown < 160
    for relay in opened:
        relay.close()
