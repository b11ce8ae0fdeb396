"""One load: rows go into a staging table over several connections; one rename or one transaction makes them visible."""

# ruff: noqa: S608  names are quoted by columns.quoted, values are bound or written by outgoing

from __future__ import annotations

import queue
import secrets
import threading
from collections.abc import Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager, nullcontext, suppress
from typing import TYPE_CHECKING, Any

import pyarrow as pa
import pymysql

from webapp.engine.connectors.base import Chunk, Column, Landed, Load, Write, Writer
from webapp.engine.connectors.mysql import ledger, tables
from webapp.engine.connectors.mysql.columns import quoted
from webapp.engine.connectors.mysql.home import Home
from webapp.engine.connectors.mysql.ledger import Place
from webapp.engine.connectors.mysql.outgoing import definition, value_lists
from webapp.engine.connectors.mysql.spec import OWN
from webapp.engine.errors import Cancelled, EngineError, Kind, Origin

if TYPE_CHECKING:
    from webapp.engine.drift import Drift

_LOCK_SECONDS = 2  # a load that has just ended, or was killed, keeps its lock until the server has seen it go
_LONGEST_NAME = 64
_STATEMENT_BYTES = 4 << 20


class MySQLWriter(Writer):
    """Holds the table against other loads until it commits or aborts."""

    def __init__(self, home: Home, place: Place, load: Load) -> None:
        self._home = home
        self._place = place
        self._load = load
        self._columns = tuple(load.columns)
        self._stage = ledger.own(f"stage_{place.mark}_{secrets.token_hex(4)}")
        self._aside = ledger.own(f"{self._stage.table}_state")
        self._drift: Drift | None = None
        self._written: list[int] = []
        self._bytes: list[int] = []
        self._idle: queue.Queue[Any] = queue.Queue()
        for _ in range(home.config.max_threads):
            self._idle.put(None)
        # Rows of one key that come over two connections would wait for each other's locks.
        self._turn: AbstractContextManager[Any] = threading.Lock() if load.write is Write.UPSERT else nullcontext()
        self._control = home.connect()

    def begin(self) -> None:
        """Make the staging table. Raises EngineError when rows of this shape cannot go into the table."""
        _check_names(self._place, self._columns)
        _check_key(self._load)
        with self._asking("cannot prepare") as cursor:
            self._claim(cursor)
            ledger.prepare(cursor, self._place)
            self._plan(cursor)
            self._limit = min(_STATEMENT_BYTES, _packet(cursor) - 65_536)
            cursor.execute(f"CREATE TABLE {self._stage.sql} ({self._definitions()}) {self._tail}")

    def write(self, batches: pa.RecordBatchReader, chunk: Chunk) -> int:
        """Take a chunk by INSERT statements of many rows: all of it or nothing."""
        with self._turn:
            connection = self._idle.get()
            whole = False
            try:
                connection = connection or self._home.connect(autocommit=False)
                with self._home.told(f"writing {self._load.target.label} failed", connection):
                    rows, size = self._pour(batches, connection)
                    connection.commit()
                whole = True
            finally:
                if not whole and connection is not None:
                    self._home.close(connection)
                self._idle.put(connection if whole else None)
        self._written.append(rows)
        self._bytes.append(size)
        return rows

    def commit(self, state: Mapping[str, Any]) -> Landed:
        """Rows and state in one rename or one transaction."""
        with self._asking("cannot commit to") as cursor:
            ledger.prune(cursor, self._place)
            if self._have is None or self._load.write is Write.REPLACE:
                found, total, generation = self._put(cursor, state)
            else:
                found, total, generation = self._merge(cursor, state)
            self._drop(cursor)
        self._close()
        return Landed(sum(self._written), found, total, sum(self._bytes), generation)

    def abort(self) -> None:
        """Drop the staging table, as far as the server answers."""
        with suppress(pymysql.MySQLError, OSError, EngineError), self._control.cursor() as cursor:
            cursor.execute("ROLLBACK")
            self._drop(cursor)
        self._close()

    def _claim(self, cursor: Any) -> None:
        cursor.execute("SELECT GET_LOCK(%s, %s)", (f"hohmann {self._place.mark}", _LOCK_SECONDS))
        if cursor.fetchone()[0] != 1:
            raise EngineError(
                f"another load is writing {self._load.target.label}",
                origin=Origin.DESTINATION,
                kind=Kind.TRANSIENT,
                fix="Wait until it has ended.",
            )
        # Whoever left these is gone, for the lock was free.
        cursor.execute(
            "SELECT table_name FROM information_schema.tables WHERE table_schema = %s AND table_name LIKE %s",
            (OWN, f"stage\\_{self._place.mark}\\_%"),
        )
        for (name,) in cursor.fetchall():
            cursor.execute(f"DROP TABLE IF EXISTS {ledger.own(name).sql}")

    def _plan(self, cursor: Any) -> None:
        from webapp.engine import drift

        self._have = found = tables.table(cursor, self._place)
        self._collation = tables.exact_collation(cursor)
        self._tail = f"ENGINE=InnoDB DEFAULT CHARACTER SET utf8mb4 COLLATE {self._collation}"
        if found is not None and not found.base:
            raise EngineError(
                f"{self._load.target.label} is not a table",
                origin=Origin.DESTINATION,
                fix="Choose another name for the stream's table.",
            )
        if found is None or self._load.write is Write.REPLACE:
            return
        have = [drift.Column(one.column.name, one.column.type) for one in found.attributes.values()]
        come = [drift.Column(column.name, column.type) for column in self._columns]
        self._drift = drift.plan_drift(have, come, self._load.target.label)
        for column, wide in self._drift.widened:
            if found.attributes[column.name].fixed:
                raise EngineError(
                    f"column {column.name} of {self._load.target.label} would have to become {wide}, and has a default "
                    "or more that would be lost",
                    origin=Origin.DESTINATION,
                    column=column.name,
                    fix="Widen the column yourself, or load into another table.",
                )

    def _definitions(self) -> str:
        """The columns of the staging table; texts compare there as in the table that they will meet."""
        parts = []
        for column in self._columns:
            name = self._have.named(column.name) if self._have and self._drift else None
            collation = self._have.attributes[name].collation if self._have and name else ""
            key = column.name in self._load.key
            options = "NOT NULL" if key and self._load.write is Write.UPSERT else "NULL"
            parts.append(definition(column, key=key, collation=collation, options=options))
        if self._load.key:
            unique = "UNIQUE " if self._load.write is Write.UPSERT else ""
            parts.append(f"{unique}KEY ({', '.join(map(quoted, self._load.key))})")
        return ", ".join(parts)

    def _pour(self, batches: pa.RecordBatchReader, connection: Any) -> tuple[int, int]:
        rows = size = 0
        names = ", ".join(quoted(column.name) for column in self._columns)
        begin = f"INSERT INTO {self._stage.sql} ({names}) VALUES ".encode()
        end = _newest([column.name for column in self._columns]).encode() if self._load.write is Write.UPSERT else b""
        with connection.cursor() as cursor:
            for batch in batches:
                size += batch.nbytes
                for values, count in self._values(batch):
                    if self._home.context.cancelled():
                        raise Cancelled
                    taken = cursor.execute(b"".join((begin, values, end)))
                    rows += count if end else taken
        return rows, size

    def _values(self, batch: pa.RecordBatch) -> Iterator[tuple[bytes, int]]:
        try:
            yield from value_lists(batch, self._columns, self._limit)
        except pa.ArrowInvalid as error:
            raise EngineError(
                f"a value does not fit {self._load.target.label}: {error}",
                origin=Origin.DESTINATION,
                fix="Leave the column out, or correct the values at the source.",
            ) from error

    def _put(self, cursor: Any, state: Mapping[str, Any]) -> tuple[int, int, str]:
        """The staging table under the table's name, and its state beside it, in one step."""
        found = _count(cursor, self._stage)
        kept = None
        if self._have is not None:
            _refuse_referred(cursor, self._place)
            rows = _count(cursor, self._place)
            kept = ledger.fresh(self._place, "replace", rows=rows)
            ledger.note(cursor, self._place, kept, self._load.keep_days)
        ledger.new_state(cursor, self._place, state, self._load.run_id, self._aside)
        put_in_place(cursor, self._place, self._stage, self._aside, kept)
        if kept is None or self._load.keep_days > 0:
            return found, found, kept.name if kept else ""
        ledger.forget(cursor, kept)
        return found, found, ""

    def _merge(self, cursor: Any, state: Mapping[str, Any]) -> tuple[int, int, str]:
        """The staging table's rows into the table, and its state, in one transaction."""
        self._fit(cursor)
        upsert = self._load.write is Write.UPSERT
        kept = self._parachute(cursor) if upsert and self._load.keep_days > 0 else None
        cursor.execute("START TRANSACTION WITH CONSISTENT SNAPSHOT")
        if upsert:
            found, total = self._upsert(cursor, kept)
        else:
            found, total = self._append(cursor)
        ledger.set_state(cursor, self._place, state, self._load.run_id, self._place.state)
        cursor.execute("COMMIT")
        return found, total, kept.name if kept else ""

    def _append(self, cursor: Any) -> tuple[int, int]:
        before = _count(cursor, self._place)
        names, values = self._insertion()
        cursor.execute(f"INSERT INTO {self._place.sql} ({names}) SELECT {values} FROM {self._stage.sql} s")
        total = _count(cursor, self._place)
        if total - before != sum(self._written):
            raise EngineError(
                f"{sum(self._written)} rows were written and {total - before} arrived in {self._load.target.label}",
                origin=Origin.DESTINATION,
                fix="Look for a trigger or a rule of the table that takes rows away.",
            )
        noted = ledger.fresh(self._place, "append", rows=before)
        ledger.note(cursor, self._place, noted, max(1, self._load.keep_days))
        return total - before, total

    def _upsert(self, cursor: Any, kept: ledger.Kept | None) -> tuple[int, int]:
        stage, table, same = self._stage.sql, self._place.sql, self._same()
        if kept is not None:
            self._keep_rows(cursor, kept)
            ledger.note(cursor, self._place, kept, self._load.keep_days)
        names, values = self._insertion()
        insert = f"INSERT INTO {table} ({names}) SELECT {values} FROM {stage} s"
        if tables.unique_on(cursor, self._place, self._key()):
            cursor.execute(insert + _newest([self._spelled(column.name) for column in self._columns]))
        else:
            cursor.execute(f"DELETE t FROM {table} t JOIN {stage} s ON {same}")
            cursor.execute(insert)
        cursor.execute(f"SELECT count(*) FROM {table} t WHERE EXISTS (SELECT 1 FROM {stage} s WHERE {same})")
        found = int(cursor.fetchone()[0])
        return found, _count(cursor, self._place)

    def _fit(self, cursor: Any) -> None:
        """The table with all columns of the load, in types that hold its values."""
        assert self._drift is not None and self._have is not None
        changes = [f"ADD COLUMN {definition(Column(one.name, one.type))}" for one in self._drift.added]
        for one, wide in self._drift.widened:
            had = self._have.attributes[one.name]
            options = "NULL" if had.column.nullable else "NOT NULL"
            short = one.name in self._key()
            new = definition(Column(one.name, wide), key=short, collation=had.collation, options=options)
            changes.append(f"MODIFY COLUMN {new}")
        if changes:
            cursor.execute(f"ALTER TABLE {self._place.sql} {', '.join(changes)}")
            self._have = tables.table(cursor, self._place)

    def _parachute(self, cursor: Any) -> ledger.Kept:
        """Empty tables for what the load changes; they are filled within its transaction."""
        kept = ledger.fresh(self._place, "upsert", rows=_count(cursor, self._place), key=self._key())
        keys = ", ".join(map(quoted, self._key()))
        named = ", ".join(
            f"{quoted(name)} AS {quoted(there)}" for name, there in zip(self._load.key, self._key(), strict=True)
        )
        stored = ", ".join(map(quoted, self._stored()))
        cursor.execute(
            f"CREATE TABLE {kept.part('_old').sql} {self._tail} AS SELECT {stored} FROM {self._place.sql} LIMIT 0"
        )
        cursor.execute(
            f"CREATE TABLE {kept.part('_keys').sql} (KEY ({keys})) {self._tail}"
            f" AS SELECT {named} FROM {self._stage.sql} LIMIT 0"
        )
        return kept

    def _keep_rows(self, cursor: Any, kept: ledger.Kept) -> None:
        """Rows that the load changes as they were, and the keys that it brings."""
        stored = ", ".join(f"t.{quoted(name)}" for name in self._stored())
        cursor.execute(
            f"INSERT INTO {kept.part('_old').sql} SELECT {stored} FROM {self._place.sql} t"
            f" WHERE EXISTS (SELECT 1 FROM {self._stage.sql} s WHERE {self._same()}) FOR UPDATE"
        )
        keys = ", ".join(map(quoted, self._load.key))
        cursor.execute(f"INSERT INTO {kept.part('_keys').sql} SELECT {keys} FROM {self._stage.sql}")

    def _stored(self) -> list[str]:
        assert self._have is not None
        return [name for name, one in self._have.attributes.items() if not one.generated]

    def _spelled(self, name: str) -> str:
        return (self._have and self._have.named(name)) or name

    def _key(self) -> tuple[str, ...]:
        return tuple(self._spelled(name) for name in self._load.key)

    def _same(self) -> str:
        pairs = zip(self._key(), self._load.key, strict=True)
        return " AND ".join(f"t.{quoted(there)} = s.{quoted(name)}" for there, name in pairs)

    def _insertion(self) -> tuple[str, str]:
        names = ", ".join(quoted(self._spelled(column.name)) for column in self._columns)
        return names, ", ".join(f"s.{quoted(column.name)}" for column in self._columns)

    def _drop(self, cursor: Any) -> None:
        cursor.execute(f"DROP TABLE IF EXISTS {self._stage.sql}, {self._aside.sql}")

    @contextmanager
    def _asking(self, what: str) -> Iterator[Any]:
        with (
            self._home.told(f"{what} {self._load.target.label}", self._control),
            self._control.cursor() as cursor,
        ):
            yield cursor

    def _close(self) -> None:
        self._home.close(self._control)
        while not self._idle.empty():
            connection = self._idle.get()
            if connection is not None:
                self._home.close(connection)


