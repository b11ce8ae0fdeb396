"""Contract 001's jobs at their doors, in its own words and in contract 003's."""

import re
import uuid
from collections.abc import Callable
from datetime import datetime
from typing import Any

import pytest
from flask.testing import FlaskClient

from tests.api.errors import assert_refused
from tests.factories import make_job, make_project, make_run
from tests.support.people import Cast, Person
from webapp.runs.states import RunState
from webapp.secrets import MASK

CSV = {"type": "csv", "path": "planets.csv"}
DUCKDB = {"type": "duckdb", "db_path": "out.duckdb", "table_name": "planets"}
TASK = {"extractor_config": CSV, "loader_config": DUCKDB}
JOB = {"job_name": "planets", "description": None, "schedule": "@manual", "is_active": True, "tasks": [TASK]}
DEFINITION = {"job_id", "job_name", "description", "schedule", "is_active", "created_at", "updated_at"}
ICECUBE = {"id", "name", "job_type", "schedule", "enabled", "config", "created_at"}
OPTIONS = {"timezone", "overlap", "missed", "concurrency_limit", "max_attempts", "retry_delay_seconds"}
RFC_3339 = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d{1,6})?Z")


def define(client: FlaskClient, person: Person, **changes: Any) -> Any:
    return client.post("/api/v1/jobs", json={**JOB, **changes}, headers=person.headers)


def change(client: FlaskClient, person: Person, job_id: str, /, *, verb: str = "PATCH", **changes: Any) -> Any:
    return client.open(f"/api/v1/jobs/{job_id}", method=verb, json=changes, headers=person.headers)


def get(client: FlaskClient, person: Person, path: str) -> Any:
    answer = client.get(f"/api/v1{path}", headers=person.headers)
    assert answer.status_code == 200, answer.text
    return answer.get_json()


# --- the words of the contracts ---------------------------------------------------------------------------------------


def test_a_new_job_in_contract_001s_words_is_200_without_tasks_and_speaks_both_vocabularies(
    client: FlaskClient, bob: Person
):
    answer = define(client, bob)
    assert answer.status_code == 200
    job = answer.get_json()
    assert set(job) >= DEFINITION | ICECUBE | OPTIONS
    assert "tasks" not in job
    assert job["id"] == job["job_id"] == str(uuid.UUID(job["id"]))
    assert job["name"] == job["job_name"] == "planets"
    assert job["enabled"] is job["is_active"] is True
    assert job["description"] is None
    assert RFC_3339.fullmatch(job["created_at"])
    assert RFC_3339.fullmatch(job["updated_at"])


def test_a_new_job_in_contract_003s_words_is_201(client: FlaskClient, bob: Person):
    body = {"name": "planets", "job_type": "etl", "schedule": None, "enabled": False, "tasks": [TASK]}
    answer = client.post("/api/v1/jobs", json=body, headers=bob.headers)
    assert answer.status_code == 201
    assert answer.get_json()["schedule"] == "@manual"
    assert answer.get_json()["is_active"] is False
    bare = client.post("/api/v1/jobs", json={"name": "nothing yet"}, headers=bob.headers)
    assert (bare.status_code, bare.get_json()["enabled"]) == (201, True)


def test_one_job_is_an_object_with_its_tasks_in_order_as_they_were_sent(client: FlaskClient, bob: Person):
    second = {"extractor_config": {**CSV, "delimiter": ";"}, "loader_config": {**DUCKDB, "mode": "append"}}
    job_id = define(client, bob, tasks=[TASK, second]).get_json()["job_id"]
    job = get(client, bob, f"/jobs/{job_id}")
    assert [task["task_order"] for task in job["tasks"]] == [1, 2]
    assert [task["extractor_config"] for task in job["tasks"]] == [CSV, second["extractor_config"]]
    assert [task["loader_config"] for task in job["tasks"]] == [DUCKDB, second["loader_config"]]
    for task in job["tasks"]:
        assert set(task) == {
            "task_id", "job_id", "task_order", "extractor_config", "loader_config", "created_at", "updated_at",
        }  # fmt: skip
        assert task["job_id"] == job_id


