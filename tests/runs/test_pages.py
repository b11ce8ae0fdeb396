"""The pages of runs, as a browser without JavaScript uses them; and what open pages are told."""

import re
import uuid
from collections.abc import Callable
from datetime import datetime, timedelta
from html import unescape
from typing import Any

import pytest
import sqlalchemy as sa

from tests import factories
from tests.support.people import Browser, Person
from webapp.dates import utcnow
from webapp.db import db
from webapp.events import Event
from webapp.runs import feed
from webapp.runs.models import LogChunk, Run, RunAttempt, RunSample, RunStep, Trigger, Worker
from webapp.runs.states import RunState

SPEC = {
    "job_name": "Probes",
    "kind": "etl",
    "job_version": 1,
    "tasks": [
        {
            "extractor": {"type": "api", "url": "https://data.example/v1", "bearer_token": "very-secret-token"},
            "loader": {"type": "duckdb", "db_path": "out.duckdb", "table_name": "rows"},
        }
    ],
}
FAILURE = {
    "state": RunState.FAILED,
    "error_message": "the source answered 503",
    "error_origin": "source",
    "error_kind": "transient",
    "error_fix": "Ask whoever runs it.",
}


@pytest.fixture
def make_run(work: Callable, people: Any) -> Callable[..., uuid.UUID]:
    """Makes a finished run of the only job; returns its id."""

    def make(**facts: Any) -> uuid.UUID:
        with work():
            job = db.session.scalar(sa.select(db_job())) or factories.make_job(name="Probes")
            return factories.make_finished_run(job, **{"spec": SPEC, "state": RunState.SUCCEEDED} | facts).id

    return make


def db_job() -> Any:
    from webapp.jobs.models import Job

    return Job


def write_log(run_id: uuid.UUID, lines: list[tuple[str, str, str]], *, first: int = 1, attempt: int = 1) -> None:
    """A chunk of (level, step, message). Needs a unit of work."""
    levels = ["debug", "info", "warning", "error"]
    db.session.add(
        LogChunk(
            run_id=run_id,
            attempt=attempt,
            first_line=first,
            line_count=len(lines),
            worst_level=max(levels.index(level) for level, _, _ in lines),
            lines=[["2026-01-02T03:04:05.678901+00:00", level, step, message] for level, step, message in lines],
        )
    )


def step(run_id: uuid.UUID, position: int, **facts: Any) -> RunStep:
    began = utcnow() - timedelta(seconds=10 - position)
    known = {"task": 1, "name": f"step {position}", "started_at": began, "attempt": 1, "outcome": "succeeded"}
    known |= {"finished_at": began + timedelta(seconds=1), "facts": {}}
    return RunStep(run_id=run_id, position=position, **known | facts)


def words(page: str) -> str:
    """The text of a page, without its tags."""
    return re.sub(r"\s+", " ", unescape(re.sub(r"<[^>]+>", " ", page)))


# --- the first screen -------------------------------------------------------------------------------------------------


def test_a_failed_run_says_why_whose_fault_and_what_now(rita: Person, make_run: Callable[..., uuid.UUID]) -> None:
    page = rita.browser().get(f"/runs/{make_run(**FAILURE)}")
    said = words(page.text)
    assert page.status_code == 200
    assert "RUD failed" in said
    assert "the source answered 503" in said
    assert "It lies with the source (transient)" in said.replace(" )", ")").replace("source  (", "source (")
    assert "trying again can help" in said
    assert "Ask whoever runs it." in said
    assert page.text.index("the source answered 503") < page.text.index('id="log"'), "the reason stands above the log"
    assert "<title>Run 1 of Probes: failed" in page.text
    assert 'data-alarm="rud"' in page.text


def test_a_landing_with_doubt_says_so(rita: Person, make_run: Callable[..., uuid.UUID]) -> None:
    run_id = make_run(rows_read=10, rows_written=10, rows_found=9, doubt="10 rows were written and 9 found")
    said = words(rita.browser().get(f"/runs/{run_id}").text)
    assert "Landed with doubt" in said
    assert "10 rows were written and 9 found" in said


def test_a_run_that_waits_says_for_whom(rita: Person, make_run: Callable[..., uuid.UUID]) -> None:
    run_id = make_run(state=RunState.QUEUED, started_at=None, finished_at=None, attempt=0)
    assert "No worker is alive" in rita.browser().get(f"/runs/{run_id}").text


