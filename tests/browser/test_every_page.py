"""Every page: in both themes without a complaint of the browser, on a phone, and without JavaScript."""

import sqlite3
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import pytest
from flask import Flask

from tests import factories
from tests.browser.missions import add_csv_job, add_job, call, csv_task, fly, unique
from tests.browser.screens import PHONE, Screen, log_in
from tests.jobs.syncs import document, job_body, make_source, stream
from tests.support.stacks import Stack
from webapp.policy import POLICY

pytestmark = pytest.mark.browser

LONG = "Telemetry_of_all_probes_beyond_the_asteroid_belt_with_a_name_that_never_ends"
ROOMS = {
    "rockets",
    "accounts",
    "connections",
    "jobs",
    "syncs",
    "external",
    "runs",
    "webhooks",
    "portability",
    "openapi",
}
#: What these rooms answer to GET that is no page: parts of pages, and a download.
NO_PAGES = {"rockets.show_crew", "runs.show_waits", "jobs.preview_schedule", "runs.download_log",
            "webhooks.show_deliveries", "webhooks.show_of_job", "connections.streams", "connections.index",
            "portability.download", "openapi.document"}  # fmt: skip
#: Inside the page scrolls what is as wide as its data: samples of rows, the Gantt, tables of the API's fields.
MAY_SCROLL = ".sample, .gantt, .api-fields, .api-example, .log"

LAPTOP = {"width": 1170, "height": 760}
#: What can be seen only by scrolling a part of the page sideways.
CUT_OFF = """(mayScroll) => [...document.querySelectorAll('main .scroll')]
  .filter((part) => !part.querySelector(mayScroll) && part.scrollWidth > part.clientWidth + 1)
  .map((part) => `${part.querySelector('table')?.className} ${part.scrollWidth}`)"""
#: Links inside a picture, columns without a name, fields without a label, parts that scroll and cannot be reached.
OUT_OF_REACH = """() => [
  ...document.querySelectorAll('[role=img] a'),
  ...[...document.querySelectorAll('th')].filter((head) => !head.textContent.trim()),
  ...[...document.querySelectorAll('main :is(input:not([type=hidden]), select, textarea)')]
    .filter((field) => !field.labels.length && !field.ariaLabel && field.checkVisibility()),
  ...[...document.querySelectorAll('main .scroll')].filter((part) =>
    part.scrollWidth > part.clientWidth + 1 && part.tabIndex < 0 && !part.querySelector('a, button, input, summary')),
].map((element) => element.outerHTML.slice(0, 120))"""


@dataclass(frozen=True)
class Exhibits:
    """Something to see on every page."""

    landed: dict[str, Any]
    landing: dict[str, Any]
    loss: dict[str, Any]
    rocket: dict[str, Any]
    sync: dict[str, Any]
    external: dict[str, Any]
    hook: dict[str, Any]
    connections: dict[str, str]

    @property
    def paths(self) -> list[str]:
        """Every page."""
        job, rocket = f"/jobs/{self.landed['id']}", f"/rockets/{self.rocket['id']}"
        hook = f"/settings/webhooks/{self.hook['id']}"
        return [
            *("/", "/?view=compact", "/?view=wall", "/?q=nothing+fits", "/rockets", "/rockets/new"),
            *(rocket, f"{rocket}/delete"),
            *("/jobs", "/jobs?q=nothing+fits", "/jobs/new", job, f"{job}/edit", f"{job}/delete", f"{job}/rows"),
            *("/jobs/external/new", f"/jobs/{self.external['job_id']}", f"/jobs/{self.external['job_id']}/external"),
            f"/runs/{self.external['id']}",
            *("/syncs/new", f"/jobs/{self.sync['job_id']}", f"/syncs/{self.sync['job_id']}/edit"),
            *(f"/runs/{self.sync['id']}", f"/runs/{self.sync['id']}/streams"),
            *("/runs", "/runs?state=failed", f"/runs/{self.landing['id']}", f"/runs/{self.loss['id']}"),
            *("/settings/webhooks", "/settings/webhooks/new", hook, f"{hook}/edit", f"{hook}/delete"),
            *("/settings", "/settings/users", "/settings/tokens", "/settings/project", "/no-such-page", "/api/docs"),
            *self.connection_paths,
        ]

    @property
    def connection_paths(self) -> list[str]:
        """The pages of sources and destinations; the forms with the most fields."""
        source, destination = self.connections["source"], self.connections["destination"]
        return [
            *("/connections/sources", "/connections/destinations", source, f"{source}?q=nothing+fits", destination),
            *(f"{source}/edit", f"{source}/delete", f"{source}/rows?namespace=main&name={LONG}"),
            *("/connections/sources/new?type=rest", "/connections/sources/new?type=files"),
            *("/connections/destinations/new?type=iceberg", "/connections/destinations/new?type=parquet"),
        ]


