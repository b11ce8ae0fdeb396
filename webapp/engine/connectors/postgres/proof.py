"""Whether pages of a table still hold the rows that an earlier snapshot saw, found out without fetching one.

A row version never changes, and its xmin says which transaction wrote it. When all that is seen now was written by
transactions that were over when the earlier snapshot was taken, then that snapshot saw it, too; and when it saw just as
many, then it saw nothing else. What lies outside of rows is compared as it is: the server and its timeline, the file
that the table is in, the columns by number and type, the labels of enums.
"""

# ruff: noqa: S608  names are quoted by names.quoted, values by names.literal

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from webapp.engine.connectors.base import Read
from webapp.engine.connectors.postgres.catalog import Relation
from webapp.engine.connectors.postgres.queries import table_sql, where

if TYPE_CHECKING:
    from psycopg2.extensions import cursor as Cursor  # noqa: N812  the driver's own name is lower case

_FARTHEST = 2**31 - 2**24  # transactions; beyond that their 32 bits mean others
_FLUSH_SECONDS, _PAUSE = 10.0, 0.05  # the server's own rhythm is a fifth of a second
# A server that was promoted or put back to an earlier time has another timeline, and may use numbers twice.
_STANDPOINT = """
SELECT concat_ws(' ', (SELECT system_identifier FROM pg_control_system()),
         CASE WHEN pg_is_in_recovery() THEN 'standby ' || (SELECT timeline_id FROM pg_control_checkpoint())
              ELSE left(pg_walfile_name(pg_current_wal_insert_lsn()), 8) END,
         (SELECT oid FROM pg_database WHERE datname = current_database()),
         (SELECT md5(string_agg(concat_ws(' ', enumtypid, enumsortorder, enumlabel), ',' ORDER BY oid)) FROM pg_enum)),
       txid_snapshot_xmin(txid_current_snapshot()), txid_snapshot_xmax(txid_current_snapshot()),
       CASE WHEN NOT pg_is_in_recovery() THEN pg_current_wal_insert_lsn() END::text"""
# Names of tables and types can change without their rows, and virtual columns with their expression.
_TABLE = """
SELECT concat_ws(' ', c.oid, pg_relation_filenode(c.oid),
         string_agg(concat_ws(' ', a.attnum, a.attname, a.atttypid, a.atttypmod), ',' ORDER BY a.attnum)),
       c.relkind IN ('r', 'm') AND NOT c.relhassubclass AND NOT c.relrowsecurity
       AND NOT bool_or(coalesce(e.typname, b.typname, t.typname) LIKE 'reg%%' OR a.attgenerated = 'v')
FROM pg_class c JOIN pg_attribute a ON a.attrelid = c.oid JOIN pg_type t ON t.oid = a.atttypid
LEFT JOIN pg_type e ON e.oid = nullif(t.typelem, 0) LEFT JOIN pg_type b ON b.oid = nullif(t.typbasetype, 0)
WHERE c.oid = to_regclass(%s) AND a.attnum > 0 AND NOT a.attisdropped AND a.attname = ANY(%s)
GROUP BY c.oid, c.relkind, c.relhassubclass, c.relrowsecurity"""


@dataclass(frozen=True)
class Standpoint:
    """Where a snapshot stands: on which server, with every transaction below `horizon` over, `next` not begun."""

    server: str
    horizon: int
    next: int
    position: str | None  # in the log; None on a standby, which shows only what is on its disk


def standpoint(cursor: Cursor) -> Standpoint:
    """That of the cursor's transaction. Raises psycopg2.Error where the role may not ask."""
    cursor.execute(_STANDPOINT)
    return Standpoint(*(cursor.fetchone() or ("", 0, 0, None)))


def durable(cursor: Cursor, stand: Standpoint) -> bool:
    """Whether all that the snapshot saw is on the server's disk; if not, a crash could give its numbers to others."""
    end = time.monotonic() + _FLUSH_SECONDS
    while stand.position is not None:
        cursor.execute("SELECT pg_current_wal_flush_lsn() >= %s::pg_lsn", (stand.position,))
        if (cursor.fetchone() or (False,))[0]:
            return True
        if time.monotonic() > end:
            return False
        time.sleep(_PAUSE)
    return True


def identity(cursor: Cursor, place: Sequence[str], read: Read) -> str | None:
    """What else the rows of a table depend on; None where that cannot be told."""
    names = {column.name for column in read.columns} | ({read.cursor} if read.cursor else set())
    names |= {one.column for one in read.filter.conditions} if read.filter else set()
    cursor.execute(_TABLE, (table_sql(*place), sorted(names)))
    found, fit = cursor.fetchone() or (None, False)
    return found if fit else None


def mark(stand: Standpoint, table: str) -> dict[str, Any]:
    """What to remember of a chunk that is read from this standpoint."""
    return {"server": stand.server, "table": table, "horizon": stand.horizon}


def comparable(earlier: Mapping[str, Any], stand: Standpoint, table: str | None) -> bool:
    """Whether the rows alone decide."""
    here = (stand.server, table)
    near = 0 <= stand.next - int(earlier["horizon"]) < _FARTHEST
    return near and (earlier["server"], earlier["table"]) == here


def counting(read: Read, relation: Relation, bounds: Mapping[str, Any], earlier: Mapping[str, Any]) -> str:
    """SQL that gives the chunk's rows, and how many of them the earlier snapshot did not see for certain."""
    horizon = int(earlier["horizon"]) % 2**32
    # Rows so old that their numbers have been used again come out negative.
    new = f"age(xmin) BETWEEN 0 AND age('{horizon}'::xid)"
    return (
        f"SELECT count(*) AS rows, count(*) FILTER (WHERE {new}) AS new"
        f" FROM {table_sql(*bounds['table'])}{where(read, relation, bounds)}"
    )
