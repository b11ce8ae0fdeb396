"""The pages of jobs, as a browser without JavaScript uses them."""

import re
import uuid
from collections.abc import Callable
from html import unescape
from typing import Any

import pytest
import sqlalchemy as sa

from tests import factories
from tests.support.people import Browser, Cast, Person
from webapp.db import db
from webapp.jobs.models import Job
from webapp.runs.models import Run
from webapp.runs.states import RunState
from webapp.secrets import MASK

TASK = {
    "tasks.0.origin": "",
    "tasks.0.extractor_config.type": "csv",
    "tasks.0.extractor_config.path": "probes.csv",
    "tasks.0.extractor_config.header.shown": "1",
    "tasks.0.extractor_config.header": "1",
    "tasks.0.loader_config.type": "duckdb",
    "tasks.0.loader_config.db_path": "out.duckdb",
    "tasks.0.loader_config.table_name": "probes",
    "tasks.0.loader_config.mode": "replace",
}
FORM = {
    "name": "Probes",
    "description": "",
    "schedule": "@daily",
    "timezone": "UTC",
    "is_enabled": "y",
    "overlap": "queue",
    "missed": "one",
    "concurrency_limit": "1",
    "max_attempts": "3",
    "retry_delay_seconds": "5",
    "timeout_seconds": "600",
    "no_progress_seconds": "60",
    **TASK,
}
API_TASK = {
    "extractor": {"type": "api", "url": "https://data.example/v1", "bearer_token": "very-secret-token"},
    "loader": {"type": "duckdb", "db_path": "out.duckdb", "table_name": "rows"},
}


@pytest.fixture
def make_job(work: Callable, people: Any) -> Callable[..., uuid.UUID]:
    """Makes a job; returns its id."""

    def make(**facts: Any) -> uuid.UUID:
        with work():
            return factories.make_job(**facts).id

    return make


def stored(look: Callable, name: str) -> dict[str, Any]:
    """The only job of this name, as plain values."""
    with look():
        job = db.session.scalars(sa.select(Job).where(Job.name == name)).one()
        tasks = [(task.extractor, task.loader) for task in job.tasks]
        return {"id": job.id, "schedule": job.schedule, "tasks": tasks, "is_enabled": job.is_enabled}


def errors_of(page: str) -> dict[str, str]:
    """The messages of a form by the name of their field."""
    found = re.findall(r'<span class="error" id="([^"]+)-error">(?:<svg.*?</svg>)?([^<]+)</span>', page, re.S)
    return {name: unescape(message).strip() for name, message in found}


# --- making and changing ----------------------------------------------------------------------------------------------


def test_a_job_is_made_by_the_form(bob: Person, look: Callable) -> None:
    answer = bob.browser().post("/jobs/new", FORM)
    assert answer.status_code == 303, errors_of(answer.text)
    job = stored(look, "Probes")
    assert answer.location == f"/jobs/{job['id']}"
    assert job["schedule"] == "@daily"
    assert job["tasks"] == [
        (
            {"type": "csv", "path": "probes.csv", "header": True},
            {"type": "duckdb", "db_path": "out.duckdb", "table_name": "probes", "mode": "replace"},
        )
    ]


def test_lengths_of_time_are_shown_without_needless_decimals(bob: Person) -> None:
    fresh = bob.browser().get("/jobs/new").text
    values = re.compile(r'name="(\w+_seconds)"[^>]* value="([^"]*)"')
    usual = {"retry_delay_seconds": "5", "timeout_seconds": "21600", "no_progress_seconds": "900"}
    assert dict(values.findall(fresh)) == usual
    sent = {"retry_delay_seconds": "0.5", "timeout_seconds": "600", "no_progress_seconds": "60"}
    refused = bob.browser().post("/jobs/new", FORM | sent | {"name": ""}).text
    assert dict(values.findall(refused)) == sent