def test_what_a_run_waits_for_is_asked_again_while_it_waits(
    rita: Person, charlie: Person, work: Callable, make_run: Callable[..., uuid.UUID]
) -> None:
    run_id = make_run(state=RunState.QUEUED, started_at=None, finished_at=None, attempt=0)
    with work() as session:
        session.add(Worker(name="w", started_at=utcnow(), seen_at=utcnow(), slots=2, busy=2))
    assert f'hx-get="/runs/{run_id}/waits"' in rita.browser().get(f"/runs/{run_id}").text
    assert "2 of 2 places are busy" in rita.browser().get(f"/runs/{run_id}/waits").text
    with work() as session:
        session.execute(sa.update(Worker).values(seen_at=utcnow() - timedelta(minutes=1)))
    assert "No worker is alive" in rita.browser().get(f"/runs/{run_id}/waits").text
    assert charlie.browser().get(f"/runs/{run_id}/waits").status_code == 404
    with work() as session:
        session.execute(sa.update(Run).values(state=RunState.SUCCEEDED, finished_at=utcnow()))
    assert rita.browser().get(f"/runs/{run_id}/waits").status_code == 204
    assert "/waits" not in rita.browser().get(f"/runs/{run_id}").text


def test_a_run_that_waits_for_its_next_attempt_counts_down(rita: Person, make_run: Callable[..., uuid.UUID]) -> None:
    later = utcnow() + timedelta(minutes=5)
    run_id = make_run(**FAILURE | {"state": RunState.QUEUED}, finished_at=None, available_at=later, max_attempts=3)
    page = rita.browser().get(f"/runs/{run_id}").text
    assert "data-countdown-to" in page
    assert "attempt 2 of 3" in words(page)
    assert "Why the last attempt failed" in page
    assert " starts in " not in page, "a number of seconds would not count down"


def test_the_configuration_of_the_run_is_shown_without_its_secrets(
    rita: Person, make_run: Callable[..., uuid.UUID]
) -> None:
    page = rita.browser().get(f"/runs/{make_run()}").text
    assert "tasks.1.extractor.url" in page
    assert "••••••••" in page
    assert "very-secret-token" not in page


def test_a_run_that_waits_for_a_file_says_so_until_rows_move(
    rita: Person, work: Callable, make_run: Callable[..., uuid.UUID]
) -> None:
    run_id = make_run(state=RunState.RUNNING, finished_at=None, attempt=1)
    held = "waiting for out.duckdb, held by process 7"
    line_at = datetime.fromisoformat("2026-01-02T03:04:05Z")
    with work():
        write_log(run_id, [("info", "prepare", "begins"), ("info", "prepare", held)])
        _run(run_id).progress_at = line_at
    told = "Begun, and waiting for out.duckdb, held by process 7."
    assert told in words(rita.browser().get(f"/runs/{run_id}").text)
    logged = Event(kind="run.logged", subject_id=run_id, payload={"from": 1, "to": 2})
    with work():
        assert told in words(feed.show_log([logged])), "open pages hear it"
        _run(run_id).progress_at = line_at + timedelta(minutes=1)
    assert told not in words(rita.browser().get(f"/runs/{run_id}").text)
    with work():
        _run(run_id).progress_at = line_at
        write_log(run_id, [("info", "load", "rows go in")], first=3)
    assert told not in words(rita.browser().get(f"/runs/{run_id}").text)


def _run(run_id: uuid.UUID) -> Run:
    return db.session.scalars(sa.select(Run).where(Run.id == run_id)).one()


def test_steps_are_drawn_and_tasks_have_their_figures(
    rita: Person, work: Callable, make_run: Callable[..., uuid.UUID]
) -> None:
    run_id = make_run()
    facts = {"rows_read": 7, "rows_written": 7, "rows_found": 7, "schema_changes": ["column b is new"], "doubt": None}
    with work():
        db.session.add_all([step(run_id, 1, name="prepare"), step(run_id, 2, name="commit", facts=facts)])
        db.session.add_all(
            RunSample(run_id=run_id, attempt=1, second=n, rows_read=n * 5, bytes_read=0) for n in (1, 2, 3)
        )
    page = rita.browser().get(f"/runs/{run_id}").text
    assert '<svg class="gantt"' in page
    assert "v1 → out.duckdb/rows" in page
    assert "column b is new" in page
    assert '<td data-value="5">' in page, "rows per second"


