"""What the board shows, read in a handful of queries however large the fleet and its history are.

Plain rows are read, not ORM objects: a board has hundreds of them, and nothing on it is changed.
"""

import re
import uuid
from collections.abc import Collection, Hashable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from itertools import takewhile
from typing import Any

import sqlalchemy as sa

from webapp.accounts.access import Actor
from webapp.accounts.models import Membership, User
from webapp.dates import rfc3339, utcnow
from webapp.db import db
from webapp.jobs.models import Job, JobKind
from webapp.rockets.models import Rocket, RocketHistory
from webapp.rockets.operations import rockets_visible_to
from webapp.rockets.states import Phase, RocketState
from webapp.runs import marks
from webapp.runs import operations as runs
from webapp.runs.marks import Mark
from webapp.runs.models import Run
from webapp.runs.states import RunState

BoardRow = sa.Row[*tuple[Any, ...]]

CARDS_A_COLUMN = 24
DEPARTURES = 5
WAITS_TOO_LONG = timedelta(seconds=10)  # a run that is due and has not started by then is late


@dataclass(frozen=True)
class Card:
    """A rocket as the board shows it. All instants, so that two cards that look the same are equal."""

    id: uuid.UUID
    number: int
    state: RocketState
    phase: Phase
    name: str
    source: str
    destination: str
    location: str
    owner: str | None
    job_id: uuid.UUID | None
    job_enabled: bool
    is_scheduled: bool
    is_sample: bool
    is_external: bool
    phase_started_at: datetime
    departed: datetime | None
    arrives: datetime | None
    fraction: float
    next_departure: datetime | None
    waits_since: datetime | None
    failing_since: datetime | None
    landed_with_doubt: bool
    strip_key: Hashable  # names what the strip shows
    strip: tuple[Mark, ...] = field(compare=False)

    @property
    def has_job(self) -> bool:
        """Whether it carries a job; else it flies the plain flight plan or is flown from outside."""
        return self.job_id is not None

    @property
    def plan(self) -> tuple[str | None, str | None]:
        """Departure and arrival for the picture that moves by itself; both None where the arrival is not known."""
        return (rfc3339(self.departed), rfc3339(self.arrives)) if self.arrives else (None, None)

    @property
    def can_launch(self) -> bool:
        """Whether launching it makes sense where it is; what may be done is decided by the operation."""
        return self.state is not RocketState.IN_FLIGHT and self.waits_since is None and not self.is_external

    @property
    def can_abort(self) -> bool:
        """Whether there is something to abort."""
        return self.state is RocketState.IN_FLIGHT or self.waits_since is not None

    @property
    def is_returning(self) -> bool:
        """Whether it is on its way home."""
        return self.phase is Phase.RETURNING

    @property
    def plain_word(self) -> str | None:
        """What the state means for this rocket in plain words, where the state's own plain word is not exact."""
        if self.is_returning:
            return "on the way home"
        if self.state is RocketState.PREPARING:
            return "switched off" if self.has_job and not self.job_enabled else "getting ready"
        if self.state is RocketState.READY:
            return _WAITS[bool(self.waits_since), self.is_scheduled]
        return "with doubt" if self.landed_with_doubt else None


_WAITS = {(True, True): "queued", (True, False): "queued", (False, True): "scheduled", (False, False): "waiting"}


@dataclass(frozen=True)
class Filter:
    """Which rockets are wanted; all of it comes from the address."""

    state: RocketState | None = None
    owner: str = ""
    source: str = ""
    destination: str = ""
    text: str = ""

    def __bool__(self) -> bool:
        return self != Filter()


@dataclass(frozen=True)
class Column:
    """One state of the board: how many rockets are in it, and the cards of those that came last."""

    state: RocketState
    total: int
    cards: Sequence[Card]


@dataclass(frozen=True)
class Departure:
    """A job that will start by itself."""

    job_id: uuid.UUID
    name: str
    at: datetime


@dataclass(frozen=True)
class Summary:
    """What stands above the columns."""

    counts: Mapping[RocketState, int]
    departures: Sequence[Departure]


def look_at_board(actor: Actor, wanted: Filter) -> list[Column]:
    """The columns in the order of a flight; with a filter for a state, only its column."""
    counts = count_by_state(_matching(actor, wanted))
    states = [wanted.state] if wanted.state else list(RocketState)
    rows = [
        row
        for state in states
        if counts[state]
        for row in _rows(_matching(actor, wanted).where(Rocket.state == state), limit=CARDS_A_COLUMN)
    ]
    cards = _cards(rows)
    return [Column(state, counts[state], [card for card in cards if card.state is state]) for state in states]


