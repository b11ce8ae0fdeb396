"""What change data capture needs of a PostgreSQL server and of its tables."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from psycopg2.extensions import cursor as Cursor  # noqa: N812  the driver's own name is lower case

_SERVER = """
SELECT current_setting('wal_level'), current_setting('max_replication_slots')::int,
  current_setting('max_wal_senders')::int, current_user,
  EXISTS (SELECT 1 FROM pg_roles r WHERE r.rolname = current_user AND (r.rolreplication OR r.rolsuper))
  OR EXISTS (SELECT 1 FROM pg_roles r WHERE r.rolname = 'rds_replication'
             AND pg_has_role(current_user, r.oid, 'member'))"""
_TABLES = """
SELECT n.nspname, c.relname FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
WHERE c.relkind = 'r' AND c.relpersistence = 'p' AND (c.relreplident = 'f' OR EXISTS (
  SELECT 1 FROM pg_index i WHERE i.indrelid = c.oid AND CASE c.relreplident
    WHEN 'd' THEN i.indisprimary WHEN 'i' THEN i.indisreplident ELSE false END))"""


def missing(cursor: Cursor) -> list[str]:
    """What the server lacks, each with the setting that would help; empty when it is ready."""
    cursor.execute(_SERVER)
    level, slots, senders, user, allowed = cursor.fetchone() or ("", 0, 0, "", False)
    lacks = {
        f"wal_level is {level} and must be logical": level != "logical",
        "max_replication_slots is 0": slots == 0,
        "max_wal_senders is 0": senders == 0,
        f"{user} may not replicate (ALTER ROLE {user} REPLICATION)": not allowed,
    }
    return [text for text, true in lacks.items() if true]


def tables(cursor: Cursor) -> frozenset[tuple[str, str]]:
    """Schema and name of the tables whose replica identity tells rows apart."""
    cursor.execute(_TABLES)
    return frozenset((schema, name) for schema, name in cursor.fetchall())
