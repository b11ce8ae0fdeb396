"""The pages of sources and destinations, as a browser without JavaScript uses them."""

import re
import sqlite3
import time
from collections.abc import Callable
from html import unescape
from pathlib import Path

import sqlalchemy as sa

from tests.support.people import Browser, Person
from webapp.config import Settings
from webapp.connections.models import Connection, ConnectionStatus
from webapp.db import db
from webapp.secrets import MASK

MYSQL = {
    "name": "Shop",
    "config.host": "db.example",
    "config.port": "3306",
    "config.username": "reader",
    "config.password": "a-planted-secret",
    "config.ssl.mode": "require",
    "config.max_threads": "4",
}


def errors_of(page: str) -> dict[str, str]:
    """The messages of a form by the name of their field."""
    found = re.findall(r'<span class="error" id="([^"]+)-error">(?:<svg.*?</svg>)?([^<]+)</span>', page, re.S)
    return {name: unescape(message).strip() for name, message in found}


def make_source(bob: Person, form: dict[str, str] = MYSQL, type_: str = "mysql") -> str:
    """Fill the form in; returns the address of the connection's page."""
    answer = bob.browser().post(f"/connections/sources/new?type={type_}", form)
    assert answer.status_code == 303, errors_of(answer.text)
    return str(answer.location).split("?")[0]


def stored(look: Callable, name: str = "Shop") -> dict[str, object]:
    with look():
        one = db.session.scalars(sa.select(Connection).where(Connection.name == name)).one()
        return {"config": one.config, "type": one.type, "status": one.status, "deleted": one.deleted_at is not None}


def test_a_source_is_made_by_the_form_of_its_connector(bob: Person, look: Callable) -> None:
    page = bob.browser().get(make_source(bob)).text
    assert "MySQL or MariaDB" in page
    assert "a-planted-secret" not in page
    assert stored(look)["config"] == {
        "host": "db.example", "port": 3306, "username": "reader", "password": "a-planted-secret",
        "ssl": {"mode": "require"}, "max_threads": 4,
    }  # fmt: skip


def test_mistakes_stand_beside_their_fields(bob: Person) -> None:
    wrong = {**MYSQL, "config.port": "seventy", "config.host": ""}
    answer = bob.browser().post("/connections/sources/new?type=mysql", wrong)
    assert answer.status_code == 422
    assert set(errors_of(answer.text)) == {"config.port", "config.host"}
    assert 'value="seventy"' in answer.text


def test_a_name_that_is_missing_does_not_hide_what_else_is(bob: Person) -> None:
    answer = bob.browser().post("/connections/sources/new?type=sqlite", {"name": ""})
    assert answer.status_code == 422
    assert set(errors_of(answer.text)) == {"name", "config.path"}


def test_a_secret_that_is_left_alone_is_kept_and_one_for_another_host_is_asked_for_again(
    bob: Person, look: Callable
) -> None:
    place = make_source(bob)
    form = {**MYSQL, "config.password": MASK, "config.max_threads": "2"}
    assert bob.browser().post(f"{place}/edit", form).status_code == 303
    config = stored(look)["config"]
    assert isinstance(config, dict)
    assert (config["password"], config["max_threads"]) == ("a-planted-secret", 2)
    moved = bob.browser().post(f"{place}/edit", {**form, "config.host": "elsewhere.example"})
    assert moved.status_code == 422
    assert "Type the secret again" in errors_of(moved.text)["config.password"]


def test_a_name_is_taken_once(bob: Person) -> None:
    make_source(bob)
    answer = bob.browser().post("/connections/sources/new?type=mysql", MYSQL)
    assert answer.status_code == 422
    assert "already" in errors_of(answer.text)["name"]


def test_a_source_is_tested_discovered_and_looked_into(bob: Person, look: Callable, settings: Settings) -> None:
    settings.data_folder.mkdir(parents=True, exist_ok=True)
    make_shop(settings.data_folder / "shop.db")
    place = make_source(bob, {"name": "Shop", "config.path": "shop.db"}, "sqlite")
    browser = bob.browser()
    assert browser.post(f"{place}/test").status_code == 303
    assert stored(look)["status"] is ConnectionStatus.WORKS
    assert browser.post(f"{place}/discover").status_code == 303
    assert "orders" in wait_for(browser, f"{place}/streams", "1 found")
    rows = browser.get(f"{place}/rows?namespace=main&name=orders").text
    assert "Ada &amp; co" in rows


def test_a_test_that_fails_says_where_and_what_helps(bob: Person, look: Callable) -> None:
    place = make_source(bob, {"name": "Shop", "config.path": "nowhere.db"}, "sqlite")
    page = bob.browser().post(f"{place}/test", htmx=True).text
    assert "tone-bad" in page
    assert stored(look)["status"] is ConnectionStatus.FAILS


