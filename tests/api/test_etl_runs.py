"""Contract 001's runs at their doors."""

import re
import uuid
from collections.abc import Callable
from datetime import timedelta
from typing import Any

import pytest
from flask.testing import FlaskClient

from tests.api.errors import assert_refused
from tests.factories import make_job, make_project, make_run
from tests.support.people import Cast, Person
from webapp.dates import utcnow
from webapp.db import db
from webapp.runs.models import LogChunk, RunAttempt, RunStep, Trigger
from webapp.runs.states import RunState

CONTRACT = {"run_id", "job_id", "status", "triggered_by", "started_at", "finished_at", "error_message", "created_at"}
MORE = {"id", "completed_at", "duration_seconds", "scheduled_for", "rows_read", "rows_written", "rows_found", "doubt"}
RFC_3339 = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d{1,6})?Z")


def get(client: FlaskClient, person: Person, path: str) -> Any:
    answer = client.get(f"/api/v1{path}", headers=person.headers)
    assert answer.status_code == 200, answer.text
    return answer.get_json()


@pytest.fixture
def job_id(people: Cast, work: Callable[..., Any]) -> str:
    """A job of the default project."""
    with work():
        return str(make_job().id)


@pytest.fixture
def runs(people: Cast, work: Callable[..., Any]) -> list[str]:
    """A run in each state, oldest first: queued, running, succeeded, failed, cancelled."""
    begun = utcnow() - timedelta(seconds=10)
    with work():
        job = make_job()
        made = []
        for state in RunState:
            ends = {"started_at": begun, "finished_at": begun + timedelta(seconds=2.5)} if state.is_final else {}
            made.append(str(make_run(job, state=state, attempt=1, **ends).id))
        return made


def test_a_started_run_is_queued_at_once_and_shown_in_the_list(client: FlaskClient, bob: Person, job_id: str):
    answer = client.post(f"/api/v1/jobs/{job_id}/run", headers=bob.headers)
    assert answer.status_code == 200
    run = answer.get_json()
    assert set(run) >= CONTRACT | MORE | {"updated_at"}
    assert (run["status"], run["triggered_by"], run["triggered_by_name"]) == ("queued", "manual", "bob")
    assert run["run_id"] == run["id"]
    assert run["job_id"] == job_id
    assert (run["started_at"], run["finished_at"], run["error_message"]) == (None, None, None)
    assert RFC_3339.fullmatch(run["created_at"])
    assert get(client, bob, "/runs") == [run]
    assert get(client, bob, f"/jobs/{job_id}/runs") == [run]
    assert get(client, bob, f"/runs/{run['run_id']}").items() >= run.items()


@pytest.mark.parametrize("body", [b"", b"{}", b"whatever"])
def test_what_is_in_the_body_of_a_start_does_not_matter(client: FlaskClient, bob: Person, job_id: str, body: bytes):
    assert client.post(f"/api/v1/jobs/{job_id}/run", data=body, headers=bob.headers).status_code == 200


def test_statuses_are_contract_001s_words_oldest_first(client: FlaskClient, bob: Person, runs: list[str]):
    listed = get(client, bob, "/runs")
    assert [run["run_id"] for run in listed] == runs
    assert all(get(client, bob, f"/runs/{run['run_id']}").items() >= run.items() for run in listed)
    assert [run["status"] for run in listed] == ["queued", "running", "success", "failed", "failed"]
    assert [run["state"] for run in listed] == [state.value for state in RunState]
    assert listed[2]["completed_at"] == listed[2]["finished_at"]
    assert listed[2]["duration_seconds"] == 2.5


@pytest.mark.parametrize(
    ("status", "expected"),
    [
        ("queued", [0]),
        ("running", [1]),
        ("success", [2]),
        ("succeeded", [2]),
        ("failed", [3, 4]),
        ("cancelled", [4]),
    ],
)
def test_filter_by_status(client: FlaskClient, bob: Person, runs: list[str], status: str, expected: list[int]):
    assert [run["run_id"] for run in get(client, bob, f"/runs?status={status}")] == [runs[at] for at in expected]


def test_filter_by_job(client: FlaskClient, bob: Person, runs: list[str], job_id: str):
    own = client.post(f"/api/v1/jobs/{job_id}/run", headers=bob.headers).get_json()["run_id"]
    assert [run["run_id"] for run in get(client, bob, f"/runs?job_id={job_id}")] == [own]
    assert get(client, bob, f"/runs?job_id={uuid.uuid4()}") == []


