"""One load: rows go into a staging table over several connections, one transaction makes them visible."""

# ruff: noqa: S608  names are quoted by names.quoted, values are bound

from __future__ import annotations

import hashlib
import queue
import secrets
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING, Any

import adbc_driver_manager
import psycopg2
import pyarrow as pa

from webapp.engine.connectors import sums
from webapp.engine.connectors.base import (
    Chunk,
    Column,
    Landed,
    Load,
    Read,
    Relay,
    SourceSession,
    Staged,
    Sum,
    Write,
    Writer,
)
from webapp.engine.connectors.keys import check_no_nulls
from webapp.engine.connectors.postgres import catalog, ledger, staging, swap
from webapp.engine.connectors.postgres.catalog import OWN
from webapp.engine.connectors.postgres.connection import Server, cancelling, close_quietly
from webapp.engine.connectors.postgres.ledger import Place
from webapp.engine.connectors.postgres.outgoing import ingestible, kept_type, native_type, wire_schema
from webapp.engine.connectors.postgres.queries import addend, table_sql
from webapp.engine.connectors.postgres.relay import Receiver, relay
from webapp.engine.errors import Cancelled, EngineError, Kind, Origin
from webapp.engine.names import literal, quoted

if TYPE_CHECKING:
    from psycopg2.extensions import cursor as Cursor  # noqa: N812  the driver's own name is lower case

_LOCK_SECONDS = 2.0
_LONGEST_NAME = 63
Done = tuple[int, int, str, Mapping[str, Sum]]
"""Rows of the load that are found, rows of the table, the generation that is kept, sums over the rows found."""