def test_a_destination_goes_away_and_its_name_is_free_again(bob: Person, look: Callable) -> None:
    form = {"name": "Lake", "config.path": "lake.duckdb"}
    place = bob.browser().post("/connections/destinations/new?type=duckdb", form).location.split("?")[0]
    assert "No job uses it" in bob.browser().get(f"{place}/delete").text
    assert bob.browser().post(f"{place}/delete").location == "/connections/destinations"
    assert stored(look, "Lake")["deleted"]
    assert bob.browser().post("/connections/destinations/new?type=duckdb", form).status_code == 303


def test_a_reader_sees_and_changes_nothing_and_a_stranger_finds_nothing(
    bob: Person, rita: Person, charlie: Person
) -> None:
    place = make_source(bob)
    assert rita.browser().get(place).status_code == 200
    for verb in ("test", "discover", "edit", "delete"):
        assert rita.browser().post(f"{place}/{verb}", MYSQL).status_code == 403
        assert charlie.browser().post(f"{place}/{verb}", MYSQL).status_code == 404
    assert charlie.browser().get(place).status_code == 404
    assert "Shop" not in charlie.browser().get("/connections/sources").text


def test_a_configuration_is_tested_before_it_is_saved(bob: Person, settings: Settings, look: Callable) -> None:
    make_shop(settings.data_folder / "shop.db")
    where, form = "/connections/sources/new?type=sqlite", {"name": "Shop", "do": "test"}
    works = bob.browser().post(where, {**form, "config.path": "shop.db"})
    fails = bob.browser().post(where, {**form, "config.path": "nothing.db"})
    assert "It works" in works.text
    assert "It does not work yet" in fails.text
    assert 'value="nothing.db"' in fails.text
    with look():
        assert db.session.scalars(sa.select(Connection)).all() == []


def test_lists_pairs_and_variants_are_fields_of_their_own(bob: Person, look: Callable) -> None:
    page = bob.browser().get("/connections/sources/new?type=rest").text
    assert '<option value="none">none</option><option value="api_key">' in page.replace(" selected", "")
    form = {
        "name": "API", "config.base_url": "https://api.example/v1", "config.streams.0.name": "orders",
        "config.auth.type": "bearer", "config.auth.bearer.bearer_token": "a-planted-secret",
        "config.auth.api_key.name": "X-Other", "config.headers": "Accept: application/json\nX-Team: a: b",
    }  # fmt: skip
    wrong = bob.browser().post("/connections/sources/new?type=rest", {**form, "config.headers": "no colon"})
    assert "a colon and a value" in errors_of(wrong.text)["config.headers"]
    missing = bob.browser().post("/connections/sources/new?type=rest", {**form, "config.auth.bearer.bearer_token": ""})
    assert "required" in errors_of(missing.text)["config.auth.bearer.bearer_token"]
    place = make_source(bob, form, "rest")
    with look():
        config = db.session.scalars(sa.select(Connection)).one().config
    assert config["auth"] == {"type": "bearer", "bearer_token": "a-planted-secret"}
    assert config["headers"] == {"Accept": "application/json", "X-Team": "a: b"}
    edited = bob.browser().get(f"{place}/edit").text
    assert '<option value="bearer" selected>' in edited
    assert "Accept: application/json\nX-Team: a: b</textarea>" in edited


def test_fields_of_one_kind_of_storage_are_marked_and_shown_when_they_are_wrong(bob: Person) -> None:
    where = "/connections/sources/new?type=files"
    page = bob.browser().get(where).text
    assert '<div class="field only for-s3 for-gcs"><label for="config.access_key_id"' in page
    assert '<div class="field"><label for="config.path"' in page, "every kind has it"
    wrong = bob.browser().post(where, {"name": "F", "config.path": "a.csv", "config.port": "0"}).text
    assert "config.port" in errors_of(wrong)
    assert '<div class="field"><label for="config.port"' in wrong, "a mistake is never hidden"


def test_the_clouds_of_a_parquet_destination_are_folded_away_until_one_is_used(bob: Person) -> None:
    clouds = {
        "s3": "Amazon S3, or a store that speaks S3",
        "gcs": "Google Cloud Storage",
        "azure": "Azure Blob Storage",
    }
    page = bob.browser().get("/connections/destinations/new?type=parquet").text
    for name in clouds.values():
        assert f'<details class="more"><summary>{name}</summary>' in page
    sent = {"name": "Lake", "config.writer.gcs_bucket": "a", "config.writer.s3_bucket": "b"}
    again = bob.browser().post("/connections/destinations/new?type=parquet", sent)
    assert again.status_code == 422
    assert f'<details class="more" open><summary>{clouds["gcs"]}</summary>' in again.text
    assert f'<details class="more"><summary>{clouds["azure"]}</summary>' in again.text


def make_shop(path: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    with sqlite3.connect(path) as connection:
        connection.execute("CREATE TABLE orders (id INTEGER PRIMARY KEY, customer TEXT)")
        connection.execute("INSERT INTO orders VALUES (1, 'Ada & co')")
    connection.close()


def wait_for(browser: Browser, path: str, text: str) -> str:
    """The page, once it says this."""
    end = time.monotonic() + 20
    while time.monotonic() < end:
        page = browser.get(path).text
        if text in page:
            return page
        time.sleep(0.1)
    raise AssertionError(f"{path} never said {text!r}")
