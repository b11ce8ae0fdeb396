"""A long run is stopped from its page: soon, and the table is as it was."""

import time
from typing import Any

import pytest

from tests.browser.missions import SlowSource, add_csv_job, add_job, api_task, fly, start, unique, wait_for_run
from tests.browser.screens import Screen
from tests.support.stacks import Stack

pytestmark = pytest.mark.browser

MOST_SECONDS = 10


def test_aborting_a_long_run_ends_it_and_keeps_the_table(
    screen: Screen, stack: Stack, source: SlowSource, expect: Any
) -> None:
    table = unique("kept").replace(" ", "_")
    fly(stack, add_csv_job(stack, rows=30, table=table))
    long = add_job(stack, api_task(source.url, table), name="Long")
    start(stack, long)
    source.send_page()
    run = wait_for_run(stack, long, "running")
    page = screen.open(f"/runs/{run['id']}")
    expect(page.locator("#run-now")).to_have_attribute("data-state", "running")

    began = time.monotonic()
    page.get_by_role("button", name="Abort").click()
    expect(page.locator("#run-now")).to_have_attribute("data-state", "cancelled")
    assert time.monotonic() - began < MOST_SECONDS
    expect(page.locator("#run-now")).to_contain_text("Aborted")
    expect(page.locator(".reason")).to_contain_text(f"cancelled by {stack.owner['username']}")
    expect(page.get_by_role("button", name="Abort")).to_be_hidden()
    expect(page.get_by_role("button", name="Run again")).to_be_visible()

    page.goto(f"/jobs/{long['id']}/rows?task=1")
    expect(page.locator(".lede")).to_contain_text("30 rows")
