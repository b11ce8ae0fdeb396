"""Schedules: what is understood, and exactly when it fires, also where the clock is changed."""

import time
from datetime import UTC, datetime, timedelta
from itertools import pairwise
from zoneinfo import ZoneInfo

import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from webapp.jobs.schedules import (
    ScheduleError,
    describe,
    missed_times,
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


def fires(text, zone="UTC", *, after=NOW, count=3):
    """The next times on the zone's own clock, as text."""
    times = next_times(parse_schedule(text, zone), after, count)
    return [instant.astimezone(ZoneInfo(zone)).strftime("%Y-%m-%d %H:%M:%S %z") for instant in times]


# What is understood


@pytest.mark.parametrize("text", [None, "", "   ", "@manual", "@MANUAL"])
def test_a_manual_schedule_never_fires(text):
    schedule = parse_schedule(text)
    assert schedule.is_manual
    assert next_time(schedule, NOW) is None
    assert missed_times(schedule, NOW, NOW + timedelta(days=9), 5) == []


@pytest.mark.parametrize(
    ("short", "first"),
    [
        ("@hourly", utc(2026, 1, 14, 11)),
        ("@daily", utc(2026, 1, 15)),
        ("@midnight", utc(2026, 1, 15)),
        ("@weekly", utc(2026, 1, 18)),
        ("@monthly", utc(2026, 2, 1)),
        ("@yearly", utc(2027, 1, 1)),
        ("@annually", utc(2027, 1, 1)),
    ],
)
def test_short_forms_mean_what_they_say(short, first):
    assert next_time(parse_schedule(short), NOW) == first
    assert next_time(parse_schedule(short.upper()), NOW) == first


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("0 9 * * *", ["01-15 09:00:00", "01-16 09:00:00"]),
        ("30 0 9 * * *", ["01-15 09:00:30", "01-16 09:00:30"]),
        ("0 0 9 * * ? 2027", ["01-01 09:00:00", "01-02 09:00:00"]),
        ("0 9 * * MON-FRI", ["01-15 09:00:00", "01-16 09:00:00", "01-19 09:00:00"]),
        ("0 9 * * fri-mon", ["01-16 09:00:00", "01-17 09:00:00", "01-18 09:00:00", "01-19 09:00:00", "01-23 09:00:00"]),
        ("0 0 * FEB,apr 0", ["02-01 00:00:00", "02-08 00:00:00"]),
        ("0 0 * * 7", ["01-18 00:00:00", "01-25 00:00:00"]),
        ("10-20/5,50 12 * * *", ["01-14 12:10:00", "01-14 12:15:00", "01-14 12:20:00", "01-14 12:50:00"]),
        ("0 0 L * *", ["01-31 00:00:00", "02-28 00:00:00", "03-31 00:00:00"]),
        ("0 0 31W * *", ["01-30 00:00:00", "02-27 00:00:00", "03-31 00:00:00"]),
        ("0 0 1W * *", ["02-02 00:00:00", "03-02 00:00:00", "04-01 00:00:00", "05-01 00:00:00", "06-01 00:00:00"]),
        ("0 0 * * FRI#2", ["02-13 00:00:00", "03-13 00:00:00"]),
        ("0 0 * * L5", ["01-30 00:00:00", "02-27 00:00:00"]),
        ("0 0 * 7 L5", ["07-31 00:00:00", "07-30 00:00:00"]),
        ("0 0 0 ? * MON#1", ["02-02 00:00:00", "03-02 00:00:00"]),
        ("0 22-2/2 * * *", ["01-14 22:00:00", "01-15 00:00:00", "01-15 02:00:00", "01-15 22:00:00"]),
        ("0 0 13 * FRI", ["01-16 00:00:00", "01-23 00:00:00", "01-30 00:00:00", "02-06 00:00:00", "02-13 00:00:00"]),
    ],
)
def test_expressions_fire_when_they_should(text, expected):
    assert [when[5:-6] for when in fires(text, count=len(expected))] == expected


def test_a_leap_day_is_found_years_ahead():
    assert next_time(parse_schedule("0 0 29 2 *"), NOW) == utc(2028, 2, 29)


def test_a_year_that_is_over_fires_no_more_and_is_no_error():
    assert next_times(parse_schedule("0 0 12 1 1 ? 2020"), NOW, 5) == []
    assert next_times(parse_schedule("0 0 12 1 1 ? 2030,2098"), NOW, 5) == [utc(2030, 1, 1, 12), utc(2098, 1, 1, 12)]