def test_the_list_is_a_bare_array_oldest_first(client: FlaskClient, bob: Person):
    assert get(client, bob, "/jobs") == []
    for name in ("one", "two", "three"):
        define(client, bob, job_name=name)
    assert [job["job_name"] for job in get(client, bob, "/jobs")] == ["one", "two", "three"]


def test_the_root_address_gives_machines_the_same(client: FlaskClient, bob: Person):
    job_id = define(client, bob).get_json()["job_id"]
    assert client.get("/jobs", headers=bob.headers).get_json() == get(client, bob, "/jobs")
    assert client.get(f"/jobs/{job_id}", headers=bob.headers).get_json() == get(client, bob, f"/jobs/{job_id}")
    run = client.post(f"/jobs/{job_id}/run", headers=bob.headers).get_json()
    assert [item["run_id"] for item in client.get("/runs", headers=bob.headers).get_json()] == [run["run_id"]]
    assert client.get(f"/runs/{run['run_id']}", headers=bob.headers).get_json()["status"] == "queued"


@pytest.mark.parametrize("accept", ["*/*", "application/json", "application/json, text/plain, */*", ""])
def test_curl_and_scripts_at_the_root_get_json(client: FlaskClient, bob: Person, accept: str):
    for path in ("/jobs", "/runs", "/auth/me", "/users/nobody"):
        assert client.get(path, headers={**bob.headers, "Accept": accept}).mimetype == "application/json"
    refused = client.get("/jobs", headers={"Accept": accept})
    assert_refused(refused, 401)
    wrong = {"username": "bob", "password": "wrong password"}
    assert_refused(client.post("/auth/login", json=wrong, headers={"Accept": accept}), 401)


@pytest.mark.parametrize("path", ["/jobs", "/runs"])
@pytest.mark.parametrize(
    "headers", [{"Accept": "text/html,*/*"}, {"HX-Request": "true"}, {"Accept": "text/html", "HX-Request": "true"}]
)
def test_browsers_at_the_root_never_get_json(client: FlaskClient, path: str, headers: dict[str, str]):
    assert client.get(path, headers=headers).mimetype != "application/json"


def test_unknown_keys_of_a_new_job_are_ignored(client: FlaskClient, bob: Person):
    assert define(client, bob, colour="red", job_id=str(uuid.uuid4())).status_code == 200


def test_a_deleted_job_is_200_with_a_message_and_then_404(client: FlaskClient, bob: Person):
    job_id = define(client, bob).get_json()["job_id"]
    answer = client.delete(f"/api/v1/jobs/{job_id}", headers=bob.headers)
    assert answer.status_code == 200
    assert answer.get_json()["message"]
    assert_refused(client.get(f"/api/v1/jobs/{job_id}", headers=bob.headers), 404)
    assert get(client, bob, "/jobs") == []


def test_a_job_with_a_run_under_way_is_not_deleted(client: FlaskClient, bob: Person, work: Callable[..., Any]):
    with work():
        job = make_job()
        make_run(job, state=RunState.RUNNING)
        job_id = job.id
    assert_refused(client.delete(f"/api/v1/jobs/{job_id}", headers=bob.headers), 409, code="JOB_RUNNING")