class PostgresWriter(Writer):
    """Holds the table against other loads until it commits or aborts."""

    def __init__(self, server: Server, place: Place, load: Load) -> None:
        self._server = server
        self._place = place
        self._load = load
        self._written: list[int] = []
        self._bytes: list[int] = []
        mark = hashlib.sha256(place.sql.encode()).hexdigest()[:12]
        self._prefix = f"stage_{mark}_"
        self._stage = self._prefix + secrets.token_hex(4)
        self._columns = tuple(load.columns)
        self._drift: Any = None
        self._left: list[Staged] = []
        self._came: dict[str, tuple[str, int]] = {}  # by which transaction each chunk's rows, and how many
        self._noted = False
        self._noting = threading.Lock()
        self._idle: queue.Queue[Any] = queue.Queue()
        for _ in range(server.config.max_threads):
            self._idle.put(None)
        self._control = server.control()

    def begin(self) -> None:
        """Make the staging table. Raises EngineError when rows of this shape cannot go into the table."""
        try:
            _check_names(self._place, self._columns)
            with self._control, self._control.cursor() as cursor:
                ledger.prepare(cursor, self._place.schema)
                staging.prepare(cursor)
                staging.sweep(cursor)
            with self._control, self._control.cursor() as cursor:
                self._claim(cursor)
                self._plan(cursor)
                self._take_up(cursor)
        except psycopg2.Error as error:
            raise self._server.error(error, f"cannot prepare {self._load.target.label}") from error

    def write(self, batches: pa.RecordBatchReader, chunk: Chunk) -> int:
        """Take a chunk by binary COPY: all of it or nothing."""
        taken, troubles = [0, 0], list[BaseException]()
        stream = pa.RecordBatchReader.from_batches(wire_schema(self._columns), self._watched(batches, taken, troubles))
        connection = self._idle.get()
        whole = False
        try:
            connection = connection or self._opened()
            with connection.cursor() as cursor, cancelling(self._server.context, cursor.adbc_cancel):
                cursor.execute(staging.XID)
                (xid,) = cursor.fetchone()
                cursor.adbc_ingest(self._stage, stream, mode="append", db_schema_name=OWN)
            connection.adbc_connection.commit()
            whole = True
        except (adbc_driver_manager.Error, pa.ArrowException, OSError) as error:
            raise self._told(troubles, error) from error
        finally:
            self._give_back(connection, whole=whole)
        self._took(chunk, xid, *taken)
        return taken[0]

    def staged(self) -> Sequence[Staged]:
        """What lies in the staging table of an interrupted load."""
        return self._left

    def resume(self, kept: Sequence[Staged]) -> None:
        """Drop the rows of other chunks."""
        try:
            with self._control, self._control.cursor() as cursor:
                staging.keep(cursor, self._stage, [one.name for one in kept])
        except psycopg2.Error as error:
            raise self._server.error(error, f"cannot go on with {self._load.target.label}") from error
        self._left = list(kept)
        self._written.append(sum(one.rows for one in kept))

    def note(self, chunk: Chunk, mark: Mapping[str, Any]) -> None:
        """In the ledger, when the chunk's transaction is over."""
        written = self._came.get(chunk.name)
        if written is None or not self._load.fingerprint:
            return
        try:
            with self._noting, self._control, self._control.cursor() as cursor:
                staging.note(cursor, self._stage, chunk, mark, written)
        except psycopg2.Error as error:
            raise self._server.error(error, f"cannot note a chunk of {self._load.target.label}") from error
        self._noted = True

    def relay(self, source: SourceSession, read: Read) -> Relay | None:
        """From another PostgreSQL, without decoding rows."""
        from webapp.engine.connectors.postgres.session import PostgresSession

        if not isinstance(source, PostgresSession):
            return None
        return relay(
            source.sender(read), Receiver(self._server, self._stage, self._columns, self._turn, self._took), read
        )

    @contextmanager
    def _turn(self) -> Iterator[None]:
        """Hold the place of one connection, whoever opens it."""
        held = self._idle.get()
        try:
            yield
        finally:
            self._idle.put(held)

    def _took(self, chunk: Chunk, xid: str, rows: int, size: int) -> None:
        self._came[chunk.name] = (xid, rows)
        self._written.append(rows)
        self._bytes.append(size)

    def _opened(self) -> Any:
        """A connection whose chunks are a transaction each."""
        connection = self._server.data()
        connection.adbc_connection.set_autocommit(False)
        return connection

    def commit(self, state: Mapping[str, Any]) -> Landed:
        """Rows and state in one transaction."""
        act = {Write.REPLACE: self._replace, Write.APPEND: self._append, Write.UPSERT: self._upsert}[self._load.write]
        try:
            with (
                cancelling(self._server.context, self._control.cancel),
                self._control,
                self._control.cursor() as cursor,
            ):
                ledger.prune(cursor, self._place)
                found, total, generation, added = act(cursor)
                ledger.set_state(cursor, self._place, state, self._load.run_id)
                staging.drop(cursor, self._stage)
        except psycopg2.Error as error:
            raise self._server.error(error, f"cannot commit to {self._load.target.label}") from error
        self._close()
        return Landed(sum(self._written), found, total, sum(self._bytes), generation, added)

    def abort(self) -> None:
        """Drop the staging table, as far as the server answers."""
        with suppress(psycopg2.Error, EngineError):
            self._control.rollback()
            with self._control, self._control.cursor() as cursor:
                staging.drop(cursor, self._stage)
        self._close()

    def interrupt(self) -> None:
        """Leave the staging table for a load that goes on with it, when a chunk of it has been noted."""
        if self._noted or self._left:
            self._close()
        else:
            self.abort()

    def _claim(self, cursor: Cursor) -> None:
        """Take the table's lock, which a load that was killed keeps until the server has seen it go."""
        until = time.monotonic() + _LOCK_SECONDS
        while not self._is_locked(cursor):
            if time.monotonic() > until:
                raise EngineError(
                    f"another load is writing {self._load.target.label}",
                    origin=Origin.DESTINATION,
                    kind=Kind.TRANSIENT,
                    fix="Wait until it has ended.",
                )
            time.sleep(0.05)

    def _is_locked(self, cursor: Cursor) -> bool:
        cursor.execute(f"SELECT pg_try_advisory_lock({staging.LOCK})", (self._place.sql,))
        return bool((cursor.fetchone() or (False,))[0])

    def _take_up(self, cursor: Cursor) -> None:
        """Use what an interrupted load left, or make a table; whoever left others is gone, for the lock was free."""
        fingerprint = self._load.fingerprint
        found = staging.taken_up(cursor, self._prefix, fingerprint)
        if found is not None:
            self._stage, self._left = found, staging.noted(cursor, found)
            if self._left:
                return
            staging.drop(cursor, found)
        self._make(cursor)

    def _make(self, cursor: Cursor) -> None:
        kind = "" if self._load.write is Write.REPLACE else "UNLOGGED "
        columns = ", ".join(f"{quoted(c.name)} {native_type(c.type)}" for c in self._columns)
        cursor.execute(f"CREATE {kind}TABLE {table_sql(OWN, self._stage)} ({columns})")
        if self._load.fingerprint:
            staging.made(cursor, self._stage, self._place, self._load.fingerprint)

    def _plan(self, cursor: Cursor) -> None:
        from webapp.engine import drift

        found = catalog.relation(cursor, *self._place.key)
        if found is not None and found.kind not in "rp":
            raise EngineError(
                f"{self._load.target.label} is not a table",
                origin=Origin.DESTINATION,
                fix="Choose another name for the stream's table.",
            )
        self._exists = found is not None
        if found is None or self._load.write is Write.REPLACE:
            return
        have = [drift.Column(one.column.name, one.column.type) for one in found.attributes.values()]
        come = [drift.Column(column.name, kept_type(column.type)) for column in self._columns]
        self._drift = drift.plan_drift(have, come, self._load.target.label)

    def _replace(self, cursor: Cursor) -> Done:
        stage = table_sql(OWN, self._stage)
        found, added = _count(cursor, stage), self._sums(cursor, stage, {})
        cursor.execute("SELECT to_regclass(%s) IS NOT NULL", (self._place.sql,))
        if not (cursor.fetchone() or (False,))[0]:
            swap.move(cursor, (OWN, self._stage), self._place.key)
            return found, found, "", added
        rows = _count(cursor, self._place.sql)
        kept = ledger.keep(cursor, self._place, "replace", self._load.keep_days, rows=rows)
        swap.put_in_place(cursor, self._place, self._stage, OWN, kept)
        if self._load.keep_days > 0:
            return found, found, kept.name, added
        ledger.forget(cursor, kept)
        return found, found, "", added

    def _append(self, cursor: Cursor) -> Done:
        self._fit(cursor)
        spelled = self._spelled(cursor)
        before, added = _count(cursor, self._place.sql), self._sums(cursor, self._place.sql, spelled)
        names, values = self._insertion(cursor)
        cursor.execute(f"INSERT INTO {self._place.sql} ({names}) SELECT {values} FROM {table_sql(OWN, self._stage)} s")
        total = _count(cursor, self._place.sql)
        kept = self._keep(cursor, "append", total - before)
        return total - before, total, kept, sums.minus(self._sums(cursor, self._place.sql, spelled), added)

    def _upsert(self, cursor: Cursor) -> Done:
        fresh = not self._exists
        self._fit(cursor)
        key = tuple(self._spelled(cursor)[name] for name in self._load.key)
        stage, sql = table_sql(OWN, self._stage), self._place.sql
        empty = " OR ".join(f"s.{quoted(name)} IS NULL" for name in self._load.key)
        check_no_nulls(self._load, _count(cursor, f"{stage} s WHERE {empty}"))
        same = " AND ".join(
            f"t.{quoted(there)} = s.{quoted(name)}" for there, name in zip(key, self._load.key, strict=True)
        )
        generation = "" if fresh else self._keep_rows(cursor, key, same)
        names, values = self._insertion(cursor)
        keys = ", ".join(f"s.{quoted(name)}" for name in self._load.key)
        newest = f"SELECT DISTINCT ON ({keys}) {values} FROM {stage} s ORDER BY {keys}, s.ctid DESC"
        if _unique(cursor, sql, key):
            cursor.execute(f"INSERT INTO {sql} ({names}) {newest} {self._on_conflict(cursor, key)}")
        else:
            cursor.execute(f"DELETE FROM {sql} t USING {stage} s WHERE {same}")
            cursor.execute(f"INSERT INTO {sql} ({names}) {newest}")
        theirs = f"{sql} t WHERE EXISTS (SELECT 1 FROM {stage} s WHERE {same})"
        added = self._sums(cursor, theirs, self._spelled(cursor))
        return _count(cursor, theirs), _count(cursor, sql), generation, added

    def _sums(self, cursor: Cursor, relation: str, spelled: Mapping[str, str]) -> dict[str, Sum]:
        names = self._load.sums
        if not names:
            return {}
        kinds = {column.name: column.type for column in self._columns}
        values = [addend(spelled.get(one, one), kinds[one]) for one in names]
        cursor.execute(f"SELECT {sums.select(values, 'text')} FROM {relation}")
        return sums.read(names, cursor.fetchone() or ())

    def _fit(self, cursor: Cursor) -> None:
        """The table with all columns of the load, in types that hold its values."""
        if not self._exists:
            columns = ", ".join(f"{quoted(c.name)} {native_type(c.type)}" for c in self._columns)
            unique = ", ".join(quoted(name) for name in self._load.key)
            cursor.execute(f"CREATE TABLE {self._place.sql} ({columns}{f', UNIQUE ({unique})' if unique else ''})")
            return
        cursor.execute(f"LOCK TABLE {self._place.sql} IN SHARE ROW EXCLUSIVE MODE")
        for column in self._drift.added:
            cursor.execute(f"ALTER TABLE {self._place.sql} ADD COLUMN {quoted(column.name)} {native_type(column.type)}")
        for column, wide in self._drift.widened:
            kind, name = native_type(wide), quoted(column.name)
            cursor.execute(f"ALTER TABLE {self._place.sql} ALTER COLUMN {name} TYPE {kind} USING {name}::{kind}")

    def _attributes(self, cursor: Cursor) -> dict[str, Column]:
        found = catalog.relation(cursor, *self._place.key)
        return {name: one.column for name, one in found.attributes.items()} if found else {}

    def _spelled(self, cursor: Cursor) -> dict[str, str]:
        """How the table writes the name of each column of the load."""
        there = self._attributes(cursor)
        lower = {name.lower(): name for name in there}
        return {c.name: c.name if c.name in there else lower[c.name.lower()] for c in self._columns}

    def _insertion(self, cursor: Cursor) -> tuple[str, str]:
        there, spelled = self._attributes(cursor), self._spelled(cursor)
        names = ", ".join(quoted(spelled[c.name]) for c in self._columns)
        values = ", ".join(_cast(c, there[spelled[c.name]].native) for c in self._columns)
        return names, values

    def _on_conflict(self, cursor: Cursor, key: tuple[str, ...]) -> str:
        others = [name for name in self._spelled(cursor).values() if name not in key]
        sets = ", ".join(f"{quoted(name)} = excluded.{quoted(name)}" for name in others)
        return f"ON CONFLICT ({', '.join(map(quoted, key))}) DO " + (f"UPDATE SET {sets}" if sets else "NOTHING")

    def _keep(self, cursor: Cursor, kind: str, rows: int) -> str:
        if self._load.keep_days <= 0 or not self._exists:
            return ""
        return ledger.keep(cursor, self._place, kind, self._load.keep_days, rows=rows).name

    def _keep_rows(self, cursor: Cursor, key: tuple[str, ...], same: str) -> str:
        """Rows that the load changes as they were, and the keys that it brings."""
        if self._load.keep_days <= 0:
            return ""
        stage, columns = table_sql(OWN, self._stage), tuple(self._attributes(cursor))
        rows = _count(cursor, self._place.sql)
        kept = ledger.keep(cursor, self._place, "upsert", self._load.keep_days, rows=rows, key=key, columns=columns)
        named = ", ".join(
            f"s.{quoted(name)} AS {quoted(there)}" for there, name in zip(key, self._load.key, strict=True)
        )
        cursor.execute(
            f"CREATE TABLE {kept.part('_old')} AS SELECT t.* FROM {self._place.sql} t"
            f" WHERE EXISTS (SELECT 1 FROM {stage} s WHERE {same})"
        )
        cursor.execute(f"CREATE TABLE {kept.part('_keys')} AS SELECT DISTINCT {named} FROM {stage} s")
        return kept.name

    def _watched(
        self, batches: pa.RecordBatchReader, taken: list[int], troubles: list[BaseException]
    ) -> Iterator[pa.RecordBatch]:
        try:
            for batch in batches:
                if self._server.context.cancelled():
                    raise Cancelled
                taken[0] += batch.num_rows
                taken[1] += batch.nbytes
                yield ingestible(batch, self._columns)
        except BaseException as error:
            # The driver would tell it in words of its own.
            troubles.append(error)
            raise

    def _told(self, troubles: list[BaseException], error: Exception) -> BaseException:
        trouble = next((one for one in troubles if not isinstance(one, GeneratorExit)), None)
        if isinstance(trouble, pa.ArrowInvalid):
            return EngineError(
                f"a value does not fit its column of {self._load.target.label}: {trouble}",
                origin=Origin.DESTINATION,
                fix="Leave the column out, or correct the values at the source.",
            )
        return trouble or self._server.error(error, f"writing {self._load.target.label} failed")

    def _give_back(self, connection: Any, *, whole: bool) -> None:
        if not whole and connection is not None:
            close_quietly(connection)
        self._idle.put(connection if whole else None)

    def _close(self) -> None:
        close_quietly(self._control)
        while not self._idle.empty():
            connection = self._idle.get()
            if connection is not None:
                close_quietly(connection)


