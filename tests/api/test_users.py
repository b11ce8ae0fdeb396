"""Accounts for machines: contracts 000, 001 and 003, and what admins do."""

import dataclasses
import time
import uuid
from collections.abc import Callable
from typing import Any

import jwt
import pytest
from flask import Flask
from flask.testing import FlaskClient

from tests.api.errors import assert_refused
from tests.support.people import Cast, Person
from webapp.config import Registration, Settings

PASSWORD = "a password that is long enough"


def register(client: FlaskClient, username: str = "wernher", **more: Any) -> Any:
    return client.post("/api/v1/register", json={"username": username, "password": PASSWORD, **more})


def login(client: FlaskClient, username: str = "wernher", password: str = PASSWORD) -> Any:
    return client.post("/api/v1/login", json={"username": username, "password": password})


def bearer(token: str) -> dict[str, str]:
    return {"Authorization": f"Bearer {token}"}


# --- contract 000 -----------------------------------------------------------------------------------------------------


def test_the_first_user_owns_the_instance_and_the_next_is_an_operator(client: FlaskClient):
    first, second = register(client, "first"), register(client, "second")
    assert (first.status_code, second.status_code) == (201, 201)
    assert first.json["role"], second.json["role"] == ("admin", "operator")
    assert first.json["username"] == "first"
    uuid.UUID(first.json["id"])
    assert first.json["created_at"].endswith("Z")


def test_a_taken_name_is_400_in_the_words_of_contract_000_whatever_its_case(client: FlaskClient):
    register(client, "wernher")
    body = assert_refused(register(client, "WERNHER"), 400, code="USERNAME_TAKEN")
    assert body["detail"] == "Username already registered"


def test_log_in_answers_a_token_with_the_claims_of_the_contracts(client: FlaskClient, settings: Settings):
    user_id = register(client).json["id"]
    answer = login(client)
    assert answer.status_code == 200
    assert answer.json["token_type"] == "bearer"
    claims = jwt.decode(
        answer.json["access_token"], settings.load_secret_key(), algorithms=["HS256"], audience="hohmann"
    )
    assert claims["sub"] == claims["userId"] == user_id
    assert claims["exp"] - claims["iat"] == 24 * 3600
    assert claims["jti"]


@pytest.mark.parametrize("name", ["wernher", "nobody"])
def test_a_wrong_password_and_an_unknown_user_get_the_same_answer(client: FlaskClient, name: str):
    register(client)
    answer = login(client, name, "wrong password")
    body = assert_refused(answer, 401, code="BAD_CREDENTIALS")
    assert body["detail"] == "Incorrect username or password"
    assert answer.headers["WWW-Authenticate"] == "Bearer"


def test_an_unknown_user_costs_as_much_time_as_a_wrong_password(client: FlaskClient):
    register(client)
    times: dict[str, list[float]] = {"wernher": [], "nobody": []}
    for _ in range(4):
        for name, took in times.items():
            begun = time.perf_counter()
            login(client, name, "wrong password")
            took.append(time.perf_counter() - begun)
    assert min(times["nobody"]) > 0.5 * min(times["wernher"])


def test_log_out_ends_this_token_and_no_other(client: FlaskClient):
    register(client)
    one, two = (login(client).json["access_token"] for _ in range(2))
    assert client.get("/api/v1/auth/user", headers=bearer(one)).status_code == 200
    answer = client.post("/api/v1/logout", headers=bearer(one))
    assert (answer.status_code, answer.data) == (204, b"")
    assert_refused(client.get("/api/v1/auth/user", headers=bearer(one)), 401)
    assert client.get("/api/v1/auth/user", headers=bearer(two)).status_code == 200


def test_a_user_who_is_switched_off_gets_403_at_log_in_and_401_with_an_old_token(client: FlaskClient, people: Cast):
    switch_off(client, people.alice, people.bob)
    assert_refused(login(client, "bob", people.bob.password), 403, code="INACTIVE_USER")
    assert_refused(client.get("/api/v1/jobs", headers=people.bob.headers), 401)


def test_only_failed_log_ins_are_throttled_not_within_five_and_surely_within_sixty(client: FlaskClient):
    register(client)
    assert all(login(client).status_code == 200 for _ in range(15))
    statuses = [login(client, password="wrong password").status_code for _ in range(12)]
    assert statuses[:5] == [401] * 5
    assert statuses[-1] == 429
    refused = login(client)
    assert_refused(refused, 429)
    assert 0 < int(refused.headers["Retry-After"]) <= 300


