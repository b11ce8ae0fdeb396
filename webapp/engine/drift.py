"""Schema drift: what a table must learn so that a source's columns fit, and what it cannot learn."""

# ruff: noqa: S608  names are quoted by names.quoted, values are bound

from dataclasses import dataclass, field

from duckdb.sqltypes import DuckDBPyType

from webapp.engine.errors import EngineError, Origin
from webapp.engine.names import quoted

_INTEGERS = ("TINYINT", "SMALLINT", "INTEGER", "BIGINT", "HUGEINT")
_UNSIGNED = ("UTINYINT", "USMALLINT", "UINTEGER", "UBIGINT", "UHUGEINT")
_DIGITS = {
    "TINYINT": 3,
    "SMALLINT": 5,
    "INTEGER": 10,
    "BIGINT": 19,
    "HUGEINT": 38,
    "UTINYINT": 3,
    "USMALLINT": 5,
    "UINTEGER": 10,
    "UBIGINT": 20,
    "UHUGEINT": 38,
}
_CHAINS = (("FLOAT", "DOUBLE"), ("DATE", "TIMESTAMP"), ("TIMESTAMP_S", "TIMESTAMP_MS", "TIMESTAMP", "TIMESTAMP_NS"))
_WIDE_REAL = "DOUBLE"


@dataclass(frozen=True)
class Column:
    """A column and its type in DuckDB's spelling."""

    name: str
    type: str


@dataclass(frozen=True)
class Check:
    """A query whose true answer forbids a widening, and the error to raise then."""

    sql: str
    error: EngineError


@dataclass(frozen=True)
class Drift:
    """What changes in a table before a source's rows go in."""

    table: str
    added: list[Column] = field(default_factory=list)
    widened: list[tuple[Column, str]] = field(default_factory=list)
    casts: dict[str, str] = field(default_factory=dict)

    @property
    def changes(self) -> list[str]:
        """The changes in words."""
        return [f"column {c.name} added as {c.type}" for c in self.added] + [
            f"column {c.name} widened from {c.type} to {wide}" for c, wide in self.widened
        ]

    def statements(self, table_sql: str) -> list[str]:
        """The SQL that changes the table."""
        return [f"ALTER TABLE {table_sql} ADD COLUMN {quoted(c.name)} {c.type}" for c in self.added] + [
            f"ALTER TABLE {table_sql} ALTER COLUMN {quoted(c.name)} TYPE {wide}" for c, wide in self.widened
        ]

    def checks(self, table_sql: str) -> list[Check]:
        """Queries that find values which a widening would change: integers that a DOUBLE cannot hold."""
        return [
            self._exact_as_double(table_sql, column)
            for column, wide in self.widened
            if wide == _WIDE_REAL and column.type in _DIGITS and _DIGITS[column.type] > 10
        ]

    def select(self, relation: str) -> str:
        """The query over the source that fits the table."""
        if not self.casts:
            return f"SELECT * FROM {relation}"
        replaced = ", ".join(f"CAST({quoted(name)} AS {type_}) AS {quoted(name)}" for name, type_ in self.casts.items())
        return f"SELECT * REPLACE ({replaced}) FROM {relation}"

    def _exact_as_double(self, table_sql: str, column: Column) -> Check:
        name = quoted(column.name)
        return Check(
            f"SELECT count(*) FROM {table_sql} WHERE {name}::DOUBLE::HUGEINT <> {name}::HUGEINT",
            _unfit(self.table, column, _WIDE_REAL, "the table holds integers that a DOUBLE would round"),
        )

    @staticmethod
    def between(old: list[Column], new: list[Column]) -> list[str]:
        """Say in words how a replaced table's columns differ from the ones before."""
        before = {column.name.lower(): column for column in old}
        after = {column.name.lower(): column for column in new}
        return (
            [f"column {c.name} added as {c.type}" for key, c in after.items() if key not in before]
            + [f"column {c.name} removed" for key, c in before.items() if key not in after]
            + [
                f"column {c.name} changed from {before[key].type} to {c.type}"
                for key, c in after.items()
                if key in before and before[key].type != c.type
            ]
        )