def test_mistakes_stand_beside_the_fields_named_as_the_api_names_them(bob: Person, look: Callable) -> None:
    wrong = FORM | {
        "name": " ",
        "schedule": "61 * * * *",
        "max_attempts": "0",
        "tasks.0.extractor_config.path": "",
        "tasks.0.loader_config.mode": "upsert",
    }
    answer = bob.browser().post("/jobs/new", wrong)
    assert answer.status_code == 422
    assert set(errors_of(answer.text)) == {
        "name",
        "schedule",
        "max_attempts",
        "tasks.0.extractor_config.path",
        "tasks.0.loader_config.key",
    }
    assert 'value="61 * * * *"' in answer.text
    with look():
        assert db.session.scalar(sa.select(sa.func.count()).select_from(Job)) == 0


def test_a_path_outside_the_allowed_roots_is_a_mistake_of_its_field(bob: Person) -> None:
    answer = bob.browser().post("/jobs/new", FORM | {"tasks.0.extractor_config.path": "/etc/passwd"})
    assert answer.status_code == 422
    assert "tasks.0.extractor_config" in " ".join(errors_of(answer.text))


def test_nested_fields_and_lists_and_numbers_are_read_back(bob: Person, look: Callable) -> None:
    task = {
        "tasks.0.extractor_config.type": "api",
        "tasks.0.extractor_config.url": "https://data.example/v1",
        "tasks.0.extractor_config.headers": "Accept: application/json\nX-Team: mars",
        "tasks.0.extractor_config.pagination.type": "page",
        "tasks.0.extractor_config.pagination.size": "50",
        "tasks.0.extractor_config.body": '{"a": [1, 2]}',
        "tasks.0.loader_config.type": "warehouse",
        "tasks.0.loader_config.table_name": "api_rows",
        "tasks.0.loader_config.mode": "upsert",
        "tasks.0.loader_config.key": "id\nday",
    }
    answer = bob.browser().post("/jobs/new", {**FORM, **dict.fromkeys(TASK, ""), **task})
    assert answer.status_code == 303, errors_of(answer.text)
    ((extractor, loader),) = stored(look, "Probes")["tasks"]
    assert extractor["headers"] == {"Accept": "application/json", "X-Team": "mars"}
    assert extractor["pagination"] == {"type": "page", "size": 50}
    assert extractor["body"] == {"a": [1, 2]}
    assert loader["key"] == ["id", "day"]


@pytest.mark.parametrize(
    ("field", "text"),
    [("headers", "no colon"), ("body", "{broken"), ("timeout", "soon"), ("pagination.limit", "0")],
)
def test_what_cannot_be_read_is_said_and_kept(bob: Person, field: str, text: str) -> None:
    name = f"tasks.0.extractor_config.{field}"
    task = {
        "tasks.0.extractor_config.type": "api",
        "tasks.0.extractor_config.url": "https://data.example/v1",
        "tasks.0.extractor_config.pagination.type": "offset",
        name: text,
    }
    answer = bob.browser().post("/jobs/new", {**FORM, **task})
    assert answer.status_code == 422
    assert set(errors_of(answer.text)) == {name}
    assert text in answer.text


def test_secrets_are_shown_masked_and_kept_when_left_alone(
    bob: Person, look: Callable, make_job: Callable[..., uuid.UUID]
) -> None:
    job_id = make_job(name="Secretive", tasks=[API_TASK])
    browser = bob.browser()
    for page in (browser.get(f"/jobs/{job_id}").text, browser.get(f"/jobs/{job_id}/edit").text):
        assert "very-secret-token" not in page
        assert MASK in page
    form = filled(browser.get(f"/jobs/{job_id}/edit").text)
    assert browser.post(f"/jobs/{job_id}/edit", form | {"name": "Renamed"}).status_code == 303
    assert stored(look, "Renamed")["tasks"][0][0]["bearer_token"] == "very-secret-token"


