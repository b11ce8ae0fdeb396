"""DuckDB as the writer and reader of Parquet files: one bounded instance for each load, a cursor for each thread."""

# ruff: noqa: S608  names are quoted, values are literals made by names.literal

from __future__ import annotations

import uuid
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from webapp.engine.connectors import sums
from webapp.engine.connectors.base import Column, Sum
from webapp.engine.connectors.parquet.faults import explained
from webapp.engine.context import Context
from webapp.engine.errors import Cancelled
from webapp.engine.names import literal, quoted

if TYPE_CHECKING:
    import duckdb
    import pyarrow as pa

_ROW_GROUP = 122_880
# At its first level zstd costs about as much as snappy, for files a quarter smaller; higher levels give little more.
_COMPRESSION = {"zstd": "zstd, COMPRESSION_LEVEL 1"}
_BATCH = 50_000


@dataclass(frozen=True)
class Piece:
    """One Parquet file of a table: its path below the table's folder, its rows and its size."""

    path: str
    rows: int
    size: int


@dataclass(frozen=True)
class Shared:
    """What rows of one file share, where SQL cannot say it: a function of a column's values that gives texts."""

    column: str
    texts: Callable[[pa.Array], pa.Array]


@dataclass(frozen=True)
class Form:
    """How files are written: their compression, their folders, their field ids (SQL), the ending of their names.

    `parts` are the folders' names with the SQL (or function) of what the rows in them share.
    """

    compression: str = "snappy"
    parts: Sequence[tuple[str, str | Shared]] = ()
    field_ids: str = ""
    ending: str = "parquet"

    def options(self, *, partitioned: bool) -> str:
        """The options of COPY."""
        ids = f", FIELD_IDS {self.field_ids}" if self.field_ids else ""
        compression = _COMPRESSION.get(self.compression, self.compression)
        folders = ", ".join(quoted(f"__p{number}") for number in range(len(self.parts)))
        by = (
            f", PARTITION_BY ({folders}), WRITE_PARTITION_COLUMNS false, FILENAME_PATTERN 'part-{{uuid}}',"
            f" FILE_EXTENSION {literal(self.ending)}"
        )
        return (
            f"(FORMAT parquet, COMPRESSION {compression}, ROW_GROUP_SIZE {_ROW_GROUP}{ids}{by if partitioned else ''})"
        )


@dataclass
class Quill:
    """Writes and reads Parquet files below the folders that it was opened for."""

    connection: duckdb.DuckDBPyConnection
    context: Context
    shown: str

    def write(self, batches: pa.RecordBatchReader, projection: str, folder: Path, form: Form) -> int:
        """Write the projected rows of a reader into new files of the folder; returns how many rows."""
        cursor = self.connection.cursor()
        watched = _Watched(batches, self.context)
        try:
            with explained(self.shown):
                cursor.register("incoming", watched.reader())
                return self.copy(cursor, f"SELECT {projection} FROM incoming", folder, form)
        except Exception:
            # DuckDB tells a reader's failure in its own words; the original says whose fault it is.
            if watched.failure is not None:
                raise watched.failure from None
            raise
        finally:
            cursor.close()

    def copy(self, cursor: duckdb.DuckDBPyConnection, select: str, folder: Path, form: Form) -> int:
        """Write the rows of a query into new files of the folder; returns how many."""
        folder.mkdir(parents=True, exist_ok=True)
        if not form.parts:
            target = folder / f"part-{uuid.uuid4()}.{form.ending}"
            return _count(cursor, f"COPY ({select}) TO {literal(str(target))} {form.options(partitioned=False)}")
        aside = folder / f"write-{uuid.uuid4().hex}"
        with self._shared(cursor, select, form) as (writer, relation):
            values = "".join(f', {sql} AS "__p{n}"' for n, (_, sql) in enumerate(form.parts) if isinstance(sql, str))
            rows = _count(
                writer,
                f"COPY (SELECT *{values} FROM {relation}) TO {literal(str(aside))} {form.options(partitioned=True)}",
            )
        _named(aside, folder, [name for name, _ in form.parts], form.ending)
        return rows

    @contextmanager
    def _shared(
        self, cursor: duckdb.DuckDBPyConnection, select: str, form: Form
    ) -> Iterator[tuple[duckdb.DuckDBPyConnection, str]]:
        """The rows of a query with a column for each part that a function computes, and the cursor that has them."""
        computed = [(f"__p{number}", part) for number, (_, part) in enumerate(form.parts) if isinstance(part, Shared)]
        if not computed:
            yield cursor, f"({select})"
            return
        rows = cursor.sql(select).to_arrow_reader(_BATCH)
        with self.cursor() as writer:
            writer.register("divided", _with_columns(rows, computed))
            yield writer, "divided"

    def columns(self, files: Sequence[Path]) -> tuple[Column, ...]:
        """The columns of some files together."""
        with self.cursor() as cursor:
            rows = cursor.execute(f"DESCRIBE SELECT * FROM {scan(files)}").fetchall()
        return tuple(Column(str(name), str(kind)) for name, kind, *_ in rows)

    def rows(self, files: Iterable[Path]) -> dict[Path, int]:
        """How many rows each file has, by its footer."""
        import pyarrow.parquet as pq

        with explained(self.shown):
            return {path: int(pq.read_metadata(path).num_rows) for path in files}

    def sums(self, names: Sequence[str], files: Sequence[Path]) -> dict[str, Sum]:
        """What these columns add up to in some files."""
        if not names or not files:
            return {name: Sum(0, "0") for name in names}
        with self.cursor() as cursor:
            wanted = sums.select([quoted(name) for name in names])
            row = cursor.execute(f"SELECT {wanted} FROM {scan(files)}").fetchone()
        return sums.read(names, row or ())

    @contextmanager
    def cursor(self) -> Iterator[duckdb.DuckDBPyConnection]:
        """A connection of this instance for one thread; errors in the block become EngineErrors."""
        cursor = self.connection.cursor()
        try:
            with explained(self.shown):
                yield cursor
        finally:
            cursor.close()


