"""What one browser or machine does is seen in another browser within a second, without a reload."""

import re
from collections.abc import Callable
from typing import Any

import pytest

from tests.browser.missions import ROWS_A_PAGE, SlowSource, add_csv_job, add_job, api_task, call, start, unique
from tests.browser.screens import Screen, assert_fresh
from tests.support.stacks import Stack

pytestmark = pytest.mark.browser


@pytest.fixture
def second(open_screen: Callable[..., Screen]) -> Screen:
    """Another browser, in which somebody looks on."""
    return open_screen()


def rocket_of(screen: Screen, job: dict[str, Any]) -> str:
    """The address of the rocket that carries this job."""
    screen.page.goto(f"/jobs/{job['id']}")
    return str(screen.page.get_by_role("link", name="flight and history").get_attribute("href"))


def test_the_board_follows_what_another_browser_and_a_machine_do(
    screen: Screen, second: Screen, stack: Stack, expect: Any
) -> None:
    board = second.open("/")
    names = [unique("Vega"), unique("Vega"), unique("Vega")]

    def fly(number: int) -> None:
        call(stack, "POST", "/api/v1/job", {"source": names[number], "destination": "Mars", "estimated_time": 600})

    def see(number: int) -> None:
        expect(board.locator("article", has_text=names[number])).to_be_visible()

    assert_fresh(fly, see)
    expect(board.locator("#col-InFlight article", has_text=names[0])).to_be_visible()
    mine = screen.open("/")
    card = mine.locator("article", has_text=names[0])
    card.get_by_role("button", name="Abort").click()
    expect(board.locator("#col-InFlight article", has_text=names[0])).to_have_count(0)
    expect(board.locator("#col-RUD article, #col-Preparing article", has_text=names[0])).to_be_visible()
    second.assert_not_reloaded()
    screen.assert_not_reloaded()


def test_a_filtered_board_follows_too(second: Screen, stack: Stack, expect: Any) -> None:
    name = unique("Altair")
    board = second.open(f"/?q={name.replace(' ', '+')}")
    expect(board.locator("article")).to_have_count(0)
    call(stack, "POST", "/api/v1/job", {"source": "Earth", "destination": name, "estimated_time": 600})
    call(stack, "POST", "/api/v1/job", {"source": "Earth", "destination": unique("Deneb"), "estimated_time": 600})
    expect(board.locator("#col-InFlight article")).to_have_count(1)
    second.assert_not_reloaded()


def test_pages_of_a_job_and_its_rocket_follow_its_runs(
    screen: Screen, second: Screen, open_screen: Callable[..., Screen], stack: Stack, expect: Any
) -> None:
    job = add_csv_job(stack)
    rocket = open_screen()
    rocket_page = rocket.open(rocket_of(rocket, job))
    job_page = second.open(f"/jobs/{job['id']}")
    start(stack, job)
    expect(job_page.locator("#job-now")).to_contain_text(re.compile(r"Landed\s+succeeded\s*run \d+"))
    expect(job_page.locator("#runs-live tr")).to_have_count(1)
    expect(rocket_page.locator("#rocket .badge.large")).to_contain_text("Landed")
    screen.page.goto(f"/jobs/{job['id']}")
    screen.page.get_by_role("button", name="Run now").click()
    expect(job_page.locator("#runs-live tr")).to_have_count(2)
    expect(rocket_page.get_by_role("region", name="Flights").locator("tbody tr")).to_have_count(2)
    expect(rocket_page.locator("ol.timeline li").first).to_contain_text("landed: 30 rows")
    second.assert_not_reloaded()
    rocket.assert_not_reloaded()


def test_switching_a_job_off_and_on_is_seen_at_once(second: Screen, stack: Stack, expect: Any) -> None:
    job = add_csv_job(stack)
    page = second.open(f"/jobs/{job['id']}")
    words = ["switched off", "has not flown yet", "switched off"]

    def switch(number: int) -> None:
        call(stack, "PATCH", f"/api/v1/jobs/{job['id']}", {"is_active": bool(number % 2)})

    def see(number: int) -> None:
        expect(page.locator("#job-now")).to_contain_text(words[number])
        expect(page.get_by_role("button", name="Switch off")).to_be_visible(visible=bool(number % 2))

    assert_fresh(switch, see)
    second.assert_not_reloaded()


def test_lines_and_progress_of_a_run_are_seen_as_they_come(
    second: Screen, stack: Stack, source: SlowSource, expect: Any
) -> None:
    job = add_job(stack, api_task(source.url, unique("slow").replace(" ", "_")))
    start(stack, job)
    page = second.page
    page.goto(f"/jobs/{job['id']}")
    page.locator("#job-now a").click()
    page = second.open(page.url)
    expect(page.locator("#run-now")).to_have_attribute("data-state", "running")
    read = page.locator(".tile", has_text="Rows read").locator(".value")
    assert_fresh(
        lambda _: source.send_page(),
        lambda number: expect(read).to_have_text(str((number + 1) * ROWS_A_PAGE)),
    )
    lines = page.locator("#log .log-line").count()
    source.finish()
    expect(page.locator("#run-now")).to_have_attribute("data-state", "succeeded")
    expect(page.locator("#log .log-line").nth(lines)).to_contain_text(f"{3 * ROWS_A_PAGE} rows read")
    expect(page.locator(".gantt .tone-good")).not_to_have_count(0)
    second.assert_not_reloaded()