def test_a_secret_follows_its_task_when_tasks_change_places(
    bob: Person, look: Callable, make_job: Callable[..., uuid.UUID]
) -> None:
    job_id = make_job(name="Two", tasks=[API_TASK, factories.make_task_facts()])
    browser = bob.browser()
    moved = browser.post(f"/jobs/{job_id}/edit", filled(browser.get(f"/jobs/{job_id}/edit").text) | {"do": "down.0"})
    assert moved.status_code == 200
    assert browser.post(f"/jobs/{job_id}/edit", filled(moved.text)).status_code == 303
    tasks = stored(look, "Two")["tasks"]
    assert [extractor["type"] for extractor, _ in tasks] == ["csv", "api"]
    assert tasks[1][0]["bearer_token"] == "very-secret-token"


def test_a_secret_does_not_go_to_another_host(bob: Person, look: Callable, make_job: Callable[..., uuid.UUID]) -> None:
    job_id = make_job(name="Lured", tasks=[API_TASK])
    browser = bob.browser()
    form = filled(browser.get(f"/jobs/{job_id}/edit").text)
    form["tasks.0.extractor_config.url"] = "https://elsewhere.example/v1"
    assert browser.post(f"/jobs/{job_id}/edit", form).status_code == 303
    assert not stored(look, "Lured")["tasks"][0][0].get("bearer_token")


def filled(page: str) -> dict[str, str]:
    """What a browser would send from the form of this page if nothing was changed."""
    values: dict[str, str] = {}
    for tag in re.findall(r"<input [^>]*>", page):
        name, kind = attribute(tag, "name"), attribute(tag, "type")
        if name and kind not in {"checkbox", "search"}:
            values[name] = attribute(tag, "value") or ""
        elif name and " checked" in tag:
            values[name] = attribute(tag, "value") or "on"
    for tag, text in re.findall(r"(<textarea [^>]*>)(.*?)</textarea>", page, re.S):
        values[attribute(tag, "name") or ""] = unescape(text).strip("\r\n")
    for tag, options in re.findall(r"(<select [^>]*>)(.*?)</select>", page, re.S):
        chosen = re.search(r'<option selected value="([^"]*)"|<option value="([^"]*)" selected', options)
        values[attribute(tag, "name") or ""] = (chosen[1] or chosen[2]) if chosen else ""
    values.pop("csrf_token")
    return values


def attribute(tag: str, name: str) -> str | None:
    found = re.search(rf'\b{name}="([^"]*)"', tag)
    return unescape(found[1]) if found else None


@pytest.mark.parametrize(("verb", "count"), [("add", 2), ("remove.0", 0), ("redraw", 1), ("up.9", 1), ("remove.x", 1)])
def test_buttons_rearrange_the_form_without_saving_it(bob: Person, look: Callable, verb: str, count: int) -> None:
    for path in ("/jobs/new", "/jobs/tasks"):
        answer = bob.browser().post(path, FORM | {"do": verb}, htmx=path.endswith("tasks"))
        assert answer.status_code == 200
        assert answer.text.count("<fieldset") == count
    with look():
        assert db.session.scalar(sa.select(sa.func.count()).select_from(Job)) == 0


def test_changing_the_type_shows_the_fields_of_that_type(bob: Person) -> None:
    answer = bob.browser().post("/jobs/tasks", FORM | {"tasks.0.extractor_config.type": "api"}, htmx=True)
    assert 'name="tasks.0.extractor_config.url"' in answer.text
    assert 'name="tasks.0.extractor_config.path"' not in answer.text
    assert "<html" not in answer.text


def test_a_schedule_is_previewed_while_it_is_typed(bob: Person) -> None:
    browser = bob.browser()
    shown = browser.get("/jobs/schedule?schedule=0+9+*+*+*&timezone=Europe/Berlin", htmx=True).text
    assert shown.count("<li>") == 5
    assert "Every day at 09:00 Europe/Berlin" in shown
    wrong = browser.get("/jobs/schedule?schedule=0+25+*+*+*&timezone=UTC", htmx=True)
    assert wrong.status_code == 200
    assert "25" in wrong.text
    assert "Mars/Base" in browser.get("/jobs/schedule?schedule=@daily&timezone=Mars/Base", htmx=True).text


