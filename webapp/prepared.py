"""Statements that are made once and executed by the driver's own cursor.

SQLAlchemy's way from a statement to its rows takes a process that has rested longer than the database does. What a
start of a run waits for goes this way; types, transactions and errors are SQLAlchemy's all the same.
"""

import hashlib
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any, TypeVar

import sqlalchemy as sa
from sqlalchemy.engine import Connection, Dialect
from sqlalchemy.orm import DeclarativeBase, Session, make_transient_to_detached
from sqlalchemy.orm.attributes import set_committed_value
from sqlalchemy.orm.util import identity_key

from webapp.trips import opening

_MARK = re.compile(r"%\((\w+)\)s")
Processor = Callable[[Any], Any]
Mapped = TypeVar("Mapped", bound=DeclarativeBase)


class Prepared:
    """A Core statement whose bound values are named when it is executed; lists have no place in it, nor have columns
    that Python fills in by itself.

    `columns` are those that an INSERT or UPDATE sets to values of the same names; `led_by` is a statement that is sent
    before it in the same round trip (PostgreSQL).
    """

    def __init__(self, statement: Any, *, columns: Sequence[str] | None = None, led_by: str = "") -> None:
        self._statement = statement
        self._columns = columns
        self._led_by = led_by
        self._only_looks = isinstance(statement, sa.Select) and statement._for_update_arg is None and not led_by
        self._made: dict[str, _Made] = {}

    def rows(self, session: Session, values: Mapping[str, Any]) -> list[tuple[Any, ...]]:
        """Execute it in the session's transaction; all rows. Raises what SQLAlchemy would raise."""
        if session.autoflush:
            session.flush()
        connection = session.connection()
        made = self._for(connection.dialect)
        sql, bound = made.sql, made.bind(values)
        if made.call:
            driver: Any = connection.connection.dbapi_connection
            made.prepare(connection)
            sql = opening(driver, only_looks=self._only_looks, led_by=self._led_by) + made.call
        with _cursor(connection, sql, bound) as cursor:
            cursor.execute(sql, bound)
            return made.read(cursor, connection.dialect) if cursor.description else []

    def execute_many(self, session: Session, rows: Sequence[Mapping[str, Any]]) -> None:
        """Execute it once for each of these rows of values."""
        connection = session.connection()
        made = self._for(connection.dialect)
        bound = [made.bind(row) for row in rows]
        with _cursor(connection, made.sql, bound) as cursor:
            cursor.executemany(made.sql, bound)

    def text(self, connection: Connection, values: Mapping[str, Any]) -> str:
        """The statement with its values quoted by the driver, to travel with others (PostgreSQL)."""
        made = self._for(connection.dialect)
        made.prepare(connection)
        driver: Any = connection.connection.dbapi_connection
        with driver.cursor() as cursor:
            text: bytes = cursor.mogrify(made.call, made.bind(values))
        return text.decode()

    def _for(self, dialect: Dialect) -> "_Made":
        made = self._made.get(dialect.name)
        if made is None:
            made = self._made[dialect.name] = _Made(self._statement, self._columns, dialect)
        return made


@contextmanager
def _cursor(connection: Connection, sql: str, bound: Any) -> Iterator[Any]:
    """A cursor of the driver; its errors become what those of the session's own statements become."""
    driver: Any = connection.connection.dbapi_connection
    cursor = driver.cursor()
    try:
        yield cursor
    except connection.dialect.loaded_dbapi.Error as error:
        connection._handle_dbapi_exception(error, sql, bound, cursor, None)
    finally:
        cursor.close()


class _Made:
    """A statement in the words of one database."""

    def __init__(self, statement: Any, columns: Sequence[str] | None, dialect: Dialect) -> None:
        compiled = statement.compile(dialect=dialect, column_keys=columns)
        if missing := [*getattr(compiled, "insert_prefetch", ()), *getattr(compiled, "update_prefetch", ())]:
            raise ValueError(f"the statement has to name {', '.join(column.key for column in missing)}")
        self.sql = str(compiled)
        self._order: Sequence[str] | None = compiled.positiontup
        self.call, self._name, self._preparation = "", "", ""
        if dialect.name == "postgresql":
            self._be_prepared_by_the_server()
        self._processors = {
            name: processor
            for name, bind in compiled.binds.items()
            if (processor := bind.type.dialect_impl(dialect).bind_processor(dialect))
        }
        constants = {name: bind.value for name, bind in compiled.binds.items() if not bind.required}
        self._constants = self._process(constants)
        self._types = [column.type for column in statement.exported_columns]
        self._readers: list[tuple[int, Processor]] | None = None

    def _be_prepared_by_the_server(self) -> None:
        """PostgreSQL parses and plans it once for each connection; the driver has no way of its own for that."""
        names = list(dict.fromkeys(_MARK.findall(self.sql)))
        self._name = f"hohmann_{hashlib.sha256(self.sql.encode()).hexdigest()[:16]}"
        text = _MARK.sub(lambda mark: f"${names.index(mark[1]) + 1}", self.sql).replace("%%", "%")
        self._preparation = f"PREPARE {self._name} AS {text}"
        self.call = f"EXECUTE {self._name}" + (f" ({', '.join(f'%({name})s' for name in names)})" if names else "")

    def prepare(self, connection: Connection) -> None:
        """Have it prepared on this connection, if it is not (PostgreSQL)."""
        known: set[str] = connection.info.setdefault("prepared", set())
        if self._name not in known:
            with _cursor(connection, self._preparation, None) as cursor:
                cursor.execute(self._preparation)
            known.add(self._name)

    def _process(self, values: Mapping[str, Any]) -> dict[str, Any]:
        processors = self._processors
        return {name: processors[name](value) if name in processors else value for name, value in values.items()}

    def bind(self, values: Mapping[str, Any]) -> Any:
        """The values as the driver wants them."""
        bound = {**self._constants, **self._process(values)}
        return bound if self._order is None else tuple(bound[name] for name in self._order)

    def read(self, cursor: Any, dialect: Dialect) -> list[tuple[Any, ...]]:
        """All rows, with the values as the columns' types have them."""
        if self._readers is None:
            self._readers = self._make_readers(cursor.description, dialect)
        readers = self._readers
        found = []
        for row in cursor.fetchall():
            values = list(row)
            for at, reader in readers:
                values[at] = reader(values[at])
            found.append(tuple(values))
        return found

    def _make_readers(self, description: Any, dialect: Dialect) -> list[tuple[int, Processor]]:
        made = (
            (at, kind.dialect_impl(dialect).result_processor(dialect, column[1]))
            for at, (kind, column) in enumerate(zip(self._types, description, strict=True))
        )
        return [(at, reader) for at, reader in made if reader]


def table_of(kind: type[DeclarativeBase]) -> sa.Table:
    """The table of a mapped class."""
    table = kind.__table__
    assert isinstance(table, sa.Table)
    return table


def adopt(session: Session, kind: type[Mapped], values: Mapping[str, Any]) -> Mapped:
    """The session's object for this row, which was just read; columns that are left out are read when they are used."""
    mapper = sa.inspect(kind)
    key = identity_key(kind, tuple(values[str(column.key)] for column in mapper.primary_key))
    known: Mapped | None = session.identity_map.get(key)
    if known is not None:
        for name, value in values.items():
            set_committed_value(known, name, value)
        return known
    fresh: Any = mapper.class_manager.new_instance()
    fresh.__dict__.update(values)
    make_transient_to_detached(fresh)
    session.add(fresh)
    row: Mapped = fresh
    return row
