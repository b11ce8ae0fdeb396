"""MySQL and MariaDB as a source: the catalog over PyMySQL, the rows over ConnectorX as Arrow batches."""

import contextlib
import fnmatch
import itertools
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

from webapp.engine.addresses import checked_address
from webapp.engine.connectors import capture, relations, sums
from webapp.engine.connectors.base import (
    CheckStep,
    Chunk,
    Column,
    Mode,
    Read,
    ReadAgain,
    Source,
    SourceSession,
    Stream,
    Sum,
)
from webapp.engine.connectors.mysql.columns import Declared, column_of, projection, quoted
from webapp.engine.connectors.mysql.server import connect, fault
from webapp.engine.connectors.mysql.spec import OWN, MySQLSpec
from webapp.engine.context import Context
from webapp.engine.errors import Cancelled, EngineError, Kind, Origin

if TYPE_CHECKING:
    import pyarrow as pa

BATCH_ROWS = 65_536
COUNT_BYTES = 256 << 20  # larger tables of InnoDB are counted only when that is asked for
_SYSTEM = ("mysql", "information_schema", "performance_schema", "sys", OWN)
_CURSORS = ("TINYINT", "SMALLINT", "INTEGER", "BIGINT", "UTINYINT", "USMALLINT", "UINTEGER", "UBIGINT", "DATE",
            "TIMESTAMP", "TIMESTAMP WITH TIME ZONE")  # fmt: skip
_MODES = (Mode.FULL_REFRESH, Mode.INCREMENTAL)


class MySQLSource(Source[MySQLSpec]):
    """A MySQL or MariaDB server."""

    name = "mysql"
    title = "MySQL or MariaDB"
    offers_sums = True
    Spec = MySQLSpec

    def check(self) -> Iterator[CheckStep]:
        """Resolve, log in, look for tables that may be read, read a row of one."""
        steps: tuple[tuple[str, Callable[[], str]], ...] = (
            ("resolve", self._address),
            ("log in", self._server_version),
            ("rights", self._count_tables),
            ("read one row", self._read_one),
        )
        for name, step in steps:
            began = time.monotonic()
            try:
                message = step()
            except EngineError as error:
                yield CheckStep(name, False, error.message, error.fix or "", round(time.monotonic() - began, 3))
                return
            yield CheckStep(name, True, message, "", round(time.monotonic() - began, 3))
        if self.config.update_method.type == "cdc":
            yield capture.step(self._not_ready())

    def discover(self, *, pattern: str = "") -> Iterator[Stream]:
        """Yield the tables and views that the user may see, in three queries however many they are."""
        keys: dict[tuple[str, str], list[str]] = {}
        in_keys, tables, in_tables = self._ask(_KEYS, _TABLES, _COLUMNS)
        for schema, table, column in in_keys:
            keys.setdefault((schema, table), []).append(column)
        sizes = {(schema, table): (rows, size) for schema, table, rows, size in tables}
        captured = self.config.update_method.type == "cdc" and not self._not_ready()
        for (schema, table), group in itertools.groupby(in_tables, key=lambda row: (row[0], row[1])):
            if pattern and not fnmatch.fnmatchcase(f"{schema}.{table}", pattern):
                continue
            columns = tuple(column_of(Declared(row[2], row[3], row[4], row[5] == "YES")) for row in group)
            rows, size = sizes.get((schema, table), (None, None))
            key = tuple(keys.get((schema, table), ()))
            cursors = tuple(column.name for column in columns if column.type in _CURSORS)
            modes = _MODES if cursors else (Mode.FULL_REFRESH,)
            offered = (*modes, Mode.CDC) if captured and key else modes
            yield Stream(schema, table, columns, key, cursors, offered, rows, size)

    @contextlib.contextmanager
    def open(self, *, parallel: int) -> Iterator[SourceSession]:
        """A session; each stream is read by one statement, which is consistent in itself."""
        connection = connect(self.config, self.context)  # says what is wrong at once, where ConnectorX would try on
        try:
            yield MySQLSession(self.config, self.context, connection)
        finally:
            connection.close()

    def _not_ready(self) -> list[str]:
        from webapp.engine.connectors.mysql.capture import missing

        return missing(lambda statement: self._ask(statement, plain=True)[0])

    def _address(self) -> str:
        return checked_address(self.config.host, self.config.port, allow_private=_private(self.context))

    def _server_version(self) -> str:
        return str(self._ask("SELECT VERSION()")[0][0][0])

    def _count_tables(self) -> str:
        (rows,) = self._ask(_TABLES)
        if not rows:
            raise EngineError(
                "this user sees no table", origin=Origin.SOURCE, fix=f"Grant SELECT to {self.config.username}."
            )
        return f"{len(rows):,} tables and views"

    def _read_one(self) -> str:
        schema, table, _, _ = self._ask(_TABLES)[0][0]
        self._ask(f"SELECT 1 FROM {quoted(schema)}.{quoted(table)} LIMIT 1", plain=True)  # noqa: S608 - quoted
        return f"{schema}.{table}"

    def _ask(self, *queries: str, plain: bool = False) -> list[Sequence[Any]]:
        import pymysql

        connection = connect(self.config, self.context)
        scope = f"= {connection.escape(self.config.database)}" if self.config.database else _NOT_SYSTEM
        try:
            with connection.cursor() as cursor:
                return [_all(cursor, query if plain else query.replace("{scope}", scope)) for query in queries]
        except (pymysql.MySQLError, OSError) as error:
            raise fault(error, self.config) from error
        finally:
            connection.close()