def test_the_configuration_of_a_run_has_no_needless_decimals(rita: Person, make_run: Callable[..., uuid.UUID]) -> None:
    run_id = make_run(spec={**SPEC, "timeout_seconds": 21600.0, "retry_delay_seconds": 0.5})
    said = words(rita.browser().get(f"/runs/{run_id}").text)
    assert "timeout_seconds 21600 retry_delay_seconds 0.5" in said


def test_what_is_different_from_the_last_good_run_is_listed(
    rita: Person, work: Callable, make_run: Callable[..., uuid.UUID]
) -> None:
    make_run(doubt="not a good one", spec={**SPEC, "timeout_seconds": 9})
    good = make_run(rows_written=100, seconds=2)
    changed = {**SPEC, "tasks": [{**SPEC["tasks"][0], "loader": {**SPEC["tasks"][0]["loader"], "mode": "append"}}]}
    run_id = make_run(rows_written=10, seconds=2, spec=changed)
    with work():
        db.session.add(step(good, 1, facts={"schema": [["id", "BIGINT"], ["day", "DATE"]]}))
        db.session.add(step(run_id, 1, facts={"schema": [["id", "VARCHAR"]]}))
    table = rita.browser().get(f"/runs/{run_id}").text.partition('<table class="diff">')[2].partition("</table>")[0]
    said = words(table)
    assert "tasks.1.loader.mode configuration absent append" in said
    assert "task 1, column id schema BIGINT VARCHAR" in said
    assert "task 1, column day schema DATE absent" in said
    assert "rows figure 100 10" in said
    assert "seconds" not in said


# --- verbs ------------------------------------------------------------------------------------------------------------


def test_aborting_a_waiting_run_ends_it_and_twice_is_no_error_page(
    bob: Person, look: Callable, make_run: Callable[..., uuid.UUID]
) -> None:
    run_id = make_run(state=RunState.QUEUED, started_at=None, finished_at=None, attempt=0)
    browser = bob.browser()
    assert browser.post(f"/runs/{run_id}/abort").location == f"/runs/{run_id}"
    with look():
        assert db.session.scalars(sa.select(Run)).one().state is RunState.CANCELLED
    assert browser.post(f"/runs/{run_id}/abort").status_code == 303
    assert "has ended already" in browser.get(f"/runs/{run_id}").text


def test_running_again_leads_to_the_new_run(bob: Person, look: Callable, make_run: Callable[..., uuid.UUID]) -> None:
    run_id = make_run(**FAILURE)
    answer = bob.browser().post(f"/runs/{run_id}/again")
    with look():
        fresh = db.session.scalars(sa.select(Run).where(Run.id != run_id)).one()
        assert answer.location == f"/runs/{fresh.id}"
        assert (fresh.retry_of, fresh.first_task) == (run_id, 1)


def test_a_retry_begins_at_the_task_that_failed(
    bob: Person, work: Callable, look: Callable, make_run: Callable[..., uuid.UUID]
) -> None:
    run_id = make_run(**FAILURE, spec={**SPEC, "tasks": SPEC["tasks"] * 2})
    with work():
        db.session.add_all([step(run_id, 1), step(run_id, 2, task=2, outcome="failed")])
    assert "Retry from the failed task" in bob.browser().get(f"/runs/{run_id}").text
    bob.browser().post(f"/runs/{run_id}/again", {"from": "failed"})
    with look():
        assert db.session.scalars(sa.select(Run.first_task).where(Run.id != run_id)).one() == 2


def test_a_run_under_way_is_not_started_again(bob: Person, make_run: Callable[..., uuid.UUID]) -> None:
    run_id = make_run(state=RunState.RUNNING, finished_at=None)
    browser = bob.browser()
    assert browser.post(f"/runs/{run_id}/again").location == f"/runs/{run_id}"
    assert "cancel it first" in browser.get(f"/runs/{run_id}").text


# --- the log ----------------------------------------------------------------------------------------------------------


@pytest.fixture
def talkative(work: Callable, make_run: Callable[..., uuid.UUID]) -> uuid.UUID:
    """A run with 3,000 lines; every 100th is a warning of the step load, attempt 2 begins at line 2,001."""
    run_id = make_run(attempt=2, max_attempts=3, log_lines=3000)
    with work():
        for first in range(1, 3001, 250):
            lines = [
                ("warning" if n % 100 == 0 else "debug", "load" if n % 100 == 0 else "", f"line <{n}> said")
                for n in range(first, first + 250)
            ]
            write_log(run_id, lines, first=first, attempt=1 if first <= 2000 else 2)
        db.session.add(
            RunAttempt(run_id=run_id, attempt=1, worker="w", started_at=utcnow(), finished_at=utcnow(), outcome="lost")
        )
    return run_id


