"""The forms of connections: one stream more, one less, without leaving the form; what does not apply is not shown."""

from typing import Any

import pytest

from tests.browser.missions import unique
from tests.browser.screens import Screen

pytestmark = pytest.mark.browser

NEW = "/connections/sources/new?type=rest"


def test_a_stream_comes_and_goes_where_somebody_looks(screen: Screen, expect: Any) -> None:
    page = screen.page
    page.goto(NEW)
    page.evaluate("window.neverReloaded = true")
    page.get_by_label("Name", exact=True).first.fill("Weather")
    page.locator("[id='config.streams.0.name']").fill("stations")
    page.get_by_role("button", name="Add a stream").click()
    second = page.get_by_role("group", name="Stream 2")
    expect(second.get_by_label("Name", exact=True)).to_be_in_viewport()
    second.get_by_label("Name", exact=True).fill("readings")
    second.get_by_label("Pagination").select_option("offset")
    expect(second.locator("[id$='pagination.offset.limit']")).to_be_visible()
    expect(page.locator("[id='config.streams.0.name']")).to_have_value("stations")
    page.get_by_role("group", name="Stream 1").get_by_role("button", name="Remove this stream").click()
    expect(page.locator(".items > fieldset")).to_have_count(1)
    expect(page.locator("[id='config.streams.0.name']")).to_have_value("readings")
    expect(page.locator("[id='config.streams.0.pagination']")).to_have_value("offset")
    expect(page.get_by_label("Name", exact=True).first).to_have_value("Weather")
    screen.assert_not_reloaded()


def test_enter_in_a_field_saves_and_removes_nothing(screen: Screen, expect: Any) -> None:
    page, name = screen.page, unique("Weather")
    page.goto(NEW)
    page.get_by_label("Name", exact=True).first.fill(name)
    page.locator("[id='config.base_url']").fill("http://127.0.0.1:9")
    page.locator("[id='config.streams.0.name']").fill("stations")
    page.locator("[id='config.streams.0.name']").press("Enter")
    page.wait_for_url("**/connections/*fresh*")
    expect(page.locator("h1")).to_have_text(name)


def test_only_the_fields_of_the_chosen_catalog_are_shown(screen: Screen, expect: Any) -> None:
    page = screen.page
    page.goto("/connections/destinations/new?type=iceberg")
    jdbc, rest = (page.locator(f"[id='config.writer.{name}']") for name in ("jdbc_url", "rest_catalog_url"))
    expect(jdbc).to_be_visible()
    expect(rest).to_be_hidden()
    page.locator("[id='config.writer.catalog_type']").select_option("rest")
    expect(rest).to_be_visible()
    expect(jdbc).to_be_hidden()


def test_the_machines_page_and_the_menu_lead_to_the_documentation_of_the_api(screen: Screen, expect: Any) -> None:
    page = screen.page
    page.goto("/settings/tokens")
    page.get_by_role("main").get_by_role("link", name="the JSON API").click()
    expect(page.locator("h1")).to_have_text("The JSON API")
    page.locator("details.menu summary").click()
    expect(page.get_by_role("link", name="JSON API", exact=True)).to_have_attribute("href", "/api/docs")