def _all(cursor: Any, query: str) -> Sequence[Any]:
    cursor.execute(query)
    found: Sequence[Any] = cursor.fetchall()
    return found


_NOT_SYSTEM = f"NOT IN {_SYSTEM!r}"
_KEYS = """SELECT table_schema, table_name, column_name FROM information_schema.statistics
WHERE table_schema {scope} AND index_name = 'PRIMARY' ORDER BY table_schema, table_name, seq_in_index"""
_TABLES = """SELECT table_schema, table_name, table_rows, data_length FROM information_schema.tables
WHERE table_schema {scope} ORDER BY table_schema, table_name"""
_SIZE = """SELECT data_length FROM information_schema.tables
WHERE table_schema = %s AND table_name = %s AND engine = 'InnoDB'"""
_COLUMNS = """SELECT table_schema, table_name, column_name, data_type, column_type, is_nullable
FROM information_schema.columns WHERE table_schema {scope} ORDER BY table_schema, table_name, ordinal_position"""


class MySQLSession(SourceSession):
    """Reads each stream with one statement on a connection of its own."""

    def __init__(self, spec: MySQLSpec, context: Context, connection: Any) -> None:
        self.spec = spec
        self.context = context
        self.connection = connection
        self._asking = threading.Lock()  # streams that run side by side ask over the one connection
        self._odd_dates: set[str] = set()

    def high_water(self, read: Read) -> Any:
        """The greatest cursor value, as text that MySQL reads back."""
        assert read.cursor is not None
        value = self._one(f"SELECT MAX({quoted(read.cursor)}) {self._from(read)}")
        return value if isinstance(value, int | None) else str(value)

    def count(self, read: Read) -> int | None:
        """None for large tables: InnoDB reads a whole index for it, which costs as much as a part of the read."""
        return None if self._is_large(read.stream) else self.count_exactly(read)

    def count_exactly(self, read: Read) -> int:
        """The rows that there are now."""
        return int(self._one(f"SELECT COUNT(*) {self._from(read)}"))

    def _is_large(self, stream: Stream) -> bool:
        found = self._row(_SIZE, values=(stream.namespace, stream.name))
        return bool(found) and (found[0] or 0) > COUNT_BYTES

    def counting(self, read: Read, *, exactly: bool = False) -> Callable[[], int | None]:
        """Count beside the read, over a connection that keeps the view that there is now."""
        if not exactly and self._is_large(read.stream):
            return lambda: None
        connection = self._view_of(read.stream)
        if connection is None:
            return super().counting(read, exactly=exactly)

        def counted() -> int:
            with contextlib.closing(connection):
                return int(self._row(f"SELECT COUNT(*) {self._from(read)}", connection)[0])

        return counted

    def sums(self, read: Read, columns: Sequence[str]) -> Mapping[str, Sum]:
        """Over the rows that the table has now."""
        wanted = sums.select([quoted(name) for name in columns], "CHAR")
        return sums.read(columns, self._row(f"SELECT {wanted} {self._from(read)}"))

    def read(self, read: Read, chunk: Chunk) -> "pa.RecordBatchReader":
        """The rows as batches of 65,536; dates that are none are looked for once one of them has been met."""
        import pyarrow as pa

        from webapp.engine.connectors.types import arrow_schema

        schema = arrow_schema(read.columns)
        return pa.RecordBatchReader.from_batches(schema, self._read(read, schema))

    def first(self, table: str, columns: Sequence[Column], limit: int) -> Iterator["pa.RecordBatch"]:
        """The first rows of a table, which is named in SQL."""
        from webapp.engine.connectors.types import arrow_schema

        query = f"SELECT {_selected(columns)} FROM {table} LIMIT {int(limit)}"  # noqa: S608 - quoted
        return self._batches(query, arrow_schema(columns))

    def _read(self, read: Read, schema: "pa.Schema") -> Iterator["pa.RecordBatch"]:
        label, given = read.stream.label, False
        quick, careful = (
            f"SELECT {_selected(read.columns, trusting=trusting)} {self._from(read)}" for trusting in (True, False)
        )
        try:
            for batch in self._batches(careful if label in self._odd_dates else quick, schema):
                given = True
                yield batch
            return
        except _OddValue as error:
            if quick == careful or label in self._odd_dates:
                raise
            self._odd_dates.add(label)
            if given:
                raise ReadAgain(f"{label} has dates that are none, like 0000-00-00: reading it again") from error
        yield from self._batches(careful, schema)

    def _batches(self, query: str, schema: "pa.Schema") -> Iterator["pa.RecordBatch"]:
        import connectorx

        try:
            reader = connectorx.read_sql(
                self._url(), query, return_type="arrow_stream", batch_size=BATCH_ROWS, protocol="binary"
            )
            for batch in reader:
                if self.context.cancelled():
                    raise Cancelled
                yield _fitted(batch, schema)
        except EngineError:
            raise
        except (KeyboardInterrupt, SystemExit, GeneratorExit, MemoryError):
            raise
        except BaseException as error:  # a panic of its Rust side is no Exception
            raise self._fault(error) from error

    def _url(self) -> str:
        spec = self.spec
        address = checked_address(spec.host, spec.port, allow_private=_private(self.context))
        host = f"[{address}]" if ":" in address else address
        user, password = quote(spec.username, safe=""), quote(spec.password.get_secret_value(), safe="")
        tls = "?require_ssl=true&verify_ca=false&verify_identity=false" if spec.ssl.mode == "require" else ""
        return f"mysql://{user}:{password}@{host}:{spec.port}/{quote(spec.database, safe='')}{tls}"

    def _fault(self, error: BaseException) -> EngineError:
        said = str(error).partition("Stack backtrace")[0].rstrip()
        for secret in filter(
            None, (self.spec.password.get_secret_value(), quote(self.spec.password.get_secret_value()))
        ):
            said = said.replace(secret, "[struck out]")
        said = f"{self.spec.host}:{self.spec.port}: {said[:500]}"
        if "Couldn't convert" in said:
            return _OddValue(said, origin=Origin.SOURCE)
        changed = any(word in said for word in ("42S02", "42S22", "doesn't exist", "Unknown column"))
        return EngineError(
            said,
            origin=Origin.SOURCE,
            kind=Kind.CONFIGURATION if changed else Kind.TRANSIENT,
            fix="The table or a column has changed: discover the source again." if changed else None,
        )

    def _view_of(self, stream: Stream) -> Any:
        """A connection that keeps the rows as they are now; None where the server cannot, or spares no other."""
        import pymysql

        engine = "SELECT engine FROM information_schema.tables WHERE table_schema = %s AND table_name = %s"
        if self._row(engine, values=(stream.namespace, stream.name)) != ("InnoDB",):
            return None
        try:
            connection = connect(self.spec, self.context)
        except EngineError:
            return None
        try:
            with connection.cursor() as cursor:
                cursor.execute("SET SESSION TRANSACTION ISOLATION LEVEL REPEATABLE READ")
                cursor.execute("START TRANSACTION WITH CONSISTENT SNAPSHOT, READ ONLY")
        except (pymysql.MySQLError, OSError) as error:
            connection.close()
            raise fault(error, self.spec) from error
        return connection

    def _from(self, read: Read) -> str:
        table = f"FROM {quoted(read.stream.namespace)}.{quoted(read.stream.name)}"
        where = [f"({self._filter(read)})"] if read.filter and read.filter.conditions else []
        for sign, value in ((">=", read.since), ("<=", read.until)):
            if read.cursor is not None and value is not None:
                where.append(f"{quoted(read.cursor)} {sign} {self._instant(read, value)}")
        return f"{table} WHERE {' AND '.join(where)}" if where else table

    def _instant(self, read: Read, value: Any) -> str:
        """A cursor's value; an instant is kept in UTC, and the reading session may live in another zone."""
        literal = self._literal(value)
        native = next((column.native for column in read.stream.columns if column.name == read.cursor), "")
        return f"CONVERT_TZ({literal}, '+00:00', @@session.time_zone)" if native.startswith("timestamp") else literal

    def _filter(self, read: Read) -> str:
        assert read.filter is not None
        parts = []
        for one in read.filter.conditions:
            name = quoted(relations.checked(read, one).name)  # MySQL itself would take 'many' for the number 0
            if one.value is None:
                parts.append(f"{name} IS {'NOT ' if one.op == '!=' else ''}NULL")
            else:
                parts.append(f"{name} {one.op} {self._literal(one.value)}")
        return f" {read.filter.join.upper()} ".join(parts)

    def _literal(self, value: Any) -> str:
        """A value as a literal, escaped by the driver: ConnectorX takes no parameters."""
        return str(self.connection.escape(value))

    def _one(self, query: str) -> Any:
        return self._row(query)[0]

    def _row(self, query: str, connection: Any = None, *, values: Sequence[Any] | None = None) -> Sequence[Any]:
        import pymysql

        try:
            with (
                self._asking if connection is None else contextlib.nullcontext(),
                (connection or self.connection).cursor() as cursor,
            ):
                cursor.execute(query, values)
                return tuple(cursor.fetchone() or ())
        except (pymysql.MySQLError, OSError) as error:
            raise fault(error, self.spec) from error


class _OddValue(EngineError):
    """A value that ConnectorX has no type for, which may be a date that is none."""


def _selected(columns: Sequence[Column], *, trusting: bool = False) -> str:
    return ", ".join(f"{projection(column, trusting=trusting)} AS {quoted(column.name)}" for column in columns)


def _fitted(batch: "pa.RecordBatch", schema: "pa.Schema") -> "pa.RecordBatch":
    """The batch in the stream's own types; a cast that would change a value raises."""
    import pyarrow as pa

    columns = [
        column if column.type == field.type else column.cast(field.type)
        for column, field in zip(batch.columns, schema, strict=True)
    ]
    return pa.RecordBatch.from_arrays(columns, schema=schema)


def _private(context: Context) -> bool:
    return context.allow_private_addresses