def test_a_schedule_ends_with_the_century_that_it_knows():
    assert next_time(parse_schedule("@yearly"), utc(2099, 1, 1)) is None
    assert next_time(parse_schedule("@yearly"), datetime.max.replace(tzinfo=UTC)) is None
    assert next_time(parse_schedule("@yearly"), datetime.min.replace(tzinfo=UTC)) == utc(1971, 1, 1)


def test_a_naive_instant_is_refused():
    with pytest.raises(ValueError, match="aware"):
        next_time(parse_schedule("@daily"), datetime(2026, 1, 1))


def test_the_time_itself_is_not_after_it_and_a_moment_before_is():
    daily = parse_schedule("@daily")
    assert next_time(daily, utc(2026, 1, 15)) == utc(2026, 1, 16)
    assert next_time(daily, utc(2026, 1, 15) - timedelta(microseconds=1)) == utc(2026, 1, 15)
    assert next_time(daily, utc(2026, 1, 15) + timedelta(microseconds=1)) == utc(2026, 1, 16)


# What is refused


@pytest.mark.parametrize(
    ("text", "field", "position"),
    [
        ("60 * * * *", "minute", 1),
        ("* 24 * * *", "hour", 2),
        ("0 0 0 * *", "day", 3),
        ("0 0 32 * *", "day", 3),
        ("0 0 1 13 *", "month", 4),
        ("0 0 1 0 *", "month", 4),
        ("0 0 * * 8", "weekday", 5),
        ("0 0 * * FUNDAY", "weekday", 5),
        ("0 0 * * MON#6", "weekday", 5),
        ("60 0 0 * * *", "second", 1),
        ("0 0 24 * * *", "hour", 3),
        ("0 0 0 1 1 ? 1969", "year", 7),
        ("0 0 0 1 1 ? 2100", "year", 7),
        ("*/0 * * * *", "minute", 1),
        ("-1 * * * *", "minute", 1),
        ("1,,2 * * * *", "minute", 1),
        ("? * * * *", "minute", 1),
        ("H * * * *", "minute", 1),
        ("R * * * *", "minute", 1),
        ("R(0-5)/2 * * * *", "minute", 1),
        ("5-5 * * * *", "minute", 1),
        ("0 0 * * MON-1", "weekday", 5),
        ("0 0 1 jan-1 *", "month", 4),
        ("0 0 31 2 *", "day", 3),
        ("0 0 30,31 FEB *", "day", 3),
        ("0 0 31 4,6,9,11 *", "day", 3),
        ("0 0 0 29 2 ? 2027", "day", 4),
    ],
)
def test_a_field_that_cannot_be_used_is_named(text, field, position):
    with pytest.raises(ScheduleError) as refusal:
        parse_schedule(text)
    error = refusal.value
    assert (error.field, error.position, error.value) == (field, position, text.split()[position - 1])
    assert error.fix and error.fix in str(error)


@pytest.mark.parametrize(
    "text", ["* * * *", "* * * * * * * *", "@reboot", "@every 5m", "every day", "x" * 201, "* " * 200]
)
def test_what_is_no_expression_is_refused_as_a_whole(text):
    with pytest.raises(ScheduleError) as refusal:
        parse_schedule(text)
    assert refusal.value.field is None


@pytest.mark.parametrize(
    "name", ["", "Europe", "Europe/Berln", "../etc/passwd", "/etc/localtime", "Mars/Olympus", "a\x00b"]
)
def test_an_unknown_time_zone_is_refused(name):
    with pytest.raises(ScheduleError) as refusal:
        parse_schedule("@daily", name)
    assert (refusal.value.field, refusal.value.value) == ("timezone", name)


def test_a_misspelt_time_zone_gets_a_suggestion():
    with pytest.raises(ScheduleError, match="Did you mean Europe/Berlin"):
        parse_schedule("@manual", "Europe/Berln")


@unhurried
@given(st.text(max_size=60) | st.text(alphabet="0123456789*/,-?#LWHRlw SUNMONjan@", max_size=60))
def test_whatever_is_written_is_understood_or_refused(text):
    try:
        schedule = parse_schedule(text)
    except ScheduleError:
        return
    times = next_times(schedule, NOW, 2)
    assert all(later > earlier for earlier, later in pairwise([NOW, *times]))
    assert describe(schedule)


