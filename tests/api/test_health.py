"""Alive, and how database, queue and workers are."""

from collections.abc import Callable
from typing import Any

import sqlalchemy.exc
from flask.testing import FlaskClient

from tests.factories import make_job, make_run
from webapp.dates import utcnow
from webapp.db import db
from webapp.runs import operations as runs
from webapp.runs.models import Worker


def test_health_is_200_for_anybody_and_says_that_no_worker_is_alive(client: FlaskClient):
    for path in ("/health", "/health/live"):
        answer = client.get(path)
        assert answer.status_code == 200
        assert answer.get_json()["status"] == "degraded"
        assert answer.get_json()["workers"] == {"alive": 0, "busy": 0, "slots": 0}
    assert client.get("/health/ready").status_code == 503


def test_a_worker_makes_it_ready_and_the_queue_is_counted(client: FlaskClient, work: Callable[..., Any]):
    now = utcnow()
    with work():
        db.session.add(Worker(name="w", started_at=now, seen_at=now, slots=2, busy=1))
        make_run(make_job())
    answer = client.get("/health/ready")
    assert answer.status_code == 200
    body = answer.get_json()
    assert (body["status"], body["database"], body["queued"], body["running"]) == ("ready", "ok", 1, 0)
    assert body["workers"] == {"alive": 1, "busy": 1, "slots": 2}


def test_it_lives_on_while_the_database_is_away(client: FlaskClient, monkeypatch: Any):
    def away() -> None:
        raise sqlalchemy.exc.OperationalError("SELECT 1", {}, Exception("no connection"))

    monkeypatch.setattr(runs, "look_at_queue", away)
    answer = client.get("/health")
    assert (answer.status_code, answer.get_json()["database"]) == (200, "away")
    assert client.get("/health/ready").status_code == 503
