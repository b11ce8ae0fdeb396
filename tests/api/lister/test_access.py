"""Who comes in at contract 004, and what they may do; a setting opens it to callers without credentials."""

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
from flask import Flask
from flask.testing import FlaskClient

from tests import factories
from tests.api.lister.client import JOBS, STATUSES, Caller, told
from tests.support.people import Cast, Person, make_cast
from webapp import db as database
from webapp.accounts import operations as accounts
from webapp.accounts.access import Scope
from webapp.config import ConfigError, Opening, Role, Settings
from webapp.db import db
from webapp.rockets.models import RocketHistory


@pytest.mark.parametrize("path", ["/api/", JOBS, f"{JOBS}1/", STATUSES, f"{STATUSES}1/"])
def test_a_stranger_is_asked_for_credentials(client: FlaskClient, people: Cast, path: str) -> None:
    answer = client.get(path)
    assert told(answer, 401) == {"detail": "Authentication credentials were not provided."}
    assert answer.headers["WWW-Authenticate"] == "Bearer"
    bad = client.get(path, headers={"Authorization": "Bearer nonsense"})
    assert set(told(bad, 401)) == {"detail"}


def test_a_viewer_looks_and_changes_nothing(operator: Caller, viewer: Caller) -> None:
    job = operator.make_job()
    assert viewer.get(f"{JOBS}{job['id']}/") == job
    status = job["statuses"][0]["id"]
    for method, path, body in (
        ("POST", JOBS, {"name": "mine"}),
        ("PUT", f"{JOBS}{job['id']}/", {"name": "mine"}),
        ("PATCH", f"{JOBS}{job['id']}/", {"status_type": "RUNNING"}),
        ("DELETE", f"{JOBS}{job['id']}/", None),
        ("POST", STATUSES, {"job": job["id"]}),
        ("PATCH", f"{STATUSES}{status}/", {"status_type": "FAILED"}),
        ("DELETE", f"{STATUSES}{status}/", None),
    ):
        refused = told(viewer.ask(method, path, body), 403)
        assert refused == {"detail": "This needs the role operator; you are viewer."}
    assert operator.get(f"{JOBS}{job['id']}/") == job


def test_a_stranger_to_the_project_finds_nothing(operator: Caller, client: FlaskClient, charlie: Person) -> None:
    job = operator.make_job()
    stranger = Caller(client, charlie)
    assert stranger.get(JOBS)["count"] == stranger.get(STATUSES)["count"] == 0
    assert stranger.get(f"{STATUSES}?job={job['id']}")["count"] == 0
    stranger.get(f"{JOBS}{job['id']}/", 404)
    stranger.get(f"{STATUSES}{job['statuses'][0]['id']}/", 404)
    assert "does not exist" in stranger.post(STATUSES, {"job": job["id"]}, 400)["job"][0]


def test_whoever_runs_a_job_needs_no_more_than_the_right_to_run(
    operator: Caller, client: FlaskClient, people: Cast, work: Callable[[], Any]
) -> None:
    job = operator.make_job()
    with work():
        scopes = [Scope.READ.value, Scope.JOBS_RUN.value]
        _, token = accounts.create_service_token(people.alice.actor, name="cron", role=Role.OPERATOR, scopes=scopes)
    headers = {"Authorization": f"Bearer {token}"}
    made = client.post(STATUSES, json={"job": job["id"], "status_type": "RUNNING"}, headers=headers)
    assert made.status_code == 201, made.text
    assert client.patch(f"{JOBS}{job['id']}/", json={"name": "x"}, headers=headers).status_code == 403
    assert client.delete(f"{STATUSES}{made.get_json()['id']}/", headers=headers).status_code == 403


def test_a_cookie_reads_and_writes_with_a_form_token(people: Cast) -> None:
    browser = people.bob.browser()
    assert browser.client.get(JOBS).status_code == 200
    assert set(told(browser.client.post(JOBS, json={"name": "x"}), 403)) == {"detail"}
    made = browser.client.post(JOBS, json={"name": "x"}, headers={"X-CSRFToken": browser.form_token})
    assert made.status_code == 201


# --- opened on purpose ------------------------------------------------------------------------------------------------


@pytest.fixture
def opened(settings: Settings, make_app: Callable[[Settings], Flask]) -> Callable[[Opening], Flask]:
    """The application with its doors opened this far, and everybody registered."""

    def make(opening: Opening) -> Flask:
        app = make_app(replace(settings, contract_004_anonymous=opening))
        make_cast(app)
        return app

    return make


def test_opened_for_reading(opened: Callable[[Opening], Flask]) -> None:
    client = opened(Opening.READ).test_client()
    assert told(client.get(JOBS), 200)["count"] == 0
    assert set(told(client.post(JOBS, json={"name": "x"}), 403)) == {"detail"}
    assert "actions" not in client.options(JOBS).get_json()
    assert client.get("/api/v1/jobs").status_code == 401, "no other door is open"
    bad = client.get(JOBS, headers={"Authorization": "Bearer nonsense"})
    assert bad.status_code == 401, "who shows credentials is judged by them"


def test_opened_for_writing_and_the_history_says_anonymous(opened: Callable[[Opening], Flask]) -> None:
    app = opened(Opening.WRITE)
    client = app.test_client()
    job = told(client.post(JOBS, json={"name": "Data Processing Job"}), 201)
    told(client.post(STATUSES, json={"job": job["id"], "status_type": "RUNNING"}), 201)
    assert "POST" in client.options(JOBS).get_json()["actions"]
    with app.app_context(), database.reading():
        messages = list(db.session.scalars(db.select(RocketHistory.message)))
    assert any("reported by anonymous" in message for message in messages)
    assert client.delete(f"{JOBS}{job['id']}/").status_code == 204


def test_opened_it_shows_the_default_project_alone(opened: Callable[[Opening], Flask]) -> None:
    app = opened(Opening.READ)
    with app.app_context(), database.unit_of_work():
        factories.make_job(name="theirs", project_id=factories.make_project().id)
        factories.make_job(name="ours")
    names = [job["name"] for job in told(app.test_client().get(JOBS), 200)["results"]]
    assert names == ["ours"]


def test_before_there_is_anything_nothing_is_open(settings: Settings, make_app: Callable[[Settings], Flask]) -> None:
    app = make_app(replace(settings, contract_004_anonymous=Opening.WRITE))
    assert app.test_client().post(JOBS, json={"name": "x"}).status_code == 401


def test_a_word_that_opens_nothing_is_refused() -> None:
    assert Settings.from_environment({"CONTRACT_004_ANONYMOUS": "Read"}).contract_004_anonymous is Opening.READ
    assert Settings.from_environment({}).contract_004_anonymous is None
    with pytest.raises(ConfigError, match="use one of read, write"):
        Settings.from_environment({"CONTRACT_004_ANONYMOUS": "all"})
