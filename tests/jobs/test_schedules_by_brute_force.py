"""Schedules against a walker that goes through every minute, and against croniter."""

from datetime import UTC, date, datetime, timedelta
from functools import cache
from itertools import pairwise
from zoneinfo import ZoneInfo

from croniter import croniter
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from webapp.jobs.schedules import (
    ScheduleError,
    next_time,
    next_times,
    parse_schedule,
)

NOW = datetime(2026, 1, 14, 10, 0, tzinfo=UTC)  # a Wednesday
MINUTE = timedelta(minutes=1)

#: How long an example takes says nothing on a machine that is busy with other tests.
unhurried = settings(deadline=None)


def utc(*parts):
    return datetime(*parts, tzinfo=UTC)


# By brute force: a walker that goes through every minute and knows nothing of how the search works.

ZONES = [
    "UTC",
    "Europe/Berlin",
    "Europe/Dublin",
    "America/New_York",
    "America/Havana",
    "America/Santiago",
    "America/Sao_Paulo",
    "America/St_Johns",
    "Africa/Casablanca",
    "Africa/Cairo",
    "Antarctica/Troll",
    "Asia/Beirut",
    "Asia/Kathmandu",
    "Asia/Tehran",
    "Australia/Lord_Howe",
    "Pacific/Apia",
    "Pacific/Chatham",
]


@cache
def days_of_change(zone):
    """Days on which the zone's clock is changed, of the years in which all of these zones had changes."""
    noon = [datetime(2010, 1, 1, 12, tzinfo=UTC) + timedelta(days=day) for day in range(16 * 365)]
    offsets = [instant.astimezone(ZoneInfo(zone)).utcoffset() for instant in noon]
    changes = [later.date() for later, (a, b) in zip(noon[1:], pairwise(offsets), strict=True) if a != b]
    return changes or [date(2026, 3, 29)]


@st.composite
def windows(draw):
    zone = draw(st.sampled_from(ZONES))
    day = draw(st.sampled_from(days_of_change(zone)))
    start = datetime(day.year, day.month, day.day, tzinfo=UTC) - timedelta(minutes=draw(st.integers(0, 2880)))
    return zone, start


#: Field texts with the values that they stand for, written out so that the walker needs no parser.
MINUTES = [
    ("*", set(range(60))),
    ("0", {0}),
    ("30", {30}),
    ("*/15", {0, 15, 30, 45}),
    ("5,59", {5, 59}),
    ("20-40", set(range(20, 41))),
]
HOURS = [
    ("*", set(range(24))),
    ("*/2", set(range(0, 24, 2))),
    ("*/3", set(range(0, 24, 3))),
    ("0", {0}),
    ("1", {1}),
    ("2", {2}),
    ("1-3", {1, 2, 3}),
    ("23,0", {0, 23}),
    ("12", {12}),
    ("0-23", set(range(24))),
]
WEEKDAYS = [("*", set(range(7))), ("SUN", {6}), ("MON-FRI", set(range(5))), ("6,0", {5, 6})]


def walk(zone, start, end, minutes, hours, weekdays, *, star):
    """Every instant in (start, end] at which the schedule must fire, minute by minute."""
    clock = ZoneInfo(zone)

    def matches(wall):
        return wall.minute in minutes and wall.hour in hours and wall.weekday() in weekdays

    found = []
    instant = start.replace(second=0) + MINUTE
    while instant <= end:
        local, before = instant.astimezone(clock), (instant - MINUTE).astimezone(clock)
        skipped = local.replace(tzinfo=None) - before.replace(tzinfo=None) - MINUTE
        due = matches(local) and (star or not local.fold)
        if skipped > timedelta() and len(hours) < 24:
            lost = (before.replace(tzinfo=None) + MINUTE * step for step in range(1, skipped // MINUTE + 1))
            due = due or any(matches(wall) for wall in lost)
        if due:
            found.append(instant)
        instant += MINUTE
    return found


@unhurried
@given(
    window=windows(), minute=st.sampled_from(MINUTES), hour=st.sampled_from(HOURS), weekday=st.sampled_from(WEEKDAYS)
)
def test_no_instant_is_lost_doubled_or_invented(window, minute, hour, weekday):
    zone, start = window
    end = start + timedelta(days=3)
    schedule = parse_schedule(f"{minute[0]} {hour[0]} * * {weekday[0]}", zone)
    star = hour[0].startswith("*") or len(hour[1]) == 24
    expected = walk(zone, start, end, minute[1], hour[1], weekday[1], star=star)
    found = [instant for instant in next_times(schedule, start, len(expected) + 1) if instant <= end]
    assert found == expected


@unhurried
@given(
    window=windows(),
    offset=st.floats(0, 3 * 86400),
    text=st.sampled_from(
        ["30 2 * * *", "*/7 * * * *", "0 0 * * *", "*/20 30 1,2 * * *", "* * * * * *", "0 0 */2 * * *"]
    ),
)
def test_asking_at_any_instant_gives_the_next_one_of_the_series(window, offset, text):
    zone, start = window
    schedule = parse_schedule(text, zone)
    after = start + timedelta(seconds=offset)
    coming = next_time(schedule, after)
    assert coming is not None
    assert coming > after
    assert coming.tzinfo is UTC
    # Whoever asks a little before it gets the same.
    assert next_time(schedule, max(after, coming - timedelta(microseconds=1))) == coming


# croniter agrees where no clock is changed and no day is given twice.

CRON_FIELD = {
    "minute": st.integers(0, 59).map(str) | st.sampled_from(["*", "*/7", "0-30/10", "50-10", "15,45"]),
    "hour": st.integers(0, 23).map(str) | st.sampled_from(["*", "*/5", "8-18", "22-2"]),
    "day": st.integers(1, 28).map(str)
    | st.sampled_from(["*", "L", "1,15", "31", "15W", "W1", "31W", "*/10", "15-L", "?"]),
    "month": st.sampled_from(["*", "*", "*", "1-3", "JUN", "2", "*/4", "NOV-FEB"]),
    "weekday": st.sampled_from(
        ["*", "*", "?", "MON", "0", "7", "1-5", "SAT,SUN", "FRI-MON", "FRI#2", "L5", "1#5", "*/2"]
    ),
}


@unhurried
@given(
    fields=st.fixed_dictionaries(CRON_FIELD),
    second=st.none() | st.sampled_from(["0", "*/20", "59", "5,35"]),
    after=st.datetimes(datetime(2020, 1, 1), datetime(2030, 1, 1)),
)
def test_croniter_agrees_in_utc(fields, second, after):
    special = any(mark in fields["day"] + fields["weekday"] for mark in "W#") or fields["weekday"] == "L5"
    assume(not special or fields["day"] in "*?" or fields["weekday"] in "*?")
    text = " ".join(([second] if second else []) + [fields[name] for name in CRON_FIELD])
    try:
        schedule = parse_schedule(text)
    except ScheduleError as error:
        # 31 February and its like; croniter finds nothing either.
        assert error.field == "day"
        return
    theirs = croniter(text, after.replace(tzinfo=UTC), second_at_beginning=True)
    expected = [theirs.get_next(datetime) for _ in range(4)]
    # croniter goes on after 2099 although its year field ends there: a fifth Monday of February is that rare.
    assert next_times(schedule, after.replace(tzinfo=UTC), 4) == [when for when in expected if when.year < 2100]
