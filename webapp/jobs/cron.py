"""Cron expressions on the wall clock: what the fields say, and the next wall-clock time that matches them.

croniter reads the expression, so what is understood is what croniter understands. The search is our own: croniter loses
or repeats times around a change of the clock, takes long over rare dates, and cannot be told how far to look.
No time zones here; `schedules.py` puts wall-clock times on the line of instants.
"""

import calendar
import re
from bisect import bisect_left
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import date, datetime, time
from functools import lru_cache
from typing import Any

from croniter import croniter

MAX_LENGTH = 200
FIRST_YEAR, LAST_YEAR = 1970, 2099

FIELD_NAMES = {
    5: ("minute", "hour", "day", "month", "weekday"),
    6: ("second", "minute", "hour", "day", "month", "weekday"),
    7: ("second", "minute", "hour", "day", "month", "weekday", "year"),
}

#: What each field takes, said in the error when it was something else.
FIELD_HELP = {
    "second": "0 to 59",
    "minute": "0 to 59",
    "hour": "0 to 23",
    "day": "1 to 31, L for the last day of the month, or 15W for the working day nearest to the 15th",
    "month": "1 to 12, or JAN to DEC",
    "weekday": "SUN to SAT, 0 to 7 (0 and 7 are Sunday), FRI#2 for the second Friday, or L5 for the last Friday",
    "year": f"{FIRST_YEAR} to {LAST_YEAR}",
}

WEEKDAY_NAMES = ("SUN", "MON", "TUE", "WED", "THU", "FRI", "SAT")
_MONTH_NAMES = ("JAN", "FEB", "MAR", "APR", "MAY", "JUN", "JUL", "AUG", "SEP", "OCT", "NOV", "DEC")


class ScheduleError(ValueError):
    """A schedule that cannot be used.

    `field` and `position` (from 1) say where, `value` what stands there, `fix` what to write instead.
    `field` is a name of FIELD_NAMES, "timezone", or None when the expression as a whole is meant.
    """

    def __init__(
        self, message: str, *, field: str | None = None, position: int | None = None, value: str = "", fix: str = ""
    ) -> None:
        super().__init__(f"{message} {fix}".strip())
        self.field = field
        self.position = position
        self.value = value
        self.fix = fix


@dataclass(frozen=True)
class DayRule:
    """Which days of a month match. None stands for every day; weekdays count from Sunday = 0, as cron does."""

    days: frozenset[int] | None
    last_day: bool
    near_working_days: frozenset[int]
    weekdays: frozenset[int] | None
    #: (weekday, which one of the month); 0 stands for the last one.
    nth_weekdays: frozenset[tuple[int, int]]

    @property
    def restricts_day(self) -> bool:
        """True when the day-of-month field leaves days out."""
        return self.days is not None

    @property
    def restricts_weekday(self) -> bool:
        """True when the weekday field leaves days out."""
        return self.weekdays is not None

    def days_of(self, year: int, month: int) -> tuple[int, ...]:
        """The matching days of the month, ascending; either field is enough when both are restricted."""
        first_weekday, length = calendar.monthrange(year, month)
        return _days_of(self, first_weekday, length)


@lru_cache(maxsize=4096)
def _days_of(rule: DayRule, first_weekday: int, length: int) -> tuple[int, ...]:
    """The matching days of any month that begins on that weekday (Monday = 0) and has that many days."""
    near = {_nearest_working_day(day, first_weekday, length) for day in rule.near_working_days}

    def by_day(day: int) -> bool:
        if near:
            return day in near
        return rule.days is None or day in rule.days or (rule.last_day and day == length)

    def by_weekday(day: int) -> bool:
        weekday = (first_weekday + day) % 7
        if rule.nth_weekdays:
            is_last = day + 7 > length
            nth = (day + 6) // 7
            return (weekday, nth) in rule.nth_weekdays or (is_last and (weekday, 0) in rule.nth_weekdays)
        return rule.weekdays is None or weekday in rule.weekdays

    either = rule.restricts_day and rule.restricts_weekday
    days = range(1, length + 1)
    if either:
        return tuple(day for day in days if by_day(day) or by_weekday(day))
    return tuple(day for day in days if by_day(day) and by_weekday(day))


