"""What a unit of work writes at its end: rows that it holds locked, and new runs, without a flush."""

import uuid
from collections.abc import Callable
from contextlib import AbstractContextManager, suppress

import pytest
import sqlalchemy as sa
from flask import Flask
from sqlalchemy.orm import Session

from tests import factories
from webapp.db import db, insert_at_commit, unit_of_work, update_at_commit
from webapp.rockets.models import Rocket, RocketHistory
from webapp.rockets.states import RocketState
from webapp.runs import operations as runs
from webapp.runs.models import Run, Trigger

Look = Callable[[], AbstractContextManager[Session]]


@pytest.fixture
def number(app: Flask) -> int:
    """The number of a rocket."""
    with app.app_context(), unit_of_work():
        rocket = factories.make_rocket(location="Earth")
        db.session.flush()
        return rocket.number


def hold(number: int) -> Rocket:
    rocket = db.session.scalars(sa.select(Rocket).where(Rocket.number == number).with_for_update()).one()
    update_at_commit(rocket)
    return rocket


def find(look: Look, number: int) -> Rocket:
    with look() as session:
        rocket = session.get_one(Rocket, number)
        session.expunge(rocket)
        return rocket


def test_a_held_row_is_written_at_the_end_with_its_time_and_its_next_version(
    app: Flask, look: Look, number: int
) -> None:
    before = find(look, number)
    with app.app_context(), unit_of_work():
        rocket = hold(number)
        rocket.location, rocket.estimated_time, rocket.state = "40% of the way, 'quoted'", 7, RocketState.IN_FLIGHT
        entry = {"id": uuid.uuid4(), "rocket_id": rocket.id, "run_id": None, "timestamp": before.created_at,
                 "state": rocket.state, "message": "100% sure"}  # fmt: skip
        insert_at_commit(RocketHistory, entry)
    after = find(look, number)
    assert (after.location, after.estimated_time) == ("40% of the way, 'quoted'", 7)
    assert after.state is RocketState.IN_FLIGHT
    assert after.version == before.version + 1
    assert after.updated_at > before.updated_at
    assert after.destination == before.destination
    with look() as session:
        assert session.scalars(sa.select(RocketHistory.message)).all() == ["100% sure"]


def test_what_something_flushed_before_is_not_written_again(app: Flask, look: Look, number: int) -> None:
    before = find(look, number)
    with app.app_context(), unit_of_work() as session:
        rocket = hold(number)
        rocket.location = "Moon"
        session.flush()
        assert session.scalar(sa.select(Rocket.location)) == "Moon"
    assert find(look, number).version == before.version + 1
    with app.app_context(), unit_of_work() as session:
        rocket = hold(number)
        rocket.location = "Deimos"
        session.flush()
        rocket.estimated_time = 3
    after = find(look, number)
    assert (after.location, after.estimated_time, after.version) == ("Deimos", 3, before.version + 3)


def test_a_held_row_that_did_not_change_keeps_its_version(app: Flask, look: Look, number: int) -> None:
    before = find(look, number)
    with app.app_context(), unit_of_work():
        hold(number).location = "Earth"
    after = find(look, number)
    assert (after.version, after.updated_at) == (before.version, before.updated_at)


def test_a_held_row_that_is_deleted_stays_deleted(app: Flask, look: Look, number: int) -> None:
    with app.app_context(), unit_of_work() as session:
        rocket = hold(number)
        rocket.location = "Phobos"
        session.delete(rocket)
    with look() as session:
        assert session.get(Rocket, number) is None


def test_a_unit_of_work_that_fails_writes_nothing_now_or_later(app: Flask, look: Look, number: int) -> None:
    with app.app_context():
        with suppress(ZeroDivisionError), unit_of_work():
            hold(number).location = "nowhere"
            raise ZeroDivisionError
        with unit_of_work() as session:
            session.execute(sa.select(Rocket.number))
    assert find(look, number).location == "Earth"


def test_a_run_that_is_queued_without_a_flush_is_what_the_table_says(app: Flask, look: Look) -> None:
    with app.app_context(), unit_of_work():
        run = runs.add_run(runs.new_run(factories.make_job(), trigger=Trigger.MANUAL, asked_by="test"))
        said = {column.key: getattr(run, column.key) for column in Run.__table__.columns}
    assert said["number"] is not None
    with look() as session:
        kept = session.scalars(sa.select(Run)).one()
        assert {name: getattr(kept, name) for name in said} == said
