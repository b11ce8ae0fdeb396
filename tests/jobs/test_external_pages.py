"""The pages of external jobs: made by name, reported by buttons, read by everybody."""

import re
from collections.abc import Callable
from typing import Any

import pytest

from tests.support.people import Person
from webapp.jobs.models import Job, JobKind
from webapp.runs.models import Run
from webapp.runs.states import RunState


@pytest.fixture
def job_page(bob: Person) -> str:
    """The address of a new external job, made by its form."""
    made = bob.browser().post("/jobs/external/new", {"name": "Nightly export", "description": "by cron"})
    assert made.status_code == 303
    return str(made.location)


def text_of(page: str) -> str:
    return " ".join(re.sub(r"<[^>]+>", " ", page).split())


def test_it_is_made_by_its_name(bob: Person, job_page: str, look: Callable[[], Any]) -> None:
    with look() as session:
        job = session.query(Job).one()
        number = job.number
        assert (job.kind, job.name, job.description) == (JobKind.EXTERNAL, "Nightly export", "by cron")
    page = bob.browser().get(job_page).text
    assert "by cron" in page
    assert "Run now" not in page, "nobody here can run it"
    assert f'"job": {number}' in page.replace("&#34;", '"'), "how to report it stands there"
    assert "/external/new" in bob.browser().get("/jobs").text


@pytest.mark.parametrize(("name", "said"), [("", "A job needs a name."), ("a\x07b", "printable"), ("x" * 300, "255")])
def test_a_name_that_cannot_be_used_is_said_beside_the_field(bob: Person, name: str, said: str) -> None:
    answer = bob.browser().post("/jobs/external/new", {"name": name})
    assert answer.status_code == 422
    assert said in answer.text
    assert 'aria-invalid="true"' in answer.text


def test_buttons_report_it_and_the_log_tells(bob: Person, job_page: str, look: Callable[[], Any]) -> None:
    browser = bob.browser()
    for word, states in (("running", [RunState.RUNNING]), ("failed", [RunState.FAILED])):
        assert browser.post(f"{job_page}/report", {"status": word}).location == job_page
        with look() as session:
            assert [run.state for run in session.query(Run)] == states
    page = text_of(browser.get(job_page).text)
    log = page[page.index("Statuses") :]
    assert log.index("RUD failed") < log.index("InFlight running") < log.index("Ready queued")
    assert "the job was made" in log
    assert browser.post(f"{job_page}/report", {"status": "gone"}).location == job_page
    assert "Choose pending, running, completed or failed." in browser.get(job_page).text


def test_its_run_says_that_it_is_flown_elsewhere(bob: Person, job_page: str, look: Callable[[], Any]) -> None:
    browser = bob.browser()
    browser.post(f"{job_page}/report", {"status": "running"})
    browser.post(f"{job_page}/report", {"status": "completed"})
    with look() as session:
        run_id = session.query(Run).one().id
    page = browser.get(f"/runs/{run_id}").text
    assert "reported from elsewhere" in page
    assert "Run again" not in page
    assert "rows are in place" not in page


def test_its_second_run_does_not_say_that_the_rows_are_as_they_were(
    bob: Person, job_page: str, look: Callable[[], Any]
) -> None:
    browser = bob.browser()
    for word in ("running", "completed", "running", "completed"):
        browser.post(f"{job_page}/report", {"status": word})
    with look() as session:
        run_id = session.query(Run).order_by(Run.number.desc()).first().id
    page = text_of(browser.get(f"/runs/{run_id}").text)
    assert "Since the last good run" in page
    assert "as they were" not in page
    assert "Nobody counts the rows of runs that are flown elsewhere." in page


def test_lists_do_not_say_how_many_rows_it_moved_since_nobody_counted(bob: Person, job_page: str) -> None:
    browser = bob.browser()
    browser.post(f"{job_page}/report", {"status": "running"})
    browser.post(f"{job_page}/report", {"status": "completed"})
    assert '<td class="num">–</td>' in browser.get("/runs").text
    job = browser.get(job_page).text
    assert "0 rows" not in text_of(job)
    assert "succeeded" in job


def test_it_is_edited_by_its_own_form(bob: Person, job_page: str) -> None:
    browser = bob.browser()
    assert browser.get(f"{job_page}/edit").location == f"{job_page}/external"
    assert 'value="Nightly export"' in browser.get(f"{job_page}/external").text
    assert browser.post(f"{job_page}/external", {"name": "Renamed"}).location == job_page
    assert "Renamed" in browser.get(job_page).text


def test_rita_reads_and_reports_nothing(rita: Person, job_page: str) -> None:
    page = rita.browser().get(job_page)
    assert page.status_code == 200
    assert "/report" not in page.text
    assert rita.browser().post(f"{job_page}/report", {"status": "running"}).status_code == 403


def test_charlie_finds_nothing(charlie: Person, job_page: str) -> None:
    for path in (job_page, f"{job_page}/external"):
        assert charlie.browser().get(path).status_code == 404
    assert charlie.browser().post(f"{job_page}/report", {"status": "running"}).status_code == 404


def test_a_job_that_is_run_here_is_not_reported(alice: Person, bob: Person) -> None:
    task = {
        "extractor_config": {"type": "csv", "path": "a.csv"},
        "loader_config": {"type": "duckdb", "db_path": "a.duckdb", "table_name": "a"},
    }
    client = bob.app.test_client()
    made = client.post("/api/v1/jobs", json={"name": "load", "tasks": [task]}, headers=bob.headers).get_json()
    browser = bob.browser()
    browser.post(f"/jobs/{made['id']}/report", {"status": "running"})
    assert "its runs write its statuses" in browser.get(f"/jobs/{made['id']}").text
    assert browser.get(f"/jobs/{made['id']}/external").location == f"/jobs/{made['id']}/edit"
