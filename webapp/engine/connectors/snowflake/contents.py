"""What a table holds, by a token in its comment; the ledger keeps the state for each token.

A definition commits by itself in Snowflake, so a table that is replaced cannot change together with a row of the
ledger. But a swap exchanges two tables with their comments: the new table's state is noted under its own token before
anybody sees it. Rows that are added change in one transaction with the row of their table's token.
"""

# ruff: noqa: S608  names are quoted by columns.quoted, texts by columns.literal

from __future__ import annotations

import json
import secrets
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from webapp.engine.connectors.base import Column
from webapp.engine.connectors.snowflake.account import Account
from webapp.engine.connectors.snowflake.columns import MARK, column_of, folded, literal, quoted
from webapp.engine.connectors.snowflake.spec import OWN
from webapp.engine.errors import EngineError, Kind, Origin


@dataclass(frozen=True)
class Place:
    """A table by its database, schema and name."""

    database: str
    schema: str
    table: str

    @property
    def sql(self) -> str:
        """The name as SQL."""
        return ".".join(map(quoted, (self.database, self.schema, self.table)))

    @property
    def where(self) -> str:
        """The condition by which the catalog finds it."""
        return f"table_schema = {literal(folded(self.schema))} AND table_name = {literal(folded(self.table))}"

    @property
    def catalog(self) -> str:
        """The catalog of its database."""
        return f"{quoted(self.database)}.INFORMATION_SCHEMA"

    def own(self, name: str) -> Place:
        """A table of ours in the same database."""
        return Place(self.database, OWN, name)

    @property
    def ledger(self) -> str:
        """The table of states, as SQL."""
        return self.own("CONTENT").sql


@dataclass(frozen=True)
class Table:
    """A table or view as it is now; `strange` are columns of types that loads do not write."""

    base: bool
    token: str
    columns: tuple[Column, ...]
    strange: tuple[Column, ...]

    def named(self, name: str) -> str:
        """How the table writes this name; upper and lower case do not make two columns of a stream."""
        return next((one.name for one in self.columns if one.name.lower() == name.lower()), name)


@dataclass(frozen=True)
class Noted:
    """What the ledger knows of a token; `revision` changes with every commit."""

    state: dict[str, Any] | None
    revision: str


def new_token() -> str:
    """A name that no content has yet."""
    return secrets.token_hex(12)


def preparations(place: Place) -> list[str]:
    """What a load needs; several may try at once."""
    columns = (
        "TOKEN VARCHAR, OF_TABLE VARCHAR, STATE VARCHAR, RUN_ID VARCHAR, REVISION VARCHAR, CHANGED_AT TIMESTAMP_NTZ"
    )
    schemas = [f"CREATE SCHEMA IF NOT EXISTS {quoted(place.database)}.{quoted(name)}" for name in (place.schema, OWN)]
    return [*schemas, f"CREATE TABLE IF NOT EXISTS {place.ledger} ({columns})"]


def table(account: Account, place: Place) -> Table | None:
    """The table, None when there is none."""
    found = account.rows(f"SELECT table_type, comment FROM {place.catalog}.TABLES WHERE {place.where}")
    if not found:
        return None
    rows = account.rows(
        "SELECT column_name, data_type, numeric_precision, numeric_scale, datetime_precision, is_nullable, comment"
        f" FROM {place.catalog}.COLUMNS WHERE {place.where} ORDER BY ordinal_position"
    )
    known = [column_of(row[0], _native(*row[1:5]), row[5] == "YES", row[6] or "") for row in rows]
    comment = found[0][1] or ""
    token = comment.removeprefix(MARK) if comment.startswith(MARK) else ""
    return Table(
        found[0][0] == "BASE TABLE",
        token,
        tuple(column for column, _ in known),
        tuple(column for column, ours in known if not ours),
    )


def noted(account: Account, place: Place, token: str) -> Noted | None:
    """What the last commit to the content left."""
    found = account.rows(f"SELECT state, revision FROM {place.ledger} WHERE token = {literal(token)}")
    return Noted(dict(json.loads(found[0][0])), found[0][1]) if found else None


def has_ledger(account: Account, place: Place) -> bool:
    """Whether a load has ever written to this database."""
    return table(account, place.own("CONTENT")) is not None


def change(
    account: Account, place: Place, token: str, state: Mapping[str, Any], *, run_id: str, known: Noted | None
) -> None:
    """Write the state within the rows' transaction. Raises EngineError when another load has committed meanwhile."""
    text, fresh = literal(json.dumps(dict(state))), literal(new_token())
    of_table = literal(f"{place.schema}.{place.table}")
    if known is None:
        changed = account.do(
            f"INSERT INTO {place.ledger} SELECT {literal(token)}, {of_table}, {text}, {literal(run_id)}, {fresh},"
            f" SYSDATE() FROM (SELECT 1) WHERE NOT EXISTS (SELECT 1 FROM {place.ledger} WHERE token = {literal(token)})"
        )
    else:
        changed = account.do(
            f"UPDATE {place.ledger} SET state = {text}, run_id = {literal(run_id)}, revision = {fresh},"
            f" changed_at = SYSDATE() WHERE token = {literal(token)} AND revision = {literal(known.revision)}"
        )
    if changed != 1:
        raise EngineError(
            f"{place.schema}.{place.table} was written by another load meanwhile",
            origin=Origin.DESTINATION,
            kind=Kind.TRANSIENT,
            fix="Let one job write the table; this load can be tried again.",
        )


def _native(kind: str, precision: int | None, scale: int | None, digits: int | None) -> str:
    if kind == "NUMBER":
        return f"NUMBER({precision},{scale})"
    return f"{kind}({digits})" if kind.startswith("TIME") else kind
