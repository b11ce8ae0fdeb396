"""Everything on the board and on a run's page by keyboard: j k Enter r a / ?"""

from typing import Any

import pytest

from tests.browser.missions import SlowSource, add_csv_job, add_job, api_task, unique, wait_for_run
from tests.browser.screens import Screen
from tests.support.stacks import Stack

pytestmark = pytest.mark.browser


def marked(page: Any) -> Any:
    return page.locator("[data-row][data-marked]")


def test_the_board_by_keyboard(screen: Screen, stack: Stack, source: SlowSource, expect: Any) -> None:
    group = unique("Keys").replace(" ", "")
    landing = add_csv_job(stack, name=f"{group} landing")
    long = add_job(stack, api_task(source.url, group), name=f"{group} long")
    page = screen.open(f"/?q={group}")
    cards = page.locator("#col-Ready article")
    expect(cards).to_have_count(2)
    first, second = cards.nth(0).inner_text().splitlines()[0], cards.nth(1).inner_text().splitlines()[0]

    page.keyboard.press("j")
    expect(marked(page)).to_contain_text(first)
    page.keyboard.press("j")
    expect(marked(page)).to_contain_text(second)
    page.keyboard.press("j")
    expect(marked(page)).to_contain_text(second)
    page.keyboard.press("k")
    expect(marked(page)).to_contain_text(first)
    page.keyboard.press("Enter")
    page.wait_for_url("**/rockets/*")
    expect(page.locator("h1")).to_have_text(first)

    page = screen.open(f"/?q={group}")
    press_on(page, landing["job_name"], "r", expect)
    expect(page.locator("#col-Landed_On_Mars article", has_text=landing["job_name"])).to_be_visible()
    press_on(page, long["job_name"], "r", expect)
    expect(page.locator("#col-InFlight article", has_text=long["job_name"])).to_be_visible()
    press_on(page, long["job_name"], "a", expect)
    expect(page.locator("#col-InFlight article")).to_have_count(0)
    wait_for_run(stack, long, "failed")  # the contract's word for a run that was stopped
    screen.assert_not_reloaded()


def press_on(page: Any, name: str, key: str, expect: Any) -> None:
    """Walk to the card of this name and press the key."""
    for _ in range(2):
        page.keyboard.press("k")
    if name not in marked(page).inner_text():
        page.keyboard.press("j")
    expect(marked(page)).to_contain_text(name)
    page.keyboard.press(key)


def test_search_and_help_by_keyboard(screen: Screen, expect: Any) -> None:
    page = screen.open("/")
    page.keyboard.press("/")
    search = page.locator("[data-search]")
    expect(search).to_be_focused()
    page.keyboard.type("jk/?ar")
    expect(search).to_have_value("jk/?ar")
    page.keyboard.press("Escape")
    expect(search).not_to_be_focused()
    page.keyboard.press("?")
    expect(page.locator("dialog#keys")).to_be_visible()
    expect(page.locator("dialog#keys")).to_contain_text("next, previous row or card")
    page.keyboard.press("Escape")
    expect(page.locator("dialog#keys")).to_be_hidden()
    for key, room in (("r", "**/runs"), ("c", "**/connections/sources"), ("s", "**/settings"), ("j", "**/jobs")):
        page.keyboard.press("g")
        page.keyboard.press(key)
        page.wait_for_url(room)
        page.locator("h1").wait_for()


def test_a_run_is_repeated_by_keyboard(screen: Screen, stack: Stack, expect: Any) -> None:
    job = add_csv_job(stack)
    page = screen.open(f"/jobs/{job['id']}")
    page.keyboard.press("r")
    page.wait_for_url("**/runs/*")
    first = page.url
    expect(page.locator("#run-now")).to_have_attribute("data-state", "succeeded")
    page.keyboard.press("r")
    page.wait_for_url(lambda url: "/runs/" in url and url != first)
    expect(page.locator("#run-now")).to_have_attribute("data-state", "succeeded")
