"""A job that fails: the way to the reason, and from there to a landing."""

import re
from typing import Any

import pytest

from tests import factories
from tests.browser.missions import unique
from tests.browser.screens import PHONE, Screen
from tests.support.stacks import Stack

IS_JOB = re.compile(r"/jobs/[0-9a-f-]{36}$")
pytestmark = pytest.mark.browser


def make_by_the_form(page: Any, name: str, path: str) -> str:
    """A job that somebody types in; returns the address of its page."""
    page.goto("/jobs/new")
    page.get_by_label("Name", exact=True).fill(name)
    page.get_by_label("Path", exact=True).fill(path)
    page.get_by_label("Database file", exact=True).fill("browser.duckdb")
    page.get_by_label("Table", exact=True).fill("lost")
    page.get_by_role("button", name="Make the job").click()
    page.wait_for_url(IS_JOB)
    return str(page.url)


def test_the_way_from_a_missing_file_to_the_reason_and_to_a_landing(screen: Screen, stack: Stack, expect: Any) -> None:
    name, page = unique("Lost"), screen.page
    path = f"{name.replace(' ', '_')}.csv"
    board = screen.context.new_page()
    board.goto(f"/?q={name}")
    expect(board.locator("[data-live-indicator]")).to_have_attribute("data-live-state", "live")
    job = make_by_the_form(page, name, path)
    page.get_by_role("button", name="Run now").click()

    assert_told_on_the_board(board, name, expect)
    assert_reason_comes_first(page, path, expect)

    factories.write_csv(stack.home / "data" / "found" / path, rows=7)
    page.goto(job)
    page.get_by_role("link", name="Edit", exact=True).click()
    page.get_by_label("Path", exact=True).fill(f"found/{path}")
    page.get_by_role("button", name="Save").last.click()
    page.wait_for_url(job)
    page.get_by_role("button", name="Run now").click()
    expect(page.locator("#run-now")).to_have_attribute("data-state", "succeeded")
    expect(page.locator("#run-now")).to_contain_text("7 rows are in place")
    expect(page.locator(".reason")).to_have_count(0)
    assert not page.title().startswith("✖")

    card = board.locator("#col-Landed_On_Mars article", has_text=name)
    expect(card).to_be_visible()
    assert "RUD" not in board.title()


def assert_told_on_the_board(board: Any, name: str, expect: Any) -> None:
    """By word, shape, title and icon."""
    card = board.locator("#col-RUD article", has_text=name)
    expect(card).to_be_visible()
    expect(card).to_contain_text("failing since")
    column = board.locator("section.column", has=card)
    expect(column.locator("header .badge")).to_contain_text("RUD")
    expect(column.locator("header svg.shape path")).to_be_visible()
    expect(card.locator("svg.strip")).to_have_attribute("aria-label", "The last 1 run, 1 failed")
    assert board.title().startswith("✖ RUD · ")
    icon = board.locator("link[rel=icon]")
    assert icon.get_attribute("href") == icon.get_attribute("data-icon-rud") != icon.get_attribute("data-icon-ok")


def assert_reason_comes_first(page: Any, path: str, expect: Any) -> None:
    """The first line of the error with its origin, its kind and what now, on the first screen, also of a phone."""
    reason = page.locator(".reason")
    expect(reason.locator("pre")).to_contain_text(path)
    expect(reason).to_contain_text("It lies with the source (configuration).")
    expect(reason).to_contain_text("What now:")
    tops = page.evaluate("""() => [".reason", ".tiles", "#log-panel", "#run-picture", "#run-past"].map(
        (selector) => document.querySelector(selector).getBoundingClientRect().top)""")
    assert min(tops[1:]) > tops[0]
    expect(page).to_have_title(re.compile("^✖ RUD · "))
    wide = page.viewport_size
    page.set_viewport_size(PHONE)
    assert reason.locator("pre").bounding_box()["y"] < PHONE["height"] / 2
    page.set_viewport_size(wide)
