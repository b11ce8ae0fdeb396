"""Screens: browser windows in which somebody is signed in, and that remember what went wrong in them."""

import time
from collections.abc import Callable
from typing import Any

from tests.support.stacks import Stack

PATIENCE = 15_000  # milliseconds, for a machine that is busy with other tests
FRESH = 1.0  # seconds after which what is on screen would be stale
PHONE = {"width": 390, "height": 844}

#: What Chromium says of a request that was refused or not answered; the page's own answer to it is what tests look at.
_OF_THE_NETWORK = ("Failed to load resource", "WebSocket connection to", "htmx: htmx:error: Failed to fetch")


class Screen:
    """One window. `signed_in` uses the session that the owner of the stack has already begun."""

    def __init__(self, browser: Any, stack: Stack, *, signed_in: bool = True, **options: Any) -> None:
        self.stack = stack
        if signed_in:
            options["storage_state"] = owner_session(browser, stack)
        self.context = browser.new_context(base_url=stack.url, **options)
        self.context.set_default_timeout(PATIENCE)
        self.page = self.context.new_page()
        self.complaints: list[str] = []
        self.page.on("pageerror", lambda error: self.complaints.append(f"{self.page.url}: {error}"))
        self.page.on("console", self._hear)
        self.page.on("dialog", lambda dialog: dialog.accept())

    def _hear(self, message: Any) -> None:
        if message.type in ("error", "warning") and not message.text.startswith(_OF_THE_NETWORK):
            self.complaints.append(f"{self.page.url}: {message.text}")

    def open(self, path: str) -> Any:
        """Go there and wait until what changes is told; returns the page, which knows whether it was reloaded since."""
        self.page.goto(path)
        self.page.wait_for_selector('[data-live-indicator][data-live-state="live"]')
        self.page.evaluate("window.neverReloaded = true")
        return self.page

    def assert_not_reloaded(self) -> None:
        """What is on screen came by itself."""
        assert self.page.evaluate("window.neverReloaded") is True

    def close(self) -> None:
        self.context.close()


def owner_session(browser: Any, stack: Stack) -> Any:
    """The cookies of the stack's owner, who logs in once."""
    if not hasattr(stack, "browser_session"):
        context = browser.new_context(base_url=stack.url)
        log_in(context.new_page(), stack.owner["username"], stack.owner["password"])
        stack.browser_session = context.storage_state()  # type: ignore[attr-defined]
        context.close()
    return stack.browser_session  # type: ignore[attr-defined]


def log_in(page: Any, username: str, password: str) -> None:
    page.goto("/login")
    page.get_by_label("Username or email").fill(username)
    page.get_by_label("Password").fill(password)
    page.get_by_role("button", name="Log in").click()
    page.wait_for_url("**/")


def assert_fresh(change: Callable[[int], None], see: Callable[[int], None]) -> None:
    """Change something and see it, three times; the median must not be stale.

    A machine that is busy with other tests may hold one of them up, and not two.
    """
    taken = []
    for time_round in range(3):
        change(time_round)
        began = time.monotonic()
        see(time_round)
        taken.append(time.monotonic() - began)
    assert sorted(taken)[1] <= FRESH, f"seen after {taken} s"
