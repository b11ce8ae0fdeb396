"""Statements that write rows on PostgreSQL, as text, so that several of them travel in one round trip."""

from collections.abc import Callable, Mapping, Sequence
from functools import cache
from typing import Any

import sqlalchemy as sa
from sqlalchemy.engine import Connection, Dialect


def text_of_insert(
    connection: Connection, table: sa.FromClause, rows: Sequence[Mapping[str, Any]], *, unless_there: bool = False
) -> str:
    """One INSERT of all these rows, their values quoted by the driver. Each row names the same columns."""
    head, marks, processors = _shape(table, frozenset(rows[0]), connection.dialect)
    cursor: Any = connection.connection.cursor()
    with cursor:
        lists = [cursor.mogrify(marks, _processed(row, processors)).decode() for row in rows]
    return f"{head} VALUES {', '.join(lists)}{' ON CONFLICT DO NOTHING' if unless_there else ''}"


def text_of_update(connection: Connection, table: sa.FromClause, number: int, changed: Mapping[str, Any]) -> str:
    """One UPDATE of the row that has this number, its values quoted by the driver."""
    assert isinstance(table, sa.Table)
    statement, processors = _change(table, frozenset(changed), connection.dialect)
    cursor: Any = connection.connection.cursor()
    with cursor:
        text: bytes = cursor.mogrify(statement, {**_processed(changed, processors), "row": number})
    return text.decode()


@cache
def _change(table: sa.Table, names: frozenset[str], dialect: Dialect) -> tuple[str, Mapping[str, Callable[[Any], Any]]]:
    """The statement, and what makes values into the driver's."""
    compiled = update_of(table, names).compile(dialect=dialect)
    return str(compiled), _processors(table, names, dialect)


@cache
def update_of(table: sa.Table, names: frozenset[str]) -> sa.Update:
    """The statement that sets these columns, to values of the same names, in the row whose number is `row`."""
    return sa.update(table).where(table.c.number == sa.bindparam("row")).values({n: sa.bindparam(n) for n in names})


@cache
def _shape(
    table: sa.FromClause, names: frozenset[str], dialect: Dialect
) -> tuple[str, str, Mapping[str, Callable[[Any], Any]]]:
    """The statement up to its values, the marks of one row, and what makes values into the driver's."""
    assert isinstance(table, sa.Table)
    compiled = sa.insert(table).inline().compile(dialect=dialect, column_keys=sorted(names))
    head, marks = str(compiled).split(" VALUES ", 1)
    return head, marks, _processors(table, names, dialect)


def _processors(table: sa.Table, names: frozenset[str], dialect: Dialect) -> Mapping[str, Callable[[Any], Any]]:
    found = {name: table.c[name].type.dialect_impl(dialect).bind_processor(dialect) for name in names}
    return {name: processor for name, processor in found.items() if processor}


def _processed(row: Mapping[str, Any], processors: Mapping[str, Callable[[Any], Any]]) -> dict[str, Any]:
    return {name: processors[name](value) if name in processors else value for name, value in row.items()}
