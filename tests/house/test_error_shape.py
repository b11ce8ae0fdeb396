"""Every refusal under /api has one shape and is JSON, whatever the Accept header says; pages are refused in HTML."""

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
from flask import Flask
from flask.testing import FlaskClient
from werkzeug.test import TestResponse

from tests.support.people import Browser, Cast, Person
from webapp.config import Settings

ACCEPTS = ["application/json", "text/html", "*/*", "image/png", ""]


def check_shape(answer: TestResponse, status: int) -> dict[str, Any]:
    """The body, when it is an error of the one shape."""
    assert answer.status_code == status, answer.text
    assert answer.mimetype == "application/json"
    body = answer.get_json()
    assert set(body) == {"error", "code", "details", "detail"}
    assert isinstance(body["error"], str)
    assert isinstance(body["code"], str)
    assert body["code"] == body["code"].upper()
    assert isinstance(body["details"], dict)
    assert isinstance(body["detail"], str | list)
    assert "Traceback" not in answer.text
    assert answer.headers["X-Request-ID"]
    return body


@pytest.mark.parametrize("accept", ACCEPTS)
@pytest.mark.parametrize(
    ("verb", "path", "more", "status"),
    [
        ("GET", "/api/v1/nothing/here", {}, 404),
        ("GET", "/api/nothing", {}, 404),
        ("PUT", "/api/v1/login", {}, 405),
        ("GET", "/api/v1/jobs", {}, 401),
        ("POST", "/api/v1/login", {"data": "{broken", "content_type": "application/json"}, 400),
        ("POST", "/api/v1/login", {"data": "x=1", "content_type": "text/plain"}, 415),
        ("POST", "/api/v1/login", {"data": b"\xff\xfe", "content_type": "application/json"}, 400),
        ("POST", "/api/v1/login", {"json": {"username": 5}}, 422),
        ("POST", "/api/v1/login", {"json": []}, 422),
        ("POST", "/api/v1/login", {"json": {"username": "nobody", "password": "x"}}, 401),
    ],
)
def test_a_machine_gets_json(
    client: FlaskClient, accept: str, verb: str, path: str, more: dict[str, Any], status: int
) -> None:
    body = check_shape(client.open(path, method=verb, headers={"Accept": accept}, **more), status)
    if status == 422:
        assert {"type", "loc", "msg", "input"} <= set(body["detail"][0])
        assert body["detail"][0]["loc"][0] == "body"


def test_a_refusal_of_rights_has_the_shape(client: FlaskClient, rita: Person) -> None:
    body = check_shape(client.get("/api/v1/users", headers=rita.headers), 403)
    assert body["details"] == {"needed_role": "admin"}


def test_405_says_what_is_allowed(client: FlaskClient) -> None:
    assert "POST" in client.put("/api/v1/login").headers["Allow"]


def test_401_says_how_to_sign_in(client: FlaskClient) -> None:
    assert client.get("/api/v1/jobs").headers["WWW-Authenticate"] == "Bearer"


def test_a_body_over_the_limit_is_refused_before_it_is_read(settings: Settings, make_app: Callable[..., Flask]) -> None:
    app = make_app(replace(settings, max_body_bytes=1000))
    answer = app.test_client().post("/api/v1/login", data=b"x" * 1001, content_type="application/json")
    check_shape(answer, 413)


def test_what_breaks_is_an_id_and_no_trace(app: Flask, people: Cast, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken() -> None:
        raise RuntimeError("the secret of the engine room")

    monkeypatch.setitem(app.view_functions, "health.health", broken)
    monkeypatch.setitem(app.view_functions, "accounts.settings", broken)
    body = check_shape(app.test_client().get("/api/v1/../health"), 404)
    answer = app.test_client().get("/health", headers={"X-Request-ID": "quote-me"})
    body = check_shape(answer, 500)
    assert "quote-me" in body["error"]
    assert "engine room" not in answer.text
    page = people.alice.browser().get("/settings")
    assert page.status_code == 500
    assert page.mimetype == "text/html"
    assert page.headers["X-Request-ID"] in page.text
    assert "engine room" not in page.text


def test_a_person_gets_a_page(browser_of_nobody: Browser, people: Cast) -> None:
    page = people.alice.browser().get("/nothing/here")
    assert page.status_code == 404
    assert page.mimetype == "text/html"
    assert page.headers["X-Request-ID"] in page.text
    assert browser_of_nobody.get("/nothing/here").status_code == 404


def test_a_page_carries_the_headers_that_protect_it(people: Cast) -> None:
    headers = people.alice.browser().get("/settings").headers
    policy = headers["Content-Security-Policy"]
    assert "script-src 'self'" in policy
    assert "unsafe" not in policy
    assert "frame-ancestors 'none'" in policy
    assert headers["X-Content-Type-Options"] == "nosniff"
    assert "HX-Request" in headers["Vary"]


@pytest.mark.parametrize("given", ["abc-123", "x" * 100])
def test_a_request_id_that_is_brought_along_is_kept(client: FlaskClient, given: str) -> None:
    assert client.get("/health", headers={"X-Request-ID": given}).headers["X-Request-ID"] == given


@pytest.mark.parametrize("given", ["x" * 101, "a b", "<script>"])
def test_a_request_id_that_is_none_is_replaced(client: FlaskClient, given: str) -> None:
    assert client.get("/health", headers={"X-Request-ID": given}).headers["X-Request-ID"] != given


def test_a_cookie_is_out_of_reach_of_scripts_and_other_sites(app: Flask, people: Cast) -> None:
    answer = Browser(app).post("/login", {"username": "bob", "password": people.bob.password})
    cookie = answer.headers["Set-Cookie"]
    assert "HttpOnly" in cookie
    assert "SameSite=Lax" in cookie