# What could be misread


def test_a_numeric_weekday_in_a_long_expression_gets_a_note():
    assert parse_schedule("0 0 9 * * 1").notes == ("1 means Monday here; Quartz counts Sunday as 1. Write SUN or MON.",)
    assert parse_schedule("0 0 9 ? * 2-6 2027").notes == (
        "2-6 means TUE-SAT here; Quartz counts Sunday as 1 and reads MON-FRI. Write one of these.",
    )
    assert "FRI#2" in parse_schedule("0 0 9 ? * 5#2").notes[0]


@pytest.mark.parametrize(
    "text", ["0 9 * * 1", "0 0 9 * * MON-FRI", "0 0 9 * * *", "0 0 9 * * */2", "0 0 9 ? * 0", "@weekly"]
)
def test_what_cannot_be_misread_gets_no_note(text):
    assert parse_schedule(text).notes == ()


def test_two_restricted_day_fields_get_a_note():
    (note,) = parse_schedule("0 0 13 * FRI").notes
    assert "either" in note


# Changes of the clock


def test_a_time_in_the_missing_hour_fires_once_right_after_it():
    assert fires("30 2 * * *", "Europe/Berlin", after=utc(2026, 3, 28, 12)) == [
        "2026-03-29 03:00:00 +0200",
        "2026-03-30 02:30:00 +0200",
        "2026-03-31 02:30:00 +0200",
    ]
    assert fires("*/20 2 * * *", "Europe/Berlin", after=utc(2026, 3, 28, 12), count=2) == [
        "2026-03-29 03:00:00 +0200",
        "2026-03-30 02:00:00 +0200",
    ]


def test_a_time_that_is_due_right_after_the_missing_hour_fires_once():
    assert fires("0 2,3 * * *", "Europe/Berlin", after=utc(2026, 3, 28, 12), count=2) == [
        "2026-03-29 03:00:00 +0200",
        "2026-03-30 02:00:00 +0200",
    ]


def test_a_time_in_the_doubled_hour_fires_the_first_time_only():
    assert fires("30 1 * * *", "America/New_York", after=utc(2026, 11, 1, 4)) == [
        "2026-11-01 01:30:00 -0400",
        "2026-11-02 01:30:00 -0500",
        "2026-11-03 01:30:00 -0500",
    ]
    # Asked between the two, and within the second hour: the first has passed.
    assert fires("30 1 * * *", "America/New_York", after=utc(2026, 11, 1, 5, 45), count=1) == [
        "2026-11-02 01:30:00 -0500"
    ]
    assert fires("30 1 * * *", "America/New_York", after=utc(2026, 11, 1, 6, 10), count=1) == [
        "2026-11-02 01:30:00 -0500"
    ]