def numbers(page: str) -> list[int]:
    return [int(number) for number in re.findall(r'class="log-line" id="L(\d+)"', page)]


def test_the_log_shows_its_end_and_pages_back_and_forth(rita: Person, talkative: uuid.UUID) -> None:
    browser = rita.browser()
    page = browser.get(f"/runs/{talkative}").text
    assert numbers(page) == list(range(2501, 3001))
    assert 'data-attempt="all"' in page, "new lines belong to it"
    older = re.search(r'<a href="([^"]+)">Older lines</a>', page)
    assert older is not None
    back = browser.get(unescape(older[1])).text
    assert numbers(back) == list(range(2001, 2501))
    assert 'data-attempt="window"' in back
    newer = re.search(r'<a href="([^"]+)">Newer lines</a>', back)
    assert newer is not None
    assert numbers(browser.get(unescape(newer[1])).text)[0] == 2501


def test_a_link_to_a_line_shows_the_lines_around_it(rita: Person, talkative: uuid.UUID) -> None:
    assert 1234 in numbers(rita.browser().get(f"/runs/{talkative}?line=1234").text)
    assert numbers(rita.browser().get(f"/runs/{talkative}?line=1").text)[0] == 1


def test_level_step_search_and_attempt_choose_from_all_lines(rita: Person, talkative: uuid.UUID) -> None:
    def found(query: str) -> list[int]:
        return numbers(rita.browser().get(f"/runs/{talkative}?{query}").text)

    hundreds = list(range(100, 3001, 100))
    assert found("level=warning") == hundreds
    assert found("step=load") == hundreds
    assert found("q=%3C1700%3E") == [1700]
    assert found("q=LINE&level=warning&attempt=1") == hundreds[:20]
    assert found("attempt=2") == list(range(2501, 3001))
    assert found("level=error") == []


def test_lines_are_escaped_and_the_download_has_all_of_them(rita: Person, talkative: uuid.UUID) -> None:
    assert "line <3000>" not in rita.browser().get(f"/runs/{talkative}").text
    answer = rita.browser().get(f"/runs/{talkative}/log.txt")
    assert answer.mimetype == "text/plain"
    assert "attachment" in answer.headers["Content-Disposition"]
    lines = answer.text.splitlines()
    assert len(lines) == 3000
    assert lines[99] == "2026-01-02T03:04:05.678901Z warning load       line <100> said"


@pytest.mark.parametrize("query", ["level=loud", "line=-1", "before=x", "attempt=99999999999999999999"])
def test_an_address_that_cannot_be_read_leads_to_the_plain_one(
    rita: Person, make_run: Callable[..., uuid.UUID], query: str
) -> None:
    run_id = make_run()
    assert rita.browser().get(f"/runs/{run_id}?{query}").location == f"/runs/{run_id}"


# --- the list ---------------------------------------------------------------------------------------------------------


def test_the_list_is_narrowed_and_paged_by_its_address(rita: Person, make_run: Callable[..., uuid.UUID]) -> None:
    make_run(**FAILURE)
    for _ in range(52):
        make_run()
    make_run(trigger=Trigger.SCHEDULER)
    browser = rita.browser()

    def count(query: str) -> int:
        return browser.get(f"/runs?{query}").text.count("data-row")

    first = browser.get("/runs").text
    older = re.search(r'rel="next" href="([^"]+)"', first)
    assert first.count("data-row") == 50
    assert older is not None
    assert browser.get(unescape(older[1])).text.count("data-row") == 4
    assert count("state=failed") == 1
    assert count("trigger=scheduler") == 1
    assert count("state=&trigger=&job=") == 50
    assert "No run fits" in browser.get("/runs?state=cancelled").text
    assert browser.get("/runs?state=lost").location == "/runs"
    assert browser.get(f"/runs?job={factories.unknown_id()}").status_code == 404
    assert 'id="runs-live"' in first
    assert 'id="runs-live"' not in browser.get("/runs?state=failed").text, "a new run does not belong there"


def test_an_empty_list_says_what_a_run_is(rita: Person) -> None:
    assert "A run is one execution of a job" in rita.browser().get("/runs").text


# --- who may ----------------------------------------------------------------------------------------------------------


