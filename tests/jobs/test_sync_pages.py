"""The pages of sync jobs, as a browser without JavaScript uses them."""

import re
import time
import uuid
from collections.abc import Callable
from dataclasses import replace
from html import unescape
from typing import Any

import pytest
import sqlalchemy as sa

from tests.jobs.syncs import make_source
from tests.support.people import Browser, Person
from webapp.accounts.access import Actor
from webapp.config import Settings
from webapp.connections import discovery
from webapp.connections import operations as connections
from webapp.connections.models import DiscoveredStream, Discovery, DiscoveryState
from webapp.dates import utcnow
from webapp.db import db
from webapp.jobs.models import Job
from webapp.jobs.sync.catalog import read_catalog
from webapp.jobs.sync.choices import How, pack, unpack
from webapp.jobs.sync.models import SyncDefinition
from webapp.jobs.sync.plans import Wish, plans_of
from webapp.runs.models import Run, RunStep

COLUMNS = [{"name": "id", "type": "BIGINT", "nullable": False, "native": "INTEGER"}]


@pytest.fixture
def ends(bob: Person, settings: Settings) -> dict[str, str]:
    """A SQLite source and a DuckDB destination, by the words of the form."""
    make_source(settings.data_folder / "probes.db")
    browser = bob.browser()
    places = [
        browser.post("/connections/sources/new?type=sqlite", {"name": "Probes", "config.path": "probes.db"}),
        browser.post("/connections/destinations/new?type=duckdb", {"name": "Lake", "config.path": "lake.duckdb"}),
    ]
    ids = [str(place.location).split("?")[0].rsplit("/", 1)[1] for place in places]
    return {"source": ids[0], "source_shown": ids[0], "destination": ids[1]}


@pytest.fixture
def discovered(bob: Person, ends: dict[str, str]) -> dict[str, str]:
    """The same ends, the source looked through."""
    browser = bob.browser()
    page = browser.post("/syncs/streams", {**ends, "do": "discover"}, htmx=True).text
    end = time.monotonic() + 60
    while "2, found" not in page and time.monotonic() < end:
        time.sleep(0.1)
        page = browser.post("/syncs/streams", ends, htmx=True).text
    assert "probes" in page
    return ends


def row(at: int = 0, name: str = "probes", **how: Any) -> dict[str, Any]:
    """The fields of one chosen stream."""
    fields = {"namespace": "main", "name": name, "on": "1", "mode": "full_refresh", **how}
    return {f"s{at}.{key}": value for key, value in fields.items()}


def make_sync(bob: Person, ends: dict[str, str], *, called: str = "Copy", **more: Any) -> str:
    """Fill the form in; returns the job's id."""
    form = {"name": called, "schedule": "@daily", "is_enabled": "1", "do": "save", **ends, **row(**more)}
    answer = bob.browser().post("/syncs/new", form)
    assert answer.status_code == 303, errors_of(answer.text)
    return str(answer.location).rsplit("/", 1)[1]


def errors_of(page: str) -> dict[str, str]:
    """The messages of a form by the name of their field."""
    found = re.findall(r'<span class="error" id="([^"]+)-error">(?:<svg.*?</svg>)?([^<]+)</span>', page, re.S)
    return {name: unescape(message).strip() for name, message in found}


def field_of(page: str, name: str) -> str:
    """The value of a hidden field."""
    found = re.search(rf'name="{name}" value="([^"]*)"', page)
    assert found, name
    return unescape(found.group(1))


def stored(look: Callable, job_id: str) -> tuple[Any, dict[str, Any]]:
    """The first selected stream of the job, and the job's own facts."""
    with look():
        one = db.session.get_one(SyncDefinition, uuid.UUID(job_id))
        facts = {"name": one.job.name, "schedule": one.job.schedule, "is_enabled": one.job.is_enabled}
        return read_catalog(one.streams).selected, facts


# --- the form ---------------------------------------------------------------------------------------------------------


def test_a_sync_is_made_from_name_source_destination_streams_and_schedule(
    bob: Person, discovered: dict[str, str], look: Callable
) -> None:
    how = {"mode": "upsert", "cursor": "seen", "filter": "id > 1", "table": "craft"}
    job_id = make_sync(bob, discovered, **how)
    selected, facts = stored(look, job_id)
    assert facts == {"name": "Copy", "schedule": "@daily", "is_enabled": True}
    [(described, selection)] = selected
    assert (described.sync_mode, described.cursor_field, described.destination_table) == (
        "incremental",
        "seen",
        "craft",
    )
    assert (selection.filter, selection.append_mode) == ("id > 1", False)
    page = bob.browser().get(f"/jobs/{job_id}").text
    assert "incremental by seen" in page
    assert "Tasks" not in page