@pytest.mark.parametrize("after", [utc(2026, 10, 24, 22), utc(2026, 3, 28, 22)])
def test_an_interval_keeps_its_length_through_a_change_of_the_clock(after):
    for text, minutes in [("*/15 * * * *", 15), ("0 * * * *", 60), ("59 * * * *", 60), ("* * * * *", 1)]:
        times = next_times(parse_schedule(text, "Europe/Berlin"), after, 8 * 60 // minutes)
        assert {later - earlier for earlier, later in pairwise(times)} == {timedelta(minutes=minutes)}, text


def test_a_midnight_that_does_not_exist_fires_at_the_first_moment_of_the_day():
    assert fires("@daily", "America/Havana", after=utc(2026, 3, 7, 12), count=2) == [
        "2026-03-08 01:00:00 -0400",
        "2026-03-09 00:00:00 -0400",
    ]


def test_a_day_that_the_calendar_skipped_fires_once_right_after_it():
    assert fires("0 12 30 12 *", "Pacific/Apia", after=utc(2011, 12, 1), count=2) == [
        "2011-12-31 00:00:00 +1400",
        "2012-12-30 12:00:00 +1400",
    ]


# Missed times


def test_missed_times_are_the_newest_ones_oldest_first():
    hourly = parse_schedule("@hourly")
    assert missed_times(hourly, utc(2026, 1, 1), utc(2026, 1, 14, 10), 3) == [
        utc(2026, 1, 14, hour) for hour in (8, 9, 10)
    ]
    assert missed_times(hourly, utc(2026, 1, 14, 9), utc(2026, 1, 14, 10, 30), 5) == [utc(2026, 1, 14, 10)]
    assert missed_times(hourly, utc(2026, 1, 14, 10), utc(2026, 1, 14, 10, 59), 5) == []
    assert missed_times(hourly, utc(2026, 1, 14, 10), utc(2026, 1, 14, 10), 5) == []
    assert missed_times(hourly, utc(2026, 1, 1), utc(2026, 1, 14, 10), 0) == []


@unhurried
@given(
    text=st.sampled_from(["@hourly", "@daily", "*/10 * * * *", "0 2 * * *", "* * 3 * * MON", "@monthly"]),
    hours=st.floats(0, 2000),
    limit=st.integers(1, 20),
)
def test_missed_times_agree_with_going_through_all_of_them(text, hours, limit):
    schedule = parse_schedule(text, "Europe/Berlin")
    start = utc(2026, 3, 1)
    until = start + timedelta(hours=hours)
    every, instant = [], next_time(schedule, start)
    while instant is not None and instant <= until and len(every) < 20000:
        every.append(instant)
        instant = next_time(schedule, instant)
    assume(len(every) < 20000)
    assert missed_times(schedule, start, until, limit) == every[-limit:]


# Time and words


@pytest.mark.parametrize(
    "text",
    [
        "* * * * *",
        "0 9 * * MON-FRI",
        "0 0 29 2 *",
        "0 0 0 29 2 ? 2096",
        "0 0 29 2 1#5",
        "0 0 0 1 1 ? 2020",
        "* * 1 * * *",
    ],
)
def test_the_next_time_is_found_in_less_than_a_millisecond(text):
    schedule = parse_schedule(text, "America/New_York")
    best = float("inf")
    for _ in range(20):
        begun = time.perf_counter()
        # Within a doubled hour, where most work is to be done.
        next_time(schedule, utc(2026, 11, 1, 6, 10))
        best = min(best, time.perf_counter() - begun)
    assert best < 0.001


def test_a_year_of_seconds_that_nobody_looked_at_costs_little():
    begun = time.perf_counter()
    missed = missed_times(parse_schedule("* * * * * *"), utc(2025, 1, 1), NOW, 2)
    assert missed == [NOW - timedelta(seconds=1), NOW]
    assert time.perf_counter() - begun < 1


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("@manual", "only when somebody starts it"),
        ("@daily", "every day at 00:00 UTC"),
        ("0 9 * * *", "every day at 09:00 UTC"),
        ("30 0 9,18 * * *", "every day at 09:00:30 and 18:00:30 UTC"),
        ("0 9 * * 1-5", "Monday to Friday at 09:00 UTC"),
        ("0 12 * * SAT,SUN", "every Saturday and Sunday at 12:00 UTC"),
        ("@weekly", "every Sunday at 00:00 UTC"),
        ("0 6 1,L * *", "on day 1 and the last day of every month at 06:00 UTC"),
        ("@yearly", "on day 1 of January at 00:00 UTC"),
        ("0 6 * 6-8 *", "every day in June, July and August at 06:00 UTC"),
        ("@hourly", "every hour"),
        ("1 * * * *", "every hour at 1 minute past"),
        ("* * * * *", "every minute"),
        ("*/15 * * * *", "every 15 minutes"),
        ("*/10 * * * * *", "every 10 seconds"),
        ("* * * * * *", "every second"),
        ("0 */6 * * *", "every 6 hours from 00:00 UTC"),
        ("30 5 * * * *", "30 5 * * * * (UTC)"),
        ("*/7 * * * *", "*/7 * * * * (UTC)"),
        ("0 0 13 * FRI", "0 0 13 * FRI (UTC)"),
        ("0 0 * * FRI#2", "0 0 * * FRI#2 (UTC)"),
        ("0 0 9 * * ? 2027", "0 0 9 * * ? 2027 (UTC)"),
        ("0 9 1 1,2 MON", "0 9 1 1,2 MON (UTC)"),
        ("*/5 9 * * *", "*/5 9 * * * (UTC)"),
    ],
)
def test_schedules_are_said_in_words_or_shown_as_written(text, words):
    assert describe(parse_schedule(text)) == words


def test_the_zone_is_said_with_the_time():
    assert describe(parse_schedule("0 9 * * *", "Europe/Berlin")) == "every day at 09:00 Europe/Berlin"