# --- looking and acting -----------------------------------------------------------------------------------------------


def test_the_list_shows_route_schedule_and_last_runs(
    rita: Person, work: Callable, make_job: Callable[..., uuid.UUID]
) -> None:
    job_id = make_job(name="Daily weather", schedule="0 6 * * *")
    with work():
        job = db.session.scalars(sa.select(Job)).one()
        factories.make_finished_run(job, state=RunState.SUCCEEDED)
        factories.make_finished_run(job, state=RunState.FAILED, error_message="the dish is frozen")
    page = rita.browser().get("/jobs").text
    assert "Daily weather" in page
    assert "absent.csv → out.duckdb/rows" in page
    assert "every day at 06:00 UTC" in page
    assert "failing since" in page
    assert "The last 2 runs, 1 failed" in page
    assert f"/jobs/{job_id}/run" not in page, "a viewer has no button that would be refused"
    assert rita.browser().get("/jobs?state=failing").text.count("data-row") == 1
    assert rita.browser().get("/jobs?state=running").text.count("data-row") == 0
    assert rita.browser().get("/jobs?q=WEATHER").text.count("data-row") == 1
    assert "No job fits" in rita.browser().get("/jobs?q=venus").text
    assert rita.browser().get("/jobs?state=nonsense").location == "/jobs"


def test_long_lists_come_in_pages(rita: Person, work: Callable) -> None:
    with work():
        for number in range(60):
            factories.make_job(name=f"Job {number:02}")
    first = rita.browser().get("/jobs").text
    older = re.search(r'rel="next" href="([^"]+)"', first)
    assert first.count("data-row") == 50
    assert older is not None
    second = rita.browser().get(unescape(older[1])).text
    assert second.count("data-row") == 10
    assert 'rel="next"' not in second


def test_an_empty_list_says_what_a_job_is(bob: Person) -> None:
    assert "A job reads from a file or an API" in bob.browser().get("/jobs").text


def test_running_pausing_and_resuming(bob: Person, look: Callable, make_job: Callable[..., uuid.UUID]) -> None:
    job_id, browser = make_job(name="Mine"), bob.browser()
    started = browser.post(f"/jobs/{job_id}/run")
    with look():
        run = db.session.scalars(sa.select(Run)).one()
        assert started.location == f"/runs/{run.id}"
    assert browser.post(f"/jobs/{job_id}/pause", {"back": "/jobs?q=x"}).location == "/jobs?q=x"
    assert stored(look, "Mine")["is_enabled"] is False
    assert browser.post(f"/jobs/{job_id}/pause").status_code == 303, "twice changes nothing"
    assert browser.post(f"/jobs/{job_id}/resume", {"back": "//evil.example"}).location == "/"
    assert stored(look, "Mine")["is_enabled"] is True


def test_deleting_asks_for_the_name_when_there_are_runs(
    bob: Person, work: Callable, look: Callable, make_job: Callable[..., uuid.UUID]
) -> None:
    job_id, browser = make_job(name="Old probe"), bob.browser()
    with work():
        factories.make_finished_run(db.session.scalars(sa.select(Job)).one(), state=RunState.SUCCEEDED)
    assert 'name="name"' in browser.get(f"/jobs/{job_id}/delete").text
    refused = browser.post(f"/jobs/{job_id}/delete", {"name": "old"})
    assert refused.status_code == 422
    assert "This is not its name." in refused.text
    assert browser.post(f"/jobs/{job_id}/delete", {"name": "Old probe"}).location == "/jobs"
    with look():
        assert db.session.scalars(sa.select(Job)).all() == []