def put_in_place(cursor: Any, place: Place, new: Place, state: Place, kept: ledger.Kept | None) -> None:
    """Give `new` the table's name and `state` that of its state, in one step; what was there goes to `kept`."""
    was = kept.part("_state") if kept else ledger.own(f"{state.table}_was")
    renames = [f"{place.sql} TO {kept.part().sql}"] if kept else []
    renames += [f"{new.sql} TO {place.sql}", f"{place.state.sql} TO {was.sql}", f"{state.sql} TO {place.state.sql}"]
    cursor.execute(f"RENAME TABLE {', '.join(renames)}")
    if not kept:
        cursor.execute(f"DROP TABLE {was.sql}")


def _newest(names: list[str]) -> str:
    """The end of an INSERT by which a row takes the place of the one that has its key."""
    sets = ", ".join(f"{quoted(name)} = VALUES({quoted(name)})" for name in names)
    return f" ON DUPLICATE KEY UPDATE {sets}"


def _refuse_referred(cursor: Any, place: Place) -> None:
    if hanging := tables.referring(cursor, place):
        raise EngineError(
            f"{place.schema}.{place.table} cannot be replaced: {', '.join(hanging[:5])} refers to it",
            origin=Origin.DESTINATION,
            fix="Foreign keys hold on to the old table: drop them, or append or upsert instead.",
        )


