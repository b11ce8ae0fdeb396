"""One load: rows go into a staging table; a new content is made of it, and one exchange shows it with its state."""

# ruff: noqa: S608  names are quoted by columns.quoted

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import pyarrow as pa

from webapp.engine.connectors.base import Chunk, Column, Landed, Load, Write, Writer
from webapp.engine.connectors.clickhouse import contents, tables
from webapp.engine.connectors.clickhouse.columns import definition, quoted
from webapp.engine.connectors.clickhouse.contents import Place
from webapp.engine.connectors.clickhouse.outgoing import arrow_data
from webapp.engine.connectors.clickhouse.server import Server
from webapp.engine.connectors.keys import check_key, check_no_nulls
from webapp.engine.connectors.sums import is_whole
from webapp.engine.errors import Cancelled, EngineError, Kind, Origin

if TYPE_CHECKING:
    from webapp.engine.drift import Drift

_PIECE_BYTES = 16 << 20
# The order in which rows came: parts of a staging table that nothing sorts bear the numbers of their inserts.
_CAME = "toUInt64(splitByChar('_', _part)[2]) DESC, _part_offset DESC"


class ClickHouseWriter(Writer):
    """Writes aside until it commits; several loads of one table at once are noticed when the second commits."""

    def __init__(self, server: Server, place: Place, load: Load) -> None:
        self._server = server
        self._place = place
        self._load = load
        self._upsert = load.write is Write.UPSERT
        self._stage = contents.aside(place)
        self._made = contents.aside(place)
        self._have: tables.Table | None = None
        self._drift: Drift | None = None
        self._columns = tuple(load.columns)
        self._written: list[tuple[int, int]] = []

    def begin(self) -> None:
        """Make the staging table. Raises EngineError when rows of this shape cannot go into the table."""
        check_key(self._load)
        contents.prepare(self._server, self._place)
        self._have = tables.table(self._server, self._place)
        if self._have is not None and self._have.engine.endswith("View"):
            raise _refused(f"{self._load.target.label} is not a table", "Choose another name for the stream's table.")
        if self._have is not None and self._load.write is not Write.REPLACE:
            self._drift = tables.drift_of(self._have, self._load)
            casts = self._drift.casts
            self._columns = tuple(replace(one, type=casts.get(one.name, one.type)) for one in self._columns)
        self._create(self._stage, () if self._upsert else self._load.key)

    def write(self, batches: pa.RecordBatchReader, chunk: Chunk) -> int:
        """Take a chunk by INSERTs of Arrow data; each is sent when it is whole, for servers wait 30 s for more."""
        written, waiting, size = 0, [], 0
        for batch in batches:
            if self._server.context.cancelled():
                raise Cancelled
            waiting.append(batch)
            size += batch.nbytes
            if size >= _PIECE_BYTES:
                written += self._send(waiting, size)
                waiting, size = [], 0
        return written + (self._send(waiting, size) if waiting else 0)

    def commit(self, state: Mapping[str, Any]) -> Landed:
        """Rows and state in one exchange."""
        server, place = self._server, self._place
        new, found, before = self._merged() if self._drift or self._upsert else (self._stage, None, None)
        total = _count(server, new)
        number = contents.number(server, new)
        assert number is not None
        contents.note(server, place, number, state, rows=total, run_id=self._load.run_id)
        self._show(new, before)
        generation = self._cleared(new)
        written, size = (sum(one[at] for one in self._written) for at in (0, 1))
        return Landed(written, total if found is None else found, total, size, generation)

    def abort(self) -> None:
        """Drop what was made aside, as far as the server answers."""
        for place in (self._stage, self._made):
            with suppress(EngineError):
                contents.forget(self._server, place)

    def _send(self, batches: Sequence[pa.RecordBatch], size: int) -> int:
        try:
            data = arrow_data(batches, self._columns, wide_dates=self._server.wide_dates)
        except pa.ArrowInvalid as error:
            raise _refused(
                f"a value does not fit {self._load.target.label}: {error}",
                "Leave the column out, or correct the values at the source.",
            ) from error
        self._server.insert(self._stage.sql, [one.name for one in self._columns], data, "ArrowStream")
        rows: int = sum(batch.num_rows for batch in batches)
        self._written.append((rows, size))
        return rows

    def _create(self, place: Place, key: tuple[str, ...]) -> None:
        columns = ", ".join(definition(column) for column in self._columns)
        order = ", ".join(map(quoted, key))
        self._server.do(
            f"CREATE TABLE {place.sql} ({columns}) ENGINE = MergeTree ORDER BY ({order})"
            " SETTINGS allow_nullable_key = 1"
        )

    def _merged(self) -> tuple[Place, int, int | None]:
        """What the table shall hold, how many rows of the load are in it, and how many the table has had before."""
        new, before = self._made, None
        if self._have is None:
            self._create(new, self._load.key)
        else:
            # The clone shares the table's parts: nothing is copied.
            self._server.do(f"CREATE TABLE {new.sql} CLONE AS {self._place.sql}")
            before = _count(self._server, new)
            self._fit(new)
        return new, self._upserted(new) if self._upsert else self._appended(new, before or 0), before

    def _fit(self, new: Place) -> None:
        """The clone with all columns of the load, in types that hold its values."""
        assert self._drift is not None and self._have is not None
        nullable = {one.name: one.nullable for one in self._columns}
        changes = [
            f"ADD COLUMN {definition(Column(one.name, one.type, nullable[one.name]))}" for one in self._drift.added
        ]
        kinds = {one.name: wide for one, wide in self._drift.widened}
        free = tables.loosened(self._have, self._columns)
        for name in {**kinds, **dict.fromkeys(free)}:
            column = self._have.attributes[name].column
            wide = replace(column, type=kinds.get(name, column.type), nullable=column.nullable or name in free)
            changes.append(f"MODIFY COLUMN {definition(wide)}")
        self._check_reals(new, kinds)
        if changes:
            self._server.do(f"ALTER TABLE {new.sql} {', '.join(changes)}")

    def _check_reals(self, new: Place, kinds: Mapping[str, str]) -> None:
        """Refuse to round whole numbers that are there."""
        assert self._have is not None
        for name, wide in kinds.items():
            column = self._have.attributes[name].column
            if wide != "DOUBLE" or not is_whole(column.type):
                continue
            one = quoted(name)
            lost = f"SELECT count() FROM {new.sql} WHERE toInt256(toFloat64({one})) != toInt256({one})"
            if self._server.number(lost):
                raise _refused(
                    f"column {name} of {self._load.target.label} is {column.type} and the source brings reals: "
                    "the table holds numbers that a DOUBLE would round",
                    "Load once with full refresh, or load into another table.",
                )

    def _appended(self, new: Place, before: int) -> int:
        names, values = self._insertion()
        self._server.do(f"INSERT INTO {new.sql} ({names}) SELECT {values} FROM {self._stage.sql}")
        found = _count(self._server, new) - before
        if found != sum(rows for rows, _ in self._written):
            raise _refused(f"{found} rows of the load arrived in {self._load.target.label}", "Run the load again.")
        return found

    def _upserted(self, new: Place) -> int:
        keys = ", ".join(map(quoted, self._load.key))
        absent = " OR ".join(f"isNull({quoted(name)})" for name in self._load.key)
        check_no_nulls(self._load, self._server.number(f"SELECT countIf({absent}) FROM {self._stage.sql}"))
        there = ", ".join(quoted(self._spelled(name)) for name in self._load.key)
        same = f"({there}) IN (SELECT {keys} FROM {self._stage.sql})"
        if self._have is not None:
            self._server.do(f"DELETE FROM {new.sql} WHERE {same}")
        names, values = self._insertion()
        twice = f"SELECT 1 FROM {self._stage.sql} GROUP BY {keys} HAVING count() > 1 LIMIT 1"
        last = f" ORDER BY {_CAME} LIMIT 1 BY {keys}" if self._server.rows(twice) else ""
        self._server.do(f"INSERT INTO {new.sql} ({names}) SELECT {values} FROM {self._stage.sql}{last}")
        return self._server.number(f"SELECT count() FROM {new.sql} WHERE {same}")

    def _show(self, new: Place, before: int | None) -> None:
        """Give the new content the table's name. Raises EngineError when somebody else has written meanwhile."""
        table = self._place.sql
        if self._have is None:
            self._server.do(f"RENAME TABLE {new.sql} TO {table}")
            return
        if before is not None and not self._untouched(self._place, before):
            raise self._overtaken()
        self._server.do(f"EXCHANGE TABLES {table} AND {new.sql}")
        if before is not None and not self._untouched(new, before):
            # Somebody has come between the look and the exchange: that content gets its name back.
            self._server.do(f"EXCHANGE TABLES {table} AND {new.sql}")
            raise self._overtaken()

    def _untouched(self, place: Place, before: int) -> bool:
        """Whether this is still the content that the load began with, with as many rows."""
        assert self._have is not None
        return contents.number(self._server, place) == self._have.number and _count(self._server, place) == before

    def _cleared(self, old: Place) -> str:
        """Keep what was replaced, and drop the rest; the load has landed whatever happens here."""
        generation = ""
        try:
            if self._have is not None and self._load.keep_days > 0 and self._load.write is not Write.APPEND:
                generation = contents.keep(self._server, self._place, old, self._load.keep_days)
            self.abort()
            contents.prune(self._server, self._place)
        except EngineError as error:
            self._server.context.reporter.log("warning", f"old contents were not cleared away: {error.message}")
        return generation

    def _insertion(self) -> tuple[str, str]:
        names = ", ".join(quoted(self._spelled(one.name)) for one in self._columns)
        return names, ", ".join(quoted(one.name) for one in self._columns)

    def _spelled(self, name: str) -> str:
        return (self._have and self._have.named(name)) or name

    def _overtaken(self) -> EngineError:
        return EngineError(
            f"{self._load.target.label} was written by somebody else during the load",
            origin=Origin.DESTINATION,
            kind=Kind.TRANSIENT,
            fix="Let one job write the table; this load can be tried again.",
        )


def _count(server: Server, place: Place) -> int:
    return server.number(f"SELECT count() FROM {place.sql}")


def _refused(message: str, fix: str) -> EngineError:
    return EngineError(message, origin=Origin.DESTINATION, fix=fix)
