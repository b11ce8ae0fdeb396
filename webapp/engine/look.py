"""Run as a process by ``preview.py``: reads the first rows of one table. The question comes as JSON on standard input,
the answer goes as JSON to standard output.
"""

import base64
import datetime
import decimal
import json
import math
import signal
import sys
import uuid
from pathlib import Path
from typing import Any

import duckdb

from webapp.engine.context import Context, Silence
from webapp.engine.database import name_of_file, reading
from webapp.engine.errors import EngineError, Kind, Origin
from webapp.engine.names import TableName, quoted


def main() -> None:
    """Answer one question: with columns, rows and total, or with the problem."""
    wanted = json.load(sys.stdin)
    signal.alarm(math.ceil(wanted["seconds"]))  # ends with it, should whoever asked be gone
    try:
        answer = _look(wanted)
    except EngineError as error:
        facts = {name: jsonable(value) for name, value in error.facts.items()}
        known = {"message": error.message, "origin": error.origin, "kind": error.kind}
        answer = {"problem": {**facts, **known, "permanent": error.permanent, "fix": error.fix}}
    json.dump(answer, sys.stdout)


def _look(wanted: dict[str, Any]) -> dict[str, Any]:
    database = Path(wanted["database"])
    context = Context(
        data_root=database.parent,
        allowed_roots=(),
        warehouse=database,
        temp=Path(wanted["temp"]),
        reporter=Silence(),
        memory_limit_mb=wanted["memory_limit_mb"],
        threads=wanted["threads"],
        lock_timeout=wanted["lock_timeout"],
    )
    table, shown = TableName.parse(wanted["table"]), wanted["shown"]
    with reading(database, context, shown=shown) as connection:
        try:
            return _read(connection, table.within(name_of_file(connection)), wanted["limit"])
        except duckdb.CatalogException as error:
            raise EngineError(f"{shown} has no table {table} yet", origin=Origin.DESTINATION, table=str(table),
                              fix="Run the load first.") from error  # fmt: skip
        except duckdb.Error as error:
            raise EngineError(f"{table} in {shown} cannot be read: {error}", origin=Origin.DESTINATION,
                              kind=Kind.SYSTEM) from error  # fmt: skip


def _read(connection: duckdb.DuckDBPyConnection, table: TableName, limit: int) -> dict[str, Any]:
    counted = connection.execute(f"SELECT count(*) FROM {table.sql}").fetchone()  # noqa: S608  the name is quoted
    described = connection.execute(f"DESCRIBE {table.sql}").fetchall()
    columns = [(str(row[0]), str(row[1])) for row in described]
    shown = ", ".join(_shown(name, type_) for name, type_ in columns)
    rows = connection.execute(f"SELECT {shown} FROM {table.sql} LIMIT {limit:d}").fetchall()  # noqa: S608
    return {
        "columns": columns,
        "rows": [[jsonable(value) for value in row] for row in rows],
        "total": int(counted[0]) if counted else 0,
    }


def _shown(name: str, type_: str) -> str:
    # DuckDB's Python client needs another package for instants with a zone; JSON carries them as text anyway.
    if type_ == "TIMESTAMP WITH TIME ZONE":
        return f"strftime({quoted(name)} AT TIME ZONE 'UTC', '%Y-%m-%dT%H:%M:%S.%f+00:00')"
    return f"to_json({quoted(name)})::VARCHAR" if "TIME ZONE" in type_ else quoted(name)


def jsonable(value: Any) -> Any:
    """Return a value of DuckDB as JSON can carry it: instants as ISO 8601, exact decimals and bytes as text."""
    match value:
        case None | bool() | int() | str():
            return value
        case float():
            return value if math.isfinite(value) else str(value)
        case datetime.datetime() | datetime.date() | datetime.time():
            return value.isoformat()
        case bytes() | bytearray() | memoryview():
            return base64.b64encode(bytes(value)).decode()
        case decimal.Decimal() | uuid.UUID() | datetime.timedelta():
            return str(value)
        case dict():
            return {str(jsonable(key)): jsonable(item) for key, item in value.items()}
        case list() | tuple() | set():
            return [jsonable(item) for item in value]
    return str(value)


if __name__ == "__main__":
    main()
