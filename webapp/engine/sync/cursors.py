"""Cursor values between a source's JSON and Arrow, where they can be compared, in the source's own spelling."""

import datetime
import itertools
import re
from collections.abc import Callable, Iterator
from decimal import Decimal
from functools import partial
from typing import Any

import pyarrow as pa

from webapp.engine.connectors.base import Column
from webapp.engine.connectors.types import arrow_type
from webapp.engine.errors import EngineError, Origin


class CursorValues:
    """Turns a cursor's JSON values into Arrow scalars and back, spelled as the source spelled `sample`."""

    def __init__(self, column: Column, sample: Any) -> None:
        self._column = column
        self._type = arrow_type(column.type)
        try:
            known = self.scalar(sample).as_py()
            self._spell = next(spell for spell in _spellings(known) if _same(spell(known), sample))
        except (ValueError, TypeError, ArithmeticError, StopIteration, pa.ArrowException) as error:
            raise EngineError(
                f"column {column.name} ({column.type}) cannot be a cursor",
                origin=Origin.SOURCE,
                fix="Choose a column of whole numbers, dates or timestamps as the cursor.",
            ) from error

    def scalar(self, value: Any) -> pa.Scalar:
        """The value as Arrow compares it."""
        kind = self._type
        if pa.types.is_timestamp(kind) and kind.unit == "ns":
            return pa.scalar(str(value)).cast(kind)
        if pa.types.is_timestamp(kind):
            return pa.scalar(_moment(value, aware=kind.tz is not None), kind)
        if pa.types.is_date(kind):
            return pa.scalar(datetime.date.fromisoformat(str(value)[:10]), kind)
        if pa.types.is_decimal(kind):
            return pa.scalar(Decimal(str(value)), kind)
        if pa.types.is_string(kind):
            return pa.scalar(str(value), kind)
        if pa.types.is_integer(kind):
            return pa.scalar(int(value), kind)
        if pa.types.is_floating(kind):
            return pa.scalar(float(value), kind)
        raise TypeError(kind)

    def json(self, value: pa.Scalar) -> Any:
        """The value as the source would have said it."""
        return self._spell(value.as_py())


def _same(spelled: Any, sample: Any) -> bool:
    return type(spelled) is type(sample) and bool(spelled == sample)


def _moment(value: Any, *, aware: bool) -> datetime.datetime:
    moment = datetime.datetime.fromisoformat(str(value))
    if aware:
        return moment.replace(tzinfo=moment.tzinfo or datetime.UTC)
    return moment.astimezone(datetime.UTC).replace(tzinfo=None) if moment.tzinfo else moment


def _spellings(known: Any) -> Iterator[Callable[[Any], Any]]:
    if isinstance(known, datetime.datetime):
        for separator, fraction, zone in itertools.product("T ", ("auto", "all", "short"), ("+00:00", "Z", "+00", "")):
            yield partial(_spelled, separator, fraction, zone)
        return
    if isinstance(known, datetime.date):
        yield from (
            datetime.date.isoformat,
            lambda day: f"{day.isoformat()}T00:00:00",
            lambda day: f"{day.isoformat()} 00:00:00",
        )
        return
    yield from (lambda value: value, str, int, float, lambda value: format(value.normalize(), "f"))


def _spelled(separator: str, fraction: str, zone: str, moment: datetime.datetime) -> str:
    plain = moment.replace(tzinfo=None)
    text = plain.isoformat(separator, "auto" if fraction == "auto" else "microseconds")
    return (re.sub(r"\.?0+$", "", text) if fraction == "short" else text) + zone
