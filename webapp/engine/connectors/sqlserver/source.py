"""Microsoft SQL Server as a source, by python-tds, a driver in pure Python."""

# ruff: noqa: S608  names are quoted by columns.quoted, values are bound

from __future__ import annotations

import fnmatch
import itertools
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from webapp.engine.addresses import checked_address
from webapp.engine.connectors.base import CheckStep, Chunk, Mode, Read, Source, SourceSession, Stream
from webapp.engine.connectors.sqlserver import queries
from webapp.engine.connectors.sqlserver.columns import CURSORS, column_of, quoted
from webapp.engine.connectors.sqlserver.server import connection
from webapp.engine.connectors.sqlserver.spec import SQLServerSpec
from webapp.engine.connectors.trials import tried
from webapp.engine.context import Context
from webapp.engine.errors import Cancelled, EngineError, Origin

if TYPE_CHECKING:
    import pyarrow as pa

BATCH_ROWS = 5_000
_VISIBLE = """FROM sys.objects o JOIN sys.schemas s ON s.schema_id = o.schema_id
WHERE o.type IN ('U', 'V') AND o.is_ms_shipped = 0
AND HAS_PERMS_BY_NAME(QUOTENAME(s.name) + '.' + QUOTENAME(o.name), 'OBJECT', 'SELECT') = 1"""
_TABLES = f"""SELECT s.name, o.name, (SELECT SUM(p.rows) FROM sys.partitions p
WHERE p.object_id = o.object_id AND p.index_id IN (0, 1)) {_VISIBLE} ORDER BY o.type, s.name, o.name"""
_COLUMNS = f"""SELECT v.schema_name, v.table_name, c.name,
CASE WHEN c.system_type_id = 240 THEN TYPE_NAME(c.user_type_id) ELSE TYPE_NAME(c.system_type_id) END,
c.precision, c.scale, c.is_nullable
FROM sys.columns c JOIN (SELECT o.object_id, s.name AS schema_name, o.name AS table_name {_VISIBLE}) v
ON v.object_id = c.object_id ORDER BY v.schema_name, v.table_name, c.column_id"""
_KEYS = f"""SELECT v.schema_name, v.table_name, COL_NAME(k.object_id, k.column_id)
FROM sys.indexes i JOIN sys.index_columns k ON k.object_id = i.object_id AND k.index_id = i.index_id
JOIN (SELECT o.object_id, s.name AS schema_name, o.name AS table_name {_VISIBLE}) v ON v.object_id = i.object_id
WHERE i.is_primary_key = 1 ORDER BY v.schema_name, v.table_name, k.key_ordinal"""
_SNAPSHOT = "SELECT snapshot_isolation_state FROM sys.databases WHERE name = DB_NAME()"