def list_fleet(actor: Actor, wanted: Filter, *, cursor: int | None, limit: int) -> list[Card]:
    """A page of rockets, newest first; `cursor` is the number of the last one seen."""
    query = _matching(actor, wanted)
    if wanted.state:
        query = query.where(Rocket.state == wanted.state)
    if cursor is not None:
        query = query.where(Rocket.number < cursor)
    return _cards(db.session.execute(_as_rows(query).order_by(Rocket.number.desc()).limit(limit)).all())


def summarise(project_ids: Collection[uuid.UUID], counts: Mapping[RocketState, int] | None = None) -> Summary:
    """Counts (where they are not known yet) and next departures of these projects."""
    departures = db.session.execute(
        sa.select(Job.id, Job.name, Job.next_run_at)
        .where(Job.project_id.in_(project_ids), Job.is_enabled, Job.next_run_at.is_not(None))
        .order_by(Job.next_run_at)
        .limit(DEPARTURES)
    )
    return Summary(
        counts=counts or count_by_state(sa.select(Rocket).where(Rocket.project_id.in_(project_ids))),
        departures=[Departure(job_id, name, at) for job_id, name, at in departures if at is not None],
    )


def count_late(project_ids: Collection[uuid.UUID]) -> int:
    """How many runs of these projects are due and have not started."""
    query = sa.select(sa.func.count()).where(
        Run.state == RunState.QUEUED, Run.available_at < utcnow() - WAITS_TOO_LONG, Run.project_id.in_(project_ids)
    )
    return db.session.scalar(query) or 0


def cards_of(rocket_ids: Iterable[uuid.UUID]) -> list[Card]:
    """The cards of these rockets, whoever asks: the caller decides who sees them. Those that have gone are left out."""
    ids = list(rocket_ids)
    return _cards(_rows(sa.select(Rocket).where(Rocket.id.in_(ids)), limit=len(ids)))


def why_it_waits(card: Card) -> str | None:
    """What the oldest queued run of the rocket's job waits for; None when it is not due yet, or there is none."""
    if card.waits_since is None or card.waits_since > utcnow():
        return None
    queued = next(mark for mark in card.strip if mark.status == RunState.QUEUED)
    run = db.session.scalar(sa.select(Run).where(Run.id == queued.id))
    return runs.why_it_waits(run) if run else None


def newest_history(rocket_id: uuid.UUID, *, limit: int) -> list[RocketHistory]:
    """The last entries of a rocket's history, newest first; the caller has checked who asks."""
    query = sa.select(RocketHistory).where(RocketHistory.rocket_id == rocket_id)
    return list(db.session.scalars(query.order_by(RocketHistory.number.desc()).limit(limit)))


def owners(actor: Actor) -> list[str]:
    """The names of those who may own a rocket that the actor sees."""
    members = sa.select(Membership.user_id).where(Membership.project_id.in_(actor.project_ids))
    return list(db.session.scalars(sa.select(User.username).where(User.id.in_(members)).order_by(User.username_key)))


def count_by_state(rockets: sa.Select[Rocket]) -> dict[RocketState, int]:
    """How many of these rockets are in each state, all states named."""
    counted = db.session.execute(rockets.with_only_columns(Rocket.state, sa.func.count()).group_by(Rocket.state))
    found: dict[RocketState, int] = dict(counted.all())
    return {state: found.get(state, 0) for state in RocketState}


# --- the queries behind it --------------------------------------------------------------------------------------------


def _matching(actor: Actor, wanted: Filter) -> sa.Select[Rocket]:
    """The rockets that fit everything but the state."""
    query = rockets_visible_to(actor)
    if wanted.owner:
        query = query.where(Rocket.user_id == sa.select(User.id).where(User.username == wanted.owner).scalar_subquery())
    if wanted.source:
        query = query.where(Rocket.source.icontains(wanted.source, autoescape=True))
    if wanted.destination:
        query = query.where(Rocket.destination.icontains(wanted.destination, autoescape=True))
    if wanted.text:
        named = sa.select(Job.id).where(Job.name.icontains(wanted.text, autoescape=True))
        places = [column.icontains(wanted.text, autoescape=True) for column in (Rocket.source, Rocket.destination)]
        query = query.where(sa.or_(*places, Rocket.job_id.in_(named)))
    return query


