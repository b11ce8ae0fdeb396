"""SQLite files as a source: opened for reading only, seen in one transaction, values checked against their types."""

# ruff: noqa: S608  names are quoted by names.quoted, values are bound

from __future__ import annotations

import sqlite3
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import closing, contextmanager, suppress
from fnmatch import fnmatchcase
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

from webapp.engine.connectors import sums
from webapp.engine.connectors.base import CheckStep, Chunk, Column, Mode, Read, Source, SourceSession, Stream, Sum
from webapp.engine.connectors.sqlite import values
from webapp.engine.connectors.sqlite.spec import SQLiteSourceSpec
from webapp.engine.connectors.sqlite.where import where
from webapp.engine.connectors.trials import tried
from webapp.engine.errors import Cancelled, EngineError, Kind, Origin
from webapp.engine.names import quoted
from webapp.engine.paths import allowed_path

if TYPE_CHECKING:
    import pyarrow as pa

_BATCH = 20_000
_SCHEMA = "main"
_CURSORS = ("BIGINT", "DOUBLE", "VARCHAR", "DATE", *values.TIMES)


class SQLiteSource(Source[SQLiteSourceSpec]):
    """A SQLite file."""

    name = "sqlite"
    title = "SQLite"
    offers_sums = True
    Spec = SQLiteSourceSpec

    def check(self) -> Iterator[CheckStep]:
        """Find the file, open it, read one row."""
        return tried(("resolve", self._found), ("connect", self._opened), ("read one row", self._one_row))

    def discover(self, *, pattern: str = "") -> Iterator[Stream]:
        """Yield tables and views; every value's type is looked at, so that the columns' types are true."""
        with closing(_connected(self._file())) as connection, _explained(self.config.path):
            connection.execute("BEGIN")
            _stop_when_cancelled(connection, self.context.cancelled)
            for name, kind in _relations(connection):
                if not pattern or fnmatchcase(f"{_SCHEMA}.{name}", pattern):
                    yield _stream(connection, name, table=kind == "table")

    @contextmanager
    def open(self, *, parallel: int) -> Iterator[SQLiteSession]:
        """One connection with one read transaction."""
        with closing(_connected(self._file())) as connection:
            with _explained(self.config.path):
                # A transaction's view begins with its first read.
                connection.execute("BEGIN")
                connection.execute("SELECT count(*) FROM sqlite_schema").fetchone()
            _stop_when_cancelled(connection, self.context.cancelled)
            yield SQLiteSession(connection, self.config.path, self.context.cancelled)

    def _file(self) -> Path:
        file = allowed_path(self.config.path, self.context, origin=Origin.SOURCE)
        if not file.is_file():
            raise EngineError(f"the file {self.config.path!r} is not there", origin=Origin.SOURCE,
                              path=self.config.path,
                              fix="Check the path; a relative one begins at the data folder.")  # fmt: skip
        return file

    def _found(self) -> str:
        return f"{self._file().stat().st_size} bytes"

    def _opened(self) -> str:
        with closing(_connected(self._file())) as connection, _explained(self.config.path):
            return f"SQLite, {len(_relations(connection))} tables and views"

    def _one_row(self) -> str:
        with closing(_connected(self._file())) as connection, _explained(self.config.path):
            for name, _kind in _relations(connection):
                connection.execute(f"SELECT * FROM {quoted(name)} LIMIT 1").fetchone()
                return f"from {name}"
        return "there are no tables yet"


