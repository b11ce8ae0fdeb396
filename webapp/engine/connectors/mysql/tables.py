"""What the catalog says of one table that a load writes."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from webapp.engine.connectors.base import Column
from webapp.engine.connectors.mysql.ledger import Place
from webapp.engine.connectors.mysql.outgoing import noted_type

_COLUMNS = """SELECT column_name, data_type, column_type, is_nullable, column_comment, collation_name, extra,
column_default IS NOT NULL AND NOT (column_default = 'NULL') FROM information_schema.columns
WHERE table_schema = %s AND table_name = %s ORDER BY ordinal_position"""
_UNIQUE = """SELECT index_name, column_name, sub_part FROM information_schema.statistics
WHERE table_schema = %s AND table_name = %s AND non_unique = 0"""
_REFERRING = """SELECT DISTINCT CONCAT(table_schema, '.', table_name) FROM information_schema.key_column_usage
WHERE referenced_table_schema = %s AND referenced_table_name = %s"""
_EXACT = "SELECT collation_name FROM information_schema.collations WHERE character_set_name = 'utf8mb4'"
_EXACT_ONES = ("utf8mb4_0900_bin", "utf8mb4_nopad_bin", "utf8mb4_bin")  # MySQL's, MariaDB's, that of older servers


@dataclass(frozen=True)
class Attribute:
    """A column of the table. `fixed` ones have a default or more, which a change of the type would lose."""

    column: Column
    collation: str
    generated: bool
    fixed: bool


@dataclass(frozen=True)
class Table:
    """A table or view as it is now."""

    base: bool
    attributes: dict[str, Attribute]

    def named(self, name: str) -> str | None:
        """How the table writes this name; MySQL's columns do not know upper and lower case."""
        return next((known for known in self.attributes if known.lower() == name.lower()), None)


def table(cursor: Any, place: Place) -> Table | None:
    """The table, None when there is none."""
    cursor.execute(
        "SELECT table_type FROM information_schema.tables WHERE table_schema = %s AND table_name = %s", place.key
    )
    row = cursor.fetchone()
    if row is None:
        return None
    cursor.execute(_COLUMNS, place.key)
    return Table(row[0] == "BASE TABLE", {found[0]: _attribute(*found) for found in cursor.fetchall()})


def exact_collation(cursor: Any) -> str:
    """The collation under which texts are equal only when they are the same, trailing blanks included if possible."""
    cursor.execute(_EXACT)
    found = {row[0] for row in cursor.fetchall()}
    return next(name for name in _EXACT_ONES if name in found)


def unique_on(cursor: Any, place: Place, key: tuple[str, ...]) -> bool:
    """Whether the key is what makes rows unique, and nothing else does."""
    cursor.execute(_UNIQUE, place.key)
    indexes: dict[str, set[str]] = {}
    for index, column, part in cursor.fetchall():
        # An index over the beginnings of texts takes different keys for the same.
        indexes.setdefault(index, set()).add(column.lower() if part is None else "")
    return list(indexes.values()) == [{name.lower() for name in key}]


def referring(cursor: Any, place: Place) -> list[str]:
    """Tables whose foreign keys lead here."""
    cursor.execute(_REFERRING, place.key)
    return sorted(row[0] for row in cursor.fetchall() if row[0] != f"{place.schema}.{place.table}")


def _attribute(
    name: str, data_type: str, column_type: str, nullable: str, comment: str, collation: str, extra: str, default: int
) -> Attribute:
    kind = noted_type(data_type, column_type, comment)
    generated = "GENERATED" in extra.upper() and "DEFAULT_GENERATED" not in extra.upper()
    return Attribute(
        Column(name, kind, nullable == "YES", column_type), collation or "", generated, bool(default or extra)
    )