@pytest.mark.parametrize(
    ("body", "field"),
    [
        ({"password": PASSWORD}, "username"),
        ({"username": "wernher"}, "password"),
        ({"username": 5, "password": PASSWORD}, "username"),
        ({"username": ["wernher"], "password": PASSWORD}, "username"),
        ({"username": "wernher", "password": None}, "password"),
        ({"username": "", "password": PASSWORD}, "username"),
        ({"username": "x" * 300, "password": PASSWORD}, "username"),
        ({"username": "a\u0000b", "password": PASSWORD}, "username"),
        ({"username": "wernher", "password": "short"}, "password"),
        ({"username": "wernher", "password": "x" * 2000}, "password"),
        ({"username": "wernher", "password": PASSWORD, "email": "no address"}, "email"),
        ([], ""),
        ("text", ""),
    ],
)
@pytest.mark.parametrize("path", ["/api/v1/register", "/api/v1/auth/register"])
def test_a_registration_with_a_wrong_field_is_422_and_names_it(client: FlaskClient, path: str, body: Any, field: str):
    answer = client.post(path, json=body)
    assert_refused(answer, 422, naming=field)
    assert "short" not in answer.text


def test_broken_json_is_400_and_another_content_type_415(client: FlaskClient):
    for path in ("/api/v1/register", "/api/v1/login", "/api/v1/auth/login", "/api/v1/auth/signup"):
        assert_refused(client.post(path, data=b"{", content_type="application/json"), 400)
        assert_refused(client.post(path, data=b"", content_type="application/json"), 400)
        assert_refused(client.post(path, data=b"username=x", content_type="text/plain"), 415)
        assert_refused(client.post(path), 415)


# --- contract 001 -----------------------------------------------------------------------------------------------------


def test_contract_001_registers_with_200_and_logs_in_with_a_token(client: FlaskClient):
    answer = client.post("/api/v1/auth/register", json={"username": "myuser", "password": "mypassword"})
    assert answer.status_code == 200
    assert set(answer.json) == {"user_id", "username", "created_at", "updated_at"}
    answer = client.post("/api/v1/auth/login", json={"username": "myuser", "password": "mypassword"})
    assert answer.status_code == 200
    assert client.get("/api/v1/jobs", headers=bearer(answer.json["token"])).status_code == 200
    wrong = client.post("/api/v1/auth/login", json={"username": "myuser", "password": "something else"})
    assert_refused(wrong, 401)
    taken = client.post("/api/v1/auth/register", json={"username": "myuser", "password": "mypassword"})
    assert_refused(taken, 400)


def test_the_same_addresses_work_from_the_root_for_machines(client: FlaskClient):
    answer = client.post("/auth/register", json={"username": "myuser", "password": "mypassword"})
    assert answer.status_code == 200
    token = client.post("/auth/login", json={"username": "myuser", "password": "mypassword"}).json["token"]
    assert client.get("/auth/me", headers=bearer(token)).json["username"] == "myuser"


# --- contract 003 -----------------------------------------------------------------------------------------------------


def test_contract_003_signs_up_and_in_and_out(client: FlaskClient):
    who = {"email": "user@example.com", "password": "password123", "full_name": "John Doe"}
    answer = client.post("/api/v1/auth/signup", json=who)
    assert answer.status_code == 201
    assert answer.json["token"] == answer.json["access_token"]
    assert answer.json["message"]
    user = answer.json["user"]
    assert (user["email"], user["full_name"], user["is_verified"]) == ("user@example.com", "John Doe", True)
    assert user["username"] == "user@example.com"
    assert len(user["icecube_id"]) == 12
    assert user["icecube_id"].isdigit()

    session = client.post("/api/v1/auth/signin", json={"email": "user@example.com", "password": "password123"})
    assert session.status_code == 200
    assert session.json["user"] == user
    token = bearer(session.json["access_token"])
    assert client.get("/api/v1/auth/user", headers=token).json == user
    assert client.get("/api/v1/auth/me", headers=token).json == user
    out = client.post("/api/v1/auth/signout", headers=token)
    assert (out.status_code, out.json) == (200, {"message": "Signed out successfully"})
    assert_refused(client.get("/api/v1/auth/user", headers=token), 401)


