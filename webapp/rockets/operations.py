"""Everything that can be asked of or done to a rocket. How rockets follow their jobs' runs is in `follow.py`."""

import contextlib
import uuid
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

import sqlalchemy as sa

from webapp import events
from webapp.accounts.access import Actor, Scope
from webapp.config import Role
from webapp.dates import rfc3339, utcnow
from webapp.db import db, insert_at_commit, update_at_commit, wake_at_commit
from webapp.errors import Conflict, NotFound
from webapp.notices import Notice
from webapp.rockets.flightplan import FlightPlan, milestones_until, position_at
from webapp.rockets.models import Rocket, RocketHistory
from webapp.rockets.orchestrator import orchestrator
from webapp.rockets.states import ForbiddenMove, Phase, RocketState, move, state_of
from webapp.runs import operations as runs
from webapp.runs.models import Run
from webapp.runs.states import ACTIVE_STATES, RunState
from webapp.wake import CLOCK

IN_THE_AIR = frozenset({Phase.OUTBOUND, Phase.RETURNING})
ROCKETS_A_STEP = 200
LOOK_AGAIN = timedelta(milliseconds=50)
rocket_about_to_go: Notice[Rocket] = Notice()

STATUS_OF_STATE = {
    RocketState.IN_FLIGHT: RunState.RUNNING,
    RocketState.LANDED_ON_MARS: RunState.SUCCEEDED,
    RocketState.RUD: RunState.FAILED,
}


# --- looking ----------------------------------------------------------------------------------------------------------


def rockets_visible_to(actor: Actor) -> sa.Select[Rocket]:
    """The rockets that the actor may see: those of the actor's projects."""
    return _of_projects(actor.project_ids)


def _of_projects(projects: Any) -> sa.Select[Rocket]:
    return sa.select(Rocket).where(Rocket.project_id.in_(projects))


VISIBLE = _of_projects(sa.bindparam("projects", expanding=True))
"""The same for statements that are made once, and executed with `projects`."""


def get_rocket(actor: Actor, rocket_id: uuid.UUID) -> Rocket:
    """The rocket. Raises NotFound, also for a stranger."""
    rocket = db.session.scalar(rockets_visible_to(actor).where(Rocket.id == rocket_id))
    if rocket is None:
        raise NotFound("Job not found", what="rocket")
    return rocket


def rocket_of_job(job_id: uuid.UUID) -> Rocket | None:
    """The rocket that carries this job."""
    return db.session.scalar(sa.select(Rocket).where(Rocket.job_id == job_id))


def history_of(actor: Actor, rocket_id: uuid.UUID, *, newest: int | None = None) -> list[RocketHistory]:
    """The rocket's history, oldest first; only the `newest` entries if a number is given."""
    rocket = get_rocket(actor, rocket_id)
    query = sa.select(RocketHistory).where(RocketHistory.rocket_id == rocket.id)
    query = query.order_by(RocketHistory.number.desc()).limit(newest)
    return list(reversed(list(db.session.scalars(query))))


def as_payload(rocket: Rocket, now: datetime) -> dict[str, Any]:
    """What the event log says of a rocket: canonical words, which each door translates."""
    return {
        "id": str(rocket.id),
        "number": rocket.number,
        "job_id": str(rocket.job_id) if rocket.job_id else None,
        "state": rocket.state.value,
        "phase": rocket.phase.value,
        "status": rocket.status.value,
        "source": rocket.source,
        "destination": rocket.destination,
        "location": rocket.location,
        "estimated_time": rocket.seconds_left(now),
        "updated_at": rfc3339(rocket.updated_at),
    }


# --- making and deleting ----------------------------------------------------------------------------------------------


def create_rocket(actor: Actor, *, source: str, destination: str, estimated_time: int) -> Rocket:
    """A rocket without a payload, which begins its flight plan at once. The caller has checked the texts' lengths."""
    project_id = actor.default_project_id
    actor.require(Role.OPERATOR, project_id, Scope.ROCKETS_WRITE, what="Project")
    rocket = build_rocket(
        project_id=project_id,
        user_id=actor.user_id,
        source=source,
        destination=destination,
        planned_seconds=estimated_time,
    )
    order_launch(rocket)
    db.session.add(rocket)
    db.session.flush()  # its history needs its id
    note(rocket, f"created by {actor.name}")
    return rocket


