"""The board in a real browser: what one does, the other sees, and both are right again after the server was away."""

import re
from collections.abc import Callable
from typing import Any

import pytest

from tests.browser.missions import call, unique
from tests.browser.screens import Screen, assert_fresh
from tests.support.stacks import Stack

pytestmark = pytest.mark.browser


def fly(stack: Stack, name: str, seconds: int = 600) -> str:
    """A plain flight, made by a machine; returns its id."""
    body = {"source": name, "destination": "Mars", "estimated_time": seconds}
    return str(call(stack, "POST", "/api/v1/job", body)["id"])


def test_what_a_machine_does_is_on_screen_at_once(stack: Stack, screen: Screen, expect: Any) -> None:
    page = screen.open("/")
    made: dict[int, str] = {}

    def change(turn: int) -> None:
        made[turn] = fly(stack, unique("pad"))

    assert_fresh(change, lambda turn: page.wait_for_selector(f"#col-Preparing #rocket-{made[turn]}"))
    expect(page.locator(f"#col-InFlight #rocket-{made[0]}")).to_be_visible()
    screen.assert_not_reloaded()


def test_a_second_browser_sees_the_abort(stack: Stack, open_screen: Callable[..., Screen], expect: Any) -> None:
    rocket_id = fly(stack, unique("pad"))
    one, two = open_screen(), open_screen()
    first, second = one.open("/"), two.open("/")
    expect(first.locator(f"#col-InFlight #rocket-{rocket_id}")).to_be_visible()
    first.locator(f"#rocket-{rocket_id}").get_by_role("button").click()
    for page in (first, second):
        expect(page.locator(f"#col-RUD #rocket-{rocket_id}")).to_be_visible()
        expect(page).to_have_title(re.compile("RUD"))
    one.assert_not_reloaded()
    two.assert_not_reloaded()


def test_a_filtered_board_takes_in_what_fits_and_nothing_else(stack: Stack, screen: Screen, expect: Any) -> None:
    name = unique("zebra")
    page = screen.open(f"/?q={name.replace(' ', '+')}")
    expect(page.locator("main")).to_contain_text("No rocket fits this filter")
    other, fits = fly(stack, unique("horse")), fly(stack, name)
    expect(page.locator(f"#rocket-{fits}")).to_be_visible()
    expect(page.locator(f"#rocket-{other}")).to_have_count(0)
    screen.assert_not_reloaded()


def test_the_keyboard_walks_and_opens(stack: Stack, screen: Screen, expect: Any) -> None:
    name = unique("pad")
    rocket_id = fly(stack, name)
    page = screen.open(f"/?q={name.replace(' ', '+')}")
    page.keyboard.press("j")
    expect(page.locator("[data-marked]")).to_have_attribute("id", f"rocket-{rocket_id}")
    page.keyboard.press("Enter")
    page.wait_for_url(f"**/rockets/{rocket_id}")
    expect(page.locator("#rocket")).to_contain_text(name)


def test_after_the_server_was_away_the_board_is_right_again(
    make_stack: Callable[..., Stack], open_screen: Callable[..., Screen], expect: Any
) -> None:
    stack = make_stack()
    screen = open_screen(stack)
    page = screen.open("/")
    gone, stays = fly(stack, "leaves"), fly(stack, "stays")
    expect(page.locator(f"#rocket-{gone}")).to_be_visible()
    stack.stop()
    expect(page.locator("[data-live-indicator]")).to_have_attribute("data-live-state", "reconnecting")
    stack.start()
    call(stack, "DELETE", f"/api/v1/job/{gone}")
    new = fly(stack, "came meanwhile")
    for rocket_id in (stays, new):
        expect(page.locator(f"#rocket-{rocket_id}")).to_be_visible()
    expect(page.locator(f"#rocket-{gone}")).to_have_count(0)
    screen.assert_not_reloaded()


def test_a_board_without_a_worker_says_so(
    make_stack: Callable[..., Stack], open_screen: Callable[..., Screen], expect: Any
) -> None:
    stack = make_stack()
    screen = open_screen(stack)
    page = screen.open("/")
    expect(page.locator("#crew")).not_to_contain_text("No worker is alive")
    with stack.workers_standing_still():
        expect(page.locator("#crew")).to_contain_text("No worker is alive", timeout=30_000)
    expect(page.locator("#crew")).not_to_contain_text("No worker is alive", timeout=30_000)