def _nearest_working_day(day: int, first_weekday: int, length: int) -> int:
    """The Monday to Friday nearest to the day, without leaving the month."""
    day = min(day, length)
    weekday = (first_weekday + day - 1) % 7
    if weekday == calendar.SATURDAY:
        return day - 1 if day > 1 else day + 2
    if weekday == calendar.SUNDAY:
        return day + 1 if day < length else day - 2
    return day


@dataclass(frozen=True)
class CronFields:
    """A cron expression taken apart: ascending tuples of values, and the rule for days."""

    seconds: tuple[int, ...]
    minutes: tuple[int, ...]
    hours: tuple[int, ...]
    day_rule: DayRule
    months: tuple[int, ...]
    years: tuple[int, ...]
    #: The hour field begins with a star: the schedule means "every so often", not a time of day.
    star_hours: bool

    @property
    def every_hour(self) -> bool:
        """True when no hour is left out."""
        return len(self.hours) == 24

    def next_wall(self, start: datetime) -> datetime | None:
        """The first matching time at or after `start`, None when there is none left; both naive, in whole seconds."""
        if self._matches_day(start.date()):
            at = self._time_from(start.hour, start.minute, start.second)
            if at is not None:
                return datetime.combine(start.date(), at)
        day = self._day_after(start.date())
        if day is None:
            return None
        return datetime.combine(day, time(self.hours[0], self.minutes[0], self.seconds[0]))

    def _matches_day(self, day: date) -> bool:
        return (
            day.month in self.months
            and _has(self.years, day.year)
            and day.day in self.day_rule.days_of(day.year, day.month)
        )

    def _time_from(self, hour: int, minute: int, second: int) -> time | None:
        """The first matching time of day at or after the given one."""
        if _has(self.hours, hour):
            if _has(self.minutes, minute):
                later = bisect_left(self.seconds, second)
                if later < len(self.seconds):
                    return time(hour, minute, self.seconds[later])
            later = bisect_left(self.minutes, minute + 1)
            if later < len(self.minutes):
                return time(hour, self.minutes[later], self.seconds[0])
        later = bisect_left(self.hours, hour + 1)
        if later < len(self.hours):
            return time(self.hours[later], self.minutes[0], self.seconds[0])
        return None

    def _day_after(self, day: date) -> date | None:
        """The first matching day after the given one."""
        after_day = day.day
        for year in self.years[bisect_left(self.years, day.year) :]:
            for month in self.months:
                if (year, month) < (day.year, day.month):
                    continue
                if (year, month) != (day.year, day.month):
                    after_day = 0
                days = self.day_rule.days_of(year, month)
                later = bisect_left(days, after_day + 1)
                if later < len(days):
                    return date(year, month, days[later])
        return None


def _has(values: tuple[int, ...], value: int) -> bool:
    index = bisect_left(values, value)
    return index < len(values) and values[index] == value


def read_cron(text: str) -> tuple[CronFields, tuple[str, ...]]:
    """The fields of an expression, and in plain words what could be misread in it.

    Five fields; six with seconds first; seven with the year last. Raises ScheduleError.
    """
    if len(text) > MAX_LENGTH:
        raise ScheduleError(f"A schedule has at most {MAX_LENGTH} characters; this one has {len(text)}.")
    tokens = text.split()
    names = FIELD_NAMES.get(len(tokens))
    if names is None:
        raise ScheduleError(
            f"A schedule has 5 fields, 6 with seconds first, or 7 with the year last; {text!r} has {len(tokens)}.",
            value=text,
            fix='Write for example "0 9 * * MON-FRI" or "@daily".',
        )
    for position, (name, token) in enumerate(zip(names, tokens, strict=True), 1):
        _check_field(name, position, token, len(tokens))
    named = dict(zip(names, tokens, strict=True))
    fields = _fields_of(_expand(" ".join(tokens)), star_hours=named["hour"].startswith("*"))
    if fields.next_wall(datetime(FIRST_YEAR, 1, 1)) is None:  # noqa: DTZ001 - a time on the wall has no zone
        raise ScheduleError(
            f"{text!r} never fires: no day from {FIRST_YEAR} to {LAST_YEAR} matches it.",
            field="day",
            position=names.index("day") + 1,
            value=named["day"],
            fix="Choose a day that its months have.",
        )
    return fields, _notes(fields, named)


