"""Statements that write rows at the end of a unit of work, each made once; on PostgreSQL they travel as one text."""

from collections.abc import Callable, Mapping, Sequence
from functools import cache
from typing import Any

import sqlalchemy as sa
from sqlalchemy.engine import Connection, Dialect

from webapp.prepared import Prepared


def text_of_insert(
    connection: Connection, table: sa.FromClause, rows: Sequence[Mapping[str, Any]], *, unless_there: bool = False
) -> str:
    """One INSERT of all these rows, their values quoted by the driver. Each row names the same columns."""
    head, marks, processors = _shape(table, frozenset(rows[0]), connection.dialect)
    cursor: Any = connection.connection.cursor()
    with cursor:
        lists = [cursor.mogrify(marks, _processed(row, processors)).decode() for row in rows]
    return f"{head} VALUES {', '.join(lists)}{' ON CONFLICT DO NOTHING' if unless_there else ''}"


@cache
def inserting(table: sa.FromClause, names: frozenset[str], *, unless_there: bool) -> Prepared:
    """The statement that inserts one row with values for these columns (SQLite)."""
    assert isinstance(table, sa.Table)
    statement = sa.insert(table).inline()
    return Prepared(statement.prefix_with("OR IGNORE") if unless_there else statement, columns=sorted(names))


@cache
def changing(table: sa.FromClause, names: frozenset[str]) -> Prepared:
    """The statement that sets these columns, to values of the same names, in the row whose number is `row`."""
    assert isinstance(table, sa.Table)
    values = {name: sa.bindparam(name, type_=table.c[name].type) for name in names}
    return Prepared(sa.update(table).where(table.c.number == sa.bindparam("row")).values(values))


@cache
def _shape(
    table: sa.FromClause, names: frozenset[str], dialect: Dialect
) -> tuple[str, str, Mapping[str, Callable[[Any], Any]]]:
    """The statement up to its values, the marks of one row, and what makes values into the driver's."""
    assert isinstance(table, sa.Table)
    compiled = sa.insert(table).inline().compile(dialect=dialect, column_keys=sorted(names))
    head, marks = str(compiled).split(" VALUES ", 1)
    found = {name: table.c[name].type.dialect_impl(dialect).bind_processor(dialect) for name in names}
    return head, marks, {name: processor for name, processor in found.items() if processor}


def _processed(row: Mapping[str, Any], processors: Mapping[str, Callable[[Any], Any]]) -> dict[str, Any]:
    return {name: processors[name](value) if name in processors else value for name, value in row.items()}
