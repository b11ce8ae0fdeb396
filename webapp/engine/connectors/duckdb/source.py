"""DuckDB files as a source: opened for reading under the lock that loads and queries share."""

# ruff: noqa: S608  names are quoted by names.quoted, values are bound

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from fnmatch import fnmatchcase
from pathlib import Path
from typing import TYPE_CHECKING, Any

from webapp.engine.connectors import relations, sums
from webapp.engine.connectors.base import (
    CheckStep,
    Chunk,
    Column,
    DestinationSession,
    Mode,
    Read,
    Source,
    SourceSession,
    Stream,
    Sum,
)
from webapp.engine.connectors.duckdb.source_spec import DuckDBSourceSpec
from webapp.engine.connectors.trials import tried
from webapp.engine.context import Context
from webapp.engine.errors import Cancelled, EngineError, Origin
from webapp.engine.names import TableName, quoted
from webapp.engine.paths import allowed_path

if TYPE_CHECKING:
    import duckdb
    import pyarrow as pa

_CURSORS = ("INT", "DECIMAL", "DOUBLE", "FLOAT", "DATE", "TIMESTAMP", "VARCHAR", "UUID")


class DuckDBSource(Source[DuckDBSourceSpec]):
    """A DuckDB file."""

    name = "duckdb"
    title = "DuckDB"
    offers_sums = True
    Spec = DuckDBSourceSpec

    def check(self) -> Iterator[CheckStep]:
        """Find the file, open it, read one row."""
        return tried(("resolve", self._found), ("connect", self._opened), ("read one row", self._one_row))

    def discover(self, *, pattern: str = "") -> Iterator[Stream]:
        """Yield the tables and views of all schemas."""
        with self._reading() as connection:
            found = _relations(connection)
            for schema, name, rows in found:
                if pattern and not fnmatchcase(f"{schema}.{name}", pattern):
                    continue
                yield _stream(connection, schema, name, rows)

    @contextmanager
    def open(self, *, parallel: int) -> Iterator[DuckDBSession]:
        """Hold the file's shared lock: nobody writes while it is read."""
        with self._reading() as connection:
            yield DuckDBSession(connection, self.context)

    @contextmanager
    def open_beside(self, destination: DestinationSession, *, parallel: int) -> Iterator[DuckDBSession]:
        """As `open`; a file that is loaded into is not read at the same time. Raises EngineError for it."""
        from webapp.engine.connectors.duckdb.destination import DuckDBSession as Landing

        if isinstance(destination, Landing) and destination.file.resolve() == self._file().resolve():
            raise EngineError(
                f"source and destination are the same file, {self.config.path}: a load needs the file for itself",
                origin=Origin.USER, path=self.config.path,
                fix="Name another file as the destination, or copy tables within the file by SQL.",
            )  # fmt: skip
        with self.open(parallel=parallel) as session:
            yield session

    def _file(self) -> Path:
        file = allowed_path(self.config.path, self.context, origin=Origin.SOURCE)
        if not file.is_file():
            raise EngineError(f"the file {self.config.path!r} is not there", origin=Origin.SOURCE,
                              path=self.config.path,
                              fix="Check the path; a relative one begins at the data folder.")  # fmt: skip
        return file

    @contextmanager
    def _reading(self) -> Iterator[duckdb.DuckDBPyConnection]:
        import duckdb

        from webapp.engine.database import reading

        file = self._file()
        try:
            with reading(file, self.context, shown=self.config.path) as connection:
                yield connection
        except Cancelled:
            raise
        except EngineError as error:
            # The lock and the opening speak of a destination.
            if error.origin is Origin.DESTINATION:
                error.origin = Origin.SOURCE
            raise
        except duckdb.Error as error:
            raise relations.fault(error) from error

    def _found(self) -> str:
        return f"{self._file().stat().st_size} bytes"

    def _opened(self) -> str:
        with self._reading() as connection:
            return f"{len(_relations(connection))} tables and views"

    def _one_row(self) -> str:
        with self._reading() as connection:
            for schema, name, _rows in _relations(connection):
                connection.sql(f"SELECT * FROM {_sql(connection, schema, name)} LIMIT 1").to_arrow_table()
                return f"from {schema}.{name}"
        return "there are no tables yet"