def test_a_job_without_runs_is_deleted_by_one_button(bob: Person, make_job: Callable[..., uuid.UUID]) -> None:
    job_id = make_job()
    assert 'name="name"' not in bob.browser().get(f"/jobs/{job_id}/delete").text
    assert bob.browser().post(f"/jobs/{job_id}/delete").status_code == 303


def test_a_job_that_flies_cannot_be_deleted(bob: Person, work: Callable, make_job: Callable[..., uuid.UUID]) -> None:
    job_id = make_job(name="Aloft")
    with work():
        factories.make_run(db.session.scalars(sa.select(Job)).one(), state=RunState.RUNNING)
    answer = bob.browser().post(f"/jobs/{job_id}/delete", {"name": "Aloft"})
    assert answer.status_code == 422
    assert "under way" in answer.text


def test_rows_that_are_not_there_yet_are_explained(rita: Person, make_job: Callable[..., uuid.UUID]) -> None:
    page = rita.browser().get(f"/jobs/{make_job()}/rows")
    assert page.status_code == 200
    assert "Run the load first." in page.text


def test_rows_are_shown_as_they_are(rita: Person, home: Any, make_job: Callable[..., uuid.UUID]) -> None:
    import duckdb

    job_id = make_job()
    (home / "data").mkdir(parents=True, exist_ok=True)
    with duckdb.connect(str(home / "data" / "out.duckdb")) as database:
        database.execute("CREATE TABLE rows AS SELECT range AS id, '<b>' || range AS name FROM range(70)")
        database.execute("INSERT INTO rows VALUES (NULL, NULL)")
    page = rita.browser().get(f"/jobs/{job_id}/rows?task=1").text
    assert "71 rows, 2 columns, the first 50" in page
    assert "&lt;b&gt;7" in page
    assert rita.browser().get(f"/jobs/{job_id}/rows?task=2").status_code == 404


def test_user_text_is_escaped(rita: Person, make_job: Callable[..., uuid.UUID]) -> None:
    job_id = make_job(name="<script>alert(1)</script>", description='"><img src=x>')
    for path in ("/jobs", f"/jobs/{job_id}", f"/jobs/{job_id}/edit", f"/jobs/{job_id}/delete"):
        page = rita.browser().get(path).text
        assert "<script>alert" not in page
        assert "<img" not in page


# --- who may ----------------------------------------------------------------------------------------------------------

LOOKS = ("", "/edit", "/delete", "/rows")
VERBS = ("/run", "/pause", "/resume", "/delete", "/edit")


def test_charlie_finds_nothing(charlie: Person, make_job: Callable[..., uuid.UUID]) -> None:
    job_id, browser = make_job(name="Not his"), charlie.browser()
    assert "Not his" not in browser.get("/jobs").text
    for path in LOOKS:
        assert browser.get(f"/jobs/{job_id}{path}").status_code == 404, path
    for path in VERBS:
        assert browser.post(f"/jobs/{job_id}{path}", FORM).status_code == 404, path
    assert browser.post("/jobs/new", FORM).status_code == 403


def test_rita_looks_and_changes_nothing(rita: Person, look: Callable, make_job: Callable[..., uuid.UUID]) -> None:
    job_id, browser = make_job(name="Hers to see"), rita.browser()
    assert browser.get(f"/jobs/{job_id}").status_code == 200
    for path in VERBS:
        assert browser.post(f"/jobs/{job_id}{path}", FORM).status_code == 403, path
    assert browser.post("/jobs/new", FORM).status_code == 403
    assert stored(look, "Hers to see")["is_enabled"] is True


def test_nobody_is_led_to_the_log_in(browser_of_nobody: Browser, people: Cast) -> None:
    assert browser_of_nobody.get("/jobs").location.startswith("/login")


def test_a_form_without_its_token_is_refused(bob: Person, make_job: Callable[..., uuid.UUID]) -> None:
    assert bob.browser().client.post(f"/jobs/{make_job()}/run", headers={"Accept": "text/html"}).status_code == 403
