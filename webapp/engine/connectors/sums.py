"""What columns add up to, exactly: asked of the source and of the destination, to be compared."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from decimal import Decimal, localcontext
from typing import Any

from webapp.engine.connectors.base import Column, Sum
from webapp.engine.errors import EngineError, Origin

_WHOLE = frozenset(
    {"TINYINT", "SMALLINT", "INTEGER", "BIGINT", "HUGEINT", "UTINYINT", "USMALLINT", "UINTEGER", "UBIGINT"}
)
_DIGITS = 80


def adds_up(kind: str) -> bool:
    """Whether values of a type have a sum that does not depend on their order."""
    return kind in _WHOLE or (kind.startswith("DECIMAL(") and not kind.endswith("]"))


def is_whole(kind: str) -> bool:
    """Whether the values of a type are whole numbers."""
    return kind in _WHOLE


def check_column(columns: Iterable[Column], name: str, label: str) -> None:
    """Raise EngineError for a column that is not there or has no exact sum."""
    found = next((column for column in columns if column.name == name), None)
    if found is None or not adds_up(found.type):
        why = "is not among the chosen columns" if found is None else f"is {found.type}"
        raise EngineError(
            f"{label}: sums: {name} {why}",
            origin=Origin.USER,
            fix="Name columns of whole numbers or decimals: only these add up to the same in any order.",
        )


def select(expressions: Sequence[str], text: str = "VARCHAR") -> str:
    """The SELECT list that gives, for each expression, how many values there are and their sum as text."""
    return ", ".join(f"count({one}), CAST(coalesce(sum({one}), 0) AS {text})" for one in expressions)


def read(names: Sequence[str], row: Sequence[Any]) -> dict[str, Sum]:
    """The row that such a list gave."""
    return {name: Sum(int(row[2 * at]), plain(Decimal(str(row[2 * at + 1])))) for at, name in enumerate(names)}


def minus(sums: Mapping[str, Sum], others: Mapping[str, Sum]) -> dict[str, Sum]:
    """What is left without the others."""
    nothing = Sum(0, "0")
    with localcontext(prec=_DIGITS):
        return {
            name: Sum(
                one.values - others.get(name, nothing).values,
                plain(Decimal(one.total) - Decimal(others.get(name, nothing).total)),
            )
            for name, one in sums.items()
        }


def plain(number: Decimal) -> str:
    """A number written in one way: no exponent, no zeros behind the last digit that counts."""
    with localcontext(prec=_DIGITS):
        text = format(number, "f")
        short = text.rstrip("0").rstrip(".") if "." in text else text
        return "0" if short in ("-0", "") else short
