"""The rows of all tables as JSON lines, the same for SQLite and PostgreSQL: what one backs up, the other restores.

Each file begins with a line that says what its columns are. Encrypted columns are copied as they lie there.
"""

import base64
import uuid
from collections.abc import Iterable, Iterator
from datetime import datetime
from enum import StrEnum
from typing import IO, Any

import orjson
import sqlalchemy as sa
from sqlalchemy.engine import Connection
from sqlalchemy.sql.elements import ColumnElement

from webapp.db import Base, Instant
from webapp.secrets import EncryptedJSON

BATCH = 1000
LEFT_OUT = frozenset({"worker"})
"""Tables that tell of processes, which do not outlive their machine."""


class Kind(StrEnum):
    """What a column holds, in words that both databases and later releases understand."""

    INSTANT = "instant"
    UUID = "uuid"
    BYTES = "bytes"
    JSON = "json"
    PLAIN = "plain"


_TYPES: dict[Kind, Any] = {
    Kind.INSTANT: Instant(),
    Kind.UUID: sa.Uuid(),
    Kind.BYTES: sa.LargeBinary(),
    Kind.JSON: sa.JSON(),
    Kind.PLAIN: sa.types.NullType(),
}


def tables() -> list[sa.Table]:
    """The tables whose rows are kept, those first that others refer to."""
    return [table for table in Base.metadata.sorted_tables if table.name not in LEFT_OUT]


def kind_of(column: sa.Column[Any]) -> Kind:
    """What a column holds."""
    kinds = (
        (Instant, Kind.INSTANT),
        (EncryptedJSON, Kind.PLAIN),
        (sa.Uuid, Kind.UUID),
        (sa.LargeBinary, Kind.BYTES),
        (sa.JSON, Kind.JSON),
    )
    return next((kind for type_, kind in kinds if isinstance(column.type, type_)), Kind.PLAIN)


def write_rows(connection: Connection, table: sa.Table, file: IO[bytes]) -> int:
    """Write the table's rows; returns how many."""
    kinds = {str(column.name): kind_of(column) for column in table.columns}
    file.write(orjson.dumps({"table": str(table.name), "columns": kinds}) + b"\n")
    query = sa.select(*(_raw(column) for column in table.columns))
    found = connection.execution_options(yield_per=BATCH).execute(query)
    count = 0
    for row in found:
        file.write(orjson.dumps([_out(value) for value in row]) + b"\n")
        count += 1
    return count


def _raw(column: sa.Column[Any]) -> ColumnElement[Any]:
    """The column as the database holds it: what is encrypted stays so, and enums are their texts."""
    if isinstance(column.type, EncryptedJSON | sa.Enum):
        return sa.type_coerce(column, sa.Text).label(column.name)
    return column


def _out(value: Any) -> Any:
    if isinstance(value, bytes | memoryview):
        return base64.b64encode(value).decode()
    return value


def read_rows(connection: Connection, lines: Iterable[bytes]) -> tuple[str, int]:
    """Insert the rows of one file; returns the table's name and how many. The table must be there, and empty."""
    source = iter(lines)
    head = orjson.loads(next(source))
    kinds = {name: Kind(word) for name, word in head["columns"].items()}
    table = sa.table(head["table"], *(sa.column(name, _TYPES[kind]) for name, kind in kinds.items()))
    count = 0
    for batch in _batches(source):
        rows = [
            {name: _in(value, kind) for (name, kind), value in zip(kinds.items(), orjson.loads(line), strict=True)}
            for line in batch
        ]
        connection.execute(sa.insert(table), rows)
        count += len(rows)
    return head["table"], count


def _batches(lines: Iterator[bytes]) -> Iterator[list[bytes]]:
    batch: list[bytes] = []
    for line in lines:
        batch.append(line)
        if len(batch) == BATCH:
            yield batch
            batch = []
    if batch:
        yield batch


def _in(value: Any, kind: Kind) -> Any:
    if value is None:
        return None
    if kind is Kind.INSTANT:
        return datetime.fromisoformat(value)
    if kind is Kind.UUID:
        return uuid.UUID(value)
    return base64.b64decode(value) if kind is Kind.BYTES else value


def set_sequences(connection: Connection) -> None:
    """Let PostgreSQL count on from the greatest number of each table; SQLite does so by itself."""
    if connection.dialect.name != "postgresql":
        return
    for table in tables():
        column = table.autoincrement_column
        if column is not None:
            sequence = sa.func.pg_get_serial_sequence(table.name, column.name)
            greatest = sa.select(sa.func.max(column)).scalar_subquery()
            connection.execute(
                sa.select(sa.func.setval(sequence, sa.func.coalesce(greatest, 1), greatest.is_not(None)))
            )
