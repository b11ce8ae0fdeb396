"""How often the application talks to PostgreSQL, and what its statements see of transactions."""

import uuid
from collections.abc import Iterator

import psycopg2
import pytest
import sqlalchemy as sa
from flask import Flask
from sqlalchemy.exc import IntegrityError, OperationalError

from tests import factories
from tests.support.databases import Databases
from webapp import db as database
from webapp.dates import utcnow
from webapp.db import db, reading, unit_of_work
from webapp.rockets.models import Rocket, RocketHistory
from webapp.rockets.states import RocketState


@pytest.fixture(autouse=True)
def on_postgresql(databases: Databases) -> None:
    if databases.kind != "postgresql":
        pytest.skip("PostgreSQL only: SQLite is in our own process")


@pytest.fixture
def watcher(app: Flask) -> Iterator[psycopg2.extensions.cursor]:
    """Somebody else who looks at the same database."""
    url = app.extensions["settings"].database_url
    connection = psycopg2.connect(url)
    connection.autocommit = True
    with connection.cursor() as cursor:
        yield cursor
    connection.close()


def own_backend() -> int:
    return int(db.session.execute(sa.select(sa.func.pg_backend_pid())).scalar_one())


def state_of(watcher: psycopg2.extensions.cursor, backend: int) -> tuple[str, str]:
    """What the server says of a connection: its state, and the text that came last."""
    watcher.execute("SELECT state, query FROM pg_stat_activity WHERE pid = %s", (backend,))
    state, query = watcher.fetchone() or ("gone", "")
    return state, query


def test_who_only_looks_holds_no_transaction_open(app: Flask, watcher: psycopg2.extensions.cursor) -> None:
    with app.app_context(), reading():
        backend = own_backend()
        assert state_of(watcher, backend)[0] == "idle"


def test_who_looks_and_locks_is_in_a_transaction(app: Flask, watcher: psycopg2.extensions.cursor) -> None:
    with app.app_context():
        with unit_of_work():
            factories.make_rocket()
        with reading():
            db.session.scalars(sa.select(Rocket).with_for_update()).all()
            assert state_of(watcher, own_backend())[0] == "idle in transaction"
        with reading():
            assert state_of(watcher, own_backend())[0] == "idle"


def test_begin_travels_with_the_first_statement_and_commit_with_the_last(
    app: Flask, watcher: psycopg2.extensions.cursor
) -> None:
    with app.app_context():
        with unit_of_work():
            backend = own_backend()
            state, query = state_of(watcher, backend)
            assert state == "idle in transaction"
            assert query.startswith("BEGIN; SELECT")
            database.wake_at_commit("events")
        state, query = state_of(watcher, backend)
        assert state == "idle"
        assert query.endswith("; COMMIT")


def test_others_see_a_unit_of_work_when_it_ends_and_not_before(app: Flask, watcher: psycopg2.extensions.cursor) -> None:
    with app.app_context(), unit_of_work():
        factories.make_rocket()
        db.session.flush()
        watcher.execute("SELECT count(*) FROM rocket")
        assert watcher.fetchone() == (0,)
    watcher.execute("SELECT count(*) FROM rocket")
    assert watcher.fetchone() == (1,)


def test_what_fails_at_the_very_end_leaves_nothing_and_the_connection_is_good(app: Flask) -> None:
    with app.app_context():
        with pytest.raises(IntegrityError), unit_of_work():
            factories.make_rocket()
            db.session.flush()
            entry = {"id": uuid.uuid4(), "rocket_id": uuid.uuid4(), "run_id": None, "timestamp": utcnow(),
                     "state": RocketState.READY, "message": "of a rocket that is not there"}  # fmt: skip
            database.insert_at_commit(RocketHistory, entry)
        with unit_of_work():
            assert db.session.scalars(sa.select(Rocket)).all() == []


def test_a_cursor_of_the_server_brings_all_rows_in_batches(app: Flask) -> None:
    many = sa.select(sa.func.generate_series(1, 1000)).execution_options(yield_per=10)
    with app.app_context():
        for means_to_write in (False, True):
            with database.intent(write=means_to_write):
                assert list(db.session.scalars(many)) == list(range(1, 1001))
                first = db.session.scalars(many)
                assert next(iter(first)) == 1
                first.close()
            database.abandon(db.session())


def test_a_connection_with_a_level_of_its_own_is_as_before_afterwards(
    app: Flask, watcher: psycopg2.extensions.cursor
) -> None:
    with app.app_context():
        with unit_of_work():
            factories.make_rocket()
        count = sa.select(sa.func.count()).select_from(Rocket)
        with db.engine.connect().execution_options(isolation_level="REPEATABLE READ") as connection:
            assert connection.scalar(count) == 1
            watcher.execute("DELETE FROM rocket")
            assert connection.scalar(count) == 1, "it sees one instant"
            backend = connection.scalar(sa.select(sa.func.pg_backend_pid()))
        with db.engine.connect() as connection:
            assert connection.scalar(sa.select(sa.func.pg_backend_pid())) == backend
            assert connection.scalar(count) == 0
            assert state_of(watcher, backend)[0] == "idle"


def test_a_connection_that_was_cut_is_noticed_and_replaced(app: Flask, watcher: psycopg2.extensions.cursor) -> None:
    with app.app_context():
        with reading():
            backend = own_backend()
        watcher.execute("SELECT pg_terminate_backend(%s)", (backend,))
        with pytest.raises(OperationalError), unit_of_work():
            own_backend()
        with unit_of_work():
            assert own_backend() != backend
