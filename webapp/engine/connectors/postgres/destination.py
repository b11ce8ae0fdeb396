"""A PostgreSQL database as a destination."""

# ruff: noqa: S608  names are quoted by names.quoted, values are bound

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import closing, contextmanager
from functools import partial
from typing import TYPE_CHECKING, Any

from webapp.engine.connectors.base import (
    CheckStep,
    Column,
    Destination,
    DestinationSession,
    Generation,
    Landed,
    Load,
    Target,
    Writer,
)
from webapp.engine.connectors.keys import check_key
from webapp.engine.connectors.postgres import catalog, ledger, swap
from webapp.engine.connectors.postgres.connection import Server, attempt, steps
from webapp.engine.connectors.postgres.ledger import Kept, Place
from webapp.engine.connectors.postgres.spec import PostgresDestinationSpec
from webapp.engine.errors import EngineError, Origin
from webapp.engine.names import quoted

if TYPE_CHECKING:
    import pyarrow as pa
    from psycopg2.extensions import connection as Connection  # noqa: N812  the driver's own name is lower case
    from psycopg2.extensions import cursor as Cursor  # noqa: N812

_KEEP_DAYS = 3


class PostgresDestination(Destination[PostgresDestinationSpec]):
    """Tables of one database, written by binary COPY."""

    name = "postgres"
    title = "PostgreSQL"
    offers_sums = True
    Spec = PostgresDestinationSpec

    def check(self) -> Iterator[CheckStep]:
        """Resolve, connect, TLS, log in, rights, write."""
        with self._server() as server:
            yield from steps(server, lambda connection: self._try(server, connection))

    @contextmanager
    def open(self) -> Iterator[DestinationSession]:
        """One connection for questions; each load opens its own."""
        with self._server() as server, closing(server.control_at_last()) as connection:
            yield PostgresDestinationSession(server, connection, self.config.schema_name)

    def _server(self) -> Server:
        return Server(self.config, self.context, Origin.DESTINATION)

    def _try(self, server: Server, connection: Connection) -> Iterator[CheckStep]:
        for name, act in (("rights", _may_create), ("write", _write)):
            step, _ = attempt(name, partial(_asked, server, connection, act, self.config.schema_name))
            yield step
            if not step.ok:
                return


def _asked(server: Server, connection: Connection, act: Any, schema: str) -> str:
    import psycopg2

    try:
        with connection.cursor() as cursor:
            return str(act(cursor, schema))
    except psycopg2.Error as error:
        raise server.error(error, "the server refuses") from error


def _may_create(cursor: Cursor, schema: str) -> str:
    cursor.execute(
        "SELECT has_database_privilege(current_database(), 'CREATE'), to_regnamespace(%s) IS NULL"
        " OR has_schema_privilege(to_regnamespace(%s), 'CREATE'), to_regnamespace(%s) IS NULL, current_user",
        (quoted(schema), quoted(schema), catalog.OWN),
    )
    database, space, new, user = cursor.fetchone() or (False, False, True, "")
    if not space or (new and not database):
        what = f"SCHEMA {schema}" if not space else "DATABASE this database"
        raise EngineError(
            f"{user} may not create in {what.lower()}",
            origin=Origin.DESTINATION,
            fix=f"GRANT CREATE ON {what} TO {user}.",
        )
    return ""


def _write(cursor: Cursor, schema: str) -> str:
    cursor.execute("BEGIN")
    try:
        cursor.execute(f"CREATE SCHEMA IF NOT EXISTS {quoted(schema)}")
        cursor.execute(f"CREATE TABLE {quoted(schema)}._hohmann_check (one integer)")
        cursor.execute(f"INSERT INTO {quoted(schema)}._hohmann_check VALUES (1)")
    finally:
        cursor.execute("ROLLBACK")
    return "wrote a row and took it back"


