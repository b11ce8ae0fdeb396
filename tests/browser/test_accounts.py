"""The first visit and the settings, in a real Chromium against the real stack."""

from collections.abc import Callable, Iterator
from typing import Any

import pytest

from tests.support.stacks import Stack

pytestmark = pytest.mark.browser

PASSWORD = "a good password"


class Tab:
    """A page of the browser that remembers what went wrong in it."""

    def __init__(self, browser: Any, stack: Stack) -> None:
        self.stack = stack
        self.context = browser.new_context(base_url=stack.url)
        self.page = self.context.new_page()
        self.complaints: list[str] = []
        self.page.on("pageerror", lambda error: self.complaints.append(str(error)))
        self.page.on("console", lambda message: self._note(message))

    def _note(self, message: Any) -> None:
        if message.type == "error" and "422" not in message.text:
            self.complaints.append(message.text)


@pytest.fixture
def tab(browser: Any, make_stack: Callable[..., Stack]) -> Iterator[Tab]:
    """A tab on a stack that nobody owns yet; it must not have complained."""
    opened = Tab(browser, make_stack())
    yield opened
    opened.context.close()
    assert opened.complaints == []


def become_owner(tab: Tab) -> None:
    tab.page.goto("/")
    tab.page.get_by_role("link", name="Create the owner").click()
    tab.page.get_by_label("Username").fill("ada")
    tab.page.get_by_label("Password").fill(PASSWORD)
    tab.page.get_by_role("button", name="Create the owner").click()
    tab.page.wait_for_url(f"{tab.stack.url}/")


def log_in(tab: Tab, name: str, password: str = PASSWORD) -> None:
    tab.page.goto("/login")
    tab.page.get_by_label("Username or email").fill(name)
    tab.page.get_by_label("Password").fill(password)
    tab.page.get_by_role("button", name="Log in").click()


def test_a_newcomer_becomes_the_owner_and_stays_signed_in(tab: Tab) -> None:
    become_owner(tab)
    tab.page.reload()
    assert tab.page.get_by_label("Account of ada").is_visible()
    tab.page.get_by_label("Account of ada").click()
    tab.page.get_by_role("button", name="Log out").click()
    tab.page.wait_for_url("**/login**")  # the page notices that its socket was closed, and may be there first
    log_in(tab, "ada")
    tab.page.wait_for_url(f"{tab.stack.url}/")


def test_a_mistake_keeps_what_was_typed_and_says_what_is_wrong(tab: Tab) -> None:
    tab.page.goto("/register")
    tab.page.get_by_label("Username").fill("ada")
    tab.page.get_by_label("Email").fill("nonsense")
    tab.page.get_by_label("Password").fill(PASSWORD)
    tab.page.get_by_role("button", name="Create the owner").click()
    tab.page.get_by_text("This is no email address").wait_for()
    assert tab.page.get_by_label("Username").input_value() == "ada"
    assert tab.page.get_by_label("Email").get_attribute("aria-invalid") == "true"
    assert tab.page.get_by_label("Password").input_value() == ""


def test_a_guest_comes_in_by_invitation_and_is_switched_off(tab: Tab, browser: Any) -> None:
    become_owner(tab)
    tab.page.goto("/settings/users")
    tab.page.get_by_role("button", name="Make a link").click()
    link = tab.page.locator("#invitation code").inner_text()
    guest = browser.new_context().new_page()
    guest.goto(link)
    guest.get_by_label("Username").fill("gus")
    guest.get_by_label("Password").fill(PASSWORD)
    guest.get_by_role("button", name="Register").click()
    guest.wait_for_url(f"{tab.stack.url}/")
    tab.page.goto("/settings/users")
    tab.page.on("dialog", lambda dialog: dialog.accept())
    tab.page.get_by_role("button", name="Switch off").click()
    tab.page.get_by_role("button", name="Switch on").wait_for()
    guest.wait_for_url(f"{tab.stack.url}/login**")  # the open page learns it by itself
    guest.goto(f"{tab.stack.url}/settings")
    assert "/login" in guest.url
    guest.context.close()


def test_a_machines_token_is_made_in_the_settings_and_works(tab: Tab) -> None:
    become_owner(tab)
    tab.page.goto("/settings/tokens")
    tab.page.get_by_label("Name").fill("airflow")
    tab.page.get_by_label("read", exact=True).check()
    tab.page.get_by_role("button", name="Make a token").click()
    token = tab.page.locator("#new-token code").inner_text()
    assert tab.stack.request("GET", "/api/v1/jobs", token=token)[0] == 200
    tab.page.reload()
    assert token not in tab.page.content()


def test_settings_read_and_work_without_javascript(tab: Tab, browser: Any) -> None:
    become_owner(tab)
    plain = browser.new_context(base_url=tab.stack.url, java_script_enabled=False)
    page = plain.new_page()
    page.goto("/login")
    page.get_by_label("Username or email").fill("ada")
    page.get_by_label("Password").fill(PASSWORD)
    page.get_by_role("button", name="Log in").click()
    page.goto("/settings")
    page.get_by_label("Full name").fill("Ada Lovelace")
    page.get_by_role("button", name="Save").click()
    assert page.get_by_label("Full name").input_value() == "Ada Lovelace"
    plain.close()
