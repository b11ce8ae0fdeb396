"""The database session and its unit of work. Nothing else in the application commits.

One unit of work for a request or a worker step: it commits at the edge, once, and rolls back when anything is raised.
On SQLite a unit of work that means to write takes the write lock at its first statement (BEGIN IMMEDIATE): a
transaction that reads first and writes later would otherwise fail at once when another writer came between, whatever
the busy time-out.
"""

import sqlite3
import time
import uuid
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime
from enum import StrEnum
from typing import Any

import sqlalchemy as sa
from flask import Flask, current_app
from flask_sqlalchemy import SQLAlchemy
from sqlalchemy.engine import Connection, Dialect
from sqlalchemy.orm import DeclarativeBase, Mapped, Session, mapped_column
from sqlalchemy.types import TypeDecorator

from webapp.appends import changing, inserting, text_of_insert
from webapp.config import Settings
from webapp.dates import utcnow
from webapp.prepared import Prepared
from webapp.trips import means_to_write
from webapp.wake import Wake

BUSY_TIMEOUT_SECONDS = 20

BigNumber = sa.BigInteger().with_variant(sa.Integer, "sqlite")


class Instant(TypeDecorator[datetime]):
    """An aware UTC instant; SQLite, which knows no zones, stores it naive."""

    impl = sa.DateTime(timezone=True)
    cache_ok = True

    def process_bind_param(self, value: datetime | None, dialect: Dialect) -> datetime | None:
        if value is None:
            return None
        utc = value.astimezone(UTC)
        return utc.replace(tzinfo=None) if dialect.name == "sqlite" else utc

    def process_result_value(self, value: datetime | None, dialect: Dialect) -> datetime | None:
        if value is None:
            return None
        return value.replace(tzinfo=UTC) if value.tzinfo is None else value.astimezone(UTC)


def enum_column(kind: type[StrEnum]) -> sa.Enum:
    """A column type that stores the enum's value as text; new members need no change of the table."""
    return sa.Enum(
        kind,
        native_enum=False,
        create_constraint=False,
        length=24,
        values_callable=lambda values: [value.value for value in values],
    )


class Base(DeclarativeBase):
    """What all tables share."""

    metadata = sa.MetaData(
        naming_convention={
            "ix": "ix_%(table_name)s_%(column_0_N_name)s",
            "uq": "uq_%(table_name)s_%(column_0_N_name)s",
            "ck": "ck_%(table_name)s_%(constraint_name)s",
            "fk": "fk_%(table_name)s_%(column_0_name)s",
            "pk": "pk_%(table_name)s",
        }
    )
    type_annotation_map = {datetime: Instant, dict[str, Any]: sa.JSON, list[Any]: sa.JSON, uuid.UUID: sa.Uuid}  # noqa: RUF012


class Row(Base):
    """A thing that the outside knows: some contracts call it by its uuid `id`, some by its integer `number`."""

    __abstract__ = True

    number: Mapped[int] = mapped_column(BigNumber, primary_key=True, autoincrement=True, sort_order=-3)
    id: Mapped[uuid.UUID] = mapped_column(unique=True, default=uuid.uuid4, sort_order=-2)
    created_at: Mapped[datetime] = mapped_column(default=utcnow, sort_order=-1)
    updated_at: Mapped[datetime] = mapped_column(default=utcnow, onupdate=utcnow, sort_order=-1)


db = SQLAlchemy(metadata=Base.metadata)

before_commit: list[Callable[[Session], None]] = []
"""Called with the session when all else of a unit of work is done, in the same transaction."""
after_commit: list[Callable[[Session], None]] = []
"""Called with the session when a unit of work has been committed."""