def test_the_address_may_name_the_ends(bob: Person, discovered: dict[str, str]) -> None:
    where = f"/syncs/new?source={discovered['source']}&destination={discovered['destination']}"
    page = bob.browser().get(where).text
    for end in ("source", "destination"):
        assert f'value="{discovered[end]}" selected' in page
    assert f"/connections/{discovered['source']}/rows?namespace=main&amp;name=probes" in page


def test_mistakes_stand_beside_their_fields_and_what_was_typed_is_kept(bob: Person, discovered: dict[str, str]) -> None:
    wrong = {"name": " ", "schedule": "61 * * * *", "do": "save", "source": discovered["source"]}
    answer = bob.browser().post("/syncs/new", wrong)
    assert answer.status_code == 422
    assert set(errors_of(answer.text)) == {"name", "destination", "streams", "schedule"}
    assert 'value="61 * * * *"' in answer.text


@pytest.mark.parametrize(
    ("name", "how", "said"),
    [
        ("notes", {"mode": "upsert"}, "no primary key"),
        ("probes", {"filter": "colour = 1"}, "colour"),
        ("probes", {"mode": "append", "cursor": "nothing"}, "nothing"),
        ("ghost", {}, "discover it again"),
        ("probes", {"mode": "teleport"}, "teleport"),
    ],
)
def test_what_no_run_could_do_is_refused_with_its_stream(
    bob: Person, discovered: dict[str, str], name: str, how: dict[str, str], said: str
) -> None:
    form = {"name": "Copy", "schedule": "@manual", "do": "save", **discovered, **row(0, name, **how)}
    answer = bob.browser().post("/syncs/new", form)
    assert answer.status_code == 422
    assert said in errors_of(answer.text)["streams"]
    assert name in errors_of(answer.text)["streams"]


def test_a_name_is_taken_once(bob: Person, discovered: dict[str, str]) -> None:
    make_sync(bob, discovered)
    answer = bob.browser().post("/syncs/new", {"name": "Copy", "do": "save", **discovered, **row()})
    assert answer.status_code == 422
    assert "already" in errors_of(answer.text)["name"]


def test_choices_that_cannot_be_read_are_a_mistake_and_no_fault(bob: Person, discovered: dict[str, str]) -> None:
    for broken in ("nonsense", "eJw", "eJwDAAAAAAE=", "é"):
        answer = bob.browser().post("/syncs/new", {"name": "Copy", "do": "save", "choices": broken, **discovered})
        assert answer.status_code == 422
        assert "open it again" in errors_of(answer.text)["streams"]


def test_choices_are_packed_and_unpacked() -> None:
    choices = {("", "a"): How(), ("main", "b"): How("append", "id", "id > 1", "t")}
    assert unpack(pack(choices)) == choices
    assert unpack("") == {}


def test_columns_partitions_normalization_and_databases_are_chosen_for_one_stream_at_a_time(
    bob: Person, discovered: dict[str, str], look: Callable
) -> None:
    browser = bob.browser()
    page = browser.post("/syncs/streams", {**discovered, **row(), "do": "open.0"}, htmx=True).text
    assert page.count('.column"') == 3
    settings = {"opened": "1", "columns_shown": "3", "column": ["id", "name"], "database": "archive"}
    settings |= {"partitions": "/{id, bucket[4]}", "sum": ["id"], "count": "always"}
    page = browser.post("/syncs/streams", {**discovered, **row(**settings), "do": "close.0"}, htmx=True).text
    assert (
        "2 of 3 columns · in archive · laid out by /{id, bucket[4]} · sums of id · counted always · not normalized"
        in page
    )
    form = {"name": "Copy", "do": "save", **discovered, "choices": field_of(page, "choices")}
    answer = browser.post("/syncs/new", form)
    assert answer.status_code == 303, errors_of(answer.text)
    job_id = answer.location.rsplit("/", 1)[1]
    [(described, selection)] = stored(look, job_id)[0]
    assert (described.destination_database, list(selection.wanted)) == ("archive", ["id", "name"])
    assert (selection.partition_regex, selection.normalization) == ("/{id, bucket[4]}", False)
    assert (selection.sums, selection.count) == (["id"], "always")
    again = field_of(browser.get(f"/syncs/{job_id}/edit").text, "choices")
    assert unpack(again) == unpack(field_of(page, "choices")) | {
        ("main", "probes"): replace(unpack(again)["main", "probes"], database="")
    }