@contextmanager
def quill(context: Context, folders: Iterable[Path], shown: str) -> Iterator[Quill]:
    """Open DuckDB in memory, shut off from all but these folders. Raises EngineError."""
    import duckdb

    from webapp.engine.database import connect_config

    lossless = {"arrow_lossless_conversion": True}  # UUIDs stay UUIDs where rows go through Arrow
    allowed = ", ".join(literal(str(folder)) for folder in (context.temp, *folders))
    with duckdb.connect(":memory:", config={**connect_config(context), **lossless}) as connection:
        connection.execute("SET preserve_insertion_order = false; SET TimeZone = 'UTC'")
        connection.execute(f"SET allowed_directories = [{allowed}]")
        connection.execute("SET enable_external_access = false; SET lock_configuration = true")
        yield Quill(connection, context, shown)


def scan(files: Iterable[Path], *, names: str = "") -> str:
    """The table function that reads these files; a column that a file lacks is null."""
    listed = ", ".join(literal(glob_free(str(path))) for path in files)
    return f"read_parquet([{listed}], union_by_name = true, hive_partitioning = false{names})"


def glob_free(path: str) -> str:
    """The path with its pattern signs made plain."""
    return "".join(f"[{sign}]" if sign in "*?[" else sign for sign in path)


def sql_columns(columns: Iterable[Column]) -> str:
    """The SELECT list that casts a table's own columns to their types."""
    return ", ".join(f"CAST({quoted(c.name)} AS {c.type}) AS {quoted(c.name)}" for c in columns)


def empty_rows(columns: Iterable[Column]) -> str:
    """A query with these columns and no rows."""
    return f"SELECT {', '.join(f'CAST(NULL AS {c.type}) AS {quoted(c.name)}' for c in columns)} WHERE false"


def _with_columns(rows: pa.RecordBatchReader, computed: Sequence[tuple[str, Shared]]) -> pa.RecordBatchReader:
    import pyarrow as pa

    schema = rows.schema
    for name, _ in computed:
        schema = schema.append(pa.field(name, pa.string()))

    def each() -> Iterator[pa.RecordBatch]:
        for batch in rows:
            added = [part.texts(batch.column(part.column)) for _, part in computed]
            yield pa.RecordBatch.from_arrays([*batch.columns, *added], schema=schema)

    return pa.RecordBatchReader.from_batches(schema, each())


def _count(cursor: duckdb.DuckDBPyConnection, sql: str) -> int:
    row = cursor.execute(sql).fetchone()
    return int(row[0]) if row else 0


def _named(aside: Path, folder: Path, names: Sequence[str], ending: str) -> None:
    """Give the folders of a partitioned write their columns' names, and move them to their place."""
    for file in sorted(aside.rglob(f"*.{ending}")):
        parts = file.relative_to(aside).parent.parts
        values = [part.partition("=")[2] for part in parts]
        target = folder.joinpath(*(f"{_plain(name)}={value}" for name, value in zip(names, values, strict=True)))
        target.mkdir(parents=True, exist_ok=True)
        file.rename(target / file.name)
    for folder_left in sorted(aside.rglob("*"), reverse=True):
        folder_left.rmdir()
    if aside.exists():
        aside.rmdir()


def _plain(name: str) -> str:
    return "".join(f"%{ord(sign):02X}" if sign in "/=%\\" or ord(sign) < 32 else sign for sign in name)


class _Watched:
    """A reader that remembers why it failed, and stops when the load is cancelled."""

    def __init__(self, batches: pa.RecordBatchReader, context: Context) -> None:
        self._batches = batches
        self._context = context
        self.failure: BaseException | None = None

    def reader(self) -> pa.RecordBatchReader:
        import pyarrow as pa

        return pa.RecordBatchReader.from_batches(self._batches.schema, self._each())

    def _each(self) -> Iterator[pa.RecordBatch]:
        try:
            for batch in self._batches:
                if self._context.cancelled():
                    raise Cancelled()
                yield batch
        except Exception as error:
            self.failure = error
            raise