class SQLiteSession(SourceSession):
    """A read transaction. SQLite answers one reader at a time on it."""

    def __init__(self, connection: sqlite3.Connection, shown: str, cancelled: Callable[[], bool]) -> None:
        self._connection = connection
        self._cancelled = cancelled
        self._shown = shown
        self._turn = threading.Lock()

    def high_water(self, read: Read) -> Any:
        """The greatest cursor value; instants are compared as such, however they are spelled."""
        assert read.cursor is not None
        column = _column(read.stream, read.cursor)
        timed = column.type in values.TIMES
        expression = f"hohmann_instant({quoted(column.name)})" if timed else quoted(column.name)
        found = self._one(f"SELECT max({expression})", read)
        return values.instant_text(found) if timed and found is not None else found

    def count(self, read: Read) -> int:
        """How many rows the read has."""
        return int(self._one("SELECT count(*)", read))

    def sums(self, read: Read, columns: Sequence[str]) -> Mapping[str, Sum]:
        """Of whole numbers, in two halves that cannot overflow. Raises EngineError for decimals."""
        found = {}
        for name in columns:
            if not sums.is_whole(_column(read.stream, name).type):
                raise EngineError(f"{read.stream.label}: SQLite cannot add up the decimals of {name} exactly",
                                  origin=Origin.USER, column=name,
                                  fix="Name columns of whole numbers, or leave the sum out.")  # fmt: skip
            column = quoted(name)
            halves = f"coalesce(sum({column} >> 32), 0), coalesce(sum({column} & 4294967295), 0)"
            count, high, low = self._row(f"SELECT count({column}), {halves}", read)
            found[name] = Sum(count, str((high << 32) + low))
        return found

    def read(self, read: Read, chunk: Chunk) -> pa.RecordBatchReader:
        """The rows in batches, each value checked."""
        import pyarrow as pa

        from webapp.engine.connectors.types import arrow_schema

        schema = arrow_schema(read.columns)
        return pa.RecordBatchReader.from_batches(schema, self._batches(read, schema))

    def _one(self, select: str, read: Read) -> Any:
        return self._row(select, read)[0]

    def _row(self, select: str, read: Read) -> Sequence[Any]:
        condition, bound = where(read)
        with self._turn, _explained(self._shown):
            row = self._connection.execute(f"{select} FROM {quoted(read.stream.name)}{condition}", bound).fetchone()
        return tuple(row)

    def _batches(self, read: Read, schema: pa.Schema) -> Iterator[pa.RecordBatch]:
        import pyarrow as pa

        condition, bound = where(read)
        names = ", ".join(quoted(column.name) for column in read.columns) or "1"
        with self._turn, _explained(self._shown):
            cursor = self._connection.execute(f"SELECT {names} FROM {quoted(read.stream.name)}{condition}", bound)
        with closing(cursor):
            while True:
                with self._turn, _explained(self._shown):
                    rows = cursor.fetchmany(_BATCH)
                if self._cancelled():
                    raise Cancelled
                if not rows:
                    return
                arrays = [
                    _array(read.stream, column, field.type, cells)
                    for column, field, cells in zip(read.columns, schema, zip(*rows, strict=True), strict=False)
                ]
                yield pa.RecordBatch.from_arrays(arrays, schema=schema)


def _array(stream: Stream, column: Column, kind: pa.DataType, cells: Sequence[Any]) -> pa.Array:
    import pyarrow as pa

    plain = {"BIGINT": int, "DOUBLE": float, "VARCHAR": str, "BLOB": bytes}.get(column.type)
    if plain is not None and set(map(type, cells)) <= {plain, type(None)}:
        return pa.array(cells, kind)
    carried = []
    for cell in cells:
        try:
            carried.append(values.carried(cell, column.type))
        except ValueError as error:
            raise EngineError(
                f"{stream.name}.{column.name} holds {_shown_value(cell)}, which is not a {column.type}",
                origin=Origin.SOURCE, stream=stream.label, column=column.name,
                fix="Discover the stream again: its type then follows its values. Or correct the value.",
            ) from error  # fmt: skip
    return pa.array(carried, kind)


def _shown_value(cell: Any) -> str:
    return f"a blob of {len(cell)} bytes" if isinstance(cell, bytes) else f"{cell!r:.100}"


def _connected(file: Path) -> sqlite3.Connection:
    address = f"file:{quote(str(file))}?mode=ro"
    with _explained(file.name):
        connection = sqlite3.connect(address, uri=True, timeout=10, isolation_level=None, check_same_thread=False)
    connection.create_function("hohmann_form", 2, values.form_of, deterministic=True)
    connection.create_function("hohmann_instant", 1, values.microseconds, deterministic=True)
    # Views of a foreign file may call functions; they get the built-in ones only.
    connection.execute("PRAGMA trusted_schema = OFF")
    return connection


def _stop_when_cancelled(connection: sqlite3.Connection, cancelled: Callable[[], bool]) -> None:
    connection.set_progress_handler(lambda: int(cancelled()), 1_000_000)


@contextmanager
def _explained(shown: str) -> Iterator[None]:
    try:
        yield
    except sqlite3.Error as error:
        raise _fault(error, shown) from error


