"""The newcomer's way: from the owner page to rows that have landed, and the sample gone without a trace."""

import re
import time
from collections.abc import Callable
from typing import Any

import pytest

from tests.browser.screens import Screen
from tests.support.stacks import Stack
from webapp.jobs import sample

pytestmark = pytest.mark.browser

MOST_CLICKS = 4
MOST_SECONDS = 60
COLUMNS = [["reading_id", "bigint"], ["measured_at", "timestamp"], ["sol", "bigint"], ["station", "varchar"]]


class Clicks:
    """Counts what a person clicks."""

    def __init__(self) -> None:
        self.count = 0

    def on(self, locator: Any) -> None:
        locator.click()
        self.count += 1


def one_time_link(stack: Stack) -> str:
    """The link that `make run` prints."""
    found = re.search(r"http\S+/register\?token=\S+", stack.output())
    assert found, stack.output()
    return found.group()


def become_owner(page: Any, clicks: Clicks) -> None:
    page.get_by_label("Username").fill("ada")
    page.get_by_label("Password").fill("a good password")
    clicks.on(page.get_by_role("button", name="Create the owner"))


def fly_the_sample(page: Any, clicks: Clicks, expect: Any) -> None:
    clicks.on(page.get_by_role("button", name="Launch the sample"))
    page.wait_for_url("**/rockets/*")
    rocket = page.locator("#rocket")
    expect(rocket.locator(".badge.large")).to_contain_text("Landed", timeout=MOST_SECONDS * 1000)
    clicks.on(rocket.get_by_role("link", name="See the rows"))


def assert_rows_are_shown(page: Any, expect: Any) -> None:
    expect(page.locator(".lede")).to_contain_text(f"{sample.ROWS:,} rows")
    heads = page.locator("table.sample th").all_inner_texts()
    assert [head.split() for head in heads[:4]] == COLUMNS
    cells = page.locator("table.sample tbody tr").first.locator("td").all_inner_texts()
    assert cells[:4] == ["1", "2025-01-01T00:00:00", "0", "Jezero"]


def test_from_the_owner_page_to_the_landed_rows_and_the_sample_goes_by_one_click(
    make_stack: Callable[..., Stack], open_screen: Callable[..., Screen], expect: Any
) -> None:
    stack, clicks = make_stack(), Clicks()
    page = open_screen(stack, signed_in=False).page
    began = time.monotonic()
    page.goto(one_time_link(stack))
    become_owner(page, clicks)
    fly_the_sample(page, clicks, expect)
    assert_rows_are_shown(page, expect)
    assert clicks.count <= MOST_CLICKS
    assert time.monotonic() - began < MOST_SECONDS

    page.goto("/")
    expect(page.locator("#sample-state")).to_contain_text("Landed")
    expect(page.locator("#col-Landed_On_Mars")).to_contain_text(sample.NAME)
    left = [stack.home / "data" / name for name in (sample.FILE, sample.DATABASE)]
    assert all(path.exists() for path in left)
    page.get_by_role("button", name="Remove it").click()
    expect(page.locator("#flashes")).to_contain_text("The sample mission is gone")
    expect(page.locator("article.card")).to_have_count(0)
    expect(page.locator("main")).to_contain_text("The pad is empty")
    assert not any(path.exists() for path in left)