def test_contract_003_also_signs_out_at_logout(client: FlaskClient, bob: Person):
    assert client.post("/api/v1/auth/logout", headers=bob.headers).status_code == 200
    assert_refused(client.get("/api/v1/auth/me", headers=bob.headers), 401)


def test_a_taken_email_is_400_and_a_wrong_password_401(client: FlaskClient):
    who = {"email": "user@example.com", "username": "one", "password": "password123"}
    client.post("/api/v1/auth/signup", json=who)
    assert_refused(client.post("/api/v1/auth/signup", json={**who, "username": "two"}), 400, code="EMAIL_TAKEN")
    assert_refused(client.post("/api/v1/auth/signin", json={"email": who["email"], "password": "password124"}), 401)
    assert_refused(client.post("/api/v1/auth/signin", json={"password": "password124"}), 422, naming="email")
    assert_refused(client.post("/api/v1/auth/signup", json={"password": "password124"}), 422, naming="email")


# --- who may register -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "asked_how",
    [
        {"environ_overrides": {"REMOTE_ADDR": "203.0.113.9"}},
        {"base_url": "http://rebound.example"},
        {"headers": {"X-Forwarded-For": "203.0.113.9"}},
    ],
    ids=["from another machine", "by a name that was pointed here", "through a proxy"],
)
def test_nobody_from_elsewhere_becomes_the_owner(client: FlaskClient, asked_how: dict[str, Any]):
    answer = client.post("/api/v1/register", json={"username": "eve", "password": PASSWORD}, **asked_how)
    assert_refused(answer, 403)


@pytest.mark.parametrize("host", ["localhost:8000", "127.0.0.1", "[::1]:8000"])
def test_every_name_of_this_machine_lets_the_owner_register(client: FlaskClient, host: str):
    answer = client.post(
        "/api/v1/register", json={"username": "alice", "password": PASSWORD}, base_url=f"http://{host}"
    )
    assert answer.status_code == 201


def test_closed_registration_admits_nobody_and_invitations_admit_one_person_once(
    settings: Settings, make_app: Callable[[Settings], Flask]
):
    client = make_app(dataclasses.replace(settings, registration=Registration.INVITE)).test_client()
    register(client, "alice")
    assert_refused(register(client, "eve"), 403, code="REGISTRATION_CLOSED")
    token = bearer(login(client, "alice").json["access_token"])
    invitation = client.post("/api/v1/invitations", json={"role": "viewer"}, headers=token)
    assert invitation.status_code == 201
    assert invitation.json["url"].endswith("/register?token=" + invitation.json["token"])
    guest = register(client, "rita", token=invitation.json["token"])
    assert (guest.status_code, guest.json["role"]) == (201, "viewer")
    assert_refused(register(client, "eve", token=invitation.json["token"]), 403)


# --- people, for admins -----------------------------------------------------------------------------------------------


def switch_off(client: FlaskClient, admin: Person, whom: Person) -> None:
    answer = client.patch(f"/api/v1/users/{whom.id}", json={"is_active": False}, headers=admin.headers)
    assert (answer.status_code, answer.json["is_active"]) == (200, False)


def test_an_admin_lists_users_and_changes_roles_at_once(client: FlaskClient, people: Cast):
    assert client.get("/api/v1/jobs", headers=people.rita.headers).status_code == 200
    listed = client.get("/api/v1/users", headers=people.alice.headers)
    assert [user["username"] for user in listed.json] == ["alice", "bob", "dave", "rita", "charlie"]
    assert "password" not in listed.text
    path = f"/api/v1/users/{people.rita.id}"
    changed = client.patch(path, json={"role": "admin"}, headers=people.alice.headers)
    assert (changed.status_code, changed.json["role"]) == (200, "admin")
    assert client.get("/api/v1/users", headers=people.rita.headers).status_code == 200
    client.patch(path, json={"role": "viewer"}, headers=people.alice.headers)
    assert_refused(client.get("/api/v1/users", headers=people.rita.headers), 403)