class DuckDBSession(SourceSession):
    """An open file; each read has a connection of its own on it."""

    def __init__(self, connection: duckdb.DuckDBPyConnection, context: Context) -> None:
        self._connection = connection
        self._context = context

    def high_water(self, read: Read) -> Any:
        """The greatest cursor value."""
        with self._cursor() as cursor:
            return relations.greatest(cursor, self._relation(cursor, read), read)

    def count(self, read: Read) -> int:
        """How many rows the read has."""
        with self._cursor() as cursor:
            return int(relations.one(cursor, "count(*)", self._relation(cursor, read), read))

    def sums(self, read: Read, columns: Sequence[str]) -> Mapping[str, Sum]:
        """Over the rows of the read."""
        names = [quoted(relations.column_of(read, name).name) for name in columns]
        with self._cursor() as cursor:
            row = relations.row(cursor, sums.select(names), self._relation(cursor, read), read)
        return sums.read(columns, row)

    def read(self, read: Read, chunk: Chunk) -> pa.RecordBatchReader:
        """The rows as a stream."""
        import duckdb

        cursor = self._connection.cursor()
        try:
            relation = self._relation(cursor, read)
        except duckdb.Error as error:
            cursor.close()
            raise relations.fault(error) from error
        return relations.reader(cursor, relation, read, self._context, lambda _error: None)

    @contextmanager
    def _cursor(self) -> Iterator[duckdb.DuckDBPyConnection]:
        import duckdb

        try:
            with self._connection.cursor() as cursor:
                yield cursor
        except duckdb.Error as error:
            raise relations.fault(error) from error

    def _relation(self, cursor: duckdb.DuckDBPyConnection, read: Read) -> relations.Relation:
        return relations.described(cursor, _sql(cursor, read.stream.namespace, read.stream.name), [])


def _sql(connection: duckdb.DuckDBPyConnection, schema: str, name: str) -> str:
    from webapp.engine.database import name_of_file

    return TableName(schema, name).within(name_of_file(connection)).sql


def _relations(connection: duckdb.DuckDBPyConnection) -> list[tuple[str, str, int | None]]:
    return connection.execute(
        "SELECT schema_name, table_name, estimated_size FROM duckdb_tables() WHERE NOT internal AND NOT temporary"
        " AND database_name = current_database()"
        " UNION ALL SELECT schema_name, view_name, NULL FROM duckdb_views() WHERE NOT internal AND NOT temporary"
        " AND database_name = current_database() ORDER BY 1, 2"
    ).fetchall()


def _stream(connection: duckdb.DuckDBPyConnection, schema: str, name: str, rows: int | None) -> Stream:
    described = connection.execute(f"DESCRIBE {_sql(connection, schema, name)}").fetchall()
    columns = tuple(
        Column(str(row[0]), relations.travelling(str(row[1])), nullable=row[2] == "YES", native=str(row[1]))
        for row in described
    )
    cursors = tuple(c.name for c in columns if "[" not in c.type and any(word in c.type for word in _CURSORS)
                    and not c.native.startswith(("STRUCT", "INTERVAL", "ENUM")))  # fmt: skip
    modes = (Mode.FULL_REFRESH, Mode.INCREMENTAL) if cursors else (Mode.FULL_REFRESH,)
    return Stream(schema, name, columns, _key(connection, schema, name), cursors, modes, rows)


def _key(connection: duckdb.DuckDBPyConnection, schema: str, name: str) -> tuple[str, ...]:
    row = connection.execute(
        "SELECT constraint_column_names FROM duckdb_constraints() WHERE schema_name = $1 AND table_name = $2"
        " AND constraint_type = 'PRIMARY KEY' AND database_name = current_database()",
        [schema, name],
    ).fetchone()
    return tuple(row[0]) if row else ()
