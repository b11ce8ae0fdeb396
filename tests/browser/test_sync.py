"""A sync from the form to rows that have landed: a SQLite file becomes tables of a DuckDB file."""

from collections.abc import Callable
from itertools import pairwise
from typing import Any

import pytest

from tests.browser.missions import unique
from tests.browser.screens import Screen
from tests.jobs.syncs import make_source
from tests.support.stacks import Stack

pytestmark = pytest.mark.browser


def connect(page: Any, role: str, type_: str, name: str, path: str) -> None:
    page.goto(f"/connections/{role}s/new?type={type_}")
    page.get_by_label("Name", exact=True).fill(name)
    page.locator("[id='config.path']").fill(path)
    page.get_by_role("button", name="Save and test").click()
    page.wait_for_url("**/connections/*fresh*")


def test_streams_are_chosen_and_land(stack: Stack, screen: Screen, expect: Any) -> None:
    page, name = screen.page, unique("Copy")
    file = f"{name.replace(' ', '_')}.db"
    make_source(stack.home / "data" / file, rows=7)
    connect(page, "source", "sqlite", name, file)
    connect(page, "destination", "duckdb", name, f"{file}.duckdb")

    page.goto("/syncs/new")
    page.get_by_label("Name", exact=True).fill(name)
    page.get_by_label("Source", exact=True).select_option(label=f"{name} · sqlite")
    page.get_by_label("Destination", exact=True).select_option(label=f"{name} · duckdb")
    page.get_by_role("button", name="Discover", exact=True).click()
    page.get_by_role("button", name="All 2").click()
    expect(page.locator(".stream-count strong")).to_have_text("2")
    page.get_by_label("Search the streams").fill("probes")
    expect(page.locator("#sync-streams .streams > li")).to_have_count(1)
    page.get_by_label("Mode", exact=True).select_option("upsert")
    page.get_by_role("button", name="Make the sync").click()

    expect(page.locator("h1")).to_have_text(name)
    expect(page.locator("#job-streams")).to_contain_text("incremental by")
    page.get_by_role("button", name="Run now").click()
    expect(page.locator("#run-now")).to_have_attribute("data-state", "succeeded", timeout=40_000)
    strip = page.locator(".stream-strip", has_text="main.probes")
    expect(strip).to_contain_text("landed")
    expect(strip.locator("dd").first).to_have_text("7")


def assert_laid_out(opened: Any) -> None:
    """The parts of a stream's settings stand below each other, each as wide as the stream; a helper is one line."""
    opened.locator(".further").wait_for()
    parts = [part.bounding_box() for part in opened.locator(".further > :is(div, fieldset)").all()]
    assert all(lower["y"] >= upper["y"] + upper["height"] for upper, lower in pairwise(parts))
    assert len({round(part["x"] + part["width"]) for part in parts}) == 1
    helper = opened.get_by_label("Width of bucket or truncate").locator("..").locator("select, input, button")
    middles = [box["y"] + box["height"] / 2 for box in (one.bounding_box() for one in helper.all())]
    assert max(middles) - min(middles) < 4


def test_further_settings_open_in_place_and_the_page_of_a_job_follows_its_landing(
    stack: Stack, screen: Screen, expect: Any
) -> None:
    page, name = screen.page, unique("Chosen")
    file = f"{name.replace(' ', '_')}.db"
    make_source(stack.home / "data" / file, rows=7)
    connect(page, "source", "sqlite", name, file)
    connect(page, "destination", "duckdb", name, f"{file}.duckdb")
    page.goto("/syncs/new")
    page.get_by_label("Name", exact=True).fill(name)
    page.get_by_label("Source", exact=True).select_option(label=f"{name} · sqlite")
    page.get_by_label("Destination", exact=True).select_option(label=f"{name} · duckdb")
    page.get_by_role("button", name="Discover", exact=True).click()
    page.get_by_label("probes").check()
    page.get_by_role("button", name="More", exact=True).click()
    opened = page.locator("li.opened")
    assert_laid_out(opened)
    opened.get_by_label("seen bigint").uncheck()
    opened.get_by_label("Column of the condition").select_option("id")
    opened.get_by_label("Comparison").select_option("<=")
    opened.get_by_label("Value to compare with").fill("5")
    opened.get_by_role("group", name="Add a condition").get_by_role("button", name="Add").click()
    expect(opened.get_by_label("Only rows where")).to_have_value("id <= 5")
    opened.get_by_role("link", name="see rows").click()
    expect(opened.locator("table.sample tbody tr")).to_have_count(7)
    page.get_by_role("button", name="Less", exact=True).click()
    expect(page.locator(".told")).to_have_text("2 of 3 columns")
    page.get_by_role("button", name="Make the sync").click()

    expect(page.locator("#job-streams")).to_contain_text("not flown yet")
    job = screen.open(page.url)
    stack.request("POST", f"/api/v1{page.url.split(stack.url)[1]}/run", token=stack.owner_token())
    expect(job.locator("#job-streams")).to_contain_text("5 rows written", timeout=40_000)
    screen.assert_not_reloaded()


def test_a_sync_is_made_without_javascript(stack: Stack, open_screen: Callable[..., Screen], expect: Any) -> None:
    page, name = open_screen(java_script_enabled=False).page, unique("Plain")
    file = f"{name.replace(' ', '_')}.db"
    make_source(stack.home / "data" / file)
    connect(page, "source", "sqlite", name, file)
    connect(page, "destination", "duckdb", name, f"{file}.duckdb")

    page.goto("/syncs/new")
    page.get_by_label("Name", exact=True).fill(name)
    page.get_by_label("Source", exact=True).select_option(label=f"{name} · sqlite")
    page.get_by_label("Destination", exact=True).select_option(label=f"{name} · duckdb")
    page.get_by_role("button", name="Show the streams of this source").click()
    page.get_by_role("button", name="Discover", exact=True).click()
    stack.wait_for(lambda: page.get_by_role("button", name="All 2").count() or look_again(page), seconds=30)
    page.get_by_label("probes").check()
    page.get_by_role("button", name="Make the sync").click()
    expect(page.locator("h1")).to_have_text(name)
    expect(page.locator("#job-streams")).to_contain_text("full refresh")


def look_again(page: Any) -> None:
    page.get_by_role("button", name="Show the streams of this source").click()


@pytest.mark.parametrize("scripts", [True, False])
def test_a_source_of_files_shows_the_fields_of_the_chosen_storage(
    open_screen: Callable[..., Screen], expect: Any, scripts: bool
) -> None:
    page = open_screen(java_script_enabled=scripts).page
    page.goto("/connections/sources/new?type=files")
    fields = {
        "local": set(),
        "s3": {"bucket", "access_key_id", "region"},
        "azure": {"bucket", "account_key"},
        "sftp": {"host", "username"},
        "http": {"username", "bearer_token"},
    }
    for storage, shown in fields.items():
        page.get_by_label("Where").select_option(storage)
        expect(page.locator('[id="config.path"]')).to_be_visible()
        for name in set().union(*fields.values()):
            expect(page.locator(f'[id="config.{name}"]')).to_be_visible(visible=name in shown)