def build_rocket(
    *,
    project_id: uuid.UUID,
    user_id: uuid.UUID | None,
    source: str,
    destination: str,
    planned_seconds: int,
    job_id: uuid.UUID | None = None,
) -> Rocket:
    """A rocket on the ground, not yet added to the fleet."""
    now = utcnow()
    return Rocket(
        id=uuid.uuid4(),
        project_id=project_id,
        user_id=user_id,
        job_id=job_id,
        phase=Phase.PREPARING,
        state=RocketState.PREPARING,
        status=RunState.QUEUED,
        source=source,
        destination=destination,
        location=source,
        planned_seconds=planned_seconds,
        estimated_time=planned_seconds,
        phase_started_at=now,
        created_at=now,
        updated_at=now,
    )


def delete_rocket(actor: Actor, rocket_id: uuid.UUID) -> None:
    """Take a rocket out of the fleet; a flight ends with it. Raises Conflict for one that carries a job."""
    rocket = find_to_change(actor, rocket_id)
    if rocket.job_id is not None:
        raise Conflict(
            "This rocket carries a job. Delete the job, and its rocket goes with it.", job_id=str(rocket.job_id)
        )
    rocket_about_to_go.tell(rocket)
    record_deletion(rocket)
    db.session.delete(rocket)


def record_deletion(rocket: Rocket) -> None:
    """Put into the event log that this rocket goes."""
    events.record(
        "rocket.deleted",
        project_id=rocket.project_id,
        user_id=rocket.user_id,
        subject_id=rocket.id,
        payload={"id": str(rocket.id)},
    )


_TO_CHANGE = (  # made once: every PATCH asks it
    VISIBLE.where(Rocket.id == sa.bindparam("id"))
    .with_for_update(of=Rocket)
    .execution_options(populate_existing=True)  # it may have been read without the lock
)
_FREE_TO_CHANGE = _TO_CHANGE.where(Rocket.job_id.is_(None))


def find_to_change(actor: Actor, rocket_id: uuid.UUID, *, scope: Scope = Scope.ROCKETS_WRITE) -> Rocket:
    """The rocket, locked, for somebody who may change it. Raises NotFound, NotAllowed."""
    rocket = _lock(_TO_CHANGE, actor, rocket_id, scope)
    if rocket is None:
        raise NotFound("Job not found", what="rocket")
    return rocket


def _lock(query: sa.Select[Rocket], actor: Actor, rocket_id: uuid.UUID, scope: Scope) -> Rocket | None:
    rocket = db.session.scalar(query, {"id": rocket_id, "projects": list(actor.project_ids)})
    if rocket is not None:
        actor.require(Role.OPERATOR, rocket.project_id, scope, what="Job")
    return rocket


# --- flying -----------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class RocketPatch:
    """What somebody reports of a rocket; None: not said."""

    state: RocketState | None = None
    location: str | None = None
    estimated_time: int | None = None
    status: RunState | None = None


def patch_rocket(actor: Actor, rocket_id: uuid.UUID, patch: RocketPatch) -> Rocket:
    """Take what is reported. A state that is set by hand takes the rocket off its flight plan.

    Raises Conflict with the allowed states for a forbidden move, and for a rocket that is flown by its job.
    """
    rocket = _lock(_FREE_TO_CHANGE, actor, rocket_id, Scope.ROCKETS_WRITE)
    if rocket is None and (patch.state or patch.status):
        # Not locked: runs are locked before the rockets that carry them, never after.
        return _patch_carrier(actor, get_rocket(actor, rocket_id), patch)
    return change_rocket(actor, rocket or find_to_change(actor, rocket_id), patch)


def change_rocket(actor: Actor, rocket: Rocket, patch: RocketPatch) -> Rocket:
    """Take what is reported of a rocket without a job, which the caller has found to change. Raises Conflict."""
    if patch.location is not None:
        rocket.location = patch.location
    if patch.estimated_time is not None:
        _set_time_left(rocket, patch.estimated_time)
    if patch.state is not None and patch.state is not rocket.state:
        _move_by_hand(actor, rocket, patch)
    elif patch.status is RunState.CANCELLED:
        _cancel_flight(actor, rocket)
    if patch.status is not None:
        rocket.status = patch.status
    return _changed(rocket)