# --- changes ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("verb", ["PUT", "PATCH"])
@pytest.mark.parametrize(
    ("body", "expected"),
    [
        ({"job_name": "moons"}, {"name": "moons", "job_name": "moons"}),
        ({"name": "moons"}, {"name": "moons", "job_name": "moons"}),
        ({"description": "all of them"}, {"description": "all of them"}),
        ({"description": None}, {"description": None}),
        ({"schedule": "0 9 * * *"}, {"schedule": "0 9 * * *"}),
        ({"schedule": None}, {"schedule": "@manual"}),
        ({"schedule": "@daily", "timezone": "Europe/Berlin"}, {"schedule": "@daily", "timezone": "Europe/Berlin"}),
        ({"is_active": False}, {"is_active": False, "enabled": False}),
        ({"enabled": False}, {"is_active": False, "enabled": False}),
        ({"overlap": "skip", "missed": "all"}, {"overlap": "skip", "missed": "all"}),
        ({"concurrency_limit": 3, "max_attempts": 5}, {"concurrency_limit": 3, "max_attempts": 5}),
        ({"retry_delay_seconds": 0.5, "timeout_seconds": 60}, {"retry_delay_seconds": 0.5, "timeout_seconds": 60}),
        ({"no_progress_seconds": 30}, {"no_progress_seconds": 30}),
        ({}, {"job_name": "planets"}),
    ],
)
def test_a_change_touches_what_it_names_and_nothing_else(
    client: FlaskClient, bob: Person, verb: str, body: Any, expected: Any
):
    job_id = define(client, bob, schedule="@hourly").get_json()["job_id"]
    before = get(client, bob, f"/jobs/{job_id}")
    answer = change(client, bob, job_id, verb=verb, **body)
    assert answer.status_code == 200, answer.text
    after = get(client, bob, f"/jobs/{job_id}")
    assert answer.get_json() == after
    assert after.items() >= expected.items()
    derived = {"updated_at", "next_run_at", "next_runs", "schedule_notes", *expected}
    assert {k: v for k, v in after.items() if k not in derived} == {k: before[k] for k in before if k not in derived}


def test_tasks_are_replaced_as_a_whole(client: FlaskClient, bob: Person):
    job_id = define(client, bob, tasks=[TASK, TASK, TASK]).get_json()["job_id"]
    other = {"extractor_config": {"type": "parquet", "path": "x.parquet"}, "loader_config": DUCKDB}
    change(client, bob, job_id, tasks=[other, TASK])
    assert [task["extractor_config"]["type"] for task in get(client, bob, f"/jobs/{job_id}")["tasks"]] == [
        "parquet",
        "csv",
    ]
    change(client, bob, job_id, tasks=[])
    assert get(client, bob, f"/jobs/{job_id}")["tasks"] == []


def test_a_whole_job_can_be_sent_back_as_it_was_read(client: FlaskClient, bob: Person):
    job_id = define(client, bob, schedule="@hourly").get_json()["job_id"]
    job = get(client, bob, f"/jobs/{job_id}")
    answer = change(client, bob, job_id, verb="PUT", **job)
    assert answer.status_code == 200, answer.text
    assert answer.get_json()["tasks"] == job["tasks"]


def test_a_secret_is_shown_masked_and_survives_being_sent_back(
    client: FlaskClient, bob: Person, look: Callable[..., Any]
):
    api = {"type": "api", "url": "https://api.example.com/data", "bearer_token": "s3cr3t-t0ken"}
    api["headers"] = {"X-Api-Key": "an0ther-s3cret", "Accept": "application/json"}
    job_id = define(client, bob, tasks=[{"extractor_config": api, "loader_config": DUCKDB}]).get_json()["job_id"]
    answer = client.get(f"/api/v1/jobs/{job_id}", headers=bob.headers)
    assert "s3cr3t" not in answer.text
    assert "an0ther" not in answer.text
    shown = answer.get_json()["tasks"][0]["extractor_config"]
    assert (shown["bearer_token"], shown["headers"]["Accept"]) == (MASK, "application/json")
    shown["url"] = "https://api.example.com/other"
    back = change(client, bob, job_id, tasks=[{"extractor_config": shown, "loader_config": DUCKDB}])
    assert "s3cr3t" not in back.text
    from webapp.jobs import operations as jobs

    with look():
        kept = jobs.get_job(bob.actor, uuid.UUID(job_id)).tasks[0].extractor
    assert kept == {**api, "url": "https://api.example.com/other"}


# --- schedules --------------------------------------------------------------------------------------------------------


