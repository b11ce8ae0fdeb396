"""When a job is due: schedules as people write them, the instants at which they fire, and how to say them.

Rules at a change of the clock, the same in every zone:

- A time of day that the clock skips fires once, at the end of the gap. A schedule for every hour has nothing to make
  up for: the hour before and the hour after are an hour apart.
- A time of day that the clock shows twice fires the first time only. A schedule whose hour field begins with a star
  means "every so often" and fires both times.

All instants are aware and in UTC. Nothing here knows the database or the present time.
"""

from calendar import day_name, month_name
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from difflib import get_close_matches
from functools import lru_cache
from math import ceil
from zoneinfo import ZoneInfo, available_timezones

from webapp.jobs.cron import (
    FIRST_YEAR,
    LAST_YEAR,
    MAX_LENGTH,
    CronFields,
    ScheduleError,
    read_cron,
)

__all__ = [
    "Schedule",
    "ScheduleError",
    "describe",
    "missed_times",
    "next_time",
    "next_times",
    "parse_schedule",
]

MANUAL = "@manual"

#: The short forms and what they stand for.
SHORT_FORMS = {
    "@hourly": "0 * * * *",
    "@daily": "0 0 * * *",
    "@midnight": "0 0 * * *",
    "@weekly": "0 0 * * 0",
    "@monthly": "0 0 1 * *",
    "@yearly": "0 0 1 1 *",
    "@annually": "0 0 1 1 *",
}

ONE_SECOND = timedelta(seconds=1)

#: No zone's offset changes twice within this time on both sides of an instant, and none turns back by more.
_CHANGE_WINDOW = timedelta(hours=26)


@dataclass(frozen=True)
class Schedule:
    """A schedule that was understood: the text as written, its zone, and in `notes` what could be misread in it."""

    text: str
    timezone: str
    is_manual: bool
    notes: tuple[str, ...] = ()
    fields: CronFields | None = field(default=None, repr=False, compare=False)


def parse_schedule(text: str | None, timezone: str = "UTC") -> Schedule:
    """The schedule that the text means in that zone; None, "" and "@manual" never fire.

    Raises ScheduleError, which names the field and what to write instead, also for a schedule that could never fire.
    """
    text = (text or "").strip() or MANUAL
    if len(text) > MAX_LENGTH:
        raise ScheduleError(f"A schedule has at most {MAX_LENGTH} characters; this one has {len(text)}.")
    return _parse(text, timezone)


@lru_cache(maxsize=2048)
def _parse(text: str, timezone: str) -> Schedule:
    _zone(timezone)
    lowered = text.lower()
    if lowered == MANUAL:
        return Schedule(text, timezone, is_manual=True)
    if lowered.startswith("@") and lowered not in SHORT_FORMS:
        raise ScheduleError(
            f"{text!r} is no schedule.", value=text, fix=f"Write one of {', '.join((MANUAL, *SHORT_FORMS))}."
        )
    fields, notes = read_cron(SHORT_FORMS.get(lowered, text))
    return Schedule(text, timezone, is_manual=False, notes=notes, fields=fields)


def _zone(name: str) -> ZoneInfo:
    try:
        return ZoneInfo(name)
    # A folder of zones, such as "Europe", is an OSError; a path that leads outside is a ValueError.
    except (LookupError, OSError, ValueError):
        near = get_close_matches(name[:MAX_LENGTH], available_timezones(), n=1)
        fix = f"Did you mean {near[0]}?" if near else "Write a name such as UTC or Europe/Berlin."
        raise ScheduleError(f"There is no time zone {name!r}.", field="timezone", value=name, fix=fix) from None


def next_time(schedule: Schedule, after: datetime) -> datetime | None:
    """The first instant strictly after `after` at which the schedule fires; None when there is none before 2100.

    Raises ValueError for a naive `after`.
    """
    if after.tzinfo is None:
        raise ValueError("an aware datetime is needed")
    if schedule.fields is None or after.year > LAST_YEAR:
        return None
    after = max(after, datetime(FIRST_YEAR, 1, 2, tzinfo=UTC)).astimezone(UTC)
    zone = ZoneInfo(schedule.timezone)
    first = _next_first(schedule.fields, zone, after)
    again = _next_repeated(schedule.fields, zone, after) if schedule.fields.star_hours else None
    return min(filter(None, (first, again)), default=None)