def _patch_carrier(actor: Actor, rocket: Rocket, patch: RocketPatch) -> Rocket:
    actor.require(Role.OPERATOR, rocket.project_id, Scope.ROCKETS_WRITE, what="Job")
    if patch.status is RunState.CANCELLED and patch.state is None:
        query = sa.select(Run.id).where(Run.job_id == rocket.job_id, Run.state.in_(ACTIVE_STATES))
        for run_id in db.session.scalars(query.order_by(Run.number)).all():
            with contextlib.suppress(Conflict):  # it ended in between
                runs.request_cancel(actor, run_id)
        return rocket
    raise Conflict("This rocket is flown by its job: start or cancel a run instead.", job_id=str(rocket.job_id))


def _move_by_hand(actor: Actor, rocket: Rocket, patch: RocketPatch) -> None:
    assert patch.state is not None
    try:
        phase = move(rocket.phase, patch.state)
    except ForbiddenMove as error:
        facts = {"from": error.from_.value, "to": error.to.value, "allowed": [state.value for state in error.allowed]}
        raise Conflict(str(error), code="FORBIDDEN_MOVE", **facts) from error
    rocket.next_step_at = None
    enter(rocket, phase, f"set by {actor.name}", keep_location=patch.location is not None)
    if patch.estimated_time is None:
        rocket.estimated_time = 0 if phase in {Phase.LANDED, Phase.DESTROYED} else rocket.seconds_left(utcnow())
    rocket.counting_since = None
    if patch.status is None:
        rocket.status = STATUS_OF_STATE.get(rocket.state, rocket.status)


def _set_time_left(rocket: Rocket, seconds: int) -> None:
    now = utcnow()
    rocket.estimated_time = seconds
    if rocket.counting_since is None:
        return
    rocket.counting_since = now
    if rocket.next_step_at is not None and rocket.phase in IN_THE_AIR:
        rocket.planned_seconds = round((now - rocket.phase_started_at).total_seconds()) + seconds
        rocket.next_step_at = now
        wake_at_commit(CLOCK)


def _cancel_flight(actor: Actor, rocket: Rocket) -> None:
    orchestrator().abort(rocket)
    rocket.counting_since, rocket.estimated_time = None, 0
    if rocket.phase in IN_THE_AIR:
        enter(rocket, Phase.DESTROYED, f"flight cancelled by {actor.name}")
    else:
        note(rocket, f"cancelled by {actor.name}")
    rocket.status = RunState.CANCELLED


def trigger_rocket(actor: Actor, rocket_id: uuid.UUID) -> str:
    """Let the rocket fly (again); returns the id of the flight. Raises Conflict while it is in the air."""
    carrier = get_rocket(actor, rocket_id)
    if carrier.job_id is not None:
        return str(runs.start_run(actor, carrier.job_id).id)  # without a lock: jobs are locked before their rockets
    rocket = find_to_change(actor, rocket_id, scope=Scope.JOBS_RUN)
    if orchestrator().is_flying(rocket):
        raise Conflict("This rocket is in flight. Wait until it has landed, or cancel the flight.", code="IN_FLIGHT")
    if rocket.phase is Phase.DESTROYED:
        enter(rocket, Phase.PREPARING, f"rebuilt: triggered by {actor.name}")
    elif rocket.phase is Phase.LANDED:
        enter(rocket, Phase.RETURNING, f"return flight: triggered by {actor.name}")
    else:
        note(rocket, f"triggered by {actor.name}")
    rocket.status = RunState.RUNNING if rocket.phase is Phase.RETURNING else RunState.QUEUED
    order_launch(rocket)
    _changed(rocket)
    assert rocket.airflow_dag_run_id is not None
    return rocket.airflow_dag_run_id


def order_launch(rocket: Rocket) -> None:
    """Have a rocket flown, from now, as a new flight."""
    rocket.airflow_dag_run_id = f"rocket_job_{rocket.id}_{utcnow():%Y%m%dT%H%M%S%f}"
    orchestrator().launch(rocket)


def leave_plan(rocket: Rocket) -> None:
    """Take a rocket off its flight plan: it stays where it is until somebody acts."""
    rocket.next_step_at, rocket.counting_since = None, None


def follow_plan(rocket: Rocket) -> None:
    """Put a rocket on its flight plan, from now."""
    now = utcnow()
    rocket.phase_started_at = now
    rocket.next_step_at = now
    if rocket.phase in IN_THE_AIR:
        rocket.estimated_time, rocket.counting_since = rocket.planned_seconds, now
    wake_at_commit(CLOCK)