def test_a_job_tells_its_next_five_times_unless_it_is_switched_off(client: FlaskClient, bob: Person):
    job_id = define(client, bob, schedule="0 0 9 * * 1", timezone="Europe/Berlin").get_json()["job_id"]
    job = get(client, bob, f"/jobs/{job_id}")
    assert len(job["next_runs"]) == 5
    times = [datetime.fromisoformat(text) for text in job["next_runs"]]
    assert times == sorted(times)
    assert all(text.endswith("Z") for text in job["next_runs"])
    assert job["next_run_at"] == job["next_runs"][0]
    assert any("1" in note for note in job["schedule_notes"])  # which day is 1?
    schedule = get(client, bob, f"/jobs/{job_id}/schedule")
    assert schedule["next_runs"] == job["next_runs"]
    assert schedule["notes"] == job["schedule_notes"]
    assert schedule["description"]
    change(client, bob, job_id, is_active=False)
    assert get(client, bob, f"/jobs/{job_id}/schedule")["next_runs"] == []
    assert get(client, bob, f"/jobs/{job_id}")["next_run_at"] is None


def test_a_schedule_can_be_tried_before_it_is_saved(client: FlaskClient, people: Cast):
    body = {"schedule": "*/15 * * * *", "timezone": "UTC", "count": 3}
    answer = client.post("/api/v1/schedules/preview", json=body, headers=people.rita.headers)
    assert answer.status_code == 200
    assert set(answer.get_json()) == {"schedule", "timezone", "description", "notes", "next_runs"}
    assert len(answer.get_json()["next_runs"]) == 3
    for wrong, field in (
        ({"schedule": "every day"}, "schedule"),
        ({"schedule": "0 0 31 2 *"}, "schedule"),
        ({"schedule": "@daily", "timezone": "Mars/Olympus"}, "timezone"),
        ({"schedule": 5}, "schedule"),
        ({}, "schedule"),
        ({"schedule": "@daily", "count": 0}, "count"),
        ({"schedule": "@daily", "count": "3"}, "count"),
    ):
        refused = client.post("/api/v1/schedules/preview", json=wrong, headers=people.rita.headers)
        assert_refused(refused, 422, naming=field)


# --- wrong input ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("field", ["job_name", "schedule", "is_active", "tasks"])
def test_a_missing_field_of_a_new_job_is_422_and_named(client: FlaskClient, bob: Person, field: str):
    body = {name: value for name, value in JOB.items() if name != field}
    assert_refused(client.post("/api/v1/jobs", json=body, headers=bob.headers), 422, naming=field)
    assert get(client, bob, "/jobs") == []


WRONG = [
    *[("job_name", value) for value in (None, 5, True, [], {}, "", "   ", "x" * 256, "a\u0000b", "a\nb")],
    *[("description", value) for value in (5, True, [], {}, "a\u0000b", "x" * 10_001)],
    *[("schedule", value) for value in (5, True, [], {}, "soon", "* * * *", "61 * * * *")],
    *[("schedule", value) for value in ("@never", "0 0 31 2 *", "a\u0000b", "1" * 300)],
    *[("is_active", value) for value in (None, "true", 1, 0, [], {})],
    *[("tasks", value) for value in (None, 5, "csv", {}, True)],
    *[("timezone", value) for value in (5, "Nowhere", "", "../etc/passwd", [])],
    *[("overlap", value) for value in ("never", 5)],
    *[("missed", value) for value in ("never", 5)],
    *[("job_type", value) for value in ("rocket", "sql", 5)],
    *[("concurrency_limit", value) for value in (0, 101, "3", True, 1.5, 10**30)],
    *[("max_attempts", value) for value in (0, 21, "3", False)],
    *[("retry_delay_seconds", value) for value in (-1, 10**9, "5", True, 1e308)],
    *[("timeout_seconds", value) for value in (0, 10**9, "5")],
    *[("no_progress_seconds", value) for value in (0, 10**9, [])],
]  # fmt: skip


@pytest.mark.parametrize(("field", "value"), WRONG)
def test_a_wrong_field_of_a_new_job_is_422_and_named(client: FlaskClient, bob: Person, field: str, value: Any):
    assert_refused(define(client, bob, **{field: value}), 422, naming=field)
    assert get(client, bob, "/jobs") == []