def plan_drift(existing: list[Column], incoming: list[Column], table: str) -> Drift:
    """Compare a table with a source; raise EngineError (permanent) for a column whose type cannot be widened."""
    drift = Drift(table)
    known = {column.name.lower(): column for column in existing}
    for column in incoming:
        have = known.get(column.name.lower())
        if have is None:
            drift.added.append(column)
            continue
        wide = common_type(have.type, column.type)
        if wide is None:
            raise _unfit(table, have, column.type, "neither can hold the other's values")
        if wide != have.type:
            drift.widened.append((have, wide))
        if wide != column.type:
            drift.casts[column.name] = wide
    return drift


def common_type(have: str, new: str) -> str | None:
    """Return the type that holds the values of both, None when there is none.

    Text takes every plain value, JSON every structure and list.
    """
    if have == new or new == '"NULL"' or (have == "JSON" and _is_nested(new)):
        return have
    if have == '"NULL"':
        return new
    old, incoming = DuckDBPyType(have), DuckDBPyType(new)
    if old.id == incoming.id == "struct":
        return _common_struct(old, incoming)
    if old.id == incoming.id == "list":
        inner = common_type(str(old.children[0][1]), str(incoming.children[0][1]))
        return inner and f"{inner}[]"
    return _common_scalar(have, new)


def _is_nested(type_: str) -> bool:
    return type_.endswith("]") or type_.startswith(("STRUCT(", "MAP("))


def _common_scalar(have: str, new: str) -> str | None:
    if have == "VARCHAR" and "(" not in new.replace("DECIMAL(", "") and not new.endswith("]"):
        return "VARCHAR"
    for chain in (_INTEGERS, _UNSIGNED, *_CHAINS):
        if have in chain and new in chain:
            return max(have, new, key=chain.index)
    if have in _DIGITS and new in _DIGITS:
        return _common_mixed_integer(have, new)
    if "DOUBLE" in (have, new) or "FLOAT" in (have, new):
        other = new if have in ("DOUBLE", "FLOAT") else have
        return _WIDE_REAL if other in _DIGITS or other.startswith("DECIMAL") else None
    return _common_decimal(have, new)


def _common_mixed_integer(have: str, new: str) -> str:
    unsigned = have if have in _UNSIGNED else new
    signed = new if have in _UNSIGNED else have
    above = _INTEGERS[min(_UNSIGNED.index(unsigned) + 1, len(_INTEGERS) - 1)]
    return max(signed, above, key=_INTEGERS.index)


def _common_decimal(have: str, new: str) -> str | None:
    first, second = _decimal(have), _decimal(new)
    if first is None or second is None:
        return None
    scale = max(first[1], second[1])
    whole = max(first[0] - first[1], second[0] - second[1])
    return f"DECIMAL({whole + scale},{scale})" if whole + scale <= 38 else None


def _decimal(type_: str) -> tuple[int, int] | None:
    if type_ in _DIGITS:
        return _DIGITS[type_], 0
    if not type_.startswith("DECIMAL("):
        return None
    width, scale = type_[len("DECIMAL(") : -1].split(",")
    return int(width), int(scale)


def _common_struct(old: DuckDBPyType, new: DuckDBPyType) -> str | None:
    fields = {name: str(type_) for name, type_ in old.children}
    for name, type_ in new.children:
        same = next((known for known in fields if known.lower() == name.lower()), None)
        wide = str(type_) if same is None else common_type(fields[same], str(type_))
        if wide is None:
            return None
        fields[same or name] = wide
    return f"STRUCT({', '.join(f'{quoted(name)} {type_}' for name, type_ in fields.items())})"


def _unfit(table: str, column: Column, new: str, why: str) -> EngineError:
    return EngineError(
        f"column {column.name} of {table} is {column.type} and the source brings {new}: {why}",
        origin=Origin.DESTINATION,
        table=table,
        column=column.name,
        have=column.type,
        incoming=new,
        fix="Load with mode replace, load into another table, or declare the column's type.",
    )
