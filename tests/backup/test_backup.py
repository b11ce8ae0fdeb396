"""An instance goes into one file and comes back from it: the same people, jobs, secrets and rows, on both databases."""

import io
import sqlite3
import tarfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import duckdb
import pytest
import zstandard
from flask import Flask

from tests import factories
from tests.support.databases import Databases, SqliteDatabases
from tests.support.people import Person
from webapp import db as database
from webapp import schema
from webapp.accounts.models import User
from webapp.backup import archive
from webapp.backup.archive import back_up, restore, unpack
from webapp.backup.rows import tables
from webapp.config import Settings
from webapp.connections.models import Connection
from webapp.db import db
from webapp.errors import Conflict, Invalid
from webapp.jobs.models import Job

Work = Callable[..., Any]
SOURCE = {
    "name": "shop", "type": "postgres", "version": "v1.0.0",
    "config": {"host": "127.0.0.1", "port": 5999, "database": "shop", "username": "u", "password": "Tr4nsfer-Orbit"},
}  # fmt: skip


def everything(app: Flask) -> dict[str, list[Any]]:
    """All rows of all tables, as the database holds them."""
    with app.app_context(), database.reading() as session:
        return {table.name: sorted(map(repr, session.execute(table.select()).all())) for table in tables()}


@pytest.fixture
def lived_in(alice: Person, bob: Person, work: Work, settings: Settings) -> Person:
    """An instance with people, a rocket, a job with a run, a source with a secret, files and a warehouse."""
    client = alice.app.test_client()
    assert client.post("/api/v1/project/olake/sources", json=SOURCE, headers=alice.headers).status_code == 200
    client.post(
        "/api/v1/job", json={"source": "Erde 🌍", "destination": "Mars", "estimated_time": 9}, headers=alice.headers
    )
    with work():
        factories.make_finished_run(factories.make_job(name="Täglich"))
    settings.data_folder.mkdir(parents=True, exist_ok=True)
    (settings.data_folder / "sales.csv").write_text("a,b\n1,2\n")
    settings.warehouse.parent.mkdir(parents=True, exist_ok=True)
    with duckdb.connect(str(settings.warehouse)) as warehouse:
        warehouse.execute("CREATE TABLE sales AS SELECT range AS n FROM range(1000)")
    return alice


@pytest.fixture
def elsewhere(tmp_path: Path, databases: Databases, settings: Settings) -> Settings:
    """An instance that has nothing yet."""
    home = tmp_path / "elsewhere"
    home.mkdir()
    return replace(settings, hohmann_home=home, database_url=databases.separate())


@contextmanager
def app_of(settings: Settings, make_app: Callable[[Settings], Flask]) -> Iterator[Flask]:
    app = make_app(settings)
    with app.app_context():
        yield app


def bring_back(settings: Settings, file: Path, make_app: Callable[[Settings], Flask]) -> Flask:
    """Restore as the command does, then open the instance anew, as the next start does."""
    with app_of(settings, make_app):
        restore(settings, file)
    return make_app(settings)


def test_what_was_backed_up_is_there_again(
    lived_in: Person, settings: Settings, elsewhere: Settings, make_app: Callable[[Settings], Flask], tmp_path: Path
):
    file = tmp_path / "hohmann.backup"
    with lived_in.app.app_context():
        made = back_up(settings, file, with_data=True)
    before = everything(lived_in.app)
    restored = bring_back(elsewhere, file, make_app)

    assert everything(restored) == before
    assert made.rows["user"] >= 2
    assert (elsewhere.data_folder / "sales.csv").read_text() == "a,b\n1,2\n"
    with duckdb.connect(str(elsewhere.warehouse), read_only=True) as warehouse:
        assert warehouse.execute("SELECT sum(n) FROM sales").fetchone() == (499500,)
    with restored.app_context(), database.reading() as session:
        source = session.query(Connection).one()
        assert source.config["password"] == "Tr4nsfer-Orbit"
        assert session.query(Job).filter(Job.name == "Täglich").count() == 1
        assert schema.is_current()
    client = restored.test_client()
    login = client.post("/api/v1/login", json={"username": "alice", "password": lived_in.password})
    assert login.status_code == 200


def test_new_things_are_numbered_on_from_the_old_ones(
    lived_in: Person, settings: Settings, elsewhere: Settings, make_app: Callable[[Settings], Flask], tmp_path: Path
):
    with lived_in.app.app_context():
        back_up(settings, tmp_path / "b", with_data=False)
    restored = bring_back(elsewhere, tmp_path / "b", make_app)
    with restored.app_context(), database.unit_of_work() as session:
        greatest = max(user.number for user in session.query(User))
        assert factories.make_user("newcomer").number > greatest


