"""Screens on the stack that most browser tests share."""

from collections.abc import Callable, Iterator
from typing import Any

import pytest

from tests.browser.missions import SlowSource, slow_source
from tests.browser.screens import PATIENCE, Screen
from tests.support.stacks import Stack


@pytest.fixture(scope="session")
def expect(browser: Any) -> Any:
    """Playwright's `expect`, as patient as the screens are."""
    from playwright.sync_api import expect as expect_

    expect_.set_options(timeout=PATIENCE)
    return expect_


@pytest.fixture
def open_screen(browser: Any, request: pytest.FixtureRequest) -> Iterator[Callable[..., Screen]]:
    """Opens screens: `open_screen(viewport=PHONE)`, on the shared stack unless told otherwise; none may complain."""
    opened: list[Screen] = []

    def open_(stack: Stack | None = None, **options: Any) -> Screen:
        opened.append(Screen(browser, stack or request.getfixturevalue("stack"), **options))
        return opened[-1]

    yield open_
    for screen in opened:
        screen.close()
    assert [complaint for screen in opened for complaint in screen.complaints] == []


@pytest.fixture
def screen(open_screen: Callable[..., Screen]) -> Screen:
    """The owner's screen."""
    return open_screen()


@pytest.fixture
def source() -> Iterator[SlowSource]:
    """A source that sends its rows when the test says so."""
    with slow_source() as slow:
        yield slow