def test_charlie_finds_nothing(charlie: Person, make_run: Callable[..., uuid.UUID]) -> None:
    run_id, browser = make_run(**FAILURE), charlie.browser()
    assert "Probes" not in browser.get("/runs").text
    for path in ("", "/log.txt"):
        assert browser.get(f"/runs/{run_id}{path}").status_code == 404
    for path in ("/abort", "/again"):
        assert browser.post(f"/runs/{run_id}{path}").status_code == 404


def test_rita_looks_and_has_no_verbs(rita: Person, make_run: Callable[..., uuid.UUID]) -> None:
    run_id, browser = make_run(state=RunState.QUEUED, finished_at=None), rita.browser()
    assert "/abort" not in browser.get(f"/runs/{run_id}").text
    assert browser.post(f"/runs/{run_id}/abort").status_code == 403
    assert browser.post(f"/runs/{make_run()}/again").status_code == 403


# --- what open pages are told -----------------------------------------------------------------------------------------


def told(kind: str, run_id: uuid.UUID, job_id: uuid.UUID, **payload: Any) -> Event:
    return Event(id=1, at=utcnow(), kind=kind, subject_id=run_id, payload={"job_id": str(job_id), **payload})


def test_fragments_stand_alone_and_hold_no_form(
    app: Any, look: Callable, make_run: Callable[..., uuid.UUID], bob: Person
) -> None:
    run_id = make_run(**FAILURE)
    with look(), app.test_request_context():
        run = db.session.scalars(sa.select(Run)).one()
        moved = told("run.moved", run_id, run.job_id)
        for html, ids in (
            (feed.show_run([moved]), {"run-now", "run-picture", "run-past", "run-attempts"}),
            (feed.show_run([told("run.progress", run_id, run.job_id)]), {"run-now", "run-picture"}),
            (feed.show_row([moved]), {f"run-{run_id}"}),
            (feed.show_job([moved]), {f"job-{run.job_id}-state", f"job-{run.job_id}-strip", "job-now", "job-trend"}),
            (feed.show_new_job([moved]), {f"job-{run.job_id}"}),
            (feed.show_deleted_job([moved]), set()),
        ):
            assert ids <= set(re.findall(r'\bid="([^"]+)"', html))
            assert "<form" not in html
            assert "csrf" not in html
    page = bob.browser().get(f"/runs/{run_id}").text
    assert all(f'id="{name}"' in page for name in ("run-now", "run-picture", "run-past", "run-attempts"))
    assert 'id="run-attempts"' not in bob.browser().get(f"/runs/{run_id}?attempt=1").text


def test_a_run_that_has_gone_shows_nothing(app: Any, look: Callable, people: Any) -> None:
    gone = told("run.moved", factories.unknown_id(), factories.unknown_id())
    with look(), app.test_request_context():
        assert feed.show_run([gone]) == feed.show_row([gone]) == feed.show_job([gone]) == ""


def test_new_lines_are_told_and_a_flood_is_cut_with_a_way_to_the_rest(
    app: Any, look: Callable, talkative: uuid.UUID
) -> None:
    def lines(first: int, last: int) -> Event:
        return told("run.logged", talkative, factories.unknown_id(), **{"from": first, "to": last})

    with look(), app.test_request_context():
        few = feed.show_log([lines(10, 11), lines(12, 13)])
        flood = feed.show_log([lines(100, 2900)])
    assert numbers(few) == [10, 11, 12, 13]
    assert "log-gap" not in few
    assert numbers(flood) == list(range(2401, 2901))
    assert f"/runs/{talkative}?after=99" in flood


def test_topics_follow_from_the_event() -> None:
    run_id, job_id = uuid.uuid4(), uuid.uuid4()
    moved, logged = told("run.moved", run_id, job_id), told("run.logged", run_id, job_id)
    created = Event(id=2, at=utcnow(), kind="job.created", subject_id=job_id, payload={})
    assert list(feed.page_of(moved)) == [f"run:{run_id}"]
    assert list(feed.page_of(logged)) == []
    assert list(feed.log_of(logged)) == [f"run:{run_id}"]
    assert list(feed.lists_of_runs(moved)) == ["runs", f"job:{job_id}"]
    assert list(feed.lists_of_jobs(moved)) == ["jobs", f"job:{job_id}"]
    assert list(feed.lists_of_jobs(created)) == ["jobs", f"job:{job_id}"]


def test_nobody_is_led_to_the_log_in(browser_of_nobody: Browser, people: Any) -> None:
    assert browser_of_nobody.get("/runs").location.startswith("/login")