class SQLServerSource(Source[SQLServerSpec]):
    """Tables and views of one database."""

    name = "sqlserver"
    title = "SQL Server"
    Spec = SQLServerSpec

    def check(self) -> Iterator[CheckStep]:
        """Resolve, log in, look for tables that may be read, read a row of one."""
        return tried(
            ("resolve", self._address),
            ("log in", lambda: str(self._ask("SELECT @@VERSION")[0][0]).partition("\n")[0].strip()),
            ("rights", self._count_tables),
            ("read one row", self._read_one),
        )

    def discover(self, *, pattern: str = "") -> Iterator[Stream]:
        """Yield the tables and views that the login may read, in three queries however many they are."""
        keys: dict[tuple[str, str], list[str]] = {}
        for schema, table, column in self._ask(_KEYS):
            keys.setdefault((schema, table), []).append(column)
        sizes = {(schema, table): rows for schema, table, rows in self._ask(_TABLES)}
        for place, group in itertools.groupby(self._ask(_COLUMNS), key=lambda row: (row[0], row[1])):
            if pattern and not fnmatch.fnmatchcase(".".join(place), pattern):
                continue
            columns = tuple(column_of(*row[2:]) for row in group)
            cursors = tuple(column.name for column in columns if column.native in CURSORS)
            modes = (Mode.FULL_REFRESH, Mode.INCREMENTAL) if cursors else (Mode.FULL_REFRESH,)
            yield Stream(*place, columns, tuple(keys.get(place, ())), cursors, modes, sizes.get(place))

    @contextmanager
    def open(self, *, parallel: int) -> Iterator[SourceSession]:
        """A session; each stream is read by one statement, from one snapshot where the database allows it."""
        session = SQLServerSession(self.config, self.context, snapshot=bool(self._ask(_SNAPSHOT)[0][0] == 1))
        yield session

    def _address(self) -> str:
        allow = self.context.allow_private_addresses
        return checked_address(self.config.host, self.config.port, allow_private=allow)

    def _count_tables(self) -> str:
        found = self._ask(_TABLES)
        if not found:
            raise EngineError(
                "this login may read no table", origin=Origin.SOURCE, fix=f"GRANT SELECT TO {self.config.username}."
            )
        return f"{len(found):,} tables and views"

    def _read_one(self) -> str:
        schema, table, _ = self._ask(_TABLES)[0]
        self._ask(f"SELECT TOP 1 1 FROM {quoted(schema)}.{quoted(table)}")
        return f"{schema}.{table}"

    def _ask(self, query: str) -> Sequence[Any]:
        with connection(self.config, self.context) as opened, opened.cursor() as cursor:
            cursor.execute(query)
            found: Sequence[Any] = cursor.fetchall()
            return found


class SQLServerSession(SourceSession):
    """Each question and each read has a connection of its own."""

    def __init__(self, spec: SQLServerSpec, context: Context, *, snapshot: bool) -> None:
        self.spec = spec
        self.context = context
        self.snapshot = snapshot

    def high_water(self, read: Read) -> Any:
        """The greatest cursor value: a number, or a time in ISO 8601."""
        value = self._one(queries.high_water(read))
        return value if isinstance(value, int | None) else value.isoformat()

    def count(self, read: Read) -> int | None:
        """Count the rows."""
        return int(self._one(queries.count(read)))

    def read(self, read: Read, chunk: Chunk) -> pa.RecordBatchReader:
        """The rows as batches of 5,000."""
        import pyarrow as pa

        from webapp.engine.connectors.types import arrow_schema

        statement = queries.rows(read)
        schema = arrow_schema(read.columns)
        return pa.RecordBatchReader.from_batches(schema, self._batches(statement, schema))

    def _batches(self, statement: queries.Statement, schema: pa.Schema) -> Iterator[pa.RecordBatch]:
        with self._asked(statement) as cursor:
            while rows := cursor.fetchmany(BATCH_ROWS):
                if self.context.cancelled():
                    raise Cancelled
                yield batch_of(rows, schema)

    def _one(self, statement: queries.Statement) -> Any:
        with self._asked(statement) as cursor:
            return cursor.fetchone()[0]

    @contextmanager
    def _asked(self, statement: queries.Statement) -> Iterator[Any]:
        with connection(self.spec, self.context) as opened, opened.cursor() as cursor:
            cursor.execute(f"SET TRANSACTION ISOLATION LEVEL {'SNAPSHOT' if self.snapshot else 'READ COMMITTED'}")
            cursor.execute(statement.text, statement.values or None)
            yield cursor


def batch_of(rows: Sequence[Sequence[Any]], schema: pa.Schema) -> pa.RecordBatch:
    """The driver's rows as a batch; UUIDs travel as text."""
    import pyarrow as pa

    arrays = [
        pa.array(
            [str(one) if one is not None else None for one in values] if pa.types.is_string(field.type) else values,
            field.type,
        )
        for values, field in zip(zip(*rows, strict=True), schema, strict=True)
    ]
    return pa.RecordBatch.from_arrays(arrays, schema=schema)