def init_db(app: Flask, settings: Settings) -> None:
    """Attach the database of these settings to the application."""
    app.config["SQLALCHEMY_DATABASE_URI"] = settings.sqlalchemy_url
    app.config["SQLALCHEMY_ENGINE_OPTIONS"] = _engine_options(settings)
    settings.hohmann_home.mkdir(parents=True, exist_ok=True, mode=0o700)
    db.init_app(app)
    app.extensions["wake"] = Wake(settings.sqlalchemy_url, settings.run_folder)
    with app.app_context():
        if db.engine.dialect.name == "sqlite":
            sa.event.listen(db.engine, "connect", _prepare_sqlite)
            sa.event.listen(db.engine, "begin", _begin_sqlite)


def _engine_options(settings: Settings) -> dict[str, Any]:
    size = max(settings.web_threads, 4)
    if settings.database_url:
        return {"pool_size": size, "max_overflow": 4, "pool_pre_ping": False, "pool_recycle": 1800, "pool_timeout": 10}
    return {
        "pool_size": size,
        "max_overflow": 4,
        "connect_args": {"timeout": BUSY_TIMEOUT_SECONDS, "check_same_thread": False},
    }


def _prepare_sqlite(connection: Any, _record: Any) -> None:
    connection.isolation_level = None  # transactions begin where _begin_sqlite says so
    for pragma in (
        "journal_mode=WAL",
        "synchronous=NORMAL",
        "foreign_keys=ON",
        "mmap_size=268435456",
        "cache_size=-16000",
    ):
        connection.execute(f"PRAGMA {pragma}").close()


def _begin_sqlite(connection: Connection) -> None:
    if not means_to_write.get():
        connection.exec_driver_sql("BEGIN")
        return
    raw: Any = connection.connection.dbapi_connection
    raw.execute("PRAGMA busy_timeout=0").close()
    try:
        _take_write_lock(raw)
    finally:
        raw.execute(f"PRAGMA busy_timeout={BUSY_TIMEOUT_SECONDS * 1000}").close()


def _take_write_lock(raw: Any) -> None:
    """BEGIN IMMEDIATE, asking again every half millisecond: SQLite's own waiting sleeps up to 100 ms between looks."""
    end = time.monotonic() + BUSY_TIMEOUT_SECONDS
    while True:
        try:
            raw.execute("BEGIN IMMEDIATE").close()
        except sqlite3.OperationalError as error:
            if error.sqlite_errorcode & 0xFF != sqlite3.SQLITE_BUSY or time.monotonic() > end:
                raise sa.exc.OperationalError("BEGIN IMMEDIATE", None, error) from error
            time.sleep(0.0005)
        else:
            return


@contextmanager
def intent(*, write: bool) -> Iterator[None]:
    """Say whether the transactions begun inside mean to write."""
    token = means_to_write.set(write)
    try:
        yield
    finally:
        means_to_write.reset(token)


@contextmanager
def unit_of_work() -> Iterator[Session]:
    """All or nothing: commit once when the block ends well, roll back when it raises."""
    session = db.session()
    with intent(write=True):
        try:
            yield session
            commit(session)
        except BaseException:
            abandon(session)
            raise


@contextmanager
def reading() -> Iterator[Session]:
    """A block that only looks; what it read is let go at its end, and it holds no lock that stops writers."""
    session = db.session()
    with intent(write=False):
        try:
            yield session
        finally:
            abandon(session)


def commit(session: Session) -> None:
    """Commit a unit of work with its events, then wake whoever waits for them. Called at the edges only."""
    _collect_updates(session)
    session.flush()
    for hook in before_commit:
        hook(session)
    _collect_updates(session)
    session.flush()
    channels: set[str] = session.info.pop("wake", set())
    _append(session, channels)
    session.commit()
    get_wake().send(channels)
    for hook in after_commit:
        hook(session)
    session.info.clear()


def abandon(session: Session) -> None:
    """Roll back, and forget what was to be announced."""
    session.rollback()
    session.info.clear()


def abandon_any() -> None:
    """Abandon the unit of work, if one was begun: a list that the driver itself reads begins none."""
    if db.session.registry.has():
        abandon(db.session())