def _cast(column: Column, native: str) -> str:
    """The staged value as the table's type; PostgreSQL casts anything to JSON but an array."""
    value = f"s.{quoted(column.name)}"
    if native in ("json", "jsonb") and native_type(column.type).endswith("[]"):
        value = f"to_json({value})"
    return f"{value}::{native}"


def _count(cursor: Cursor, sql: str) -> int:
    cursor.execute(f"SELECT count(*) FROM {sql}")
    return int((cursor.fetchone() or (0,))[0])


def _unique(cursor: Cursor, sql: str, key: tuple[str, ...]) -> bool:
    """Whether an index makes exactly this key unique."""
    cursor.execute(
        "SELECT count(*) FROM pg_index i WHERE i.indrelid = to_regclass(%s) AND i.indisunique AND i.indisvalid"
        " AND i.indpred IS NULL AND i.indexprs IS NULL AND i.indimmediate AND"
        " (SELECT array_agg(a.attname::text ORDER BY a.attname::text) FROM pg_attribute a"
        "  WHERE a.attrelid = i.indrelid AND a.attnum = ANY((i.indkey::int2[])[0:i.indnkeyatts - 1])) = %s::text[]",
        (sql, sorted(key)),
    )
    return bool((cursor.fetchone() or (0,))[0])


def _check_names(place: Place, columns: tuple[Column, ...]) -> None:
    for name in (place.schema, place.table, *(column.name for column in columns)):
        if not name or len(name.encode()) > _LONGEST_NAME or "\0" in name:
            raise EngineError(
                f"{literal(name)} is not a name that PostgreSQL takes: it has 1 to {_LONGEST_NAME} bytes",
                origin=Origin.DESTINATION,
                fix="Give the table or column a shorter name for the destination.",
            )
