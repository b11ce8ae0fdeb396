"""Oracle Database as a source, by the thin driver, whose data frames are Arrow batches."""

import contextlib
import fnmatch
import itertools
import re
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any

from webapp.engine.addresses import checked_address
from webapp.engine.connectors import relations
from webapp.engine.connectors.base import CheckStep, Chunk, Column, Mode, Read, Source, SourceSession, Stream
from webapp.engine.connectors.oracle.spec import OracleSpec
from webapp.engine.connectors.trials import tried
from webapp.engine.context import Context
from webapp.engine.errors import Cancelled, EngineError, Kind, Origin

if TYPE_CHECKING:
    import pyarrow as pa

BATCH_ROWS = 20_000
CONNECT_SECONDS = 10
_CODE = re.compile(r"(?:ORA|DPY)-\d{4,5}")
_DENIED = frozenset({"ORA-01017", "ORA-28000", "ORA-28001", "ORA-01045", "ORA-12514", "DPY-6001", "ORA-12505"})
_GONE = frozenset({"ORA-00942", "ORA-00904", "ORA-01466"})
_COLUMNS = """SELECT c.owner, c.table_name, c.column_name, c.data_type, c.data_precision, c.data_scale, c.nullable
FROM all_tab_columns c JOIN all_users u ON u.username = c.owner
WHERE u.oracle_maintained = 'N' ORDER BY c.owner, c.table_name, c.column_id"""
_KEYS = """SELECT k.owner, k.table_name, k.column_name FROM all_cons_columns k
JOIN all_constraints a ON a.owner = k.owner AND a.constraint_name = k.constraint_name
WHERE a.constraint_type = 'P' ORDER BY k.owner, k.table_name, k.position"""


class OracleSource(Source[OracleSpec]):
    """An Oracle service."""

    name = "oracle"
    title = "Oracle"
    Spec = OracleSpec

    def check(self) -> Iterator[CheckStep]:
        """Resolve, log in, look for tables that may be read."""
        return tried(
            ("resolve", self._address),
            ("log in", lambda: str(self._ask("SELECT banner FROM v$version FETCH FIRST 1 ROWS ONLY")[0][0])),
            ("rights", self._count_columns),
        )

    def discover(self, *, pattern: str = "") -> Iterator[Stream]:
        """Yield the tables and views of people's schemas, in two queries however many they are."""
        keys: dict[tuple[str, str], list[str]] = {}
        for owner, table, column in self._ask(_KEYS):
            keys.setdefault((owner, table), []).append(column)
        for (owner, table), group in itertools.groupby(self._ask(_COLUMNS), key=lambda row: (row[0], row[1])):
            if not pattern or fnmatch.fnmatchcase(f"{owner}.{table}", pattern):
                columns = tuple(column_of(*row[2:]) for row in group)
                yield Stream(owner, table, columns, tuple(keys.get((owner, table), ())), (), (Mode.FULL_REFRESH,))

    @contextlib.contextmanager
    def open(self, *, parallel: int) -> Iterator[SourceSession]:
        """A session; each stream is read by one statement, which is consistent in itself."""
        with self._connection() as connection:
            yield OracleSession(self.config, self.context, connection)

    def _address(self) -> str:
        allow = self.context.allow_private_addresses
        return checked_address(self.config.host, self.config.port, allow_private=allow)

    def _count_columns(self) -> str:
        tables = {(row[0], row[1]) for row in self._ask(_COLUMNS)}
        if not tables:
            fix = f"Grant SELECT to {self.config.username}."
            raise EngineError("this user sees no table", origin=Origin.SOURCE, fix=fix)
        return f"{len(tables):,} tables and views"

    def _ask(self, query: str) -> Sequence[Any]:
        with self._connection() as connection, connection.cursor() as cursor:
            found: Sequence[Any] = cursor.execute(query).fetchall()
            return found

    @contextlib.contextmanager
    def _connection(self) -> Iterator[Any]:
        import oracledb

        spec = self.config
        address = self._address()
        dsn = f"{f'[{address}]' if ':' in address else address}:{spec.port}/{spec.service_name}"
        try:
            with oracledb.connect(
                user=spec.username,
                password=spec.password.get_secret_value(),
                dsn=dsn,
                tcp_connect_timeout=CONNECT_SECONDS,
            ) as connection:
                yield connection
        except oracledb.Error as error:
            raise fault(error, spec) from error


