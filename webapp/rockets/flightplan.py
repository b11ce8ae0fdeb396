"""The plain flight plan: how a rocket without a payload flies, as a function of the clock.

Two seconds of preparation, one second on the pad, then `planned_seconds` to the destination. Everything follows from
the phase, the instant at which it began, and now; nothing is remembered in between. So a restart in mid-flight changes
nothing, and whoever flies the rocket sleeps exactly until `Position.changes_at`.

Instants are aware; seconds are whole seconds of the contract's `estimated_time`. Source: contract 000.
"""

from dataclasses import dataclass
from datetime import datetime, timedelta
from math import ceil

from webapp.rockets.states import Phase, is_returning

PREPARING_SECONDS = 2
READY_SECONDS = 1

#: Changes of location on a short flight come no closer together than this, so that a flight of a second is not
#: twenty writes to the database.
MIN_CHANGE = timedelta(milliseconds=250)

#: From which part of the way on a rocket is where. {source} and {destination} are those of the leg.
_WAYPOINTS: tuple[tuple[float, str], ...] = (
    (0.0, "{source}"),
    (0.02, "low orbit of {source}"),
    (0.10, "Hohmann transfer orbit, 10 % of the way"),
    (0.25, "Hohmann transfer orbit, 25 % of the way"),
    (0.40, "Hohmann transfer orbit, 40 % of the way"),
    (0.50, "Hohmann transfer orbit, 50 % of the way"),
    (0.60, "Hohmann transfer orbit, 60 % of the way"),
    (0.75, "Hohmann transfer orbit, 75 % of the way"),
    (0.90, "approach to {destination}"),
    (0.97, "orbit of {destination}"),
    (1.0, "{destination}"),
)


@dataclass(frozen=True)
class FlightPlan:
    """One rocket's plan: where from, where to, how long, and whether a launch has been ordered.

    Without an order a rocket gets ready and then waits on the pad; an order is used up by the launch.
    """

    source: str
    destination: str
    planned_seconds: int
    launch_ordered: bool = True


@dataclass(frozen=True)
class Milestone:
    """The next change of phase: into which, and when."""

    phase: Phase
    at: datetime


@dataclass(frozen=True)
class Position:
    """Where a rocket is at an instant.

    `location` is None for a destroyed rocket: it lies where it was lost. `seconds_left` is the time left in the phase
    (0 where nothing is going on); `changes_at` is the next instant at which phase or location change, None when nothing
    changes until somebody acts.
    """

    phase: Phase
    since: datetime
    location: str | None
    fraction: float
    seconds_left: int
    changes_at: datetime | None


def phase_seconds(plan: FlightPlan, phase: Phase) -> int | None:
    """How long the phase lasts, or None when it lasts until somebody acts."""
    if phase is Phase.PREPARING:
        return PREPARING_SECONDS
    if phase is Phase.READY and plan.launch_ordered:
        return READY_SECONDS
    if phase in (Phase.OUTBOUND, Phase.RETURNING):
        return max(plan.planned_seconds, 0)
    return None


_NEXT_PHASE: dict[Phase, Phase] = {
    Phase.PREPARING: Phase.READY,
    Phase.READY: Phase.OUTBOUND,
    Phase.OUTBOUND: Phase.LANDED,
    Phase.RETURNING: Phase.PREPARING,
}


def next_milestone(plan: FlightPlan, phase: Phase, started_at: datetime) -> Milestone | None:
    """The change of phase that comes next and when it is due, or None when the rocket waits for somebody."""
    seconds = phase_seconds(plan, phase)
    if seconds is None:
        return None
    return Milestone(_NEXT_PHASE[phase], started_at + timedelta(seconds=seconds))


def milestones_until(plan: FlightPlan, phase: Phase, started_at: datetime, now: datetime) -> list[Milestone]:
    """Every change of phase that is due by now, oldest first.

    After a pause of the flier they carry the instants at which they were due, not the present one, so the rocket is
    where it would have been without the pause.
    """
    due: list[Milestone] = []
    milestone = next_milestone(plan, phase, started_at)
    while milestone is not None and milestone.at <= now:
        due.append(milestone)
        milestone = next_milestone(plan, milestone.phase, milestone.at)
    return due


def position_at(plan: FlightPlan, phase: Phase, started_at: datetime, now: datetime) -> Position:
    """Where the rocket is now, in the phase that it is in now: overdue changes of phase are counted in."""
    due = milestones_until(plan, phase, started_at, now)
    if due:
        phase, started_at = due[-1].phase, due[-1].at
    fraction = fraction_flown(plan, phase, started_at, now)
    return Position(
        phase=phase,
        since=started_at,
        location=_location(plan, phase, fraction),
        fraction=fraction,
        seconds_left=seconds_left(plan, phase, started_at, now),
        changes_at=_next_change(plan, phase, started_at, now),
    )


def seconds_left(plan: FlightPlan, phase: Phase, started_at: datetime, now: datetime) -> int:
    """Whole seconds until the phase ends, rounded up; 0 when it is over or has no end."""
    milestone = next_milestone(plan, phase, started_at)
    if milestone is None:
        return 0
    lasts = milestone.at - started_at
    # A clock that was set back must not make a flight longer than it was planned.
    left = min(milestone.at - now, lasts)
    return max(ceil(left.total_seconds()), 0)


def fraction_flown(plan: FlightPlan, phase: Phase, started_at: datetime, now: datetime) -> float:
    """The part of the present leg that lies behind the rocket: 0 before a launch, 1 once landed."""
    if phase is Phase.LANDED:
        return 1.0
    if phase not in (Phase.OUTBOUND, Phase.RETURNING):
        return 0.0
    if plan.planned_seconds <= 0:
        return 1.0
    return min(max((now - started_at).total_seconds() / plan.planned_seconds, 0.0), 1.0)


def location_at(source: str, destination: str, fraction: float) -> str:
    """Where a rocket is that has flown this part of the way from source to destination; 0 and below is the source."""
    text = _WAYPOINTS[0][1]
    for begins, name in _WAYPOINTS:
        if fraction < begins:
            break
        text = name
    return text.format(source=source, destination=destination)


def _location(plan: FlightPlan, phase: Phase, fraction: float) -> str | None:
    if phase is Phase.DESTROYED:
        return None
    if is_returning(phase):
        return location_at(plan.destination, plan.source, fraction)
    return location_at(plan.source, plan.destination, fraction)


def _next_change(plan: FlightPlan, phase: Phase, started_at: datetime, now: datetime) -> datetime | None:
    milestone = next_milestone(plan, phase, started_at)
    if milestone is None:
        return None
    if phase not in (Phase.OUTBOUND, Phase.RETURNING):
        return milestone.at
    for begins, _ in _WAYPOINTS[1:]:
        # A microsecond late rather than early: rounded down, the waypoint would not be reached yet at its own instant.
        at = started_at + (milestone.at - started_at) * begins + timedelta(microseconds=1)
        if at > now:
            return min(max(at, now + MIN_CHANGE), milestone.at)
    return milestone.at