@pytest.mark.parametrize(
    ("query", "field"),
    [
        ("status=done", "status"),
        ("status=", "status"),
        ("job_id=planets", "job_id"),
        ("limit=0", "limit"),
        ("limit=1001", "limit"),
        ("cursor=x", "cursor"),
        ("cursor=99999999999999999999", "cursor"),
    ],
)
def test_an_unknown_filter_value_is_422(client: FlaskClient, bob: Person, query: str, field: str):
    assert_refused(client.get(f"/api/v1/runs?{query}", headers=bob.headers), 422, naming=field)


def test_pages_follow_each_other(client: FlaskClient, bob: Person, runs: list[str]):
    seen: list[str] = []
    path = "/api/v1/runs?limit=2"
    while path:
        answer = client.get(path, headers=bob.headers)
        seen += [run["run_id"] for run in answer.get_json()]
        path = answer.headers.get("Link", "").partition("<")[2].partition(">")[0].removeprefix("http://localhost")
    assert seen == runs


def test_a_scheduled_run_shows_its_instant(client: FlaskClient, bob: Person, work: Callable[..., Any]):
    due = utcnow().replace(microsecond=0)
    with work():
        make_run(make_job(), trigger=Trigger.SCHEDULER, scheduled_for=due)
    run = get(client, bob, "/runs")[0]
    assert run["triggered_by"] == "scheduler"
    assert run["scheduled_for"] == due.isoformat().replace("+00:00", "Z")
    assert get(client, bob, f"/runs/{run['run_id']}").items() >= run.items()


def test_one_run_tells_its_steps_attempts_and_what_it_waits_for(
    client: FlaskClient, bob: Person, work: Callable[..., Any]
):
    now = utcnow()
    with work():
        run = make_run(make_job(), attempt=1)
        facts = {"rows": 3}
        when = {"run_id": run.id, "attempt": 1, "started_at": now, "finished_at": now}
        db.session.add(RunStep(position=1, task=1, name="read", outcome="succeeded", facts=facts, **when))
        db.session.add(RunAttempt(worker="w", outcome="failed", error_message="no file", **when))
        run_id = run.id
    shown = get(client, bob, f"/runs/{run_id}")
    assert [(step["name"], step["facts"]) for step in shown["steps"]] == [("read", {"rows": 3})]
    assert [attempt["error_message"] for attempt in shown["attempts"]] == ["no file"]
    assert "worker" in shown["waits_for"]


# --- stop and repeat --------------------------------------------------------------------------------------------------


def test_a_waiting_run_is_cancelled_at_once(client: FlaskClient, bob: Person, job_id: str):
    run_id = client.post(f"/api/v1/jobs/{job_id}/run", headers=bob.headers).get_json()["run_id"]
    answer = client.post(f"/api/v1/runs/{run_id}/cancel", headers=bob.headers)
    assert answer.status_code == 200
    run = answer.get_json()
    assert (run["status"], run["state"], run["error_message"]) == ("failed", "cancelled", "cancelled by bob")
    assert get(client, bob, f"/runs/{run_id}").items() >= run.items()
    assert_refused(client.post(f"/api/v1/runs/{run_id}/cancel", headers=bob.headers), 409, code="RUN_FINISHED")


def test_a_moving_run_is_asked_to_stop_and_asking_twice_changes_nothing(
    client: FlaskClient, bob: Person, runs: list[str]
):
    first = client.post(f"/api/v1/runs/{runs[1]}/cancel", headers=bob.headers)
    second = client.post(f"/api/v1/runs/{runs[1]}/cancel", headers=bob.headers)
    assert (first.status_code, second.status_code) == (202, 202)
    assert first.get_json()["cancel_requested_at"] == second.get_json()["cancel_requested_at"] is not None


def test_a_finished_run_can_be_repeated_and_an_unfinished_one_not(client: FlaskClient, bob: Person, runs: list[str]):
    answer = client.post(f"/api/v1/runs/{runs[3]}/retry", headers=bob.headers)
    assert answer.status_code == 200
    assert (answer.get_json()["retry_of"], answer.get_json()["status"]) == (runs[3], "queued")
    body = {"from_failed_step": True}
    assert client.post(f"/api/v1/runs/{runs[3]}/retry", json=body, headers=bob.headers).status_code == 200
    assert_refused(client.post(f"/api/v1/runs/{runs[0]}/retry", headers=bob.headers), 409, code="RUN_NOT_FINISHED")
    wrong = client.post(f"/api/v1/runs/{runs[3]}/retry", json={"from_failed_step": 1}, headers=bob.headers)
    assert_refused(wrong, 422, naming="from_failed_step")


# --- logs -------------------------------------------------------------------------------------------------------------