@pytest.mark.parametrize(("field", "value"), [(f, v) for f, v in WRONG if v is not None])
def test_a_wrong_field_of_a_change_is_422_and_changes_nothing(client: FlaskClient, bob: Person, field: str, value: Any):
    job_id = define(client, bob).get_json()["job_id"]
    before = get(client, bob, f"/jobs/{job_id}")
    body = {"description": "new", "timezone": "Asia/Tokyo", field: value}
    assert_refused(change(client, bob, job_id, **body), 422, naming=field)
    assert get(client, bob, f"/jobs/{job_id}") == before


def test_a_change_names_keys_that_a_job_does_not_have(client: FlaskClient, bob: Person):
    job_id = define(client, bob).get_json()["job_id"]
    assert_refused(change(client, bob, job_id, shedule="@daily"), 422, naming="shedule")


@pytest.mark.parametrize(
    ("task", "place"),
    [
        (5, "tasks.1"),
        ({}, "tasks.1.extractor_config"),
        ({"extractor_config": CSV}, "tasks.1.loader_config"),
        ({"extractor_config": "csv", "loader_config": DUCKDB}, "tasks.1.extractor_config"),
        ({"extractor_config": {"type": "csv"}, "loader_config": DUCKDB}, "tasks.1.extractor_config.path"),
    ],
)
def test_what_is_wrong_in_a_task_is_named_by_its_place(client: FlaskClient, bob: Person, task: Any, place: str):
    assert_refused(define(client, bob, tasks=[TASK, task]), 422, naming=place)


@pytest.mark.parametrize(
    ("side", "config", "field"),
    [
        ("extractor_config", {"type": "ftp", "path": "x"}, ""),
        ("extractor_config", {"path": "x"}, ""),
        ("extractor_config", {"type": "csv", "path": 5}, "path"),
        ("extractor_config", {"type": "csv", "path": ""}, "path"),
        ("extractor_config", {"type": "csv", "path": "x.csv", "delimeter": ";"}, "delimeter"),
        ("extractor_config", {"type": "csv", "path": "/etc/passwd"}, "path"),
        ("extractor_config", {"type": "csv", "path": "../keys/secret_key"}, "path"),
        ("extractor_config", {"type": "parquet", "path": ["x"]}, "path"),
        ("extractor_config", {"type": "api", "url": "file:///etc/passwd"}, "url"),
        ("extractor_config", {"type": "api", "url": 5}, "url"),
        ("loader_config", {"type": "duckdb", "table_name": "t"}, "db_path"),
        ("loader_config", {"type": "duckdb", "db_path": "x.db"}, "table_name"),
        ("loader_config", {"type": "duckdb", "db_path": "/etc/x.db", "table_name": "t"}, "db_path"),
        ("loader_config", {"type": "duckdb", "db_path": "x.db", "table_name": ""}, "table_name"),
        ("loader_config", {"type": "duckdb", "db_path": "x.db", "table_name": "t", "mode": "destroy"}, "mode"),
        ("loader_config", {"type": "oracle"}, ""),
    ],
)
def test_what_is_wrong_in_a_config_is_422_and_named(
    client: FlaskClient, bob: Person, side: str, config: Any, field: str
):
    answer = define(client, bob, tasks=[{**TASK, side: config}])
    body = assert_refused(answer, 422)
    places = [item["loc"] for item in body["detail"]]
    assert all(place[:4] == ["body", "tasks", 0, side] for place in places), places
    if field:
        assert any(field in place for place in places), places


def test_broken_bodies(client: FlaskClient, bob: Person):
    job_id = define(client, bob).get_json()["job_id"]
    for method, path in (
        ("POST", "/api/v1/jobs"),
        ("PATCH", f"/api/v1/jobs/{job_id}"),
        ("PUT", f"/api/v1/jobs/{job_id}"),
    ):
        for data, kind, status in (
            (b"{", "application/json", 400),
            (b"", "application/json", 400),
            (b"{}", "text/plain", 415),
            (b"", "", 415),
            (b"[]", "application/json", 422),
            (b"null", "application/json", 422),
            (b"5", "application/json", 422),
        ):
            answer = client.open(path, method=method, data=data, content_type=kind, headers=bob.headers)
            assert_refused(answer, status)


