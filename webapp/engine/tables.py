"""Putting a source's rows into a table, inside the caller's transaction: replace, append or upsert by key."""

# ruff: noqa: S608  names are quoted by names.quoted, values are bound

import json
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any

import duckdb

from webapp.engine.drift import Column, Drift, plan_drift
from webapp.engine.errors import EngineError, Origin
from webapp.engine.names import TableName, quoted
from webapp.engine.sources import Source

_STAGE = '"temp"."hohmann_incoming"'
_SCANS = ("READ_CSV", "READ_PARQUET", "ARROW_SCAN", "PARQUET_SCAN")


@dataclass(frozen=True)
class Loaded:
    """What a load did: rows that the scan read, rows that the statement wrote, rows expected and found afterwards."""

    read: int
    written: int
    found: int
    schema: list[tuple[str, str]]
    changes: list[str] = field(default_factory=list)


class TableLoad:
    """One load into one table of an open transaction; ``run`` moves the rows, ``verify`` counts them in the table."""

    def __init__(
        self, connection: duckdb.DuckDBPyConnection, table: TableName, mode: str, key: tuple[str, ...]
    ) -> None:
        self._connection = connection
        self._table = table
        self._mode = mode
        self._key = key
        self._before = 0
        self._staged = False
        self._read = 0
        self._written = 0
        self._changes: list[str] = []

    def run(self, source: Source) -> None:
        """Move the rows; raises duckdb.Error as it comes, and EngineError for a key or schema that does not fit."""
        self._connection.execute(f"CREATE SCHEMA IF NOT EXISTS {quoted(self._table.schema)}")
        existing = self._existing()
        if source.without_columns:
            self._nothing(existing)
        elif self._mode == "upsert":
            self._upsert(source, existing)
        elif self._mode == "append" and existing:
            self._append(source, existing)
        else:
            self._create(source)

    def verify(self) -> Loaded:
        """Count what is in the table now, apart from what the statement said."""
        found = self._count_keys() if self._staged else self._count(self._table.sql) - self._before
        schema = [(column.name, column.type) for column in self._describe(f"SELECT * FROM {self._table.sql}")]
        if self._staged:
            self._connection.execute(f"DROP TABLE {_STAGE}")
        return Loaded(self._read, self._written, found, schema, self._changes)

    def _nothing(self, existing: list[Column]) -> None:
        if not existing:
            raise EngineError(
                f"the source has no records, so the columns of {self._table} cannot be known",
                origin=Origin.SOURCE,
                table=str(self._table),
                fix="Check the path to the records and the query.",
            )
        if self._mode == "replace":
            self._execute(f"DELETE FROM {self._table.sql}")
        else:
            self._before = self._count(self._table.sql)

    def _create(self, source: Source) -> None:
        before = self._existing()
        sql = f"CREATE OR REPLACE TABLE {self._table.sql} AS SELECT * FROM {source.relation}"
        self._written = self._scan(sql, source.parameters)
        if before:
            self._changes = Drift.between(before, self._describe(f"SELECT * FROM {self._table.sql}"))

    def _append(self, source: Source, existing: list[Column]) -> None:
        source, select = self._fitted(source, existing)
        self._before = self._count(self._table.sql)
        self._written = self._scan(f"INSERT INTO {self._table.sql} BY NAME {select}", source.parameters)

    def _upsert(self, source: Source, existing: list[Column]) -> None:
        if existing:
            source, select = self._fitted(source, existing)
        else:
            select = f"SELECT * FROM {source.relation}"
        self._scan(f"CREATE OR REPLACE TEMP TABLE hohmann_incoming AS {select}", source.parameters)
        self._staged = True
        self._check_key()
        if existing:
            self._execute(f"DELETE FROM {self._table.sql} AS t USING {_STAGE} AS s WHERE {self._matching()}")
            sql = f"INSERT INTO {self._table.sql} BY NAME SELECT * FROM {_STAGE}"
        else:
            sql = f"CREATE TABLE {self._table.sql} AS SELECT * FROM {_STAGE}"
        self._written = self._execute(sql)

    def _fitted(self, source: Source, existing: list[Column]) -> tuple[Source, str]:
        """Widen the table so that the source fits, and return how the source is to be read for it."""
        incoming = self._describe(f"SELECT * FROM {source.relation}", source.parameters)
        if source.retyped:
            # A text guess says little (a column without values is text, too): read it as what the table has.
            known = {column.name.lower(): column.type for column in existing}
            types = {
                c.name: known[c.name.lower()]
                for c in incoming
                if c.type == "VARCHAR" and known.get(c.name.lower(), "VARCHAR") != "VARCHAR"
            }
            if types:
                source = source.retyped(types)
                incoming = self._describe(f"SELECT * FROM {source.relation}", source.parameters)
        drift = plan_drift(existing, incoming, str(self._table))
        for check in drift.checks(self._table.sql):
            if self._scalar(check.sql):
                raise check.error
        for statement in drift.statements(self._table.sql):
            self._connection.execute(statement)
        self._changes = drift.changes
        return source, drift.select(source.relation)

    def _check_key(self) -> None:
        have = {column.name.lower() for column in self._describe(f"SELECT * FROM {_STAGE}")}
        if missing := [name for name in self._key if name.lower() not in have]:
            raise self._key_error(
                f"the source has no column {', '.join(missing)}, which is in the key", missing=missing
            )
        keys = ", ".join(quoted(name) for name in self._key)
        empty = " OR ".join(f"{quoted(name)} IS NULL" for name in self._key)
        if nulls := self._scalar(f"SELECT count(*) FROM {_STAGE} WHERE {empty}"):
            raise self._key_error(f"{nulls} rows have no value in the key ({', '.join(self._key)})", rows=nulls)
        twice = self._connection.execute(
            f"SELECT {keys}, count(*) FROM {_STAGE} GROUP BY {keys} HAVING count(*) > 1 LIMIT 1"
        ).fetchone()
        if twice:
            shown = ", ".join(f"{name} = {value}" for name, value in zip(self._key, twice, strict=False))
            raise self._key_error(f"the key {shown} stands in {twice[-1]} rows of the source", rows=twice[-1])

    def _key_error(self, message: str, **facts: Any) -> EngineError:
        return EngineError(
            message,
            origin=Origin.SOURCE,
            table=str(self._table),
            key=list(self._key),
            fix="Correct the source, or choose columns that tell its rows apart.",
            **facts,
        )

    def _matching(self) -> str:
        return " AND ".join(f"t.{quoted(name)} = s.{quoted(name)}" for name in self._key)

    def _count_keys(self) -> int:
        stored = f"EXISTS (FROM {_STAGE} AS s WHERE {self._matching()})"
        return int(self._scalar(f"SELECT count(*) FROM {self._table.sql} AS t WHERE {stored}"))

    def _existing(self) -> list[Column]:
        rows = self._connection.execute(
            "SELECT table_type FROM information_schema.tables WHERE table_catalog = current_database() "
            "AND lower(table_schema) = lower($1) AND lower(table_name) = lower($2)",
            [self._table.schema, self._table.table],
        ).fetchall()
        if not rows:
            return []
        if rows[0][0] != "BASE TABLE":
            raise EngineError(
                f"{self._table} is a view, and a load needs a table",
                origin=Origin.DESTINATION,
                table=str(self._table),
                fix="Choose another table name.",
            )
        return self._describe(f"SELECT * FROM {self._table.sql}")

    def _describe(self, query: str, parameters: Iterable[Any] = ()) -> list[Column]:
        rows = self._connection.execute(f"DESCRIBE {query}", list(parameters)).fetchall()
        return [Column(row[0], row[1]) for row in rows]

    def _scan(self, sql: str, parameters: list[Any]) -> int:
        written = self._execute(sql, parameters)
        self._read = _rows_scanned(self._connection.get_profiling_information("json"))
        return written

    def _execute(self, sql: str, parameters: Iterable[Any] = ()) -> int:
        row = self._connection.execute(sql, list(parameters)).fetchone()
        return int(row[0]) if row else 0

    def _count(self, table: str) -> int:
        return int(self._scalar(f"SELECT count(*) FROM {table}"))

    def _scalar(self, sql: str) -> Any:
        row = self._connection.execute(sql).fetchone()
        return row[0] if row else None


def _rows_scanned(profile: str) -> int:
    """Add up the rows that left the scans of files and Arrow tables, as DuckDB's own profile counted them."""
    return sum(_scanned(operator) for operator in json.loads(profile)["operator"])


def _scanned(operator: dict[str, Any]) -> int:
    below = sum(_scanned(child) for child in operator.get("children", ()))
    function = str(operator.get("extra_info", {}).get("Function", "")).upper()
    return below + (int(operator.get("rows_scanned", 0)) if function in _SCANS else 0)