def fault(error: Exception, spec: OracleSpec) -> EngineError:
    """What went wrong at the server, as facts; without the password, whatever the server says."""
    said = str(error).replace(spec.password.get_secret_value() or "\0", "[struck out]").split("\n")[0]
    found = _CODE.search(said)
    code = found[0] if found else ""
    for codes, fix in (
        (_DENIED, "Check the user, the password and the service."),
        (_GONE, "The table or a column has changed, or may not be read: discover the source again."),
    ):
        if code in codes:
            return EngineError(f"{spec.endpoint()}: {said}", origin=Origin.SOURCE, fix=fix, code=code)
    fix = "Check that the listener runs, its port, and that this machine reaches it."
    return EngineError(f"{spec.endpoint()}: {said}", origin=Origin.SOURCE, kind=Kind.TRANSIENT, fix=fix, code=code)


def column_of(name: str, native: str, precision: int | None, scale: int | None, nullable: str) -> Column:
    """The column of the stream; numbers keep their digits, and those without a limit travel as text."""
    return Column(name, _type_of(native, precision, scale), nullable == "Y", native)


def _type_of(native: str, precision: int | None, scale: int | None) -> str:
    if native == "NUMBER":
        if precision is None or scale is None or scale < 0 or scale > precision:
            return "VARCHAR"
        return "BIGINT" if scale == 0 and precision <= 18 else f"DECIMAL({precision},{scale})"
    if native.startswith("TIMESTAMP"):
        return "TIMESTAMP WITH TIME ZONE" if "TIME ZONE" in native else "TIMESTAMP"
    plain = {"BINARY_FLOAT": "FLOAT", "BINARY_DOUBLE": "DOUBLE", "FLOAT": "VARCHAR", "DATE": "TIMESTAMP",
             "RAW": "BLOB", "BLOB": "BLOB", "JSON": "JSON"}  # fmt: skip
    return plain.get(native, "VARCHAR")


def quoted(name: str) -> str:
    """A name as a quoted identifier."""
    return '"' + name.replace('"', "") + '"'


class OracleSession(SourceSession):
    """Reads each stream with one statement."""

    def __init__(self, spec: OracleSpec, context: Context, connection: Any) -> None:
        self.spec = spec
        self.context = context
        self.connection = connection

    def read(self, read: Read, chunk: Chunk) -> "pa.RecordBatchReader":
        """The rows as batches of 20,000."""
        import pyarrow as pa

        from webapp.engine.connectors.types import arrow_schema

        schema = arrow_schema(read.columns)
        return pa.RecordBatchReader.from_batches(schema, self._batches(read, schema))

    def _batches(self, read: Read, schema: "pa.Schema") -> Iterator["pa.RecordBatch"]:
        import oracledb
        import pyarrow as pa

        names = ", ".join(f"{_projection(column)} AS {quoted(column.name)}" for column in read.columns)
        where, values = _where(read)
        table = f"{quoted(read.stream.namespace)}.{quoted(read.stream.name)}"
        query = f"SELECT {names} FROM {table}{where}"  # noqa: S608 - names are quoted, values are bound
        try:
            for frame in self.connection.fetch_df_batches(query, parameters=values, size=BATCH_ROWS):
                if self.context.cancelled():
                    raise Cancelled
                yield from pa.table(frame).cast(schema).to_batches()
        except oracledb.Error as error:
            raise fault(error, self.spec) from error


def _projection(column: Column) -> str:
    name = quoted(column.name)
    as_text = column.native in ("NUMBER", "FLOAT") and column.type != "BIGINT"
    if as_text:
        return f"TO_CHAR({name}, 'TM9', 'NLS_NUMERIC_CHARACTERS=''. ''')"
    if column.type == "TIMESTAMP WITH TIME ZONE":
        return f"SYS_EXTRACT_UTC({name})"
    return (
        name if column.type != "VARCHAR" or "CHAR" in column.native or "CLOB" in column.native else f"TO_CHAR({name})"
    )


def _where(read: Read) -> tuple[str, list[Any]]:
    parts: list[str] = []
    values: list[Any] = []
    for one in read.filter.conditions if read.filter else ():
        name = quoted(relations.checked(read, one).name)
        if one.value is None:
            parts.append(f"{name} IS {'NOT ' if one.op == '!=' else ''}NULL")
        else:
            values.append(one.value)
            parts.append(f"{name} {one.op} :{len(values)}")
    joined = f" {read.filter.join.upper()} ".join(parts) if read.filter else ""
    return (f" WHERE {joined}" if joined else ""), values
