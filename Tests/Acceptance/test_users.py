"""People who find each other: by id, by name, by e-mail address, and only those whom one knows."""

import uuid

import pytest

from martlet import eventually


@pytest.fixture(scope="module")
def people(server):
    ada, bob, cleo, stan = (server.account(name) for name in ("Ada Lovelace", "Bob O'Neil", "Cléo Żółw", "Stan"))
    ada.team(bob, cleo)
    return ada, bob, cleo, stan


def find(person, **query):
    answer = person.http.get("/v1/users", params=query)
    assert answer.status_code == 200, answer.text
    assert all(set(found) == {"id", "name"} for found in answer.json()["data"])
    return {found["id"] for found in answer.json()["data"]}


def email(person):
    return person.ok("GET", "/v1/me")["email"]


def test_by_id(people):
    ada, bob, cleo, stan = people
    assert ada.ok("GET", f"/v1/users/{bob.id}") == {"id": bob.id, "name": "Bob O'Neil"}
    assert ada.ok("GET", f"/v1/users/{ada.id}")["name"] == "Ada Lovelace"
    for id in (stan.id, uuid.uuid4(), "x", 1):
        assert ada.code("GET", f"/v1/users/{id}") == (404, "user_not_found") or id in ("x", 1)
    assert stan.code("GET", f"/v1/users/{ada.id}") == (404, "user_not_found")
    many = [bob.id, stan.id, str(uuid.uuid4()), cleo.id, bob.id, ada.id]
    listed = ada.ok("GET", f"/v1/users?ids={','.join(many)}")
    assert [found["id"] for found in listed] == [bob.id, cleo.id, ada.id]
    assert ada.ok("GET", f"/v1/users?ids={','.join(str(uuid.uuid4()) for _ in range(200))}") == []
    for ids in ("", ",", "x", f"{bob.id},x", ",".join(str(uuid.uuid4()) for _ in range(201))):
        assert ada.code("GET", f"/v1/users?ids={ids}") == (422, "validation_failed"), ids


def test_by_name_and_address(people):
    ada, bob, cleo, stan = people
    assert find(ada, q="bo") == {bob.id} == find(ada, q="BOB") == find(ada, q="neil") == find(bob, q="o'ne")
    assert find(ada, q="cleo") == {cleo.id} == find(ada, q="żÓł") == find(ada, q="cleo zo")
    assert find(bob, q="love") == {ada.id} == find(bob, q="ada lov") == find(bob, q="lovelace ada")
    assert find(ada, q="ob") == set() == find(ada, q="bob x") == find(ada, q="stan") == find(ada, q="%%") == find(ada, q="__")
    # The whole address, and only of those whom one knows.
    assert find(ada, q=email(bob)) == {bob.id} == find(ada, q=email(bob).upper())
    assert find(ada, q=email(bob)[:-1]) == set() == find(ada, q=email(stan))
    for query in ({}, {"q": "a"}, {"q": "x" * 101}, {"q": "bob", "ids": bob.id}, {"q": "bob", "limit": 0}, {"q": "bob", "cursor": "x"}):
        answer = ada.http.get("/v1/users", params=query)
        assert (answer.status_code, answer.json()["error"]["code"]) == (422, "validation_failed"), query
    joe = ada.server.person()
    assert joe.http.get("/v1/users", params={"q": "bob"}).status_code == 403
    assert joe.http.get(f"/v1/users/{bob.id}").status_code == 403
    assert ada.code("PATCH", "/v1/me", avatar_file_id=str(uuid.uuid4())) == (422, "validation_failed")


def test_who_knows_whom(people, server):
    ada, bob, cleo, stan = people
    # A team and an organization are known; a rule alone is not; what both wrote in is.
    room = stan.ok("POST", "/v1/rooms", 201, name="r", kind="group")["id"]
    stan.ok("PUT", f"/v1/rooms/{room}/members", entity_UUID=cleo.id, permissions="rw", level=0)
    assert find(stan, q="cleo") == set()
    cleo.ok("POST", f"/v1/rooms/{room}/messages", 201, data="hello")
    assert eventually(lambda: find(stan, q="cleo") == {cleo.id})
    assert find(cleo, q="stan") == {stan.id} and find(ada, q="stan") == set()
    server.organization(OWNER=ada, MEMBER=stan)
    assert eventually(lambda: find(ada, q="stan") == {stan.id} == {found["id"] for found in ada.ok("GET", f"/v1/users?ids={stan.id}")})


def test_who_left_is_not_known(server):
    ada, bob = server.account("Ada"), server.account("Bob")
    team = ada.team(bob)
    other = bob.ok("POST", "/v1/rooms", 201, name="r", kind="group")["id"]
    bob.ok("PUT", f"/v1/rooms/{other}/people/{ada.id}", role_id=None)
    ada.ok("POST", f"/v1/rooms/{team['room_id']}/messages", 201, data="hello")
    # What somebody wrote just before is taken over a moment later, and makes nobody known any more.
    bob.ok("POST", f"/v1/rooms/{team['room_id']}/messages", 201, data="hello")
    bob.ok("POST", f"/v1/rooms/{team['room_id']}/messages", 201, data="psst", to=ada.id)
    ada.ok("POST", f"/v1/rooms/{other}/messages", 201, data="hello")
    ada.ok("DELETE", f"/v1/rooms/{other}/people/{ada.id}", 204)
    ada.ok("DELETE", f"/v1/teams/{team['id']}/members/{bob.id}", 204)
    # A room in which both write later is taken over behind those.
    probe = [server.account("Ann"), server.account("Ben")]
    room = probe[0].ok("POST", "/v1/rooms", 201, name="r", kind="group")["id"]
    probe[0].ok("PUT", f"/v1/rooms/{room}/members", entity_UUID=probe[1].id, permissions="rw", level=0)
    for _ in range(2):
        probe[1].ok("POST", f"/v1/rooms/{room}/messages", 201, data="x")
        assert eventually(lambda: find(probe[0], q="ben") == {probe[1].id})
    assert find(ada, q="bob") == set() == find(bob, q="ada")
    # Whoever comes back and writes is known again.
    ada.ok("POST", f"/v1/teams/{team['id']}/members", 202, user_id=bob.id)
    bob.accept_invitations()
    assert find(ada, q="bob") == {bob.id}


def test_page_by_page(server):
    ada = server.account("Zed")
    others = [server.account(f"Zed {number}") for number in range(5)]
    ada.team(*others)
    seen, cursor = [], None
    while True:
        page = ada.http.get("/v1/users", params={"q": "zed", "limit": 2} | ({"cursor": cursor} if cursor else {})).json()
        assert len(page["data"]) <= 2
        seen += [found["id"] for found in page["data"]]
        cursor = page.get("meta", {}).get("next_cursor")
        if not cursor:
            break
    assert sorted(seen) == seen == sorted([ada.id, *(other.id for other in others)])


def test_everyone(fresh):
    server = fresh(MARTLET_DIRECTORY="everyone")
    ada, bob = server.account("Ada"), server.account("Bob")
    assert find(ada, q="bob") == {bob.id} == find(ada, q=email(bob))
    assert bob.ok("GET", f"/v1/users/{ada.id}")["name"] == "Ada"