def _as_rows(rockets: sa.Select[Rocket]) -> sa.Select[*tuple[Any, ...]]:
    return (
        rockets.outerjoin(Job, Job.id == Rocket.job_id)
        .outerjoin(User, User.id == Rocket.user_id)
        .with_only_columns(
            *(Rocket.id, Rocket.number, Rocket.state, Rocket.phase, Rocket.source, Rocket.destination),
            *(Rocket.location, Rocket.job_id, Rocket.phase_started_at, Rocket.planned_seconds),
            *(Rocket.estimated_time, Rocket.counting_since, User.username),
            *(Job.name, Job.is_enabled, Job.is_sample, Job.kind, Job.next_run_at, Job.schedule),
        )
    )


def _rows(rockets: sa.Select[Rocket], *, limit: int) -> Sequence[BoardRow]:
    """Those that moved last first: that is where the eye goes, and where a live card comes in."""
    query = _as_rows(rockets).order_by(Rocket.phase_started_at.desc(), Rocket.number.desc()).limit(limit)
    return db.session.execute(query).all()


def _cards(rows: Sequence[BoardRow]) -> list[Card]:
    job_ids = [row.job_id for row in rows if row.job_id]
    strips = marks.last_marks(job_ids)
    failing = _failing_since(strips)
    now = utcnow()
    return [_card(row, tuple(strips.get(row.job_id, ())), failing.get(row.job_id), now) for row in rows]


def _failing_since(strips: Mapping[uuid.UUID, Sequence[Mark]]) -> dict[uuid.UUID, datetime | None]:
    """Since when the jobs fail whose last run failed; the history is read only where the strip is too short."""
    found: dict[uuid.UUID, datetime | None] = {}
    unknown = []
    for job_id, strip in strips.items():
        failed = list(takewhile(lambda mark: mark.status != RunState.SUCCEEDED, reversed(strip)))
        ended = [mark for mark in failed if mark.status == RunState.FAILED]
        if ended and len(failed) < len(strip):
            found[job_id] = ended[-1].finished_at
        elif ended:
            unknown.append(job_id)
    return {**found, **marks.failing_since(unknown)}


def _card(row: BoardRow, strip: tuple[Mark, ...], failing_since: datetime | None, now: datetime) -> Card:
    active = next((run for run in reversed(strip) if run.status == RunState.RUNNING), None)
    waiting = next((run for run in strip if run.status == RunState.QUEUED), None)
    departed, arrives, fraction = _flight(row, active, now)
    return Card(
        id=row.id,
        number=row.number,
        state=row.state,
        phase=row.phase,
        name=row.name or f"{row.source} → {row.destination}",
        source=row.source,
        destination=row.destination,
        location=row.location,
        owner=row.username,
        job_id=row.job_id,
        job_enabled=bool(row.is_enabled),
        is_scheduled=row.next_run_at is not None,
        is_sample=bool(row.is_sample),
        is_external=row.kind is JobKind.EXTERNAL,
        phase_started_at=row.phase_started_at,
        departed=departed,
        arrives=arrives,
        fraction=fraction,
        next_departure=row.next_run_at if row.is_enabled else None,
        waits_since=waiting.available_at if waiting else None,
        failing_since=failing_since,
        landed_with_doubt=bool(row.state is RocketState.LANDED_ON_MARS and strip and strip[-1].doubt),
        strip_key=_key_of(strip),
        strip=strip,
    )


def _key_of(strip: Sequence[Mark]) -> Hashable:
    """Equal for strips that look the same: runs that have ended do not change any more."""
    if not strip:
        return None
    return strip[0].number, strip[-1].number, tuple((m.number, m.status) for m in strip if m.finished_at is None)


def _flight(row: BoardRow, active: Mark | None, now: datetime) -> tuple[datetime | None, datetime | None, float]:
    """When it departed, when it will arrive, and which part of its way it has flown, as far as that is known."""
    if row.state is RocketState.RUD:
        return None, None, _where_lost(row.location)
    if row.state is not RocketState.IN_FLIGHT:
        return None, None, 0.0
    departed = row.phase_started_at
    arrives = None
    if row.counting_since is not None and row.estimated_time > 0:
        arrives = row.counting_since + timedelta(seconds=row.estimated_time)
    if active is not None and active.fraction:
        return departed, arrives, round(min(active.fraction, 1.0), 2)
    if arrives is None or arrives <= departed:
        return departed, None, JUST_LAUNCHED
    return departed, arrives, round(max(0.0, min((now - departed) / (arrives - departed), 0.995)), 2)


def _where_lost(location: str) -> float:
    """Which part of its way a lost rocket had flown, as far as its location says so."""
    percent = _PERCENT.search(location)
    return int(percent[1]) / 100 if percent else JUST_LAUNCHED


_PERCENT = re.compile(r"\b(\d{1,2}) ?% of the way")
JUST_LAUNCHED = 0.12  # where a rocket is drawn whose way nobody knows the length of