def test_the_owner_stays_an_active_admin(client: FlaskClient, alice: Person):
    path = f"/api/v1/users/{alice.id}"
    for change in ({"role": "viewer"}, {"is_active": False}):
        assert_refused(client.patch(path, json=change, headers=alice.headers), 409, code="OWNER")


@pytest.mark.parametrize(
    ("body", "field"),
    [({"role": "king"}, "role"), ({"is_active": "no"}, "is_active"), ({"is_active": 0}, "is_active"), ({"x": 1}, "x")],
)
def test_a_wrong_change_of_a_user_is_422(client: FlaskClient, people: Cast, body: Any, field: str):
    answer = client.patch(f"/api/v1/users/{people.bob.id}", json=body, headers=people.alice.headers)
    assert_refused(answer, 422, naming=field)


@pytest.mark.parametrize("user_id", ["00000000-0000-4000-8000-000000000000", "nobody"])
def test_an_unknown_user_is_404(client: FlaskClient, alice: Person, user_id: str):
    answer = client.patch(f"/api/v1/users/{user_id}", json={"role": "viewer"}, headers=alice.headers)
    assert_refused(answer, 404)


ADMINS_DOORS = [
    ("GET", "/api/v1/users"),
    ("PATCH", "/api/v1/users/00000000-0000-4000-8000-000000000000"),
    ("POST", "/api/v1/invitations"),
    ("GET", "/api/v1/service-tokens"),
    ("POST", "/api/v1/service-tokens"),
    ("DELETE", "/api/v1/service-tokens/00000000-0000-4000-8000-000000000000"),
]


@pytest.mark.parametrize(("method", "path"), ADMINS_DOORS)
def test_only_admins_come_in_at_the_admins_doors(client: FlaskClient, people: Cast, method: str, path: str):
    assert_refused(client.open(path, method=method, json={}), 401)
    for person in (people.bob, people.dave, people.rita, people.charlie):
        assert_refused(client.open(path, method=method, json={}, headers=person.headers), 403)


# --- passwords --------------------------------------------------------------------------------------------------------


def test_a_new_password_ends_every_older_token(client: FlaskClient, bob: Person):
    wrong = {"old_password": "not this one", "new_password": PASSWORD}
    assert_refused(client.post("/api/v1/auth/password", json=wrong, headers=bob.headers), 422, naming="old_password")
    change = {"old_password": bob.password, "new_password": PASSWORD}
    answer = client.post("/api/v1/auth/password", json=change, headers=bob.headers)
    assert answer.status_code == 200
    assert_refused(client.get("/api/v1/auth/me", headers=bob.headers), 401)
    assert client.get("/api/v1/auth/me", headers=bearer(answer.json["token"])).status_code == 200
    assert_refused(login(client, "bob", bob.password), 401)
    assert login(client, "bob", PASSWORD).status_code == 200


# --- tokens of machines -----------------------------------------------------------------------------------------------


def make_token(client: FlaskClient, alice: Person, **facts: Any) -> Any:
    body = {"name": "airflow", "role": "operator", "scopes": ["read", "jobs:run"], **facts}
    return client.post("/api/v1/service-tokens", json=body, headers=alice.headers)


def test_a_service_token_is_shown_once_and_dies_when_revoked(client: FlaskClient, alice: Person):
    made = make_token(client, alice)
    assert made.status_code == 201
    secret = made.json["token"]
    listed = client.get("/api/v1/service-tokens", headers=alice.headers)
    assert [token["name"] for token in listed.json] == ["airflow"]
    assert secret not in listed.text
    assert client.get("/api/v1/jobs", headers=bearer(secret)).status_code == 200
    revoked = client.delete(f"/api/v1/service-tokens/{made.json['id']}", headers=alice.headers)
    assert revoked.status_code == 200
    assert revoked.json["revoked_at"]
    assert_refused(client.get("/api/v1/jobs", headers=bearer(secret)), 401)


def test_an_expired_service_token_opens_nothing(client: FlaskClient, alice: Person):
    secret = make_token(client, alice, expires_at="2020-01-01T00:00:00Z").json["token"]
    assert_refused(client.get("/api/v1/jobs", headers=bearer(secret)), 401)


