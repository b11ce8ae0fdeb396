"""Statements that go to the driver directly: same rows, same transactions and same errors as by SQLAlchemy's way."""

import uuid
from datetime import timedelta

import pytest
import sqlalchemy as sa
from flask import Flask
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from sqlalchemy.exc import DBAPIError, IntegrityError, OperationalError, ProgrammingError

from tests import factories
from tests.support.databases import Databases
from webapp.dates import utcnow
from webapp.db import db, reading, unit_of_work
from webapp.prepared import Prepared, adopt, table_of
from webapp.rockets.models import Rocket
from webapp.rockets.states import RocketState

ROCKET = table_of(Rocket)
BY_LOCATION = Prepared(sa.select(ROCKET).where(ROCKET.c.location == sa.bindparam("location")))
CHANGE = sa.update(ROCKET).where(ROCKET.c.number == sa.bindparam("row")).values(updated_at=ROCKET.c.updated_at)
MOVE = Prepared(CHANGE.values(location=sa.bindparam("to")))
TAKE = Prepared(CHANGE.values(id=sa.bindparam("other", type_=ROCKET.c.id.type)))
ODD = "100% of %(it)s, 'quoted' \"twice\" \\ $1 :name ?"


def test_rows_are_what_the_session_itself_reads(app: Flask) -> None:
    with app.app_context(), unit_of_work():
        rocket = factories.make_rocket(location="Earth")
        rocket.counting_since = utcnow() - timedelta(days=400)
        db.session.flush()
        [row] = BY_LOCATION.rows(db.session(), {"location": "Earth"})
        db.session.expire_all()
        assert row == db.session.execute(sa.select(ROCKET)).one()
        read = dict(zip(ROCKET.columns.keys(), row, strict=True))
        assert isinstance(read["id"], uuid.UUID)
        assert isinstance(read["state"], RocketState)
        assert read["counting_since"] == rocket.counting_since


@pytest.mark.parametrize("text", [ODD, "", "\N{ROCKET}", "%", "%%s"])
def test_values_arrive_as_they_are(app: Flask, text: str) -> None:
    with app.app_context(), unit_of_work():
        number = _new_rocket()
        MOVE.rows(db.session(), {"row": number, "to": text})
        [row] = BY_LOCATION.rows(db.session(), {"location": text})
        assert row[list(ROCKET.columns.keys()).index("number")] == number
        MOVE.rows(db.session(), {"row": number, "to": "elsewhere"})
        assert BY_LOCATION.rows(db.session(), {"location": text}) == []


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.text(alphabet=st.characters(exclude_characters="\x00", exclude_categories=["Cs"]), max_size=60))
def test_any_text_comes_back(app: Flask, text: str) -> None:
    echo = Prepared(sa.select(sa.type_coerce(sa.bindparam("text", type_=sa.Text) + sa.literal(""), sa.Text)))
    with app.app_context(), reading():
        assert echo.rows(db.session(), {"text": text}) == [(text,)]


def test_what_was_changed_in_the_session_is_seen(app: Flask) -> None:
    with app.app_context(), unit_of_work():
        rocket = factories.make_rocket(location="Earth")
        db.session.flush()
        rocket.location = "Moon"
        assert len(BY_LOCATION.rows(db.session(), {"location": "Moon"})) == 1


def test_it_is_rolled_back_with_its_unit_of_work(app: Flask) -> None:
    with app.app_context():
        with unit_of_work():
            number = _new_rocket()
        with pytest.raises(ZeroDivisionError), unit_of_work():
            MOVE.rows(db.session(), {"row": number, "to": "Mars"})
            raise ZeroDivisionError
        with reading():
            assert BY_LOCATION.rows(db.session(), {"location": "Mars"}) == []


def test_an_error_is_sqlalchemys_and_the_next_unit_of_work_goes_on(app: Flask) -> None:
    with app.app_context():
        with unit_of_work():
            number = _new_rocket()
            other = factories.make_rocket()
            db.session.flush()
            taken = other.id
        for _ in range(2):
            with pytest.raises(IntegrityError), unit_of_work():
                TAKE.rows(db.session(), {"row": number, "other": taken})
        fresh = uuid.uuid4()
        with unit_of_work():
            TAKE.rows(db.session(), {"row": number, "other": fresh})
        with reading():
            assert db.session.get_one(Rocket, number).id == fresh


