"""The server goes away and comes back: open pages say so, and are right again by themselves."""

from collections.abc import Callable
from typing import Any

import pytest

from tests.browser.missions import add_csv_job, call, fly
from tests.browser.screens import PATIENCE, Screen
from tests.support.stacks import Stack

pytestmark = pytest.mark.browser

RETURN = 2 * PATIENCE  # milliseconds: pages that lost the server try again ever more slowly, up to every 8 s


def test_open_pages_come_back_with_what_changed_meanwhile(
    make_stack: Callable[..., Stack], open_screen: Callable[..., Screen], expect: Any
) -> None:
    stack = make_stack()
    job = add_csv_job(stack, rows=20)
    fly(stack, job)
    paths = ("/", "/?q=Probes", f"/jobs/{job['id']}", "/jobs", "/runs")
    board, part, job_page, jobs, runs = screens = [open_screen(stack) for _ in paths]
    for screen, path in zip(screens, paths, strict=True):
        screen.open(path)
    expect(runs.page.locator("#runs-live tr")).to_have_count(1)

    stack.stop()
    for screen in screens:
        indicator = screen.page.locator("[data-live-indicator]")
        expect(indicator).to_have_attribute("data-live-state", "reconnecting")
        expect(indicator).to_contain_text("reconnecting")

    stack.start()
    call(stack, "POST", "/api/v1/job", {"source": "Ceres", "destination": "Mars", "estimated_time": 600})
    fly(stack, job)
    call(stack, "PATCH", f"/api/v1/jobs/{job['id']}", {"is_active": False, "job_name": "Probes, renamed"})

    expect(board.page.locator("article", has_text="Ceres")).to_be_visible(timeout=RETURN)
    expect(board.page.locator("article", has_text="Probes, renamed")).to_be_visible(timeout=RETURN)
    expect(part.page.locator("article")).to_contain_text(["Probes, renamed"], timeout=RETURN)
    expect(job_page.page.locator("h1")).to_have_text("Probes, renamed", timeout=RETURN)
    expect(job_page.page.locator("#job-now")).to_contain_text("switched off")
    expect(job_page.page.locator("#runs-live tr")).to_have_count(2)
    expect(jobs.page.locator("#jobs-live")).to_contain_text("Probes, renamed", timeout=RETURN)
    expect(runs.page.locator("#runs-live tr")).to_have_count(2, timeout=RETURN)
    for screen in screens:
        expect(screen.page.locator("[data-live-indicator]")).to_have_attribute("data-live-state", "live")
        screen.assert_not_reloaded()

    call(stack, "PATCH", f"/api/v1/jobs/{job['id']}", {"is_active": True})
    expect(job_page.page.locator("#job-now")).not_to_contain_text("switched off")