@pytest.fixture(scope="module")
def exhibits(browser: Any, stack: Stack) -> Exhibits:
    """A landing, a loss and a flight, with names that are hard to lay out."""
    admit(stack)
    landed = add_csv_job(stack, name=LONG)
    lost = add_job(stack, csv_task(f"{LONG}/{LONG}.csv", LONG), name=LONG, schedule="0 9 * * 1-5")
    flight = {"source": unique(LONG), "destination": "Mars", "estimated_time": 600}
    rocket = call(stack, "POST", "/api/v1/job", flight)
    landing, loss, sync = fly(stack, landed), fly(stack, lost), fly_sync(stack)
    return Exhibits(
        landed, landing, loss, rocket, sync, report(stack), make_hook(stack), look_at_ends(browser, stack, sync)
    )


def fly_sync(stack: Stack) -> dict[str, Any]:
    """The second run of a sync, so that its parachute is packed; its name and its table's are hard to lay out."""
    name = unique(LONG)
    file = make_source(stack.home / "data" / f"{name}.db")
    with sqlite3.connect(stack.home / "data" / file) as connection:
        connection.execute(f"ALTER TABLE probes RENAME TO {LONG}")
    connection.close()
    body = job_body(name, file=file, streams=document(stream(LONG)))
    ends = {role: unique(LONG) for role in ("source", "destination")}
    for role in ends:
        body[role]["name"] = ends[role]
    call(stack, "POST", "/api/v1/project/123/jobs", body)
    job = next(one for one in call(stack, "GET", "/api/v1/jobs") if one["job_name"] == name)
    fly(stack, job)
    return {**fly(stack, job), "job_id": job["id"], **ends}


def admit(stack: Stack) -> None:
    """Somebody besides the owner, and a machine, with names that are hard to lay out."""
    person = {"username": LONG[:60], "email": f"{LONG[:50]}@example.org", "password": "a good password"}
    call(stack, "POST", "/api/v1/register", person)
    call(stack, "POST", "/api/v1/service-tokens", {"name": LONG, "role": "operator", "scopes": ["read", "jobs:write"]})


def look_at_ends(browser: Any, stack: Stack, sync: dict[str, Any]) -> dict[str, str]:
    """The addresses of the source and the destination of the sync, by role; the source's streams are found."""
    screen, found = Screen(browser, stack), {}
    for role in ("destination", "source"):
        screen.page.goto(f"/connections/{role}s")
        found[role] = screen.page.get_by_role("link", name=sync[role]).get_attribute("href")
    screen.page.goto(found["source"])
    screen.page.get_by_role("button", name="Discover", exact=True).click()
    screen.page.locator("table.found-streams").wait_for()
    screen.close()
    return found


def make_hook(stack: Stack) -> dict[str, Any]:
    """A webhook with a name that is hard to lay out, where nobody listens; a test is under way."""
    body = {"name": unique(LONG), "url": f"http://127.0.0.1:9/{LONG}", "topics": ["run.no_show"]}
    hook: dict[str, Any] = call(stack, "POST", "/api/v1/webhooks", body)
    call(stack, "POST", f"/api/v1/webhooks/{hook['id']}/test")
    return hook


def report(stack: Stack) -> dict[str, Any]:
    """A run of a job that something else runs, with a name that is hard to lay out."""
    job = call(stack, "POST", "/api/jobs/", {"name": unique(LONG)})
    for word in ("RUNNING", "FAILED", "PENDING", "RUNNING"):
        call(stack, "POST", "/api/jobstatuses/", {"job": job["id"], "status_type": word})
    found = next(one for one in call(stack, "GET", "/api/v1/jobs") if one["job_name"] == job["name"])
    run: dict[str, Any] = call(stack, "GET", f"/api/v1/jobs/{found['id']}/runs")[-1]
    return run


def test_every_page_is_in_the_list(app: Flask, exhibits: Exhibits) -> None:
    addresses = app.url_map.bind("localhost")
    listed = {addresses.match(path.partition("?")[0])[0] for path in exhibits.paths if path != "/no-such-page"}
    shown = {rule.endpoint for rule in app.url_map.iter_rules() if "GET" in (rule.methods or ())}
    pages = {name for name in shown & POLICY.keys() if name.partition(".")[0] in ROOMS} - NO_PAGES
    assert pages - listed == {"accounts.login", "accounts.register"}


@pytest.mark.parametrize("scheme", ["dark", "light"])
def test_no_page_makes_the_browser_complain(
    scheme: str, open_screen: Callable[..., Screen], exhibits: Exhibits, expect: Any
) -> None:
    for options, paths in (({}, exhibits.paths), ({"signed_in": False}, ["/login", "/register"])):
        screen = open_screen(color_scheme=scheme, **options)
        for path in paths:
            screen.page.goto(path)
            expect(screen.page.locator("h1")).to_be_visible()
            assert screen.page.evaluate("document.documentElement.lang") == "en"


def test_no_page_scrolls_sideways_on_a_phone(
    open_screen: Callable[..., Screen], exhibits: Exhibits, expect: Any
) -> None:
    screen = open_screen(viewport=PHONE, has_touch=True, is_mobile=True)
    too_wide = {}
    for path in exhibits.paths:
        screen.page.goto(path)
        expect(screen.page.get_by_role("navigation", name="Rooms").get_by_role("link")).to_have_count(5)
        width = screen.page.evaluate("document.documentElement.scrollWidth")
        if width > PHONE["width"]:
            too_wide[path] = width
    assert too_wide == {}