@pytest.mark.parametrize("kind", ["sqlite", "the database that is tested"])
def test_a_backup_moves_an_instance_from_one_database_to_the_other(
    kind: str,
    lived_in: Person,
    settings: Settings,
    elsewhere: Settings,
    make_app: Callable[[Settings], Flask],
    tmp_path: Path,
):
    """On PostgreSQL the way to SQLite and back; on SQLite both are SQLite."""
    with lived_in.app.app_context():
        back_up(settings, tmp_path / "first", with_data=False)
    small = replace(elsewhere, hohmann_home=tmp_path / "small", database_url="")
    small.hohmann_home.mkdir()
    app = bring_back(small, tmp_path / "first", make_app)
    if kind != "sqlite":
        with app.app_context():
            back_up(small, tmp_path / "second", with_data=False)
        app = bring_back(elsewhere, tmp_path / "second", make_app)
    with app.app_context(), database.reading() as session:
        assert session.query(User).filter(User.username == "alice").one().is_owner
        assert session.query(Connection).one().config["password"] == "Tr4nsfer-Orbit"


def test_the_file_is_for_its_owner_only_and_holds_no_secret_in_the_clear_but_the_keys(
    lived_in: Person, settings: Settings, tmp_path: Path
):
    file = tmp_path / "b"
    with lived_in.app.app_context():
        back_up(settings, file, with_data=True)
    assert file.stat().st_mode & 0o777 == 0o600
    with zstandard.ZstdDecompressor().stream_reader(io.BytesIO(file.read_bytes())) as packed:
        assert b"Tr4nsfer-Orbit" not in packed.read()


def test_a_file_that_was_cut_or_changed_is_refused_and_nothing_is_written(
    lived_in: Person, settings: Settings, elsewhere: Settings, make_app: Callable[[Settings], Flask], tmp_path: Path
):
    file = tmp_path / "b"
    with lived_in.app.app_context():
        back_up(settings, file, with_data=True)
    whole = file.read_bytes()
    (tmp_path / "cut").write_bytes(whole[: len(whole) // 2])
    folder = tmp_path / "content"
    unpack(file, folder)
    (folder / "tables" / "user.jsonl").write_bytes(b"{}\n")
    with zstandard.open(tmp_path / "changed", "wb") as packed, tarfile.open(fileobj=packed, mode="w|") as tar:
        tar.add(folder, ".")
    (tmp_path / "other").write_bytes(b"no backup at all")

    for name in ("cut", "changed", "other"):
        with app_of(elsewhere, make_app), pytest.raises(Invalid, match=r"no whole backup|is damaged"):
            restore(elsewhere, tmp_path / name)
    assert not list(elsewhere.hohmann_home.glob("data/*"))


def test_an_instance_that_is_in_use_is_not_written_over(lived_in: Person, settings: Settings, tmp_path: Path):
    with lived_in.app.app_context():
        back_up(settings, tmp_path / "b", with_data=False)
        with pytest.raises(Conflict, match="it has users"):
            restore(settings, tmp_path / "b")
        with archive._home_to_itself(settings), pytest.raises(Conflict, match="Stop it first"):
            restore(settings, tmp_path / "b")


def test_a_name_that_is_taken_is_refused(lived_in: Person, settings: Settings, tmp_path: Path):
    (tmp_path / "b").write_text("mine")
    with lived_in.app.app_context(), pytest.raises(Conflict, match="there already"):
        back_up(settings, tmp_path / "b", with_data=False)
    assert (tmp_path / "b").read_text() == "mine"


def test_all_tables_are_of_one_instant_whatever_is_written_meanwhile(
    lived_in: Person, settings: Settings, databases: Databases, work: Work
):
    with lived_in.app.app_context(), archive.one_instant() as connection:
        first = connection.execute(Job.__table__.select()).all()
        if isinstance(databases, SqliteDatabases):
            with sqlite3.connect(settings.hohmann_home / "hohmann.db") as other:
                other.execute("UPDATE job SET name = 'changed'")
        else:
            with db.engine.begin() as other_connection:
                other_connection.exec_driver_sql("UPDATE job SET name = 'changed'")
        assert connection.execute(Job.__table__.select()).all() == first
