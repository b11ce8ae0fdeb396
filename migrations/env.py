"""How Alembic reaches the database: a migration run is one transaction, and only one process runs it at a time."""

import sqlalchemy as sa
from alembic import context
from alembic.autogenerate.api import AutogenContext
from sqlalchemy.engine import Connection

from webapp import db as database
from webapp.db import Base, Instant, db
from webapp.secrets import EncryptedJSON

MIGRATION_LOCK = 7_203_000


def render_item(kind: str, item: object, _context: AutogenContext) -> str | bool:
    """Column types of ours as what they are in the database: a migration must not change when our code does."""
    if kind != "type":
        return False
    if isinstance(item, Instant):
        return "sa.DateTime(timezone=True)"
    if isinstance(item, EncryptedJSON):
        return "sa.Text()"
    if isinstance(item, sa.Enum):
        return f"sa.String({item.length})"
    return False


def run_online() -> None:
    """Run the migrations that were asked for, on the application's own engine."""
    with database.intent(write=True), db.engine.connect() as connection:
        is_sqlite = connection.dialect.name == "sqlite"
        if is_sqlite:  # dropping a table that batch mode has copied would else delete what refers to it
            _foreign_keys(connection, "OFF")
        try:
            _run(connection)
            if is_sqlite:
                _refuse_orphans(connection)
        finally:
            if is_sqlite:
                _foreign_keys(connection, "ON")


def _run(connection: Connection) -> None:
    context.configure(
        connection=connection,
        target_metadata=Base.metadata,
        compare_type=True,
        render_as_batch=True,
        render_item=render_item,
        transactional_ddl=True,
    )
    with context.begin_transaction():
        if connection.dialect.name == "postgresql":
            connection.execute(sa.text("SELECT pg_advisory_xact_lock(:key)"), {"key": MIGRATION_LOCK})
            connection.execute(sa.text("SET LOCAL lock_timeout = '10s'"))  # rather give up than hold up every query
        context.run_migrations()


def _foreign_keys(connection: Connection, state: str) -> None:
    # On the driver's connection: the pragma does nothing inside a transaction.
    connection.connection.driver_connection.execute(f"PRAGMA foreign_keys={state}")


def _refuse_orphans(connection: Connection) -> None:
    orphans = connection.exec_driver_sql("PRAGMA foreign_key_check").fetchall()
    connection.rollback()
    if orphans:
        raise RuntimeError(f"rows that refer to nothing: {orphans[:5]}")


def run_offline() -> None:
    """Print the SQL instead of running it."""
    context.configure(url=str(db.engine.url), target_metadata=Base.metadata, literal_binds=True, render_as_batch=True)
    with context.begin_transaction():
        context.run_migrations()


if context.is_offline_mode():
    run_offline()
else:
    run_online()