def next_times(schedule: Schedule, after: datetime, count: int) -> list[datetime]:
    """The next `count` instants strictly after `after`, ascending; fewer when the schedule ends before."""
    times: list[datetime] = []
    while len(times) < count:
        instant = next_time(schedule, times[-1] if times else after)
        if instant is None:
            break
        times.append(instant)
    return times


def missed_times(schedule: Schedule, after: datetime, until: datetime, limit: int) -> list[datetime]:
    """The newest `limit` instants after `after` up to and including `until`, ascending.

    The work depends on `limit` only, not on how long nobody looked: a schedule for every second that slept for a year
    is answered as quickly as a daily one.
    """
    if limit <= 0 or after >= until:
        return []
    enough = 2 * limit
    times = _times_until(schedule, after, until, enough)
    if len(times) <= enough:
        return times[-limit:]
    too_early, too_late = after, until
    while not limit <= len(times) <= enough:
        middle = too_early + (too_late - too_early) / 2
        times = _times_until(schedule, middle, until, enough)
        if len(times) > enough:
            too_early = middle
        else:
            too_late = middle
    return times[-limit:]


def _times_until(schedule: Schedule, after: datetime, until: datetime, enough: int) -> list[datetime]:
    """The instants after `after` up to `until`, broken off once there are more than enough."""
    times: list[datetime] = []
    instant = next_time(schedule, after)
    while instant is not None and instant <= until and len(times) <= enough:
        times.append(instant)
        instant = next_time(schedule, instant)
    return times


def _next_first(fields: CronFields, zone: ZoneInfo, after: datetime) -> datetime | None:
    """The next matching time, counting a time that the clock shows twice the first time only."""
    local = after.astimezone(zone)
    wall = local.replace(tzinfo=None, fold=0, microsecond=0)
    if local.fold:
        # Everything that the clock is showing for the second time has had its turn.
        wall = _end_of_repetition(zone, wall, after)
    while (candidate := fields.next_wall(wall)) is not None:
        before, behind = _offsets(zone, candidate)
        instant = (candidate - before).replace(tzinfo=UTC)
        wall = candidate + ONE_SECOND
        if before < behind:
            instant = _change_between(zone, (candidate - behind).replace(tzinfo=UTC), instant)
            if fields.every_hour:
                wall = instant.replace(tzinfo=None) + behind
                continue
        if instant > after:
            return instant
    return None


def _next_repeated(fields: CronFields, zone: ZoneInfo, after: datetime) -> datetime | None:
    """The next matching time among those that the clock shows for the second time, when it is turned back about now."""
    now = after.replace(microsecond=0)
    before, behind = _offset(zone, now - _CHANGE_WINDOW), _offset(zone, now + _CHANGE_WINDOW)
    if before <= behind:
        return None
    change = _change_between(zone, now - _CHANGE_WINDOW, now + _CHANGE_WINDOW)
    end = change.replace(tzinfo=None) + before
    wall = max(change, now).replace(tzinfo=None) + behind
    while (candidate := fields.next_wall(wall)) is not None and candidate < end:
        instant = (candidate - behind).replace(tzinfo=UTC)
        if instant > after:
            return instant
        wall = candidate + ONE_SECOND
    return None


def _end_of_repetition(zone: ZoneInfo, wall: datetime, now: datetime) -> datetime:
    """The first wall-clock time that the clock, now showing `wall` for the second time, shows only once."""
    before, _ = _offsets(zone, wall)
    change = _change_between(zone, (wall - before).replace(tzinfo=UTC), now)
    return change.replace(tzinfo=None) + before


def _offsets(zone: ZoneInfo, wall: datetime) -> tuple[timedelta, timedelta]:
    """The offsets before and behind the change on which this wall-clock time lies; twice the same when on none."""
    aware = wall.replace(tzinfo=zone)
    return aware.utcoffset() or timedelta(), aware.replace(fold=1).utcoffset() or timedelta()