def _fault(error: sqlite3.Error, shown: str) -> EngineError:
    text = str(error)
    if "interrupted" in text:
        return Cancelled()
    if "not a database" in text or "malformed" in text:
        return EngineError(f"{shown} is not a whole SQLite database: {text}", origin=Origin.SOURCE, file=shown,
                           fix="Name another file, or copy it again.")  # fmt: skip
    if "locked" in text or "busy" in text:
        return EngineError(f"{shown} is locked by another program", origin=Origin.SOURCE, kind=Kind.TRANSIENT,
                           file=shown, fix="Try again when the other program has finished.")  # fmt: skip
    if "UTF-8" in text:
        return EngineError(f"{shown} holds text that is not UTF-8: {text}", origin=Origin.SOURCE, file=shown,
                           fix="Leave the column out, or correct the text.")  # fmt: skip
    if "unable to open" in text:
        return EngineError(f"{shown} cannot be opened for reading", origin=Origin.SOURCE, kind=Kind.SYSTEM, file=shown,
                           fix="Give the worker's user the right to read the file and its folder.")  # fmt: skip
    return EngineError(f"{shown} cannot be read: {text}", origin=Origin.SOURCE, file=shown,
                       fix="Discover the streams again; the table may have changed.")  # fmt: skip


def _relations(connection: sqlite3.Connection) -> list[tuple[str, str]]:
    return connection.execute(
        "SELECT name, type FROM sqlite_schema WHERE type IN ('table', 'view')"
        " AND substr(name, 1, 7) <> 'sqlite_' ORDER BY name"
    ).fetchall()


def _stream(connection: sqlite3.Connection, name: str, *, table: bool) -> Stream:
    declared = [row for row in connection.execute(f"PRAGMA table_xinfo({quoted(name)})") if row[6] != 1]
    rows, types = _types(connection, name, [(row[1], row[2]) for row in declared])
    columns = tuple(
        Column(row[1], types[row[1]], nullable=not (row[3] or row[5]) or _null_key(row), native=row[2] or "any")
        for row in declared
    )
    key = tuple(row[1] for row in sorted(declared, key=lambda row: row[5]) if row[5])
    # Texts among numbers have no order that both agree on.
    cursors = tuple(
        column.name
        for column in columns
        if column.type in _CURSORS and (column.type != "VARCHAR" or values.wanted_type(column.native) == "VARCHAR")
    )
    modes = (Mode.FULL_REFRESH, Mode.INCREMENTAL) if cursors else (Mode.FULL_REFRESH,)
    return Stream(_SCHEMA, name, columns, key, cursors, modes, rows)


def _null_key(row: Sequence[Any]) -> bool:
    # An old promise of SQLite: a primary key that is not an INTEGER and not declared NOT NULL may hold nulls.
    return bool(row[5]) and not row[3] and str(row[2]).upper() != "INTEGER"


def _types(connection: sqlite3.Connection, table: str, columns: list[tuple[str, str]]) -> tuple[int, dict[str, str]]:
    """The number of rows, and each column's type after a look at every value."""
    types, rows = {}, 0
    for name, declared in columns:
        wanted, column = values.wanted_type(declared), quoted(name)
        special = {"JSON": f"typeof({column}) = 'text' AND json_valid({column})"}.get(
            wanted, f"hohmann_form('{wanted}', {column})" if wanted.startswith(("DEC", "DAT", "TIME")) else "0"
        )
        found = connection.execute(
            f"SELECT count(*), total(kind = 'integer'), total(kind = 'real'), total(kind = 'text'),"
            f" total(kind = 'blob'), max(CASE WHEN kind = 'integer' THEN max(value, -1 - value) END),"
            f" total(form > 0), total(form > 1), total(kind = 'integer' AND value IN (0, 1))"
            f" FROM (SELECT {column} AS value, typeof({column}) AS kind,"
            f" CASE WHEN {column} IS NOT NULL THEN {special} END AS form FROM {quoted(table)})"
        ).fetchone()
        rows = int(found[0])
        types[name] = values.honest_type(wanted, values.Facts(*(int(number or 0) for number in found[1:])))
    return rows, types


def _column(stream: Stream, name: str) -> Column:
    with suppress(StopIteration):
        return next(column for column in stream.columns if column.name == name)
    raise EngineError(f"{stream.label} has no column {name!r}", origin=Origin.USER, column=name,
                      fix="Choose one of the stream's columns.")  # fmt: skip