@pytest.fixture
def spoken(people: Cast, work: Callable[..., Any]) -> str:
    """A run with a log of ten lines in two chunks, the eighth an error."""
    with work():
        run = make_run(make_job(), attempt=1)
        for first in (1, 6):
            lines = [
                [f"2026-01-02T03:04:0{at % 10}Z", "error" if at == 8 else "info", "read", f"line {at} <b>"]
                for at in range(first, first + 5)
            ]
            worst = 3 if first == 6 else 1
            db.session.add(
                LogChunk(run_id=run.id, attempt=1, first_line=first, line_count=5, worst_level=worst, lines=lines)
            )
        return str(run.id)


@pytest.mark.parametrize(
    ("query", "numbers"),
    [
        ("", list(range(1, 11))),
        ("?since=7", [8, 9, 10]),
        ("?level=error", [8]),
        ("?search=LINE%201", [1, 10]),
        ("?limit=2", [1, 2]),
        ("?limit=2&since=4", [5, 6]),
        ("?limit=3&tail=true", [8, 9, 10]),
        ("?attempt=2", []),
    ],
)
def test_a_log_is_read_from_anywhere(client: FlaskClient, bob: Person, spoken: str, query: str, numbers: list[int]):
    body = get(client, bob, f"/runs/{spoken}/logs{query}")
    assert [line["number"] for line in body["lines"]] == numbers
    assert all(set(line) == {"number", "at", "level", "step", "message", "attempt"} for line in body["lines"])
    if numbers:
        assert body["last"] == numbers[-1]


def test_a_log_comes_as_a_text_file(client: FlaskClient, bob: Person, spoken: str):
    answer = client.get(f"/api/v1/runs/{spoken}/logs?format=text", headers=bob.headers)
    assert (answer.status_code, answer.mimetype) == (200, "text/plain")
    assert answer.headers["Content-Disposition"].startswith("attachment")
    assert len(answer.text.splitlines()) == 10
    assert "ERROR" in answer.text.splitlines()[7]


@pytest.mark.parametrize(
    ("query", "field"),
    [
        ("since=-1", "since"),
        ("level=loud", "level"),
        ("limit=0", "limit"),
        ("limit=x", "limit"),
        ("attempt=0", "attempt"),
        ("format=pdf", "format"),
        ("tail=perhaps", "tail"),
    ],
)
def test_a_wrong_question_about_a_log_is_422(client: FlaskClient, bob: Person, spoken: str, query: str, field: str):
    assert_refused(client.get(f"/api/v1/runs/{spoken}/logs?{query}", headers=bob.headers), 422, naming=field)


# --- who is let in ----------------------------------------------------------------------------------------------------

DOORS = [
    ("GET", "/api/v1/runs/{id}"),
    ("POST", "/api/v1/runs/{id}/cancel"),
    ("POST", "/api/v1/runs/{id}/retry"),
    ("GET", "/api/v1/runs/{id}/logs"),
]


@pytest.mark.parametrize(("method", "path"), DOORS)
def test_an_unknown_run_is_404_and_an_id_that_is_none_400(client: FlaskClient, bob: Person, method: str, path: str):
    assert_refused(client.open(path.format(id=uuid.uuid4()), method=method, headers=bob.headers), 404)
    assert_refused(client.open(path.format(id="last"), method=method, headers=bob.headers), 400)


@pytest.mark.parametrize(("method", "path"), [*DOORS, ("GET", "/api/v1/runs")])
def test_nobody_comes_in_without_a_token(client: FlaskClient, method: str, path: str):
    assert_refused(client.open(path.format(id=uuid.uuid4()), method=method), 401)


@pytest.mark.parametrize(("method", "path"), DOORS)
def test_a_stranger_learns_nothing_of_a_run(client: FlaskClient, people: Cast, runs: list[str], method: str, path: str):
    assert_refused(client.open(path.format(id=runs[3]), method=method, headers=people.charlie.headers), 404)
    assert get(client, people.charlie, "/runs") == []


@pytest.mark.parametrize(("method", "path"), DOORS)
def test_a_viewer_looks_and_touches_nothing(client: FlaskClient, people: Cast, runs: list[str], method: str, path: str):
    answer = client.open(path.format(id=runs[3]), method=method, headers=people.rita.headers)
    if method == "GET":
        assert answer.status_code == 200
    else:
        assert_refused(answer, 403)


def test_runs_of_another_project_do_not_show(client: FlaskClient, bob: Person, work: Callable[..., Any]):
    with work():
        hidden = make_run(make_job(project_id=make_project().id)).id
    assert get(client, bob, "/runs") == []
    assert_refused(client.get(f"/api/v1/runs/{hidden}", headers=bob.headers), 404)