def test_every_column_or_none_means_all_also_those_that_come_later(
    bob: Person, discovered: dict[str, str], look: Callable
) -> None:
    for at, ticked in enumerate((["id", "name", "seen"], [])):
        ends = {**discovered, "database": f"d{at}"}
        job_id = make_sync(bob, ends, opened="1", columns_shown="3", column=ticked, called=f"Copy {at}")
        assert stored(look, job_id)[0][0][1].wanted == []


def test_helpers_write_conditions_and_partitions(bob: Person, discovered: dict[str, str]) -> None:
    def press(word: str, **fields: str) -> How:
        sent = {**discovered, **row(filter="id > 1", opened="1", partitions="/{id}", **fields), "do": f"{word}.0"}
        return unpack(field_of(bob.browser().post("/syncs/streams", sent, htmx=True).text, "choices"))["main", "probes"]

    name = {"condition_column": "name", "condition_operator": "="}
    assert press("condition", **name, condition_value="Mars").filter == 'id > 1 and name = "Mars"'
    assert press("condition", **name, condition_value="7", condition_join="or").filter == "id > 1 or name = 7"
    assert press("condition", **name, condition_value='a"b').filter == 'id > 1 and name = "a\\"b"'
    assert press("condition", condition_column="last name", condition_value="null").filter.endswith(
        '"last name" = null'
    )
    assert press("partition", partition_column="seen", partition_transform="day").partitions == "/{id}/{seen, day}"
    wide = {"partition_column": "seen", "partition_transform": "bucket", "partition_width": "8"}
    assert press("partition", **wide).partitions == "/{id}/{seen, bucket[8]}"


def test_a_filter_that_cannot_be_read_is_said_beside_it_at_once(bob: Person, discovered: dict[str, str]) -> None:
    sent = {**discovered, **row(filter="id >"), "do": "look"}
    assert "The filter ends where a value should follow" in bob.browser().post("/syncs/streams", sent, htmx=True).text


def test_a_stream_that_is_added_goes_where_the_others_go_also_after_a_new_name(
    bob: Person, discovered: dict[str, str], look: Callable
) -> None:
    job_id = make_sync(bob, discovered)
    browser, where = bob.browser(), f"/syncs/{job_id}/edit"
    assert 'name="database" type="text" value="copy:{namespace}"' in browser.get(where).text
    form = {"name": "Renamed", "schedule": "@daily", "is_enabled": "1", **discovered, **row(), **row(1, "notes")}
    plan = browser.post(where, {**form, "do": "save"}).text
    assert browser.post(where, {**form, "do": "confirm", "digest": field_of(plan, "digest")}).status_code == 303
    assert {described.destination_database for described, _ in stored(look, job_id)[0]} == {"copy:main"}


def test_all_tables_move_to_another_database_together(bob: Person, discovered: dict[str, str], look: Callable) -> None:
    job_id = make_sync(bob, discovered)
    form = {"name": "Copy", "schedule": "@daily", "is_enabled": "1", **discovered, **row(), "database": "archive"}
    plan = bob.browser().post(f"/syncs/{job_id}/edit", {**form, "do": "save"}).text
    assert "main.probes goes to archive.probes, from the start" in plan


def test_time_zone_and_policies_are_set_and_a_change_of_them_is_told(
    bob: Person, discovered: dict[str, str], work: Callable
) -> None:
    policies = {"timezone": "Europe/Berlin", "overlap": "skip", "missed": "all", "max_attempts": "5"}
    form = {"name": "Copy", "schedule": "0 3 * * *", "is_enabled": "1", "do": "save", **discovered, **row()}
    answer = bob.browser().post("/syncs/new", {**form, **policies})
    assert answer.status_code == 303, errors_of(answer.text)
    where = f"/syncs/{answer.location.rsplit('/', 1)[1]}/edit"
    with work():
        job = db.session.scalars(sa.select(Job)).one()
        assert (job.timezone, job.overlap, job.missed, job.max_attempts) == ("Europe/Berlin", "skip", "all", 5)
    plan = bob.browser().post(where, {**form, **policies, "timezone": "Asia/Tokyo", "max_attempts": "2"}).text
    assert "Attempts: 2 instead of 5." in plan
    assert "Asia/Tokyo" in plan
    assert 'name="overlap" value="skip"' in plan
    wrong = bob.browser().post(
        "/syncs/new", {**form, "name": "Other", "timezone": "Mars/Olympus", "max_attempts": "99"}
    )
    assert wrong.status_code == 422
    assert {"timezone", "max_attempts"} <= set(errors_of(wrong.text))