def test_a_service_token_without_the_scope_to_read_sees_nothing(client: FlaskClient, alice: Person):
    token = bearer(make_token(client, alice, scopes=["rockets:write"]).json["token"])
    for path in ("/api/v1/job", "/api/v1/jobs", "/api/v1/runs"):
        refused = client.get(path, headers=token)
        assert_refused(refused, 403)
        assert refused.json["details"] == {"needed_scope": "read"}
    mission = {"source": "Earth", "destination": "Mars", "estimated_time": 5}
    assert client.post("/api/v1/job", json=mission, headers=token).status_code == 201


def test_a_service_token_is_no_person(client: FlaskClient, alice: Person):
    token = bearer(make_token(client, alice, role="admin").json["token"])
    assert_refused(client.get("/api/v1/auth/me", headers=token), 403)
    assert_refused(client.post("/api/v1/logout", headers=token), 403)
    assert_refused(client.get("/api/v1/users", headers=token), 403)
    change = {"old_password": alice.password, "new_password": PASSWORD}
    assert_refused(client.post("/api/v1/auth/password", json=change, headers=token), 403)


def test_the_machines_of_somebody_who_is_switched_off_are_switched_off_too(client: FlaskClient, people: Cast):
    client.patch(f"/api/v1/users/{people.bob.id}", json={"role": "admin"}, headers=people.alice.headers)
    secret = make_token(client, people.bob).json["token"]
    assert client.get("/api/v1/jobs", headers=bearer(secret)).status_code == 200
    switch_off(client, people.alice, people.bob)
    assert_refused(client.get("/api/v1/jobs", headers=bearer(secret)), 401)


@pytest.mark.parametrize(
    ("facts", "field"),
    [
        ({"name": ""}, "name"),
        ({"name": "x" * 101}, "name"),
        ({"name": 1}, "name"),
        ({"role": "king"}, "role"),
        ({"scopes": []}, "scopes"),
        ({"scopes": ["everything"]}, "scopes.0"),
        ({"scopes": "read"}, "scopes"),
        ({"expires_at": "soon"}, "expires_at"),
        ({"expires_at": "2030-01-01T00:00:00"}, "expires_at"),
        ({"colour": "red"}, "colour"),
    ],
)
def test_a_wrong_field_of_a_service_token_is_422(client: FlaskClient, alice: Person, facts: Any, field: str):
    assert_refused(make_token(client, alice, **facts), 422, naming=field)


# --- what is no token at all ------------------------------------------------------------------------------------------


def forge(
    settings: Settings, person: Person, *, key: str | None = None, algorithm: str = "HS256", **claims: Any
) -> str:
    now = int(time.time())
    good = {
        "sub": str(person.id),
        "ver": 1,
        "jti": str(uuid.uuid4()),
        "exp": now + 60,
        "iat": now,
        "nbf": now,
        "aud": "hohmann",
    }
    body = {
        name: value for name, value in {**good, "type": "access", "fresh": False, **claims}.items() if value is not None
    }
    return jwt.encode(body, key or settings.load_secret_key(), algorithm=algorithm)


def test_forged_expired_and_mangled_tokens_open_nothing(client: FlaskClient, settings: Settings, bob: Person):
    good = forge(settings, bob)
    assert client.get("/api/v1/auth/me", headers=bearer(good)).status_code == 200
    bad = [
        forge(settings, bob, key="another key that is long enough for HS256"),
        forge(settings, bob, exp=int(time.time()) - 1),
        forge(settings, bob, exp=None),
        forge(settings, bob, aud="somebody else"),
        forge(settings, bob, aud=None),
        forge(settings, bob, jti=None),
        forge(settings, bob, ver=0),
        forge(settings, bob, ver=None),
        forge(settings, bob, sub=str(uuid.uuid4())),
        forge(settings, bob, sub="bob"),
        good[:-3],
        good.split(".")[0] + "." + good.split(".")[1] + ".",
        "hoh_" + "x" * 43,
        "nonsense",
        "a.b.c",
    ]
    for token in bad:
        assert_refused(client.get("/api/v1/auth/me", headers=bearer(token)), 401)
    unsigned = jwt.encode({"sub": str(bob.id), "ver": 1, "jti": "x", "aud": "hohmann"}, None, algorithm="none")
    assert_refused(client.get("/api/v1/auth/me", headers=bearer(unsigned)), 401)
    assert_refused(client.get("/api/v1/auth/me", headers={"Authorization": "Basic Ym9iOnB3"}), 401)
