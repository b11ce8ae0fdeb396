"""The sample mission: there from the first moment, real, and gone without a trace."""

import csv
import time
from collections.abc import Callable
from pathlib import Path

import duckdb
import pytest
import sqlalchemy as sa
from flask import Flask

from tests import factories
from tests.support.people import Browser, Cast, Person, as_person
from webapp import events
from webapp.accounts import operations as accounts
from webapp.accounts.models import User
from webapp.accounts.operations import Newcomer
from webapp.config import Settings
from webapp.db import db
from webapp.engine.context import Context, Silence
from webapp.engine.tasks import run_task
from webapp.errors import Conflict
from webapp.jobs import sample
from webapp.jobs.models import Job
from webapp.runs.states import RunState


@pytest.fixture
def owner(app: Flask, work: Callable, look: Callable) -> Person:
    """Somebody who has just made the first account."""
    with work():
        accounts.register_user(Newcomer("olga", factories.PASSWORD, from_loopback=True))
    with look():
        return as_person(app, db.session.scalars(sa.select(User)).one())


@pytest.fixture
def file(settings: Settings) -> Path:
    return settings.data_folder / sample.FILE


@pytest.fixture
def database(settings: Settings) -> Path:
    return settings.data_folder / sample.DATABASE


def fly(settings: Settings) -> int:
    """Load the sample as a run would; returns how many rows its table has."""
    context = Context(
        data_root=settings.data_folder,
        allowed_roots=(),
        warehouse=settings.warehouse,
        temp=settings.hohmann_home / "tmp",
        reporter=Silence(),
    )
    loader = {"type": "duckdb", "db_path": sample.DATABASE, "table_name": sample.TABLE}
    return run_task({"type": "csv", "path": sample.FILE}, loader, context).rows_found or 0


def test_the_owner_finds_it_on_the_pad(owner: Person, file: Path, look: Callable) -> None:
    with look():
        job = sample.find_sample(owner.actor)
        assert job is not None
        assert job.name == sample.NAME
    assert file.is_file()
    assert "Launch the sample" in owner.browser().get("/").text


def test_only_the_first_account_brings_it(owner: Person, work: Callable, look: Callable) -> None:
    with work():
        accounts.register_user(Newcomer("second", factories.PASSWORD, from_loopback=True))
    with look():
        assert db.session.scalar(sa.select(sa.func.count()).select_from(Job)) == 1


def test_the_readings_are_the_same_every_time_and_believable(tmp_path: Path) -> None:
    one = sample.write_mars_weather(tmp_path / "a" / "one.csv", rows=2003)
    two = sample.write_mars_weather(tmp_path / "two.csv", rows=2003)
    assert one.read_bytes() == two.read_bytes()
    with one.open() as lines:
        readings = list(csv.DictReader(lines))
    assert [int(reading["reading_id"]) for reading in readings] == list(range(1, 2004))
    assert all(-130 < float(reading["air_temp_c"]) < 10 for reading in readings)
    for column in ("ground_temp_c", "wind_m_s", "sky", "remark"):
        silent = sum(reading[column] == "" for reading in readings)
        assert 0 < silent < len(readings), column


def test_making_it_is_quick(tmp_path: Path) -> None:
    took = []
    for _ in range(3):
        began = time.process_time()
        sample.write_mars_weather(tmp_path / "weather.csv")
        took.append(time.process_time() - began)
    assert min(took) < 0.4  # 0.1 on an idle machine


def test_its_rows_land_with_their_types(owner: Person, settings: Settings, database: Path) -> None:
    assert fly(settings) == sample.ROWS
    with duckdb.connect(str(database), read_only=True) as connection:
        described = connection.execute(f"DESCRIBE {sample.TABLE}").fetchall()
    types = {name: kind for name, kind, *_ in described}
    assert types["measured_at"] == "TIMESTAMP"
    assert {types["air_temp_c"], types["wind_m_s"], types["pressure_pa"]} == {"DOUBLE"}
    assert types["sky"] == "VARCHAR"


def test_one_click_removes_job_file_and_table(owner: Person, settings: Settings, file: Path, database: Path) -> None:
    fly(settings)
    browser = owner.browser()
    answer = browser.post("/sample/remove")
    assert (answer.status_code, answer.location) == (303, "/")
    assert not file.exists()
    assert not file.parent.exists()
    assert not database.exists()
    page = browser.get("/").text
    assert "Launch the sample" not in page
    assert "is gone" in page


def test_its_rocket_leaves_every_open_board_once(owner: Person, look: Callable) -> None:
    owner.browser().post("/sample/remove")
    with look():
        kinds = [event.kind for event in events.events_after(0)]
    assert kinds.count("rocket.deleted") == 1
    assert kinds.count("job.deleted") == 1


def test_what_others_keep_in_its_database_stays(owner: Person, settings: Settings, database: Path) -> None:
    fly(settings)
    with duckdb.connect(str(database)) as connection:
        connection.execute("CREATE TABLE mine AS SELECT 1 AS one")
    assert owner.browser().post("/sample/remove").status_code == 303
    with duckdb.connect(str(database), read_only=True) as connection:
        assert connection.execute("SELECT table_name FROM duckdb_tables()").fetchall() == [("mine",)]


def test_removing_it_before_its_first_flight_works(owner: Person, file: Path) -> None:
    assert owner.browser().post("/sample/remove").status_code == 303
    assert not file.exists()


def test_removing_it_twice_says_so(owner: Person) -> None:
    browser = owner.browser()
    browser.post("/sample/remove")
    assert browser.post("/sample/remove").status_code == 404


def test_it_is_not_removed_under_its_own_flight(owner: Person, file: Path, work: Callable, look: Callable) -> None:
    with work():
        factories.make_run(db.session.scalars(sa.select(Job)).one(), state=RunState.RUNNING)
    with look(), pytest.raises(Conflict):
        sample.remove_sample(owner.actor)
    assert owner.browser().post("/sample/remove").status_code == 409
    assert file.exists()


def test_a_database_that_is_none_is_left_alone(owner: Person, database: Path, file: Path) -> None:
    database.write_text("this is no database")
    answer = owner.browser().post("/sample/remove")
    assert answer.status_code == 409
    assert "not a DuckDB database" in answer.text
    assert database.read_text() == "this is no database"
    assert file.exists()


def test_a_viewer_and_charlie_cannot_remove_it(people: Cast, work: Callable, app: Flask) -> None:
    with work():
        sample.prepare_sample(db.session.scalars(sa.select(User).where(User.is_owner)).one())
    assert people.rita.browser().post("/sample/remove").status_code == 403
    assert people.charlie.browser().post("/sample/remove").status_code == 404
    assert Browser(app).post("/sample/remove").status_code in (303, 401)
    assert "Launch the sample" in people.bob.browser().get("/").text