@pytest.mark.parametrize("options", [{"viewport": PHONE, "has_touch": True, "is_mobile": True}, {"viewport": LAPTOP}])
def test_lists_fit_whatever_the_names_in_them(
    options: dict[str, Any], open_screen: Callable[..., Screen], exhibits: Exhibits, expect: Any
) -> None:
    screen, cut = open_screen(**options), {}
    for path in exhibits.paths:
        screen.page.goto(path)
        expect(screen.page.locator("h1")).to_be_visible()
        if found := screen.page.evaluate(CUT_OFF, MAY_SCROLL):
            cut[path] = found
    assert cut == {}


def test_no_page_hides_a_verb_from_who_reads_by_ear_or_by_keyboard(
    open_screen: Callable[..., Screen], exhibits: Exhibits, expect: Any
) -> None:
    page, hidden = open_screen(viewport=PHONE).page, {}
    for path in exhibits.paths:
        page.goto(path)
        expect(page.locator("h1")).to_be_visible()
        if found := page.evaluate(OUT_OF_REACH):
            hidden[path] = found
    assert hidden == {}


def test_the_rooms_are_reached_on_a_phone(open_screen: Callable[..., Screen], expect: Any) -> None:
    page = open_screen(viewport=PHONE, has_touch=True, is_mobile=True).page
    page.goto("/")
    for room in ("Jobs", "Runs", "Settings", "Board"):
        link = page.get_by_role("navigation", name="Rooms").get_by_role("link", name=room)
        box = link.bounding_box()
        assert box["x"] >= 0
        assert box["x"] + box["width"] <= PHONE["width"]
        assert box["height"] >= 40, "too small for a thumb"
        link.tap()
        expect(page.locator("h1")).to_contain_text(room)
        page.wait_for_load_state()  # its style is there, too


@pytest.fixture
def plain(open_screen: Callable[..., Screen]) -> Iterator[Any]:
    """A page in a browser that runs no scripts; nobody is signed in."""
    return open_screen(signed_in=False, java_script_enabled=False).page


def test_pages_read_without_javascript(stack: Stack, plain: Any, exhibits: Exhibits, expect: Any) -> None:
    log_in(plain, stack.owner["username"], stack.owner["password"])
    name = exhibits.landed["job_name"]
    expect(plain.locator("#col-Landed_On_Mars article", has_text=name)).to_be_visible()
    expect(plain.locator("#col-RUD article", has_text="failing since")).not_to_have_count(0)
    expect(plain.locator("[data-live-indicator]")).to_be_hidden()
    plain.goto("/jobs")
    expect(plain.locator("tr", has_text=name)).to_contain_text("Landed")
    plain.goto(f"/runs/{exhibits.landing['id']}")
    expect(plain.locator("#run-now")).to_contain_text("30 rows are in place")
    expect(plain.locator("#log")).to_contain_text("30 rows read")
    plain.goto(f"/runs/{exhibits.loss['id']}")
    expect(plain.locator(".reason")).to_contain_text("is not there")
    plain.locator("details.menu summary").click()
    plain.get_by_role("button", name="Log out").click()
    plain.wait_for_url("**/login")


def test_a_job_is_made_run_and_changed_without_javascript(stack: Stack, plain: Any, expect: Any) -> None:
    log_in(plain, stack.owner["username"], stack.owner["password"])
    name = unique("Plain").replace(" ", "_")
    factories.write_csv(stack.home / "data" / f"{name}.csv", rows=5)
    plain.goto("/jobs/new")
    plain.get_by_label("Name", exact=True).fill(name)
    plain.get_by_label("From", exact=True).select_option("parquet")
    plain.get_by_role("button", name="Show the fields of this type").click()
    expect(plain.get_by_text("Reads one or many Parquet files")).to_be_visible()
    plain.get_by_label("From", exact=True).select_option("csv")
    plain.get_by_role("button", name="Show the fields of this type").click()
    plain.get_by_label("Path", exact=True).fill(f"{name}.csv")
    plain.get_by_label("Table", exact=True).fill(name)
    plain.get_by_role("button", name="Make the job").click()
    expect(plain.locator("main")).to_contain_text("something below needs a look")
    plain.get_by_label("Database file", exact=True).fill("plain.duckdb")
    plain.get_by_role("button", name="Make the job").click()
    expect(plain.locator("h1")).to_have_text(name)
    plain.get_by_role("button", name="Run now").click()
    run = str(plain.url)
    stack.wait_for(lambda: plain.goto(run) and plain.locator("#run-now[data-state=succeeded]").count(), seconds=30)
    expect(plain.locator("#log")).to_contain_text("5 rows read")
    plain.get_by_role("link", name=name, exact=True).click()
    plain.get_by_role("button", name="Switch off").click()
    expect(plain.locator("#job-now")).to_contain_text("switched off")
