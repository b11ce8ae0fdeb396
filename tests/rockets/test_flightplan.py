"""The plain flight plan: the same flight whoever looks, however often, and after any pause."""

from datetime import UTC, datetime, timedelta
from itertools import pairwise

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from webapp.rockets.flightplan import (
    MIN_CHANGE,
    FlightPlan,
    location_at,
    milestones_until,
    next_milestone,
    position_at,
)
from webapp.rockets.states import MOVES, Phase

START = datetime(2026, 1, 2, 3, 4, 5, 678901, tzinfo=UTC)
FAR = timedelta(days=36500)

#: How long an example takes says nothing on a machine that is busy with other tests.
unhurried = settings(deadline=None)

durations = st.integers(0, 2**31 - 1) | st.integers(0, 30)
flying = st.sampled_from([Phase.PREPARING, Phase.READY, Phase.OUTBOUND, Phase.RETURNING])


def plan_of(seconds, *, ordered=True):
    return FlightPlan("Earth", "Mars", seconds, launch_ordered=ordered)


def seconds(count):
    return START + timedelta(seconds=count)


def test_a_flight_of_ten_seconds_second_by_second():
    plan = plan_of(10)
    seen = [position_at(plan, Phase.PREPARING, START, seconds(second)) for second in range(15)]
    assert [where.phase for where in seen] == [Phase.PREPARING] * 2 + [Phase.READY] + [Phase.OUTBOUND] * 10 + [
        Phase.LANDED
    ] * 2
    assert [where.seconds_left for where in seen] == [2, 1, 1, 10, 9, 8, 7, 6, 5, 4, 3, 2, 1, 0, 0]
    assert [where.location for where in seen] == [
        "Earth",
        "Earth",
        "Earth",
        "Earth",
        "Hohmann transfer orbit, 10 % of the way",
        "Hohmann transfer orbit, 10 % of the way",
        "Hohmann transfer orbit, 25 % of the way",
        "Hohmann transfer orbit, 40 % of the way",
        "Hohmann transfer orbit, 50 % of the way",
        "Hohmann transfer orbit, 60 % of the way",
        "Hohmann transfer orbit, 60 % of the way",
        "Hohmann transfer orbit, 75 % of the way",
        "approach to Mars",
        "Mars",
        "Mars",
    ]
    assert seen[-1].changes_at is None


def test_a_rocket_on_its_way_home_ends_where_it_came_from_and_is_turned_around():
    plan = plan_of(10, ordered=False)
    assert position_at(plan, Phase.RETURNING, START, START).location == "Mars"
    assert position_at(plan, Phase.RETURNING, START, seconds(3)).location == "Hohmann transfer orbit, 25 % of the way"
    home = position_at(plan, Phase.RETURNING, START, seconds(10))
    assert (home.phase, home.location, home.seconds_left) == (Phase.PREPARING, "Earth", 2)


def test_without_an_order_a_rocket_waits_on_the_pad():
    waiting = position_at(plan_of(10, ordered=False), Phase.PREPARING, START, START + FAR)
    assert (waiting.phase, waiting.location, waiting.changes_at) == (Phase.READY, "Earth", None)


def test_an_order_is_used_up_by_the_launch():
    there = position_at(plan_of(10), Phase.RETURNING, START, START + FAR)
    assert there.phase is Phase.LANDED


def test_a_destroyed_rocket_stays_where_it_was_lost():
    lost = position_at(plan_of(10), Phase.DESTROYED, START, START + FAR)
    assert (lost.location, lost.seconds_left, lost.changes_at) == (None, 0, None)


def test_a_clock_set_back_makes_no_flight_longer():
    early = position_at(plan_of(10), Phase.OUTBOUND, START, seconds(-500))
    assert (early.seconds_left, early.fraction, early.location) == (10, 0.0, "Earth")


@unhurried
@given(planned=durations, ordered=st.booleans(), phase=flying, offset=st.floats(0, 1))
def test_the_plan_makes_only_allowed_moves(planned, ordered, phase, offset):
    now = START + timedelta(seconds=(planned + 4) * 2 * offset)
    for milestone in milestones_until(plan_of(planned, ordered=ordered), phase, START, now):
        assert milestone.phase in MOVES[phase]
        phase = milestone.phase


@unhurried
@given(
    planned=durations, ordered=st.booleans(), phase=flying, offsets=st.lists(st.floats(0, 1), min_size=1, max_size=8)
)
def test_a_restart_at_any_instant_changes_nothing(planned, ordered, phase, offsets):
    plan = plan_of(planned, ordered=ordered)
    instants = sorted(START + timedelta(seconds=(planned + 4) * 2 * offset) for offset in offsets)
    since, stepped = START, phase
    for now in instants:
        here = position_at(plan, stepped, since, now)
        stepped, since = here.phase, here.since
        assert here == position_at(plan, phase, START, now)


@unhurried
@given(planned=durations, phase=st.sampled_from([Phase.OUTBOUND, Phase.RETURNING]), offsets=st.lists(st.floats(0, 1.5)))
def test_a_leg_only_goes_forward_and_ends_at_its_end(planned, phase, offsets):
    plan = plan_of(planned)
    end = next_milestone(plan, phase, START)
    assert end is not None
    positions = [
        position_at(plan, phase, START, START + timedelta(seconds=planned * offset)) for offset in sorted(offsets)
    ]
    leg = [where for where in positions if where.phase is phase]
    assert all(a.fraction <= b.fraction and a.seconds_left >= b.seconds_left for a, b in pairwise(leg))
    landed = position_at(plan, phase, START, end.at)
    assert landed.phase is not phase
    assert landed.location == ("Mars" if phase is Phase.OUTBOUND else "Earth")


@unhurried
@given(planned=durations, ordered=st.booleans(), phase=flying)
def test_sleeping_until_the_next_change_sees_every_place_and_comes_to_an_end(planned, ordered, phase):
    plan = plan_of(planned, ordered=ordered)
    here = position_at(plan, phase, START, START)
    wakes, seen = 0, [here.location]
    now = START
    while here.changes_at is not None:
        assert here.changes_at > now
        before, now = here, here.changes_at
        here = position_at(plan, here.phase, here.since, now)
        assert (here.phase, here.location) != (before.phase, before.location)
        seen.append(here.location)
        wakes += 1
        assert wakes < 40
    if phase is Phase.OUTBOUND and planned > 60:
        assert len(set(seen)) == 11


@unhurried
@given(planned=st.integers(1, 3))
def test_a_short_flight_is_no_burst_of_changes(planned):
    plan = plan_of(planned)
    here = position_at(plan, Phase.OUTBOUND, START, START)
    now = START
    while here.changes_at is not None:
        end = START + timedelta(seconds=planned)
        assert here.changes_at - now >= MIN_CHANGE or here.changes_at == end
        now = here.changes_at
        here = position_at(plan, here.phase, here.since, now)


@unhurried
@given(fraction=st.floats(-1, 2), further=st.floats(0, 1))
def test_locations_come_in_the_order_of_the_way(fraction, further):
    order = [location_at("Earth", "Mars", step / 1000) for step in range(1001)]
    assert order.index(location_at("Earth", "Mars", fraction)) <= order.index(
        location_at("Earth", "Mars", fraction + further)
    )


@pytest.mark.parametrize("name", ["{0}", "100 %", "a{b}c", ""])
def test_any_name_of_a_place_is_taken_as_it_is(name):
    assert location_at(name, "Mars", 0) == name
    assert location_at("Earth", name, 1) == name
