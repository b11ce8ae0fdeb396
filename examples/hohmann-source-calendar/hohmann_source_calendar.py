"""A calendar as a source for Hohmann: one stream with a row for each day of a range, ready to be a date dimension."""

from __future__ import annotations

import datetime
from collections.abc import Iterator
from contextlib import contextmanager
from fnmatch import fnmatchcase
from typing import TYPE_CHECKING, Any

from pydantic import Field, model_validator

from webapp.engine.connectors import relations
from webapp.engine.connectors.base import (
    CheckStep,
    Chunk,
    Column,
    ConnectorSpec,
    Mode,
    Read,
    Source,
    SourceSession,
    Stream,
)
from webapp.engine.connectors.trials import tried
from webapp.engine.context import Context
from webapp.engine.errors import EngineError, Origin

if TYPE_CHECKING:
    # Drivers load when rows move: the processes that show the form do without them.
    import duckdb
    import pyarrow as pa

_NAMESPACE, _NAME = "calendar", "days"
_DAYS = """(SELECT
    day::DATE AS day,
    year(day)::SMALLINT AS year,
    quarter(day)::TINYINT AS quarter,
    month(day)::TINYINT AS month,
    monthname(day) AS month_name,
    isoyear(day)::SMALLINT AS iso_year,
    week(day)::TINYINT AS iso_week,
    isodow(day)::TINYINT AS weekday,
    dayname(day) AS weekday_name,
    isodow(day) > 5 AS weekend
FROM generate_series($1::TIMESTAMP, $2::TIMESTAMP, INTERVAL 1 DAY) AS days(day))"""


class CalendarSpec(ConnectorSpec):
    """The range of days. Titles and descriptions become the form."""

    first: datetime.date = Field(title="First day", description="For example 2020-01-01.")
    last: datetime.date | None = Field(
        None, title="Last day", description="Empty: today (UTC), so that an incremental sync adds a day each day."
    )

    @model_validator(mode="after")
    def _in_order(self) -> CalendarSpec:
        if self.last is not None and self.last < self.first:
            raise ValueError("the last day lies before the first")
        return self


class CalendarSource(Source[CalendarSpec]):
    """The days of a range."""

    name = "calendar"
    title = "Calendar"
    Spec = CalendarSpec

    def check(self) -> Iterator[CheckStep]:
        """Say the range; there is nothing to connect to."""
        return tried(("read one row", self._told))

    def discover(self, *, pattern: str = "") -> Iterator[Stream]:
        """Yield the one stream."""
        if pattern and not fnmatchcase(f"{_NAMESPACE}.{_NAME}", pattern):
            return
        with _days(self._range()) as (_, days):
            columns = tuple(Column(name, kind, nullable=False) for name, kind in days.types.items())
        yield Stream(_NAMESPACE, _NAME, columns, ("day",), ("day",), (Mode.FULL_REFRESH, Mode.INCREMENTAL))

    @contextmanager
    def open(self, *, parallel: int) -> Iterator[CalendarSession]:
        """The range as it is now: midnight does not change a sync that runs."""
        yield CalendarSession(self._range(), self.context)

    def _range(self) -> list[datetime.date]:
        last = self.config.last or datetime.datetime.now(datetime.UTC).date()
        return [self.config.first, last]

    def _told(self) -> str:
        first, last = self._range()
        if last < first:
            raise EngineError(
                f"the first day, {first}, is still to come", origin=Origin.SOURCE, fix="Name a last day as well."
            )
        return f"from {first} to {last}"


class CalendarSession(SourceSession):
    """One range of days; each question has a connection of its own, so threads do not meet."""

    def __init__(self, days: list[datetime.date], context: Context) -> None:
        self._range = days
        self._context = context

    def high_water(self, read: Read) -> Any:
        """The last day that the read has."""
        with _days(self._range) as (connection, days):
            return relations.greatest(connection, days, read)

    def count(self, read: Read) -> int:
        """How many days the read has."""
        with _days(self._range) as (connection, days):
            return int(relations.one(connection, "count(*)", days, read))

    def read(self, read: Read, chunk: Chunk) -> pa.RecordBatchReader:
        """The days in batches; the reader closes its connection behind the last one."""
        with _days(self._range) as (connection, days):
            return relations.reader(connection.cursor(), days, read, self._context, lambda error: None)


@contextmanager
def _days(chosen: list[datetime.date]) -> Iterator[tuple[duckdb.DuckDBPyConnection, relations.Relation]]:
    import duckdb

    try:
        with duckdb.connect(":memory:") as connection:
            yield connection, relations.described(connection, _DAYS, [day.isoformat() for day in chosen])
    except duckdb.Error as error:
        raise relations.fault(error) from error
