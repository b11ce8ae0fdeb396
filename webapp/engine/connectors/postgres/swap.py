"""Putting one table in another's place within a transaction: views, rights and all."""

from __future__ import annotations

from typing import TYPE_CHECKING

from webapp.engine.connectors.postgres.catalog import PARACHUTE
from webapp.engine.connectors.postgres.ledger import Kept, Place
from webapp.engine.errors import EngineError, Origin
from webapp.engine.names import quoted

if TYPE_CHECKING:
    from psycopg2.extensions import cursor as Cursor  # noqa: N812  the driver's own name is lower case

_READERS = """
SELECT DISTINCT c.oid, c.relkind, format('%%I.%%I', n.nspname, c.relname), array_to_string(c.reloptions, ', '),
       pg_get_viewdef(c.oid)
FROM pg_depend d JOIN pg_rewrite r ON r.oid = d.objid JOIN pg_class c ON c.oid = r.ev_class
JOIN pg_namespace n ON n.oid = c.relnamespace
WHERE d.classid = 'pg_rewrite'::regclass AND d.refclassid = 'pg_class'::regclass
  AND d.refobjid = to_regclass(%(name)s) AND c.oid <> to_regclass(%(name)s)"""

_REFERRING = """
SELECT conrelid::regclass::text FROM pg_constraint
WHERE contype = 'f' AND confrelid = to_regclass(%(name)s) AND conrelid <> confrelid"""

_GRANTS = """
SELECT format('GRANT %%s ON %%s TO %%s%%s', a.privilege_type, %(name)s,
              CASE WHEN a.grantee = 0 THEN 'PUBLIC' ELSE quote_ident(pg_get_userbyid(a.grantee)) END,
              CASE WHEN a.is_grantable THEN ' WITH GRANT OPTION' ELSE '' END)
FROM pg_class c CROSS JOIN LATERAL aclexplode(c.relacl) a
WHERE c.oid = to_regclass(%(name)s) AND a.grantee <> c.relowner"""


def put_in_place(cursor: Cursor, place: Place, new: str, new_schema: str, parked: Kept) -> None:
    """Move the table of `place` into the parachute and `new` to its name; views and rights follow the name.

    Raises EngineError when something hangs on the old table that cannot be moved.
    """
    named = {"name": place.sql}
    cursor.execute("SET LOCAL search_path TO ''")
    cursor.execute(f"LOCK TABLE {place.sql} IN ACCESS EXCLUSIVE MODE")
    cursor.execute(_READERS, named)
    readers = cursor.fetchall()
    cursor.execute(_REFERRING, named)
    _refuse(place, [row[2] for row in readers if row[1] != "v"] + [row[0] for row in cursor.fetchall()])
    cursor.execute(_GRANTS, named)
    grants = [row[0] for row in cursor.fetchall()]
    move(cursor, (place.schema, place.table), (PARACHUTE, parked.name))
    move(cursor, (new_schema, new), (place.schema, place.table))
    for _, _, name, options, definition in readers:
        cursor.execute(f"CREATE OR REPLACE VIEW {name}{f' WITH ({options})' if options else ''} AS {definition}")
    for grant in grants:
        cursor.execute(grant)


def move(cursor: Cursor, old: tuple[str, str], new: tuple[str, str]) -> None:
    """Give a table another name in another schema; its name on the way is the new one, which is free in both."""
    schema, table = old
    # Renamed within the schema that is ours, where no other load's name can be in the way.
    if schema.startswith("_hohmann"):
        cursor.execute(f"ALTER TABLE {quoted(schema)}.{quoted(table)} RENAME TO {quoted(new[1])}")
        cursor.execute(f"ALTER TABLE {quoted(schema)}.{quoted(new[1])} SET SCHEMA {quoted(new[0])}")
    else:
        cursor.execute(f"ALTER TABLE {quoted(schema)}.{quoted(table)} SET SCHEMA {quoted(new[0])}")
        cursor.execute(f"ALTER TABLE {quoted(new[0])}.{quoted(table)} RENAME TO {quoted(new[1])}")


def _refuse(place: Place, hanging: list[str]) -> None:
    if hanging:
        raise EngineError(
            f"{place.schema}.{place.table} cannot be replaced: {', '.join(sorted(hanging)[:5])} depends on it",
            origin=Origin.DESTINATION,
            fix="Materialized views and foreign keys hold on to the old table: drop them, or append or upsert instead.",
        )