def _offset(zone: ZoneInfo, instant: datetime) -> timedelta:
    return instant.astimezone(zone).utcoffset() or timedelta()


def _change_between(zone: ZoneInfo, low: datetime, high: datetime) -> datetime:
    """The instant in (low, high] from which on the zone's offset is another than at `low`; whole seconds from `low`."""
    before = _offset(zone, low)
    same, other = 0, ceil((high - low) / ONE_SECOND)
    while other - same > 1:
        middle = (same + other) // 2
        if _offset(zone, low + middle * ONE_SECOND) == before:
            same = middle
        else:
            other = middle
    return low + other * ONE_SECOND


def describe(schedule: Schedule) -> str:
    """The schedule in plain English where that is shorter than the expression, else the expression with its zone."""
    fields = schedule.fields
    if fields is None:
        return "only when somebody starts it"
    said = _say_interval(fields) or _say_hours(fields, schedule.timezone) or _say_times(fields, schedule.timezone)
    return said or f"{schedule.text} ({schedule.timezone})"


def _say_interval(fields: CronFields) -> str | None:
    if not _every_day(fields) or not fields.every_hour:
        return None
    if fields.seconds != (0,):
        step = _step(fields.seconds) if len(fields.minutes) == 60 else None
        return _every(step, "second")
    if len(fields.minutes) == 1:
        minute = fields.minutes[0]
        return "every hour" if minute == 0 else f"every hour at {minute} minute{'s' * (minute > 1)} past"
    return _every(_step(fields.minutes), "minute")


def _say_hours(fields: CronFields, timezone: str) -> str | None:
    step = _step(fields.hours, 24)
    if not _every_day(fields) or step in (None, 24) or len(fields.minutes) > 1 or fields.seconds != (0,):
        return None
    return f"every {step} hours from 00:{fields.minutes[0]:02} {timezone}"


def _say_times(fields: CronFields, timezone: str) -> str | None:
    days = _say_days(fields)
    if days is None or not _every_year(fields) or len(fields.hours) * len(fields.minutes) * len(fields.seconds) > 3:
        return None
    times = [
        f"{hour:02}:{minute:02}" + (f":{second:02}" if fields.seconds != (0,) else "")
        for hour in fields.hours
        for minute in fields.minutes
        for second in fields.seconds
    ]
    return f"{days} at {_and(times)} {timezone}"


def _say_days(fields: CronFields) -> str | None:
    rule = fields.day_rule
    if rule.near_working_days or rule.nth_weekdays or (rule.restricts_day and rule.restricts_weekday):
        return None
    months = [month_name[month] for month in fields.months]
    of_months = "every month" if len(months) == 12 else _and(months)
    if rule.days is not None:
        days = [f"day {day}" for day in sorted(rule.days)] + ["the last day"] * rule.last_day
        return f"on {_and(days)} of {of_months}" if len(days) <= 3 else None
    if rule.weekdays is None:
        return "every day" if len(months) == 12 else f"every day in {of_months}"
    if len(months) < 12:
        return None
    # Said from Monday on, as a week is spoken of.
    weekdays = sorted((weekday - 1) % 7 for weekday in rule.weekdays)
    if weekdays == list(range(5)):
        return "Monday to Friday"
    return f"every {_and([day_name[weekday] for weekday in weekdays])}"


def _every_day(fields: CronFields) -> bool:
    rule = fields.day_rule
    restricted = rule.restricts_day or rule.restricts_weekday or len(fields.months) < 12
    return not restricted and _every_year(fields)


def _every_year(fields: CronFields) -> bool:
    return len(fields.years) == LAST_YEAR - FIRST_YEAR + 1


def _step(values: tuple[int, ...], whole: int = 60) -> int | None:
    """The step when the values go through the whole minute, hour or day evenly from 0, else None."""
    step = whole // len(values)
    return step if values == tuple(range(0, whole, step)) and whole % step == 0 else None


def _every(step: int | None, unit: str) -> str | None:
    if step in (None, 60):
        return None
    return f"every {unit}" if step == 1 else f"every {step} {unit}s"


def _and(words: list[str]) -> str:
    return words[0] if len(words) == 1 else f"{', '.join(words[:-1])} and {words[-1]}"
