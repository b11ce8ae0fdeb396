"""Contract 002's log-in: a cookie of 30 days, and a wrong password that is no 401."""

import pytest
from flask import Flask
from flask.testing import FlaskClient

from tests.api.olake.client import LIKE_THE_CLIENT, PROJECT, data_of, refused, signed_in
from tests.support.people import Person
from webapp.cookies import CONTRACT_COOKIE


def test_who_logs_in_gets_the_contracts_cookie_for_30_days(client: FlaskClient, bob: Person) -> None:
    answer = client.post("/login", json={"username": "bob", "password": bob.password})
    assert data_of(answer) == {"username": "bob"}
    (cookie,) = [header for header in answer.headers.getlist("Set-Cookie") if header.startswith(CONTRACT_COOKIE)]
    assert "HttpOnly" in cookie
    assert "SameSite=Lax" in cookie
    assert f"Max-Age={30 * 86400}" in cookie


def test_the_contracts_cookie_alone_is_a_session(app: Flask, bob: Person) -> None:
    value = signed_in(app, bob).get_cookie(CONTRACT_COOKIE)
    assert value is not None
    other = app.test_client()
    other.set_cookie(CONTRACT_COOKIE, value.value)
    assert data_of(other.get("/auth", headers=LIKE_THE_CLIENT)) == {"username": "bob"}


def test_a_session_that_was_ended_is_over_under_both_names(app: Flask, bob: Person) -> None:
    client = signed_in(app, bob)
    with client.session_transaction() as session:
        signed = session["_user_id"]
    value = client.get_cookie(CONTRACT_COOKIE)
    assert value is not None
    browser = bob.browser()
    with browser.client.session_transaction() as session:
        session["_user_id"] = signed
    browser.post("/logout")
    stolen = app.test_client()
    stolen.set_cookie(CONTRACT_COOKIE, value.value)
    refused(stolen.get("/auth", headers=LIKE_THE_CLIENT), 401)


@pytest.mark.parametrize("value", ["", "nonsense", "eyJhIjoxfQ.x.y"])
def test_a_forged_cookie_is_none(client: FlaskClient, value: str) -> None:
    client.set_cookie(CONTRACT_COOKIE, value)
    refused(client.get("/auth/check", headers=LIKE_THE_CLIENT), 401)


def test_the_word_authenticated_is_no_token_by_itself(client: FlaskClient) -> None:
    for path in ("/auth", "/auth/check", f"{PROJECT}/sources"):
        refused(client.get(path, headers=LIKE_THE_CLIENT), 401, saying="authentication required")


def test_tokens_of_ours_work_too(client: FlaskClient, bob: Person) -> None:
    assert data_of(client.get("/auth", headers=bob.headers)) == {"username": "bob"}
    assert data_of(client.get(f"{PROJECT}/sources", headers=bob.headers)) == []


def test_a_wrong_password_is_400_because_401_ends_the_clients_session(client: FlaskClient, bob: Person) -> None:
    for body in ({"username": "bob", "password": "wrong"}, {"username": "nobody", "password": "wrong"}):
        refused(client.post("/login", json=body), 400, saying="incorrect username or password")


@pytest.mark.parametrize("path", ["/login", "/signup"])
@pytest.mark.parametrize("body", [{}, [], {"username": 5, "password": "x"}, {"username": "x"}, "text"])
def test_a_body_without_what_is_needed_is_400(client: FlaskClient, path: str, body: object) -> None:
    refused(client.post(path, json=body), 400)


def test_the_first_user_of_the_public_client_owns_the_instance(client: FlaskClient) -> None:
    first = {"email": "admin@example.com", "username": "admin", "password": "password"}
    answer = data_of(client.post("/signup", json=first))
    assert answer == {"email": "admin@example.com", "username": "admin"}
    assert data_of(client.post("/login", json=first)) == {"username": "admin"}


def test_a_taken_name_is_409(client: FlaskClient, bob: Person) -> None:
    body = {"email": "x@example.com", "username": "bob", "password": "long enough"}
    refused(client.post("/signup", json=body), 409, saying="already")


def test_the_log_in_page_stays_a_page(client: FlaskClient, bob: Person) -> None:
    page = client.get("/login", headers={"Accept": "text/html"})
    assert page.mimetype == "text/html"
    assert client.get("/login").mimetype == "text/html"
    form = client.post("/login", data={"username": "bob", "password": "x"}, headers={"Accept": "text/html"})
    assert form.mimetype == "text/html"
    json_body = {"username": "bob", "password": bob.password}
    assert data_of(client.post("/login", json=json_body, headers={"Accept": "text/html"})) == {"username": "bob"}


def test_nobody_is_counted(client: FlaskClient) -> None:
    assert data_of(client.get("/telemetry-id")) == {"user_id": ""}


def test_unknown_addresses_below_a_project_are_refused_in_the_envelope(client: FlaskClient, bob: Person) -> None:
    refused(client.get(f"{PROJECT}/nothing", headers=bob.headers), 404)
    refused(client.delete(f"{PROJECT}/sources", headers=bob.headers), 405)


@pytest.mark.parametrize("name", ["olake", "123", "default", "1"])
def test_the_default_project_has_the_contracts_names(client: FlaskClient, bob: Person, name: str) -> None:
    assert data_of(client.get(f"/api/v1/project/{name}/sources", headers=bob.headers)) == []


@pytest.mark.parametrize("name", ["other", "99", "0", "-1", "²", "9" * 40, "%00", "olake'--"])
def test_an_unknown_project_is_404(client: FlaskClient, bob: Person, name: str) -> None:
    refused(client.get(f"/api/v1/project/{name}/sources", headers=bob.headers), 404)


def test_a_stranger_finds_no_project(client: FlaskClient, charlie: Person) -> None:
    for verb, path in (("GET", "sources"), ("POST", "sources"), ("PUT", "sources/1"), ("DELETE", "destinations/1"),
                       ("POST", "sources/test"), ("GET", "sources/spec?type=sqlite")):  # fmt: skip
        refused(client.open(f"{PROJECT}/{path}", method=verb, headers=charlie.headers, json={}), 404)


def test_a_page_of_another_origin_changes_nothing(app: Flask, bob: Person) -> None:
    client = signed_in(app, bob)
    body = {"name": "x", "type": "sqlite", "version": "", "config": "{}"}
    for foreign in ({"Origin": "http://evil.example"}, {"Origin": "null"}, {"Sec-Fetch-Site": "cross-site"}):
        refused(client.post(f"{PROJECT}/sources", json=body, headers=foreign), 403, saying="origin")
    refused(client.post(f"{PROJECT}/sources", data={"name": "x"}), 403)
    own = {"Origin": "http://localhost", "Sec-Fetch-Site": "same-origin"}
    refused(client.post(f"{PROJECT}/sources", json=body, headers={**own, **LIKE_THE_CLIENT}), 400)