DOORS = [
    ("GET", "/api/v1/jobs/{id}"),
    ("PUT", "/api/v1/jobs/{id}"),
    ("PATCH", "/api/v1/jobs/{id}"),
    ("DELETE", "/api/v1/jobs/{id}"),
    ("POST", "/api/v1/jobs/{id}/run"),
    ("GET", "/api/v1/jobs/{id}/runs"),
    ("GET", "/api/v1/jobs/{id}/schedule"),
]


@pytest.mark.parametrize(("method", "path"), DOORS)
def test_an_unknown_job_is_404_and_an_id_that_is_none_400(client: FlaskClient, bob: Person, method: str, path: str):
    assert_refused(client.open(path.format(id=uuid.uuid4()), method=method, json={}, headers=bob.headers), 404)
    assert_refused(client.open(path.format(id="planets"), method=method, json={}, headers=bob.headers), 400)


# --- who is let in ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("method", "path"),
    [*DOORS, ("GET", "/api/v1/jobs"), ("POST", "/api/v1/jobs"), ("POST", "/api/v1/schedules/preview")],
)
def test_nobody_comes_in_without_a_token(client: FlaskClient, method: str, path: str):
    assert_refused(client.open(path.format(id=uuid.uuid4()), method=method, json=JOB), 401)


@pytest.mark.parametrize(("method", "path"), DOORS)
def test_a_stranger_learns_nothing_of_a_job(client: FlaskClient, people: Cast, method: str, path: str):
    job_id = define(client, people.bob).get_json()["job_id"]
    answer = client.open(path.format(id=job_id), method=method, json={}, headers=people.charlie.headers)
    assert_refused(answer, 404)


def test_a_stranger_sees_no_jobs_and_makes_none(client: FlaskClient, people: Cast, work: Callable[..., Any]):
    define(client, people.bob)
    assert get(client, people.charlie, "/jobs") == []
    assert_refused(define(client, people.charlie), 403)
    with work():
        make_job(project_id=make_project().id)
    assert len(get(client, people.bob, "/jobs")) == 1


@pytest.mark.parametrize(("method", "path"), DOORS)
def test_a_viewer_looks_and_touches_nothing(client: FlaskClient, people: Cast, method: str, path: str):
    job_id = define(client, people.bob).get_json()["job_id"]
    before = get(client, people.rita, f"/jobs/{job_id}")
    answer = client.open(path.format(id=job_id), method=method, json={"name": "x"}, headers=people.rita.headers)
    if method == "GET":
        assert answer.status_code == 200
    else:
        assert_refused(answer, 403)
    assert_refused(define(client, people.rita), 403)
    assert get(client, people.rita, f"/jobs/{job_id}") == before
    assert get(client, people.rita, "/runs") == []


def test_a_service_token_needs_the_scope(client: FlaskClient, people: Cast):
    def machine(*scopes: str) -> dict[str, str]:
        body = {"name": "machine", "role": "operator", "scopes": scopes}
        made = client.post("/api/v1/service-tokens", json=body, headers=people.alice.headers).get_json()
        return {"Authorization": f"Bearer {made['token']}"}

    job_id = define(client, people.bob).get_json()["job_id"]
    reader, writer, runner = machine("read"), machine("jobs:write"), machine("jobs:run")
    assert client.get(f"/api/v1/jobs/{job_id}", headers=reader).status_code == 200
    for headers in (reader, runner):
        refused = client.patch(f"/api/v1/jobs/{job_id}", json={"description": "x"}, headers=headers)
        assert assert_refused(refused, 403)["details"]["needed_scope"] == "jobs:write"
        assert_refused(client.post("/api/v1/jobs", json=JOB, headers=headers), 403)
    assert client.patch(f"/api/v1/jobs/{job_id}", json={"description": "x"}, headers=writer).status_code == 200
    for headers in (reader, writer):
        assert_refused(client.post(f"/api/v1/jobs/{job_id}/run", headers=headers), 403)
    assert client.post(f"/api/v1/jobs/{job_id}/run", headers=runner).status_code == 200
