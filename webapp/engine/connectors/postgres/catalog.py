"""What pg_catalog says of relations: many at once for discovery, one for a read."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase
from typing import TYPE_CHECKING, Any

from webapp.engine.connectors.base import Mode, Stream
from webapp.engine.connectors.postgres.columns import Attribute, PgType, describe

if TYPE_CHECKING:
    from psycopg2.extensions import cursor as Cursor  # noqa: N812  the driver's own name is lower case

PARACHUTE = "_hohmann_parachute"
OWN = "_hohmann"
PAGE = 8192
_FIRST, _LATER = 100, 1000

_TYPES = """
SELECT t.oid, t.typname, n.nspname, t.typtype, t.typcategory, t.typbasetype, t.typtypmod, t.typelem
FROM pg_type t JOIN pg_namespace n ON n.oid = t.typnamespace LEFT JOIN pg_type e ON e.oid = t.typelem
WHERE t.typtype <> 'c' AND (e.oid IS NULL OR e.typtype <> 'c')"""

_RELATIONS = """
SELECT c.oid, n.nspname, c.relname
FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
WHERE c.relkind IN ('r', 'p', 'v', 'm', 'f') AND c.relpersistence <> 't' AND NOT c.relispartition
  AND n.nspname <> 'information_schema' AND n.nspname NOT LIKE 'pg\\_%%' AND n.nspname NOT IN %(own)s
  AND (%(schemas)s IS NULL OR n.nspname = ANY(%(schemas)s))
  AND has_schema_privilege(n.oid, 'USAGE')
ORDER BY n.nspname, c.relname"""

_DETAILS = """
SELECT c.oid, c.relkind, CASE WHEN c.relkind = 'p' THEN
         (SELECT sum(greatest(l.reltuples, 0)) FROM pg_partition_tree(c.oid) p JOIN pg_class l ON l.oid = p.relid
          WHERE p.isleaf) WHEN c.relkind IN ('r', 'm') THEN nullif(c.reltuples, -1) END,
       CASE WHEN c.relkind = 'p' THEN
         (SELECT sum(pg_relation_size(p.relid)) FROM pg_partition_tree(c.oid) p WHERE p.isleaf)
       WHEN c.relkind IN ('r', 'm') THEN pg_relation_size(c.oid) END
FROM pg_class c WHERE c.oid = ANY(%s::oid[])"""

_COLUMNS = """
SELECT a.attrelid, a.attname, a.atttypid, a.atttypmod, a.attndims, a.attnotnull,
       format_type(a.atttypid, a.atttypmod)
FROM pg_attribute a
WHERE a.attrelid = ANY(%s::oid[]) AND a.attnum > 0 AND NOT a.attisdropped ORDER BY a.attrelid, a.attnum"""

_KEYS = """
SELECT i.indrelid, a.attname FROM pg_index i
CROSS JOIN LATERAL unnest(i.indkey::int2[]) WITH ORDINALITY AS k(attnum, place)
JOIN pg_attribute a ON a.attrelid = i.indrelid AND a.attnum = k.attnum
WHERE i.indrelid = ANY(%s::oid[]) AND i.indisprimary AND k.place <= i.indnkeyatts ORDER BY i.indrelid, k.place"""

_ONE = """
SELECT c.oid, c.relkind, c.relrowsecurity FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
WHERE n.nspname = %s AND c.relname = %s AND c.relkind IN ('r', 'p', 'v', 'm', 'f')"""


@dataclass(frozen=True)
class Relation:
    """A table, view or other relation as it is now."""

    oid: int
    kind: str
    guarded: bool  # by row level security
    attributes: dict[str, Attribute]


def types(cursor: Cursor) -> dict[int, PgType]:
    """Every type that a column may have, composite ones left out."""
    cursor.execute(_TYPES)
    return {row[0]: PgType(*row[1:]) for row in cursor.fetchall()}


def find(cursor: Cursor, schemas: Sequence[str], pattern: str) -> list[tuple[int, str, str]]:
    """The oid, schema and name of all relations that can be streams; `pattern` is a glob over `schema.name`."""
    cursor.execute(_RELATIONS, {"own": (OWN, PARACHUTE), "schemas": list(schemas) or None})
    rows: list[tuple[int, str, str]] = cursor.fetchall()
    return [row for row in rows if not pattern or fnmatchcase(f"{row[1]}.{row[2]}", pattern)]


def streams(cursor: Cursor, found: Sequence[tuple[int, str, str]]) -> Iterator[Stream]:
    """The relations as streams, a few first and then many at a time."""
    known = types(cursor)
    at, size = 0, _FIRST
    while page := found[at : at + size]:
        yield from _page(cursor, known, page)
        at, size = at + size, _LATER


def _page(cursor: Cursor, known: dict[int, PgType], page: Sequence[tuple[int, str, str]]) -> Iterator[Stream]:
    oids = [oid for oid, _, _ in page]
    cursor.execute(_DETAILS, (oids,))
    details = {row[0]: row[1:] for row in cursor.fetchall()}
    columns = attributes(cursor, known, oids)
    cursor.execute(_KEYS, (oids,))
    keys: dict[int, list[str]] = defaultdict(list)
    for oid, name in cursor.fetchall():
        keys[oid].append(name)
    for oid, schema, name in page:
        if oid in details and columns[oid]:  # dropped meanwhile, or without a column
            yield _stream(schema, name, columns[oid], tuple(keys[oid]), details[oid])


def _stream(
    schema: str, name: str, columns: Sequence[Attribute], key: tuple[str, ...], details: tuple[Any, ...]
) -> Stream:
    _, rows, size = details
    cursors = tuple(one.column.name for one in columns if one.cursor)
    return Stream(
        schema,
        name,
        tuple(one.column for one in columns),
        key,
        cursors,
        (Mode.FULL_REFRESH, Mode.INCREMENTAL) if cursors else (Mode.FULL_REFRESH,),
        None if rows is None else int(rows),
        None if size is None else int(size),
    )


def attributes(cursor: Cursor, known: dict[int, PgType], oids: Sequence[int]) -> dict[int, list[Attribute]]:
    """The columns of these relations in their order."""
    cursor.execute(_COLUMNS, (list(oids),))
    found: dict[int, list[Attribute]] = defaultdict(list)
    for oid, name, kind, typmod, dimensions, notnull, native in cursor.fetchall():
        found[oid].append(describe(known, name, kind, typmod, dimensions, nullable=not notnull, native=native))
    return found


def relation(cursor: Cursor, schema: str, name: str) -> Relation | None:
    """One relation as it is now, None when there is none of this name."""
    cursor.execute(_ONE, (schema, name))
    row = cursor.fetchone()
    if row is None:
        return None
    columns = attributes(cursor, types(cursor), [row[0]])[row[0]]
    return Relation(row[0], row[1], row[2], {one.column.name: one for one in columns})
