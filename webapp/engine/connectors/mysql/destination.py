"""A MySQL or MariaDB server as a destination."""

# ruff: noqa: S608  names are quoted by columns.quoted, values are bound

from __future__ import annotations

import secrets
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING, Any

from webapp.engine.addresses import checked_address
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
from webapp.engine.connectors.mysql import ledger
from webapp.engine.connectors.mysql.columns import quoted
from webapp.engine.connectors.mysql.home import Home
from webapp.engine.connectors.mysql.ledger import Kept, Place
from webapp.engine.connectors.mysql.spec import OWN, MySQLDestinationSpec
from webapp.engine.connectors.trials import tried
from webapp.engine.errors import EngineError, Origin

if TYPE_CHECKING:
    import pyarrow as pa

_KEEP_DAYS = 3


class MySQLDestination(Destination[MySQLDestinationSpec]):
    """Tables of a server, written by INSERT statements of many rows."""

    name = "mysql"
    title = "MySQL or MariaDB"
    Spec = MySQLDestinationSpec

    def check(self) -> Iterator[CheckStep]:
        """Resolve, log in, make a table with a row in it and remove it."""
        return tried(("resolve", self._address), ("log in", self._version), ("write", self._write))

    @contextmanager
    def open(self) -> Iterator[DestinationSession]:
        """One connection for questions; each load opens its own."""
        home = self._home()
        connection = home.connect()
        try:
            yield MySQLDestinationSession(home, connection)
        finally:
            home.close(connection)

    def _home(self) -> Home:
        return Home(self.config, self.context)

    def _address(self) -> str:
        allow = self.context.allow_private_addresses
        return checked_address(self.config.host, self.config.port, allow_private=allow)

    def _version(self) -> str:
        return self._told("SELECT VERSION()")

    def _write(self) -> str:
        name = f"_hohmann_check_{secrets.token_hex(4)}"
        for schema in (self.config.database, OWN):
            place = Place(schema, name)
            self._told(
                f"CREATE DATABASE IF NOT EXISTS {quoted(schema)}",
                f"CREATE TABLE {place.sql} (one INT)",
                f"INSERT INTO {place.sql} VALUES (1)",
                last=f"DROP TABLE {place.sql}",
            )
        return f"wrote to {self.config.database} and {OWN}, and took it back"

    def _told(self, *statements: str, last: str = "") -> str:
        home = self._home()
        connection = home.connect()
        try:
            with home.told("the server refuses", connection), connection.cursor() as cursor:
                for statement in (*statements, *([last] if last else ())):
                    cursor.execute(statement)
                row = cursor.fetchone()
                return str(row[0]) if row else ""
        finally:
            home.close(connection)


class MySQLDestinationSession(DestinationSession):
    """Questions go over one connection, each by itself."""

    def __init__(self, home: Home, connection: Any) -> None:
        self._home = home
        self._connection = connection
        self._lock = threading.Lock()

    def state(self, target: Target) -> dict[str, Any] | None:
        """From the table's own table of state."""
        with self._asking(target) as (cursor, place):
            return ledger.state(cursor, place)

    def columns(self, target: Target) -> tuple[Column, ...] | None:
        """From the catalog, in the types that a load has noted."""
        from webapp.engine.connectors.mysql import tables

        with self._asking(target) as (cursor, place):
            found = tables.table(cursor, place)
            return None if found is None else tuple(one.column for one in found.attributes.values())

    def begin(self, load: Load) -> Writer:
        """A staging table, held until commit or abort."""
        from webapp.engine.connectors.mysql.loading import MySQLWriter

        writer = MySQLWriter(self._home, self._place(load.target), load)
        try:
            writer.begin()
        except BaseException:
            writer.abort()
            raise
        return writer

    def generations(self, target: Target) -> list[Generation]:
        """Contents before each replace, and before upserts that no append came after."""
        with self._asking(target) as (cursor, place):
            return ledger.generations(cursor, place)

    def restore(self, target: Target, generation: str, state: Mapping[str, Any] | None) -> Landed:
        """Go back to before the load that left this generation, in one step."""
        with self._asking(target) as (cursor, place):
            chain = ledger.chain(cursor, place, generation)
            ledger.prepare(cursor, place)
            undo = ledger.steps(chain)
            whole = undo[0].part() if undo[0].kind == "replace" else None
            cursor.execute("START TRANSACTION")
            for one in undo if whole is None else undo[1:]:
                _undo_upsert(cursor, whole or place, one)
                ledger.strike(cursor, one)
            if whole is None:
                ledger.set_state(cursor, place, state, "", place.state)
            cursor.execute("COMMIT")
            if whole is not None:
                _exchange(cursor, place, whole, state)
            for one in chain:
                ledger.forget(cursor, one)
            cursor.execute(f"SELECT count(*) FROM {place.sql}")
            total = int(cursor.fetchone()[0])
        return Landed(total, total, total)

    def preview(self, target: Target, *, limit: int) -> pa.Table:
        """The first rows, in the types that a source would give."""
        import pyarrow

        from webapp.engine.connectors.mysql.source import MySQLSession, MySQLSource
        from webapp.engine.connectors.types import arrow_schema

        place = self._place(target)
        config = self._home.config.model_copy(update={"database": place.schema})
        streams = MySQLSource(config, self._home.context).discover()
        columns = next((one.columns for one in streams if one.name == place.table), None)
        if columns is None:
            raise EngineError(f"{target.label} is not there yet", origin=Origin.DESTINATION, fix="Run the load first.")
        session = MySQLSession(config, self._home.context, self._connection)
        return pyarrow.Table.from_batches(session.first(place.sql, columns, limit), arrow_schema(columns))

    def _place(self, target: Target) -> Place:
        return Place(target.database or self._home.config.database, target.table)

    @contextmanager
    def _asking(self, target: Target) -> Iterator[tuple[Any, Place]]:
        import pymysql

        with (
            self._lock,
            self._home.told(f"the server refuses {target.label}", self._connection),
            self._connection.cursor() as cursor,
        ):
            try:
                yield cursor, self._place(target)
            except BaseException:
                with suppress(pymysql.MySQLError, OSError):
                    self._connection.rollback()
                raise


def _exchange(cursor: Any, place: Place, whole: Place, state: Mapping[str, Any] | None) -> None:
    """What is replaced now can be brought back in its turn."""
    from webapp.engine.connectors.mysql.loading import put_in_place

    aside = ledger.own(f"stage_{place.mark}_{secrets.token_hex(4)}_state")
    ledger.new_state(cursor, place, state, "", aside)
    cursor.execute(f"SELECT count(*) FROM {place.sql}")
    parked = ledger.fresh(place, "replace", rows=int(cursor.fetchone()[0]))
    ledger.note(cursor, place, parked, _KEEP_DAYS)
    put_in_place(cursor, place, whole, aside, parked)


def _undo_upsert(cursor: Any, table: Place, one: Kept) -> None:
    same = " AND ".join(f"t.{quoted(name)} = k.{quoted(name)}" for name in one.key)
    cursor.execute(f"DELETE t FROM {table.sql} t JOIN {one.part('_keys').sql} k ON {same}")
    cursor.execute(
        "SELECT column_name FROM information_schema.columns WHERE table_schema = %s AND table_name = %s",
        one.part("_old").key,
    )
    names = ", ".join(quoted(row[0]) for row in cursor.fetchall())
    cursor.execute(f"INSERT INTO {table.sql} ({names}) SELECT {names} FROM {one.part('_old').sql}")