def test_choices_belong_to_their_source(bob: Person, discovered: dict[str, str]) -> None:
    moved = {**discovered, **row(), "source_shown": str(uuid.uuid4()), "choices": pack({("main", "probes"): How()})}
    page = bob.browser().post("/syncs/streams", moved, htmx=True).text
    assert unpack(field_of(page, "choices")) == {}


@pytest.mark.parametrize("where", ["form", "connection"])
def test_what_a_discovery_has_found_is_all_on_the_page_that_says_it_is_done(
    bob: Person, ends: dict[str, str], monkeypatch: pytest.MonkeyPatch, where: str
) -> None:
    """It may end between the two looks of a page: at its state, and at what it has found."""
    look_at = discovery.discovery_of

    def end_and_look(actor: Actor, connection_id: uuid.UUID) -> Any:
        document = {"namespace": "main", "name": "found_last", "columns": COLUMNS, "primary_key": [],
                    "cursor_fields": [], "modes": ["full_refresh"], "rows": 5, "size_bytes": None}  # fmt: skip
        discovery._keep_all(connections.get_connection(actor, connection_id), [document])
        return look_at(actor, connection_id)

    monkeypatch.setattr(discovery, "discovery_of", end_and_look)
    browser, source = bob.browser(), ends["source"]
    if where == "form":
        page = browser.post("/syncs/streams", ends, htmx=True).text
    else:
        page = browser.get(f"/connections/{source}/streams", htmx=True).text
    assert "found_last" in page


# --- thousands of streams ---------------------------------------------------------------------------------------------


@pytest.fixture
def thousands(ends: dict[str, str], work: Callable) -> dict[str, str]:
    """The source was found to hold 6,000 streams."""
    source = uuid.UUID(ends["source"])
    with work():
        now = utcnow()
        found = {"attempt": uuid.uuid4(), "state": DiscoveryState.DONE, "found": 6000}
        db.session.add(Discovery(connection_id=source, started_at=now, seen_at=now, finished_at=now, **found))
        rows = [(at, f"table_{at:04}") for at in range(6000)]
        db.session.execute(
            sa.insert(DiscoveredStream),
            [
                {
                    "connection_id": source,
                    "position": at,
                    "namespace": "shop",
                    "name": name,
                    "document": {
                        "namespace": "shop", "name": name, "columns": COLUMNS, "primary_key": ["id"],
                        "cursor_fields": ["id"], "modes": ["full_refresh", "incremental"], "rows": 5,
                        "size_bytes": None,
                    },
                }
                for at, name in rows
            ],
        )  # fmt: skip
    return ends


def send(browser: Browser, ends: dict[str, str], page: str, **more: str) -> str:
    """Press a button of the part that was shown last."""
    kept = {name: field_of(page, name) for name in ("choices", "page", "q_shown")}
    return browser.post("/syncs/streams", {**ends, "q": kept["q_shown"], **kept, **more}, htmx=True).text


def test_six_thousand_streams_are_chosen_in_bulk_and_choices_on_other_pages_are_kept(
    bob: Person, thousands: dict[str, str], look: Callable
) -> None:
    browser = bob.browser()
    page = browser.post("/syncs/streams", {**thousands, "do": "all"}, htmx=True).text
    assert page.count('<li id="pick-') == 100
    assert len(unpack(field_of(page, "choices"))) == 6000

    changed = {"s0.namespace": "shop", "s0.name": "table_0000", "s0.on": "1", "s0.mode": "append", "s0.cursor": "id"}
    gone = {"s1.namespace": "shop", "s1.name": "table_0001"}
    page = send(browser, thousands, page, do="page.60", **changed, **gone)
    assert "table_5999" in page
    assert "page 60 of 60" in page
    page = send(browser, thousands, page, q="TABLE_0007")
    assert page.count('<li id="pick-') == 1
    page = send(browser, thousands, page, do="mode", bulk_mode="upsert")
    assert unpack(field_of(page, "choices"))["shop", "table_0007"] == How("upsert", "id")
    page = send(browser, thousands, page, do="none")
    choices = unpack(field_of(page, "choices"))
    assert len(choices) == 5998
    assert choices["shop", "table_0000"].mode == "append"

    form = {"name": "All", "schedule": "@manual", "do": "save", "choices": field_of(page, "choices"), **thousands}
    answer = browser.post("/syncs/new", form)
    assert answer.status_code == 303, errors_of(answer.text)
    selected, _ = stored(look, answer.location.rsplit("/", 1)[1])
    assert len(selected) == 5998
    page = browser.get(answer.location).text
    assert "page 1 of 60" in page

    with look():
        plans = plans_of(db.session.get_one(SyncDefinition, uuid.UUID(answer.location.rsplit("/", 1)[1])), Wish())
    assert {column.native for plan in plans for column in plan.columns} == {"INTEGER"}, "each as it was discovered"