def let_go() -> None:
    """End the transaction so that slow work which needs no database (hashing a password) holds no lock.

    Nothing may have been written before.
    """
    session = db.session()
    if session.new or session.dirty or session.deleted:
        raise RuntimeError("let_go() would lose changes")
    session.rollback()


def insert_at_commit(table: type[Base], row: dict[str, Any], *, unless_there: bool = False) -> None:
    """Insert a row when the unit of work ends, with others of its table, which name the same columns.

    `unless_there`: a row that is there already, by any key of the table, stays as it is.
    """
    db.session.info.setdefault("rows", {}).setdefault((table, unless_there), []).append(row)


def update_at_commit(row: Row) -> None:
    """Write what is changed of a row that this unit of work holds locked when it ends, with what it appends.

    A flush would cost a round trip more. Its check of the version is not needed: nobody else changes a locked row.
    Where something flushes before, that has written it.
    """
    db.session.info.setdefault("held", []).append(row)


def _collect_updates(session: Session) -> None:
    """Take the changes of rows that are held from the session, which lets go of these rows."""
    for row in session.info.pop("held", ()):
        if row in session and row not in session.deleted and session.is_modified(row):
            state = sa.inspect(row)
            changed = {name: getattr(row, name) for name in set(state.mapper.columns.keys()) - state.unmodified}
            changed.setdefault("updated_at", utcnow())
            if "version" in state.mapper.columns:
                changed["version"] = getattr(row, "version") + 1  # noqa: B009 - not every row has one
            session.expunge(row)
            statement = changing(type(row).__table__, frozenset(changed))
            session.info.setdefault("statements", []).append((statement, {**changed, "row": row.number}))


def execute_at_commit(statement: Prepared, values: dict[str, Any]) -> None:
    """Execute a statement that brings nothing back when the unit of work ends, with what it appends."""
    db.session.info.setdefault("statements", []).append((statement, values))


def insert_last(table: type[Base], rows: Sequence[dict[str, Any]], *, lock: int) -> None:
    """Insert rows when all else is written; on PostgreSQL under this advisory lock, which is held to the commit."""
    db.session.info["last"] = (table, rows, lock)


def _append(session: Session, channels: set[str]) -> None:
    """Write what the unit of work appends, and signal: on PostgreSQL all of it in one round trip."""
    rows: dict[tuple[type[Base], bool], list[dict[str, Any]]] = session.info.pop("rows", {})
    statements: list[tuple[Prepared, dict[str, Any]]] = session.info.pop("statements", [])
    table, last, lock = session.info.pop("last", (Base, (), 0))
    if not is_postgresql():
        for statement, values in statements:
            statement.rows(session, values)
        for (each, unless_there), its in [*rows.items(), *([((table, False), last)] if last else [])]:
            inserting(each.__table__, frozenset(its[0]), unless_there=unless_there).execute_many(session, its)
        return
    if not (statements or rows or last or channels):
        return
    connection = session.connection()
    texts = [statement.text(connection, values) for statement, values in statements]
    texts += [text_of_insert(connection, each.__table__, its, unless_there=yes) for (each, yes), its in rows.items()]
    calls = [f"pg_advisory_xact_lock({lock})"] if last else []
    calls += [f"pg_notify('hohmann_{channel}', '')" for channel in sorted(channels)]
    texts += [f"SELECT {', '.join(calls)}"] if calls else []
    texts += [text_of_insert(connection, table.__table__, last)] if last else []
    # COMMIT goes along: the session's own, which follows, finds nothing left to do.
    connection.exec_driver_sql("; ".join([*texts, "COMMIT"]), execution_options={"no_parameters": True})


def wake_at_commit(*channels: str) -> None:
    """Signal these channels when the present unit of work is committed."""
    db.session.info.setdefault("wake", set()).update(channels)


def get_wake() -> Wake:
    """The signals of the present instance."""
    wake: Wake = current_app.extensions["wake"]
    return wake


def is_postgresql() -> bool:
    """Whether the present database is PostgreSQL (else it is SQLite)."""
    return db.engine.dialect.name == "postgresql"
