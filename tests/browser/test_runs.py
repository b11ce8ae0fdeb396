"""Runs and jobs in a real browser: what changes is seen without a reload, and again after a lost connection."""

from collections.abc import Callable, Iterator
from typing import Any

import pytest

from tests import factories
from tests.support.stacks import Stack

pytestmark = pytest.mark.browser

LIVE = '[data-live-state="live"]'


@pytest.fixture
def stack_of_mine(make_stack: Callable[..., Stack]) -> Stack:
    """A stack that a test may stop."""
    return make_stack()


@pytest.fixture
def page(browser: Any, stack_of_mine: Stack) -> Iterator[Any]:
    """A page in which the owner is signed in; an error of a script fails the test."""
    context = browser.new_context(base_url=stack_of_mine.url)
    opened = context.new_page()
    faults: list[str] = []
    opened.on("pageerror", lambda error: faults.append(str(error)))
    owner = stack_of_mine.owner
    opened.goto("/login")
    opened.fill("[name=username]", owner["username"])
    opened.fill("[name=password]", owner["password"])
    opened.press("[name=password]", "Enter")
    opened.wait_for_url("**/")
    yield opened
    context.close()
    assert faults == []


def make_job(stack: Stack, name: str, *, path: str, rows: int = 0) -> str:
    """A job that loads this file, which has so many rows (0: there is none); returns its id."""
    if rows:
        factories.write_csv(stack.home / "data" / path, rows=rows)
    body = {
        "job_name": name,
        "schedule": "@manual",
        "is_active": True,
        "tasks": [
            {
                "extractor_config": {"type": "csv", "path": path},
                "loader_config": {"type": "duckdb", "db_path": "out.duckdb", "table_name": name.lower()},
            }
        ],
    }
    status, job, _ = stack.request("POST", "/api/v1/jobs", body, token=stack.owner_token())
    assert status == 200, job
    return str(job["id"])


def start(stack: Stack, job_id: str) -> str:
    status, body, _ = stack.request("POST", f"/api/v1/jobs/{job_id}/run", token=stack.owner_token())
    assert status == 200, body
    return str(body["id"])


def test_a_run_is_watched_from_the_button_to_the_rows(stack_of_mine: Stack, page: Any) -> None:
    job_id = make_job(stack_of_mine, "Probes", path="probes.csv", rows=300)
    second = page.context.new_page()
    second.goto("/runs")
    second.wait_for_selector(LIVE)
    page.goto(f"/jobs/{job_id}")
    page.click("text=Run now")
    page.wait_for_selector('#run-now[data-state="succeeded"]')
    page.wait_for_selector("#log .log-line:has-text('300 rows read')")
    assert page.locator(".run-actions button:visible").all_inner_texts()[0].startswith("Run again")
    row = second.locator("#runs-live tr:has-text('Probes')")
    row.wait_for()
    second.wait_for_selector("#runs-live tr:has-text('succeeded')")
    assert row.count() == 1
    page.click("text=See the rows >> nth=0")
    page.wait_for_selector("td:has-text('probe 1')")


def test_a_run_that_waits_tells_when_the_last_worker_dies(stack_of_mine: Stack, page: Any) -> None:
    job_id = make_job(stack_of_mine, "Patient", path="probes.csv", rows=30)
    with stack_of_mine.workers_standing_still():
        page.goto(f"/runs/{start(stack_of_mine, job_id)}")
        page.wait_for_selector('#run-now[data-state="queued"]')
        page.evaluate("window.neverReloaded = true")
        page.wait_for_selector("#run-waits >> text=No worker is alive", timeout=30_000)
    page.wait_for_selector('#run-now[data-state="succeeded"]', timeout=30_000)
    assert page.locator("#run-waits").count() == 0
    assert page.evaluate("window.neverReloaded") is True


def test_a_failure_leads_to_its_reason(stack_of_mine: Stack, page: Any) -> None:
    job_id = make_job(stack_of_mine, "Lost", path="absent.csv")
    page.goto("/jobs")
    page.wait_for_selector(LIVE)
    start(stack_of_mine, job_id)
    page.click(f"#job-{job_id}-state >> text=failed")
    page.wait_for_selector(".reason >> text=absent.csv")
    page.wait_for_function('document.title.startsWith("✖")')  # it may have failed while the page was on its way
    page.wait_for_selector("#log .log-line[data-level=error]")
    assert page.locator("#log .log-line[data-level=error]").count() == 1


def test_after_the_server_came_back_the_page_shows_what_happened_meanwhile(stack_of_mine: Stack, page: Any) -> None:
    job_id = make_job(stack_of_mine, "Probes", path="probes.csv", rows=50)
    page.goto(f"/jobs/{job_id}")
    page.wait_for_selector(LIVE)
    stack_of_mine.stop()
    page.wait_for_selector('[data-live-state="reconnecting"]')
    stack_of_mine.start()
    start(stack_of_mine, job_id)
    page.wait_for_selector("#job-now >> text=succeeded", timeout=15_000)
    page.wait_for_selector(LIVE)
    assert page.locator("#runs-live tr").count() == 1


def test_a_link_to_a_line_is_found_and_search_narrows_the_log(stack_of_mine: Stack, page: Any) -> None:
    job_id = make_job(stack_of_mine, "Probes", path="probes.csv", rows=50)
    page.goto(f"/jobs/{job_id}")
    page.click("text=Run now")
    page.wait_for_selector('#run-now[data-state="succeeded"]')
    page.click("#L2 a")
    assert page.url.endswith("#L2")
    page.fill("[data-search]", "begins in process")
    assert page.locator("#log .log-line:visible").count() == 1
    page.press("[data-search]", "Enter")
    page.wait_for_url("**q=begins**")
    assert page.locator("#log .log-line").count() == 1


def test_the_form_follows_what_is_chosen_and_typed(stack_of_mine: Stack, page: Any) -> None:
    page.goto("/jobs/new")
    page.fill("[name=name]", "By hand")
    page.select_option("[name='tasks.0.extractor_config.type']", "api")
    page.wait_for_selector("[name='tasks.0.extractor_config.url']")
    page.select_option("[name='tasks.0.extractor_config.type']", "csv")
    page.wait_for_selector("[name='tasks.0.extractor_config.path']")
    page.fill("[name=schedule]", "0 9 * * 1-5")
    page.wait_for_selector("#schedule-preview >> text=Monday to Friday at 09:00 UTC")
    page.click("text=Make the job")
    page.wait_for_selector("#tasks\\.0\\.extractor_config\\.path-error")
    assert page.input_value("[name=name]") == "By hand"
    page.fill("[name='tasks.0.extractor_config.path']", "probes.csv")
    page.fill("[name='tasks.0.loader_config.db_path']", "out.duckdb")
    page.fill("[name='tasks.0.loader_config.table_name']", "probes")
    page.click("text=Make the job")
    page.wait_for_selector("h1:text-is('By hand')")
    page.click("text=Switch off")
    page.wait_for_selector("text=switched off")
    assert page.locator("button:has-text('Switch on'):visible").count() == 1