def _count(cursor: Any, place: Place) -> int:
    cursor.execute(f"SELECT count(*) FROM {place.sql}")
    return int(cursor.fetchone()[0])


def _packet(cursor: Any) -> int:
    cursor.execute("SELECT @@max_allowed_packet")
    return int(cursor.fetchone()[0])


def _check_names(place: Place, columns: tuple[Column, ...]) -> None:
    for name in (place.schema, place.table, *(column.name for column in columns)):
        if (
            not name
            or len(name) > _LONGEST_NAME
            or name.endswith(" ")
            or not name.isprintable()
            or max(name) > "\uffff"
        ):
            raise EngineError(
                f"{name!r} is not a name that MySQL takes: it has 1 to {_LONGEST_NAME} printable characters, no emoji, "
                "and no blank at its end",
                origin=Origin.DESTINATION,
                fix="Give the table or column another name for the destination.",
            )


def _check_key(load: Load) -> None:
    missing = [name for name in load.key if name not in {column.name for column in load.columns}]
    if load.write is Write.UPSERT and (missing or not load.key):
        what = f"the key's {', '.join(missing)} is no column of the load" if missing else "it has no key"
        raise EngineError(
            f"{load.target.label} cannot be upserted: {what}",
            origin=Origin.USER,
            fix="Name columns that tell the rows apart, or append.",
        )