def fly_plain_rockets() -> datetime | None:
    """Move every rocket on the plain flight plan to where it is by now; returns when the next one has to move."""
    now = utcnow()
    query = (
        sa.select(Rocket)
        .where(Rocket.next_step_at <= now)
        .order_by(Rocket.next_step_at)
        .limit(ROCKETS_A_STEP)
        .with_for_update(skip_locked=True)
    )
    due = list(db.session.scalars(query))
    for rocket in due:
        _fly_on(rocket, now)
    db.session.flush()  # the next look must see these where they are now
    following: datetime | None = db.session.scalar(sa.select(sa.func.min(Rocket.next_step_at)))
    if following is not None and not due:
        return max(following, now + LOOK_AGAIN)  # what is due is in other hands at this moment
    return following


def _fly_on(rocket: Rocket, now: datetime) -> None:
    plan = FlightPlan(rocket.source, rocket.destination, rocket.planned_seconds)
    for milestone in milestones_until(plan, rocket.phase, rocket.phase_started_at, now):
        enter(rocket, milestone.phase, _ON_PLAN[milestone.phase], at=milestone.at)
        rocket.status = STATUS_OF_STATE.get(rocket.state, rocket.status)
    position = position_at(plan, rocket.phase, rocket.phase_started_at, now)
    rocket.location = position.location or rocket.location
    if rocket.phase in IN_THE_AIR:
        rocket.estimated_time, rocket.counting_since = rocket.planned_seconds, rocket.phase_started_at
    else:
        rocket.estimated_time = 0 if rocket.phase is Phase.LANDED else rocket.planned_seconds
        rocket.counting_since = None
    rocket.next_step_at = position.changes_at
    _changed(rocket)


_ON_PLAN = {
    Phase.PREPARING: "turned around for the next flight",
    Phase.READY: "fuelled and ready",
    Phase.OUTBOUND: "launched",
    Phase.LANDED: "landed",
}


# --- the small steps that all share -----------------------------------------------------------------------------------


def enter(
    rocket: Rocket,
    phase: Phase,
    message: str,
    *,
    at: datetime | None = None,
    run_id: uuid.UUID | None = None,
    keep_location: bool = False,
) -> None:
    """Put the rocket into this phase and write it into its history. The caller has asked the table whether it may."""
    rocket.phase, rocket.state = phase, state_of(phase)
    rocket.phase_started_at = at or utcnow()
    if not keep_location:
        rocket.location = _location_on_entry(rocket, phase)
    note(rocket, message, at=rocket.phase_started_at, run_id=run_id)


def _location_on_entry(rocket: Rocket, phase: Phase) -> str:
    if phase in {Phase.LANDED, Phase.RETURNING}:
        return rocket.destination
    return rocket.location if phase is Phase.DESTROYED else rocket.source


def note(rocket: Rocket, message: str, *, at: datetime | None = None, run_id: uuid.UUID | None = None) -> None:
    """Write an entry into the rocket's history, in its present state."""
    entry = {
        "id": uuid.uuid4(),
        "rocket_id": rocket.id,
        "run_id": run_id,
        "timestamp": at or utcnow(),
        "state": rocket.state,
        "message": message[:2000],
    }
    insert_at_commit(RocketHistory, entry)
    announce([rocket])


def announce(rockets: Iterable[Rocket]) -> None:
    """Put where these rockets are into the event log when the unit of work ends, once for each."""
    waiting: dict[uuid.UUID, Rocket] = db.session.info.setdefault("rockets moved", {})
    waiting.update({rocket.id: rocket for rocket in rockets})


def _changed(rocket: Rocket) -> Rocket:
    """Every caller holds the rocket locked."""
    rocket.updated_at = utcnow()
    update_at_commit(rocket)
    announce([rocket])
    return rocket


def _is_deleted(rocket: Rocket) -> bool:
    state = sa.inspect(rocket)
    return state.deleted or state.was_deleted


def write_announcements(session: sa.orm.Session) -> None:
    """Called before the commit: one event for each rocket that moved, as it is now."""
    now = utcnow()
    for rocket in session.info.pop("rockets moved", {}).values():
        if not _is_deleted(rocket):
            events.record(
                "rocket.moved",
                project_id=rocket.project_id,
                user_id=rocket.user_id,
                subject_id=rocket.id,
                payload=as_payload(rocket, now),
            )
