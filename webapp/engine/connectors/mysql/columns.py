"""What MySQL's types become, and the SQL that brings each value over unharmed."""

import re
from dataclasses import dataclass

from webapp.engine.connectors.base import Column

_INTEGERS = {
    "tinyint": ("TINYINT", "UTINYINT"),
    "smallint": ("SMALLINT", "USMALLINT"),
    "mediumint": ("INTEGER", "UINTEGER"),
    "int": ("INTEGER", "UINTEGER"),
    "bigint": ("BIGINT", "UBIGINT"),
}
_PLAIN = {
    "float": "FLOAT",
    "double": "DOUBLE",
    "date": "DATE",
    "datetime": "TIMESTAMP",
    "timestamp": "TIMESTAMP WITH TIME ZONE",
    "year": "SMALLINT",
    "json": "JSON",
    "binary": "BLOB",
    "varbinary": "BLOB",
    "tinyblob": "BLOB",
    "blob": "BLOB",
    "mediumblob": "BLOB",
    "longblob": "BLOB",
}
_SPATIAL = frozenset(
    {"geometry", "point", "linestring", "polygon", "multipoint", "multilinestring", "multipolygon",
     "geometrycollection", "geomcollection"}
)  # fmt: skip
_EXACT_SCALE, _EXACT_DIGITS = 10, 28  # the reader holds a decimal in 96 bits, and hands it over as DECIMAL(38,10)
_DECIMAL = re.compile(r"decimal\((\d+),(\d+)\)")


@dataclass(frozen=True)
class Declared:
    """A column as the server's catalog describes it: `data_type` is `int`, `column_type` is `int(10) unsigned`."""

    name: str
    data_type: str
    column_type: str
    nullable: bool


def column_of(declared: Declared) -> Column:
    """The column of the stream. A date may be 0000-00-00, which becomes null: dates may always be missing."""
    kind = type_of(declared.data_type, declared.column_type)
    nullable = declared.nullable or declared.data_type in ("date", "datetime", "timestamp")
    return Column(declared.name, kind, nullable, declared.column_type)


def type_of(data_type: str, column_type: str) -> str:
    """The DuckDB type of a MySQL type. TIME is text, because it may be negative and longer than a day."""
    if pair := _INTEGERS.get(data_type):
        return pair["unsigned" in column_type]
    if found := _DECIMAL.match(column_type):
        return f"DECIMAL({found[1]},{found[2]})" if int(found[1]) <= 38 else "VARCHAR"
    if data_type == "bit":
        return "BOOLEAN" if column_type == "bit(1)" else "UBIGINT"
    return _PLAIN.get(data_type, "VARCHAR")


def projection(column: Column, *, trusting: bool = False) -> str:
    """The SQL expression that reads the column so that no value is lost on the way.

    To look at each date costs the server as much as to read it; `trusting` takes them for dates of the calendar.
    """
    name = quoted(column.name)
    native = column.native.split("(")[0].split(" ")[0]
    if native in ("date", "datetime", "timestamp"):
        value = f"CONVERT_TZ({name}, @@session.time_zone, '+00:00')" if native == "timestamp" else name
        # The last day of a month that is none is null, and so is every comparison with it.
        return value if trusting else f"IF(DAY({name}) BETWEEN 1 AND DAY(LAST_DAY({name})), {value}, NULL)"
    if native == "bit":
        return f"CAST({name} AS UNSIGNED)"
    if native in _SPATIAL:
        return f"ST_AsText({name})"
    if native == "time" or (native == "decimal" and not _travels_exactly(column.native)):
        return f"CAST({name} AS CHAR)"
    return name


def _travels_exactly(native: str) -> bool:
    found = _DECIMAL.match(native)
    assert found is not None
    precision, scale = int(found[1]), int(found[2])
    return scale <= _EXACT_SCALE and precision <= _EXACT_DIGITS


def quoted(name: str) -> str:
    """A name as a quoted identifier of MySQL."""
    return "`" + name.replace("`", "``") + "`"