def _check_field(name: str, position: int, token: str, count: int) -> None:
    """Raises ScheduleError when this field alone makes the expression unusable."""
    upper = token.upper()
    for item in upper.split(","):
        # croniter draws R anew at every reading, and takes 5-5 for "all of them"; neither is what anybody means.
        if re.match(r"[HR](?!\w)", item):
            raise _field_error(name, position, token)
        ends = re.fullmatch(r"([^-/]+)-([^-/]+)(/.*)?", item)
        if ends and _number(name, ends[1]) == _number(name, ends[2]):
            raise ScheduleError(
                f"The {name} field (field {position}) has the range {item}, which begins where it ends.",
                field=name,
                position=position,
                value=token,
                fix=f"Write {ends[1]} for that one, or * for all.",
            )
    alone = ["*"] * count
    alone[position - 1] = token
    try:
        _expand(" ".join(alone))
    except ValueError:
        raise _field_error(name, position, token) from None


def _field_error(name: str, position: int, token: str) -> ScheduleError:
    return ScheduleError(
        f"The {name} field (field {position}) is {token!r}, which cannot be used.",
        field=name,
        position=position,
        value=token,
        fix=f"It takes {FIELD_HELP[name]}.",
    )


def _number(name: str, value: str) -> int | str:
    """The number that a name stands for, so that MON-1 is seen to be one day."""
    if name == "weekday" and value in WEEKDAY_NAMES:
        return WEEKDAY_NAMES.index(value)
    if name == "month" and value in _MONTH_NAMES:
        return _MONTH_NAMES.index(value) + 1
    return int(value) if value.isdecimal() else value


def _expand(text: str) -> Any:
    """What croniter makes of the text. Raises ValueError, the base of its errors."""
    return croniter(text, 0.0, second_at_beginning=True)


def _fields_of(expression: Any, *, star_hours: bool) -> CronFields:
    """croniter's lists (minute, hour, day, month, weekday, then second and year if given) as our fields."""
    lists: list[list[Any]] = expression.expanded
    minute, hour, day, month, weekday = lists[:5]
    rule = DayRule(
        days=None if day[0] == "*" else frozenset(value for value in day if value != "l"),
        last_day="l" in day,
        near_working_days=frozenset(expression.nearest_weekday),
        weekdays=None if weekday[0] == "*" else frozenset(weekday),
        nth_weekdays=frozenset(
            (which, 0 if nth == "l" else nth) for which, nths in expression.nth_weekday_of_month.items() for nth in nths
        ),
    )
    return CronFields(
        seconds=_values(lists[5], range(60)) if len(lists) > 5 else (0,),
        minutes=_values(minute, range(60)),
        hours=_values(hour, range(24)),
        day_rule=rule,
        months=_values(month, range(1, 13)),
        years=_values(lists[6] if len(lists) > 6 else ["*"], range(FIRST_YEAR, LAST_YEAR + 1)),
        star_hours=star_hours or len(_values(hour, range(24))) == 24,
    )


def _values(listed: list[Any], everything: Iterable[int]) -> tuple[int, ...]:
    return tuple(everything) if "*" in listed else tuple(sorted(listed))


def _notes(fields: CronFields, named: dict[str, str]) -> tuple[str, ...]:
    notes = []
    if "second" in named:
        # Quartz, from which the long forms come, counts its weekdays from Sunday = 1; Unix cron from Sunday = 0.
        notes += [_weekday_note(item) for item in named["weekday"].split(",") if _is_ambiguous_weekday(item)]
    if fields.day_rule.restricts_day and fields.day_rule.restricts_weekday:
        notes.append(
            "Both the day of the month and the weekday are given: it runs on days that match either, as in Unix cron."
        )
    return tuple(notes)


def _is_ambiguous_weekday(item: str) -> bool:
    days = re.sub(r"[/#].*", "", item)
    return re.fullmatch(r"[1-7](-[1-7])?|[1-7]-\w+|\w+-[1-7]", days) is not None


def _weekday_note(item: str) -> str:
    def spelled(shift: int) -> str:
        days, rest = re.fullmatch(r"([^/#]*)(.*)", item).groups()  # type: ignore[union-attr]  # matches any text
        return re.sub(r"\d", lambda digit: WEEKDAY_NAMES[(int(digit[0]) + shift) % 7], days).upper() + rest

    if item.isdecimal():
        full = calendar.day_name[(int(item) - 1) % 7]
        return f"{item} means {full} here; Quartz counts Sunday as 1. Write {spelled(-1)} or {spelled(0)}."
    return f"{item} means {spelled(0)} here; Quartz counts Sunday as 1 and reads {spelled(-1)}. Write one of these."
