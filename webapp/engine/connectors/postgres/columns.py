"""PostgreSQL's types in our words, and the SQL that brings each in a form which travels as Arrow."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType

from webapp.engine.connectors.base import Column
from webapp.engine.names import literal, quoted

# Our type, and the expression over the column ({}); the driver gives these as Arrow carries them, texts where cast.
_PLAIN = MappingProxyType(
    {
        "int2": ("SMALLINT", "{}"),
        "int4": ("INTEGER", "{}"),
        "int8": ("BIGINT", "{}"),
        "oid": ("BIGINT", "{}::int8"),
        "float4": ("FLOAT", "{}"),
        "float8": ("DOUBLE", "{}"),
        "bool": ("BOOLEAN", "{}"),
        "text": ("VARCHAR", "{}"),
        "varchar": ("VARCHAR", "{}"),
        "bpchar": ("VARCHAR", "{}"),
        "name": ("VARCHAR", "{}"),
        "bytea": ("BLOB", "{}"),
        "uuid": ("UUID", "{}::text"),
        "json": ("JSON", "{}"),
        "jsonb": ("JSON", "{}"),
        "date": ("DATE", "{}"),
        "time": ("TIME", "{}"),
        "timestamp": ("TIMESTAMP", "{}"),
        "timestamptz": ("TIMESTAMP WITH TIME ZONE", "{}"),
        "interval": ("INTERVAL", "{}"),
        "money": ("DECIMAL(19,2)", "{}::numeric(19,2)"),
        "inet": ("VARCHAR", "abbrev({})"),
    }
)
# Elements that the driver reads inside arrays as they are; all others travel as text.
_ELEMENTS = frozenset(
    {"int2", "int4", "int8", "float4", "float8", "bool", "text", "varchar", "bytea", "date", "timestamp", "timestamptz"}
)
_TEXT_ELEMENTS = MappingProxyType({"uuid": "UUID[]", "json": "JSON[]", "jsonb": "JSON[]"})
_CURSORS = frozenset({"SMALLINT", "INTEGER", "BIGINT", "DATE", "TIMESTAMP", "TIMESTAMP WITH TIME ZONE"})
_NO_ARRAYS = frozenset({"int2vector", "oidvector"})


@dataclass(frozen=True)
class PgType:
    """A row of pg_type; `kind` is its typtype."""

    name: str
    schema: str
    kind: str
    category: str
    base: int
    typmod: int
    element: int


@dataclass(frozen=True)
class Attribute:
    """A column of a relation now: what we call it, and the SQL that reads it."""

    column: Column
    sql: str
    temporal: bool = False

    @property
    def cursor(self) -> bool:
        """Whether rows can be followed by it: its values have an order that goes on."""
        exact = self.column.type.startswith("DECIMAL(") and not self.column.type.endswith("[]")
        return self.column.type in _CURSORS or exact or self.column.native == "numeric"


def describe(
    types: Mapping[int, PgType], name: str, oid: int, typmod: int, dimensions: int, *, nullable: bool, native: str
) -> Attribute:
    """One column as it travels. Types that have no word of their own travel as text, composite ones as JSON."""
    kind = types.get(oid)
    while kind is not None and kind.kind == "d":
        oid, typmod = kind.base, kind.typmod
        kind = types.get(oid)
    ours, template = _travels(types, kind, typmod, dimensions)
    column = Column(name, ours, nullable, native)
    temporal = ours in ("DATE", "TIMESTAMP", "TIMESTAMP WITH TIME ZONE")
    return Attribute(column, template.replace("{}", quoted(name)), temporal)


def _travels(types: Mapping[int, PgType], kind: PgType | None, typmod: int, dimensions: int) -> tuple[str, str]:
    if kind is None or kind.kind == "c":
        return "JSON", "to_json({})::text"
    if kind.category == "A" and kind.element and kind.name not in _NO_ARRAYS:
        return _array(types.get(kind.element), typmod, dimensions)
    if kind.name == "numeric":
        ours = decimal(typmod)
        return (ours, "{}") if ours else ("VARCHAR", "{}::text")
    if kind.name == "hstore":
        return "JSON", f"{quoted(kind.schema)}.hstore_to_json({{}})::text"
    return _PLAIN.get(kind.name, ("VARCHAR", "{}::text")) if kind.schema == "pg_catalog" else ("VARCHAR", "{}::text")


def _array(element: PgType | None, typmod: int, dimensions: int) -> tuple[str, str]:
    if element is None or dimensions > 1:
        return "JSON", "array_to_json({})::text"
    native = element.name if element.schema == "pg_catalog" else ""
    if native == "numeric" and (ours := decimal(typmod)):
        return f"{ours}[]", _one_dimension("{}", "numeric")
    if native in _ELEMENTS:
        return f"{_PLAIN[native][0]}[]", _one_dimension("{}", native)
    return _TEXT_ELEMENTS.get(native, "VARCHAR[]"), _one_dimension("{}::text[]", "text")


def _one_dimension(value: str, element: str) -> str:
    """Arrays of several dimensions would come flattened: the statement fails on one instead."""
    # The left side depends on the row, so that the planner does not try the cast beforehand.
    refusal = f"(left({{}}::text, 0) || {literal('an array of several dimensions')})::{element}[]"
    return f"CASE WHEN array_ndims({{}}) > 1 THEN {refusal} ELSE {value} END"


def decimal(typmod: int) -> str:
    """DECIMAL(precision,scale) for a numeric's modifier; "" where it has none or is wider than 38 digits."""
    if typmod < 4:
        return ""
    precision, scale = (typmod - 4) >> 16 & 0xFFFF, (typmod - 4) & 0x7FF
    if scale >= 1024:  # negative, since PostgreSQL 15
        return ""
    width = max(precision, scale)
    return f"DECIMAL({width},{scale})" if width <= 38 else ""