class PostgresDestinationSession(DestinationSession):
    """Questions go over one connection, each in a transaction of its own."""

    def __init__(self, server: Server, connection: Connection, schema: str) -> None:
        import threading

        self._server = server
        self._connection = connection
        self._schema = schema
        self._lock = threading.Lock()

    def state(self, target: Target) -> dict[str, Any] | None:
        """From the ledger."""
        with self._asking(target) as (cursor, place):
            return ledger.state(cursor, place)

    def columns(self, target: Target) -> tuple[Column, ...] | None:
        """From the catalog."""
        with self._asking(target) as (cursor, place):
            found = catalog.relation(cursor, place.schema, place.table)
            return None if found is None else tuple(one.column for one in found.attributes.values())

    def begin(self, load: Load) -> Writer:
        """A staging table, held until commit or abort."""
        from webapp.engine.connectors.postgres.loading import PostgresWriter

        check_key(load)
        writer = PostgresWriter(self._server, self._place(load.target), load)
        try:
            writer.begin()
        except BaseException:
            writer.abort()
            raise
        return writer

    def generations(self, target: Target) -> list[Generation]:
        """Contents before each of the last loads."""
        with self._asking(target) as (cursor, place):
            return ledger.generations(cursor, place)

    def restore(self, target: Target, generation: str, state: Mapping[str, Any] | None) -> Landed:
        """Undo the loads from the newest down to this one, in one transaction."""
        with self._asking(target) as (cursor, place):
            for one in ledger.chain(cursor, place, generation):
                _undo(cursor, place, one)
            ledger.set_state(cursor, place, state, "")
            cursor.execute(f"SELECT count(*) FROM {place.sql}")
            total = int((cursor.fetchone() or (0,))[0])
        return Landed(total, total, total)

    def preview(self, target: Target, *, limit: int) -> pa.Table:
        """The first rows, in the types that a source would give."""
        from webapp.engine.connectors.postgres.batches import fitted
        from webapp.engine.connectors.postgres.connection import closing as closing_data
        from webapp.engine.connectors.types import arrow_schema

        with self._asking(target) as (cursor, place):
            found = catalog.relation(cursor, place.schema, place.table)
        if found is None:
            raise EngineError(f"{target.label} is not there yet", origin=Origin.DESTINATION, fix="Run the load first.")
        schema = arrow_schema(one.column for one in found.attributes.values())
        columns = ", ".join(f"{one.sql} AS {quoted(name)}" for name, one in found.attributes.items())
        import adbc_driver_manager
        import pyarrow

        try:
            with closing_data(self._server.data()) as connection, connection.cursor() as cursor:
                cursor.execute(f"SELECT {columns} FROM {place.sql} LIMIT {int(limit)}")
                rows = [fitted(batch, schema) for batch in cursor.fetch_record_batch()]
        except adbc_driver_manager.Error as error:
            raise self._server.error(error, f"cannot read {target.label}") from error
        return pyarrow.Table.from_batches(rows, schema)

    def _place(self, target: Target) -> Place:
        return Place(target.database or self._schema, target.table)

    @contextmanager
    def _asking(self, target: Target) -> Iterator[tuple[Cursor, Place]]:
        import psycopg2

        try:
            with self._lock, self._connection, self._connection.cursor() as cursor:
                yield cursor, self._place(target)
        except psycopg2.Error as error:
            raise self._server.error(error, f"the server refuses {target.label}") from error


def _undo(cursor: Cursor, place: Place, one: Kept) -> None:
    {"replace": _undo_replace, "append": _undo_append, "upsert": _undo_upsert}[one.kind](cursor, place, one)
    cursor.execute(f"DELETE FROM {catalog.OWN}.generation WHERE name = %s", (one.name,))


def _undo_replace(cursor: Cursor, place: Place, one: Kept) -> None:
    cursor.execute(f"SELECT count(*) FROM {place.sql}")
    rows = int((cursor.fetchone() or (0,))[0])
    # What is replaced now can be brought back in its turn.
    parked = ledger.keep(cursor, place, "replace", _KEEP_DAYS, rows=rows)
    swap.put_in_place(cursor, place, one.name, catalog.PARACHUTE, parked)


def _undo_append(cursor: Cursor, place: Place, one: Kept) -> None:
    cursor.execute(f"DELETE FROM {place.sql} WHERE xmin = %s::xid", (one.xid,))
    if cursor.rowcount != one.rows:
        raise EngineError(
            f"of {one.rows} rows appended to {place.schema}.{place.table}, {cursor.rowcount} are as they were loaded",
            origin=Origin.DESTINATION,
            fix="Someone has changed or removed rows since: load the table anew.",
        )


def _undo_upsert(cursor: Cursor, place: Place, one: Kept) -> None:
    same = " AND ".join(f"t.{quoted(name)} = k.{quoted(name)}" for name in one.key)
    names = ", ".join(quoted(name) for name in one.columns)
    cursor.execute(f"DELETE FROM {place.sql} t USING {one.part('_keys')} k WHERE {same}")
    cursor.execute(f"INSERT INTO {place.sql} ({names}) SELECT {names} FROM {one.part('_old')}")
    ledger.forget(cursor, one)
