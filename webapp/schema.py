"""The tables of the database: which version they have, and bringing them to the newest."""

from pathlib import Path
from typing import TYPE_CHECKING

import click
import sqlalchemy as sa
from flask import Flask

from webapp.db import db

if TYPE_CHECKING:
    from alembic.config import Config

FOLDER = Path(__file__).resolve().parent.parent / "migrations"


def wire(app: Flask) -> None:
    """Attach `flask db ...`. Only for the flask program: a web process need not pay for importing Alembic."""
    if click.get_current_context(silent=True) is None:
        return
    from flask_migrate import Migrate

    Migrate(app, db, directory=str(FOLDER))


def newest_version() -> str:
    """The revision that the code needs: migrations are one line, and their file names begin with a growing number."""
    return max(file.stem for file in (FOLDER / "versions").glob("[0-9]*.py"))


def present_version() -> str | None:
    """The revision that the database has, or None when it is empty. Needs an application context."""
    with db.engine.connect() as connection:
        if not sa.inspect(connection).has_table("alembic_version"):
            return None
        version: str | None = connection.scalar(sa.text("SELECT version_num FROM alembic_version"))
        return version


def is_current() -> bool:
    """Whether the database has the tables that the code needs."""
    return present_version() == newest_version()


def upgrade(target: str = "head") -> None:
    """Bring the database up to `target`; processes that ask at the same time wait for each other."""
    from alembic import command

    command.upgrade(_alembic(), target)


def downgrade(target: str) -> None:
    """Take the database back to `target` (`base`: no tables)."""
    from alembic import command

    command.downgrade(_alembic(), target)


def differences() -> list[object]:
    """What the models say that the database does not have, and the other way round. Empty when they agree."""
    from alembic.autogenerate import compare_metadata
    from alembic.migration import MigrationContext

    with db.engine.connect() as connection:
        context = MigrationContext.configure(connection, opts={"compare_type": True})
        return list(compare_metadata(context, db.metadata))


def _alembic() -> "Config":
    from alembic.config import Config

    return Config(str(FOLDER / "alembic.ini"))