@pytest.mark.parametrize("named", ["probes", "ghost"])
def test_a_stranger_learns_nothing_of_what_a_source_holds(
    discovered: dict[str, str], charlie: Person, named: str
) -> None:
    form = {"name": "Copy", "schedule": "@daily", "do": "save", **discovered, **row(name=named, mode="upsert")}
    answer = charlie.browser().post("/syncs/new", form)
    assert answer.status_code == 422
    assert errors_of(answer.text) == {"source": "Source not found"}


def test_a_mode_for_all_reaches_only_streams_that_can_be_moved_so(bob: Person, discovered: dict[str, str]) -> None:
    browser = bob.browser()
    page = browser.post("/syncs/streams", {**discovered, "do": "all"}, htmx=True).text
    found = []
    for mode in ("upsert", "append", "full_refresh", "sideways"):
        page = send(browser, discovered, page, do="mode", bulk_mode=mode)
        choices = unpack(field_of(page, "choices"))
        found.append((choices["main", "probes"], choices["main", "notes"]))
    upsert, append = How("upsert", "id"), How("append", "id")
    assert found == [(upsert, How()), (append, How("append", "text")), (How(), How()), (How(), How())]


# --- editing ----------------------------------------------------------------------------------------------------------


def test_an_edit_is_shown_before_it_is_saved(bob: Person, discovered: dict[str, str], look: Callable) -> None:
    job_id = make_sync(bob, discovered)
    browser = bob.browser()
    assert browser.get(f"/jobs/{job_id}/edit").location == f"/syncs/{job_id}/edit"
    page = browser.get(f"/syncs/{job_id}/edit").text
    assert 'value="Copy"' in page
    assert len(unpack(field_of(page, "choices"))) == 1
    form = {"name": "Copy", "schedule": "@hourly", "is_enabled": "1", **discovered, **row(), **row(1, "notes")}
    plan = browser.post(f"/syncs/{job_id}/edit", {**form, "do": "save"}).text
    assert "main.notes is read from the start" in plan
    assert stored(look, job_id)[1]["schedule"] == "@daily"
    again = {**form, "choices": field_of(plan, "choices"), "digest": field_of(plan, "digest"), "do": "confirm"}
    assert browser.post(f"/syncs/{job_id}/edit", again).status_code == 303
    selected, facts = stored(look, job_id)
    assert facts["schedule"] == "@hourly"
    assert {described.name for described, _ in selected} == {"probes", "notes"}


def test_what_destroys_data_asks_for_the_name_of_the_job(
    bob: Person, discovered: dict[str, str], look: Callable
) -> None:
    job_id = make_sync(bob, discovered, mode="append", cursor="id")
    browser, where = bob.browser(), f"/syncs/{job_id}/edit"
    form = {"name": "Copy", "schedule": "@daily", "is_enabled": "1", **discovered, **row()}
    plan = browser.post(where, {**form, "do": "save"}).text
    assert "destroys data" in plan
    form |= {"do": "confirm", "digest": field_of(plan, "digest")}
    assert browser.post(where, {**form, "job_name": "copie"}).status_code == 422
    assert stored(look, job_id)[0][0][0].sync_mode == "incremental"
    assert browser.post(where, {**form, "job_name": "Copy"}).status_code == 303
    assert stored(look, job_id)[0][0][0].sync_mode == "full_refresh"