def test_a_statement_that_the_database_refuses_is_an_error_each_time(app: Flask) -> None:
    wrong = Prepared(sa.select(sa.literal_column("no_such_column")).select_from(ROCKET))
    with app.app_context():
        for _ in range(2):
            with pytest.raises((OperationalError, ProgrammingError)), unit_of_work():
                wrong.rows(db.session(), {})


def test_what_python_would_fill_in_has_to_be_named(app: Flask) -> None:
    forgetful = Prepared(sa.update(ROCKET).where(ROCKET.c.number == 1).values(location=sa.bindparam("to")))
    with app.app_context(), unit_of_work(), pytest.raises(ValueError, match="updated_at"):
        forgetful.rows(db.session(), {"to": "Mars"})


def test_it_is_prepared_again_on_a_new_connection(app: Flask, databases: Databases) -> None:
    with app.app_context():
        for _ in range(2):
            with reading():
                assert BY_LOCATION.rows(db.session(), {"location": "nowhere"}) == []
            db.engine.dispose()


def test_a_connection_that_lost_its_prepared_statements_is_replaced(app: Flask, databases: Databases) -> None:
    if databases.kind != "postgresql":
        pytest.skip("PostgreSQL only: SQLite prepares nothing between calls")
    with app.app_context():
        with unit_of_work():
            assert BY_LOCATION.rows(db.session(), {"location": "nowhere"}) == []
            db.session.execute(sa.text("DEALLOCATE ALL"))
        with pytest.raises(OperationalError), unit_of_work():
            BY_LOCATION.rows(db.session(), {"location": "nowhere"})
        with unit_of_work():
            assert BY_LOCATION.rows(db.session(), {"location": "nowhere"}) == []


def test_a_table_that_was_altered_meanwhile_is_read_by_a_new_connection(app: Flask, databases: Databases) -> None:
    if databases.kind != "postgresql":
        pytest.skip("PostgreSQL only: SQLite prepares nothing between calls")
    find = Prepared(sa.select(ROCKET.c.location).where(ROCKET.c.number == sa.bindparam("number")))
    with app.app_context():
        with unit_of_work():
            number = _new_rocket()
            assert len(find.rows(db.session(), {"number": number})) == 1
        try:
            with unit_of_work():
                db.session.execute(sa.text("ALTER TABLE rocket ALTER location TYPE text"))
            with pytest.raises(DBAPIError), unit_of_work():
                find.rows(db.session(), {"number": number})
            with unit_of_work():
                assert len(find.rows(db.session(), {"number": number})) == 1
        finally:
            with unit_of_work():
                db.session.execute(sa.text("ALTER TABLE rocket ALTER location TYPE varchar(255)"))


def test_an_adopted_row_is_the_sessions_object(app: Flask) -> None:
    with app.app_context():
        with unit_of_work():
            factories.make_rocket(location="Earth")
        with unit_of_work():
            [row] = BY_LOCATION.rows(db.session(), {"location": "Earth"})
            rocket = adopt(db.session(), Rocket, dict(zip(ROCKET.columns.keys(), row, strict=True)))
            assert not db.session.is_modified(rocket)
            assert db.session.get(Rocket, rocket.number) is rocket
            version = rocket.version
            rocket.location = "Moon"
        with unit_of_work():
            known = db.session.scalars(sa.select(Rocket)).one()
            assert (known.location, known.version) == ("Moon", version + 1)
            MOVE.rows(db.session(), {"row": known.number, "to": "Mars"})
            [row] = BY_LOCATION.rows(db.session(), {"location": "Mars"})
            again = adopt(db.session(), Rocket, dict(zip(ROCKET.columns.keys(), row, strict=True)))
            assert again is known
            assert known.location == "Mars"


def _new_rocket() -> int:
    rocket = factories.make_rocket()
    db.session.flush()
    return rocket.number
