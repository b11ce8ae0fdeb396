"""A project goes out into one file and comes in again: nothing is lost but secrets, and nothing changes."""

from collections.abc import Callable
from dataclasses import replace

import pytest
from flask import Flask

from tests.portability.mission import BEARER, PASSWORD, SECRETS, build
from tests.support.databases import Databases
from tests.support.people import Person, make_cast
from webapp import db as database
from webapp import schema
from webapp.config import Settings
from webapp.connections.models import Connection
from webapp.db import db
from webapp.events import latest_id
from webapp.jobs.models import Job, Task
from webapp.portability import operations as portability
from webapp.portability.plan import Verb


@pytest.fixture
def exported(alice: Person, work: Callable, look: Callable) -> bytes:
    """The file of a project with something of everything."""
    with work() as session:
        build(alice.actor, session)
    with look():
        return portability.export_project(alice.actor)


@pytest.fixture
def elsewhere(settings: Settings, databases: Databases, make_app: Callable[[Settings], Flask], tmp_path) -> Flask:
    """Another instance, with an empty database and keys of its own."""
    home = tmp_path / "elsewhere"
    app = make_app(replace(settings, hohmann_home=home, database_url=databases.separate()))
    with app.app_context():
        schema.upgrade()
    return app


def test_the_file_holds_everything_but_secrets(exported: bytes) -> None:
    text = exported.decode()
    assert not [secret for secret in SECRETS if secret in text]
    assert text.count("secret: needed") == 3  # the password, and the bearer tokens of the twins
    said = ("Örtliche Sonden", "cursor_field: seen", "Europe/Berlin", "overlap: skip", "max_attempts: 5", "On call")
    assert not [words for words in said if words not in text]


def test_into_an_empty_instance_and_out_again_gives_the_same_bytes(exported: bytes, elsewhere: Flask) -> None:
    with elsewhere.app_context():
        eve = make_cast(elsewhere).alice
        with database.unit_of_work():
            outcome = portability.import_project(eve.actor, exported)
        with database.reading():
            assert portability.export_project(eve.actor) == exported
    assert outcome.count(Verb.CREATED) == len(outcome.lines) == 9
    assert {place for line in outcome.lacking for place in line.needs_secret} == {
        "sources[1].config.password",
        *(f"jobs[{at}].tasks[0].extractor.{name}" for at in (0, 1) for name in ("url", "bearer_token")),
    }
    assert [name for name, _ in outcome.new_secrets] == ["On call", "On call"]


def test_into_the_same_instance_it_changes_nothing_and_nothing_is_announced(
    exported: bytes, alice: Person, work: Callable, look: Callable
) -> None:
    with look():
        before = (latest_id(), [(job.id, job.version, job.next_run_at) for job in db.session.query(Job)])
    with work():
        outcome = portability.import_project(alice.actor, exported)
    with look():
        assert (latest_id(), [(job.id, job.version, job.next_run_at) for job in db.session.query(Job)]) == before
        assert db.session.query(Connection).filter_by(type="postgres").one().config["password"] == PASSWORD
        assert {task.extractor.get("bearer_token") for task in db.session.query(Task)} == {BEARER, None}
        assert portability.export_project(alice.actor) == exported
    assert {line.verb for line in outcome.lines} == {Verb.UNCHANGED}
    assert outcome.lacking == []