def test_a_plan_that_is_stale_is_shown_again(bob: Person, discovered: dict[str, str]) -> None:
    job_id = make_sync(bob, discovered)
    form = {"name": "Copy", "schedule": "@hourly", "is_enabled": "1", **discovered, **row(), "do": "confirm"}
    answer = bob.browser().post(f"/syncs/{job_id}/edit", {**form, "digest": "old"})
    assert answer.status_code == 422
    assert "changed meanwhile" in answer.text


# --- streams of a job and of a run ------------------------------------------------------------------------------------


def test_single_streams_are_run_refreshed_and_reset(bob: Person, discovered: dict[str, str], look: Callable) -> None:
    job_id = make_sync(bob, discovered)
    browser, where = bob.browser(), f"/syncs/{job_id}/streams"
    assert browser.post(where, {"do": "run"}).location == f"/jobs/{job_id}"
    assert browser.post(where, {"do": "reset", "stream": "main.probes"}).location == f"/jobs/{job_id}"
    assert "reset 1 time" in browser.get(f"/jobs/{job_id}").text
    assert browser.post(where, {"do": "run", "stream": "main.ghost"}).location == f"/jobs/{job_id}"
    assert browser.post(where, {"do": "refresh", "stream": "main.probes"}).location.startswith("/runs/")
    with look():
        run = db.session.scalars(sa.select(Run).where(Run.job_id == uuid.UUID(job_id))).one()
        assert [plan["refresh"] for plan in run.spec["sync"]["streams"]] == [True]


def test_the_run_page_has_a_strip_for_each_stream(bob: Person, discovered: dict[str, str], work: Callable) -> None:
    job_id = make_sync(bob, discovered)
    browser = bob.browser()
    where = browser.post(f"/jobs/{job_id}/run").location
    assert "waiting" in browser.get(where).text
    error = {"message": "No such column", "origin": "source", "kind": "configuration", "fix": "Discover it again."}
    receipt = {"stream": "main.probes", "status": "failed", "rows_read": 1234, "seconds": 2.0, "error": error}
    with work():
        run = uuid.UUID(where.rsplit("/", 1)[1])
        facts = {"run_id": run, "attempt": 0, "position": 1, "task": 1, "name": "main.probes", "outcome": "failed"}
        db.session.add(RunStep(**facts, started_at=utcnow(), finished_at=utcnow(), facts={"stream": receipt}))
    page = browser.get(where).text
    for said in ("1,234", "617", "No such column", "Discover it again.", "the source"):
        assert said in page
    assert "main.probes" in browser.get(f"{where}/streams?status=failed").text
    assert "No stream fits" in browser.get(f"{where}/streams?q=ghost").text


# --- rights -----------------------------------------------------------------------------------------------------------


def test_a_reader_changes_nothing_and_a_stranger_finds_nothing(
    bob: Person, rita: Person, charlie: Person, discovered: dict[str, str], look: Callable
) -> None:
    job_id = make_sync(bob, discovered)
    form = {"name": "Other", "schedule": "@hourly", "is_enabled": "1", "do": "save", **discovered, **row()}
    assert rita.browser().post("/syncs/new", form).status_code == 403
    assert rita.browser().get(f"/jobs/{job_id}").status_code == 200
    assert rita.browser().post("/syncs/streams", {**discovered, "do": "discover"}).status_code == 403
    plan = rita.browser().post(f"/syncs/{job_id}/edit", form).text
    confirmed = {**form, "do": "confirm", "digest": field_of(plan, "digest")}
    assert rita.browser().post(f"/syncs/{job_id}/edit", confirmed).status_code == 403
    for verb in ("run", "refresh", "reset"):
        sent = {"do": verb, "stream": "main.probes"}
        assert rita.browser().post(f"/syncs/{job_id}/streams", sent).status_code == 403
        assert charlie.browser().post(f"/syncs/{job_id}/streams", sent).status_code == 404
    assert charlie.browser().get(f"/syncs/{job_id}/edit").status_code == 404
    assert charlie.browser().post("/syncs/new", form).status_code in (404, 422)
    assert "probes" not in charlie.browser().post("/syncs/streams", discovered).text
    with look():
        assert db.session.scalars(sa.select(Job.name)).all() == ["Copy"]


def test_a_content_that_no_run_has_kept_is_not_brought_back(bob: Person, discovered: dict[str, str]) -> None:
    job_id = make_sync(bob, discovered)
    sent = {"stream": "main.probes", "generation": "g1"}
    assert bob.browser().post(f"/syncs/{job_id}/restore", sent).status_code == 404
