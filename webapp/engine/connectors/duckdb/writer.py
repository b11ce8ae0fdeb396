"""One load into one table: chunks go into a table aside, and take their place in one transaction."""

# ruff: noqa: S608  names are quoted, values are bound

from __future__ import annotations

import contextlib
import json
import threading
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import duckdb
from duckdb.sqltypes import DuckDBPyType

from webapp.engine import drift
from webapp.engine.connectors import sums
from webapp.engine.connectors.base import Chunk, Column, Landed, Load, Staged, Sum, Write, Writer
from webapp.engine.connectors.duckdb import parachute, room, staging, tables
from webapp.engine.connectors.duckdb.destination import explained
from webapp.engine.errors import EngineError, Origin
from webapp.engine.names import TableName, quoted
from webapp.engine.watch import watched

if TYPE_CHECKING:
    import pyarrow as pa

    from webapp.engine.connectors.duckdb.destination import DuckDBSession

_ROWS = "hohmann_rows"


class DuckDBWriter(Writer):
    """A load that fills its table aside, with a cursor and a transaction for each chunk."""

    def __init__(self, session: DuckDBSession, load: Load, table: TableName) -> None:
        self._session = session
        self._connection = session.connection
        self._load = load
        self._table = table
        if load.write is Write.REPLACE and session.context.keep_free_percent and self._exists():
            # The new content takes about as much as the old, and both are there until the load has landed.
            room.make_room(self._connection, session.context, session.file, room.size_of(self._connection, table))
        self._turn = threading.Lock()
        self._ended = False
        self._drift = self._fitting()
        self._void: list[staging.Range] = []
        self._places: dict[str, staging.Range] = {}
        self._noted = False
        self._aside, self._left = self._taken_up()

    def staged(self) -> Sequence[Staged]:
        """What lies in the table of an interrupted load."""
        return list(self._left.values())

    def resume(self, kept: Sequence[Staged]) -> None:
        """Say which rows shall land; the others go when the load lands."""
        names = {one.name for one in kept}
        stays = [place for place, one in self._left.items() if one.name in names]
        with self._session.lock, explained(self._session.shown):
            if stays:
                self._void = staging.keep(self._connection, self._aside, stays)
            else:
                staging.drop(self._connection, self._aside)
                self._aside = self._made()
        self._left = {place: self._left[place] for place in stays}

    def write(self, batches: pa.RecordBatchReader, chunk: Chunk) -> int:
        """Insert the rows of a chunk as DuckDB pulls them."""
        with explained(self._session.shown), contextlib.closing(self._connection.cursor()) as cursor:
            cursor.register(_ROWS, batches)
            with watched(cursor, self._session.context), contextlib.ExitStack() as turn:
                with tables.transaction(cursor):
                    row = cursor.execute(f"INSERT INTO {self._stage.sql} SELECT * FROM {_ROWS}").fetchone()
                    # One commit at a time: so a chunk's rows lie side by side, behind those that are there.
                    turn.enter_context(self._turn)
                    first = self._count_aside()
                rows = int(row[0]) if row else 0
                self._places[chunk.name] = (first, first + rows)
        return rows

    def note(self, chunk: Chunk, mark: Mapping[str, Any]) -> None:
        """Remember where the chunk's rows lie; a chunk without rows has no place."""
        place = self._places.get(chunk.name)
        if place is not None and self._load.fingerprint:
            with explained(self._session.shown), contextlib.closing(self._connection.cursor()) as cursor:
                staging.note(cursor, self._aside, chunk, mark, place)
                self._noted = True

    def commit(self, state: Mapping[str, object]) -> Landed:
        """Swap, insert or merge, note the state, count, and make all of it visible at once."""
        session = self._session
        with session.lock, explained(session.shown):
            with watched(self._connection, session.context), tables.transaction(self._connection):
                tables.make_own(self._connection)
                staging.delete(self._connection, self._aside, self._void)
                landed = self._land()
                staging.forget(self._connection, self._aside)
                text = json.dumps(dict(state), ensure_ascii=False)
                tables.put_state(self._connection, self._table, text, self._load.run_id)
                parachute.prune(self._connection, self._table, self._load.keep_days)
            self._ended = session.landed = True
            gone = room.make_room(self._connection, session.context, session.file)
        return replace(landed, generation="") if landed.generation in gone else landed

    def abort(self) -> None:
        """Drop the table aside, and the schema that was made for it."""
        if self._ended:
            return
        self._ended = self._session.unfinished = True
        # A database that has failed altogether sweeps at its next opening.
        with self._session.lock, contextlib.suppress(duckdb.Error):
            staging.drop(self._connection, self._aside)

    def interrupt(self) -> None:
        """Leave the table aside for a load that goes on with it, when a chunk of it has been noted."""
        if not (self._noted or self._left):
            self.abort()
        self._ended = self._session.unfinished = True

    def _taken_up(self) -> tuple[staging.Stage, dict[staging.Range, Staged]]:
        """The table that an interrupted load of this fingerprint left, and what it holds; else a new one."""
        found = staging.taken_up(self._connection, self._load, self._table)
        left = {} if found is None else staging.noted(self._connection, found)
        if found is not None and left:
            return found, left
        if found is not None:
            staging.drop(self._connection, found)
        return self._made(), {}

    def _made(self) -> staging.Stage:
        columns = ", ".join(f"{quoted(column.name)} {_type(column)}" for column in self._load.columns)
        return staging.made(self._connection, self._load, self._table, columns)

    @property
    def _stage(self) -> TableName:
        return self._aside.table

    def _count_aside(self) -> int:
        with contextlib.closing(self._connection.cursor()) as cursor:
            return tables.count(cursor, self._stage.sql)

    def _exists(self) -> bool:
        return tables.kind(self._connection, self._table) != ""

    def _fitting(self) -> drift.Drift:
        if self._load.write is Write.REPLACE or not self._exists():
            return drift.Drift(str(self._table))
        return drift.plan_drift(
            _plain(tables.columns(self._connection, self._table.sql)), _plain(self._load.columns), str(self._table)
        )

    def _land(self) -> Landed:
        rows = tables.count(self._connection, self._stage.sql)
        if self._load.key:
            self._check_key()
        if self._load.write is Write.REPLACE or not self._exists():
            return self._replace()
        if self._load.write is Write.UPSERT:
            return self._upsert(rows)
        return self._append(rows)

    def _replace(self) -> Landed:
        generation = ""
        if self._exists():
            if self._load.keep_days > 0:
                generation = parachute.keep_table(self._connection, self._table)
            else:
                parachute.forget_all(self._connection, self._table)
                self._connection.execute(f"DROP TABLE {self._table.sql}")
        tables.rename(self._connection, self._stage, self._table.table)
        total = tables.count(self._connection, self._table.sql)
        return Landed(total, total, total, generation=generation, sums=self._sums(self._table.sql))

    def _append(self, rows: int) -> Landed:
        self._widen()
        before, added = tables.count(self._connection, self._table.sql), self._sums(self._table.sql)
        written = self._insert()
        total = tables.count(self._connection, self._table.sql)
        added = sums.minus(self._sums(self._table.sql), added)
        kept = self._kept(rows, parachute.new_name())
        return Landed(written, total - before, total, generation=kept, sums=added)

    def _upsert(self, rows: int) -> Landed:
        self._widen()
        stored = f"EXISTS (FROM {self._stage.sql} AS s WHERE {self._same_key()})"
        name = parachute.new_name()
        if self._load.keep_days > 0:
            parachute.keep_old(self._connection, self._table, stored, name)
        self._connection.execute(
            f"DELETE FROM {self._table.sql} AS t USING {self._stage.sql} AS s WHERE {self._same_key()}"
        )
        written = self._insert()
        theirs = f"{self._table.sql} AS t WHERE {stored}"
        found, added = tables.count(self._connection, theirs), self._sums(theirs)
        total = tables.count(self._connection, self._table.sql)
        return Landed(written, found, total, generation=self._kept(rows, name), sums=added)

    def _sums(self, relation: str) -> dict[str, Sum]:
        names = self._load.sums
        if not names:
            return {}
        wanted = sums.select([quoted(one) for one in names])
        row = self._connection.execute(f"SELECT {wanted} FROM {relation}").fetchone()
        return sums.read(names, row or ())

    def _widen(self) -> None:
        for check in self._drift.checks(self._table.sql):
            row = self._connection.execute(check.sql).fetchone()
            if row and row[0]:
                raise check.error
        for statement in self._drift.statements(self._table.sql):
            self._connection.execute(statement)

    def _insert(self) -> int:
        row = self._connection.execute(
            f"INSERT INTO {self._table.sql} BY NAME {self._drift.select(self._stage.sql)}"
        ).fetchone()
        return int(row[0]) if row else 0

    def _kept(self, rows: int, name: str) -> str:
        if self._load.keep_days <= 0:
            self._connection.execute(f"DROP TABLE {self._stage.sql}")
            return ""
        parachute.keep_rows(self._connection, self._table, self._stage, self._load.write, rows, name)
        return name

    def _same_key(self) -> str:
        return " AND ".join(f"t.{quoted(name)} = s.{quoted(name)}" for name in self._load.key)

    def _check_key(self) -> None:
        keys = ", ".join(quoted(name) for name in self._load.key)
        empty = " OR ".join(f"{quoted(name)} IS NULL" for name in self._load.key)
        if nulls := tables.count(self._connection, f"{self._stage.sql} WHERE {empty}"):
            raise self._key_error(f"{nulls} rows have no value in the key ({', '.join(self._load.key)})")
        twice = self._connection.execute(
            f"SELECT {keys}, count(*) FROM {self._stage.sql} GROUP BY {keys} HAVING count(*) > 1 LIMIT 1"
        ).fetchone()
        if twice:
            shown = ", ".join(f"{name} = {value}" for name, value in zip(self._load.key, twice, strict=False))
            raise self._key_error(f"the key {shown} stands in {twice[-1]} rows of the source")

    def _key_error(self, message: str) -> EngineError:
        return EngineError(
            message,
            origin=Origin.SOURCE,
            fix="Correct the source, or choose columns that tell its rows apart.",
            table=str(self._table),
            key=list(self._load.key),
        )


def _plain(columns: tuple[Column, ...]) -> list[drift.Column]:
    return [drift.Column(column.name, _type(column)) for column in columns]


def _type(column: Column) -> str:
    """The type in DuckDB's own spelling; whatever is no type never reaches SQL."""
    try:
        return str(DuckDBPyType(column.type))
    except duckdb.Error as error:
        raise EngineError(
            f"column {column.name} has the type {column.type!r}, which DuckDB does not know", origin=Origin.DESTINATION
        ) from error
