"""The cast of the tests is who it says it is."""

from flask import Flask
from flask.testing import FlaskClient

from tests.support.people import Browser, Cast, Person


def test_everybody_comes_in_by_token_and_by_cookie(app: Flask, client: FlaskClient, people: Cast) -> None:
    for person in people:
        answer = client.get("/api/v1/auth/me", headers=person.headers)
        assert answer.status_code == 200, answer.text
        assert person.browser().get("/api/v1/auth/me").status_code == 200


def test_nobody_comes_in_without(client: FlaskClient, browser_of_nobody: Browser) -> None:
    assert client.get("/api/v1/auth/me").status_code == 401
    assert browser_of_nobody.get("/api/v1/auth/me").status_code == 401


def test_charlie_belongs_to_no_project(charlie: Person, bob: Person) -> None:
    assert charlie.actor.project_ids == ()
    assert len(bob.actor.project_ids) == 1
