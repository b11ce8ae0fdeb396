"""Keys of stored secrets are exchanged while the instance lives, and the old ones can go."""

import os
import stat
from collections.abc import Callable
from pathlib import Path

import pytest
import sqlalchemy as sa
from cryptography.fernet import Fernet, InvalidToken
from flask import Flask

from tests import factories
from tests.support.people import Cast
from webapp.connections import operations as connections
from webapp.connections.models import Connection, ConnectionRole
from webapp.connections.operations import ConnectionDraft
from webapp.db import db
from webapp.jobs.models import Task
from webapp.key_rotation import sealed_columns
from webapp.runs import operations as runs
from webapp.secrets import Vault

SECRET = "a planted password"


@pytest.fixture
def stored(app: Flask, people: Cast, work: Callable) -> None:
    """Secrets of each kind: a connection, the tasks of a job, a run."""
    with work():
        config = {"host": "db.example.org", "database": "shop", "username": "ann", "password": SECRET}
        draft = ConnectionDraft("shop", "postgres", "v1.0.0", config)
        actor = people.alice.actor
        connections.create_connection(actor, ConnectionRole.SOURCE, draft, project_id=actor.default_project_id)
        job = factories.make_job()
        db.session.flush()
        runs.start_run(actor, job.id)


def rotate(app: Flask, *options: str) -> tuple[int, str]:
    result = app.test_cli_runner().invoke(args=["rotate-keys", *options])
    return result.exit_code, result.output


def keys(app: Flask) -> list[bytes]:
    return key_file(app).read_bytes().split()


def key_file(app: Flask) -> Path:
    path: Path = app.extensions["settings"].hohmann_home / "keys" / "data_keys"
    return path


def sealed(look: Callable) -> list[str]:
    """All that lies encrypted in the database, as it lies there."""
    with look() as session:
        return [
            text
            for column in sealed_columns()
            for text in session.scalars(sa.select(sa.type_coerce(column, sa.Text)).where(column.is_not(None)))
        ]


@pytest.mark.usefixtures("stored")
def test_all_stored_secrets_are_under_the_new_key_and_the_old_one_can_go(app: Flask, look: Callable) -> None:
    old = keys(app)
    with look() as session:
        edited = session.scalars(sa.select(Connection.updated_at)).all()
    code, said = rotate(app)
    assert (code, said) == (0, f"{len(sealed(look))} stored secrets were encrypted with the newest key.\n")
    assert keys(app)[1:] == old
    newest_key = keys(app)[0]
    newest = Fernet(newest_key)
    assert len(sealed(look)) >= 4
    assert all(newest.decrypt(text.encode()) for text in sealed(look))

    code, said = rotate(app, "--drop-old")

    assert (code, said.splitlines()[-1]) == (0, "1 older keys were dropped.")
    assert keys(app) == [newest_key]
    with pytest.raises(InvalidToken):
        Fernet(old[0]).decrypt(sealed(look)[0].encode())
    with look() as session:
        found = session.scalars(sa.select(Connection)).one()
        assert (found.config["password"], [found.updated_at]) == (SECRET, edited)
        assert session.scalars(sa.select(Task)).first().extractor


@pytest.mark.usefixtures("stored")
def test_a_rotation_that_was_interrupted_is_finished_by_the_next(
    app: Flask, look: Callable, monkeypatch: pytest.MonkeyPatch
) -> None:
    real, left = Vault.renewed, iter(range(2))

    def dies(self: Vault, text: str) -> str | None:
        next(left)
        return real(self, text)

    with monkeypatch.context() as patched:
        patched.setattr(Vault, "renewed", dies)
        assert rotate(app)[0] == 1
    assert len(sealed(look)) >= 4
    assert rotate(app, "--drop-old")[0] == 0
    assert len(keys(app)) == 1
    assert all(app.extensions["vault"].open(text) is not None for text in sealed(look))


@pytest.mark.usefixtures("stored")
def test_keys_are_not_dropped_while_something_cannot_be_read(app: Flask, work: Callable) -> None:
    foreign = Fernet(Fernet.generate_key()).encrypt(b"{}").decode()
    with work() as session:
        session.execute(sa.update(Connection.__table__).values(config=sa.literal(foreign, sa.Text)))
    rotate(app)

    code, said = rotate(app, "--drop-old")

    assert (code, len(keys(app))) == (1, 2)
    assert "can read 1 of connection.config" in said


def test_processes_that_run_take_up_the_new_key(app: Flask) -> None:
    """As web processes and workers do, each with a vault of its own."""
    other = Vault(key_file(app).parent)
    before = other.seal({"password": SECRET})
    rotate(app)
    assert app.extensions["vault"].open(before) == {"password": SECRET}
    assert Fernet(keys(app)[0]).decrypt(other.seal(1).encode()) == b"1"


def test_the_keys_stay_readable_by_the_owner_only_and_one_rotation_goes_at_a_time(app: Flask) -> None:
    rotate(app)
    assert stat.S_IMODE(key_file(app).stat().st_mode) == 0o600
    assert os.listdir(key_file(app).parent).count("data_keys") == 1
    with Vault(key_file(app).parent).changing():
        code, said = rotate(app)
    assert (code, len(keys(app))) == (1, 2)
    assert "under way" in said
