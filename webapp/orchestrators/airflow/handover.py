"""Runs that are due and shall be executed by Airflow: each attempt gets a flight of its own."""

import uuid
from collections.abc import Mapping

import sqlalchemy as sa

from webapp.config import Executor, Settings
from webapp.dates import utcnow
from webapp.db import db
from webapp.jobs.models import Job
from webapp.orchestrators.airflow.flights import end
from webapp.orchestrators.airflow.models import AirflowFlight, FlightState
from webapp.runs.models import Run
from webapp.runs.states import FINAL_STATES, RunState

RUNS_A_STEP = 100


def enlist_due_runs(settings: Settings) -> int:
    """Want a DAG run for each queued run that is due and whose job has a place left; returns how many there were."""
    taken = _places_taken()
    query = (
        sa.select(Run, Job.concurrency_limit)
        .join(Job, Job.id == Run.job_id)
        .where(Run.state == RunState.QUEUED, Run.executor == Executor.AIRFLOW, Run.available_at <= utcnow())
        .where(~sa.exists().where(_is_waited_for, AirflowFlight.run_id == Run.id))
        .order_by(Run.available_at, Run.number)
        .limit(RUNS_A_STEP)
        .with_for_update(of=Run, skip_locked=True)
    )
    full = [job_id for job_id, (limit, count) in taken.items() if count >= limit]
    enlisted = 0
    for run, limit in db.session.execute(query.where(Run.job_id.not_in(full)) if full else query):
        count = taken.get(run.job_id, (limit, 0))[1]
        if count < limit:
            taken[run.job_id] = (limit, count + 1)
            _enlist(run, settings)
            enlisted += 1
    return enlisted


_is_waited_for = sa.and_(AirflowFlight.state != FlightState.ENDED, AirflowFlight.lease_token.is_(None))


def _places_taken() -> dict[uuid.UUID, tuple[int, int]]:
    """For jobs with runs under way or handed over: how many there may be, and how many there are."""
    flies = sa.or_(
        Run.state == RunState.RUNNING,
        sa.and_(Run.state == RunState.QUEUED, sa.exists().where(_is_waited_for, AirflowFlight.run_id == Run.id)),
    )
    query = sa.select(Run.job_id, Job.concurrency_limit, sa.func.count()).join(Job, Job.id == Run.job_id)
    query = query.where(Run.state.in_([RunState.QUEUED, RunState.RUNNING]), flies)
    rows = db.session.execute(query.group_by(Run.job_id, Job.concurrency_limit))
    return {job_id: (limit, count) for job_id, limit, count in rows}


def _enlist(run: Run, settings: Settings) -> None:
    """A flight for the next attempt. The one before has lost the run: what is left of its DAG run is stopped."""
    for old in flights_of({run.id}).get(run.id, ()):
        end(old, stop=True)
    run.dag_run_id = f"hohmann_run_{run.id}_{run.attempt + 1}_{utcnow():%Y%m%dT%H%M%S%f}"
    run.waits_because = None
    db.session.add(
        AirflowFlight(run_id=run.id, dag_id=settings.airflow_run_dag, dag_run_id=run.dag_run_id, next_at=utcnow())
    )


def flights_of(run_ids: set[uuid.UUID]) -> Mapping[uuid.UUID, list[AirflowFlight]]:
    """The flights of these runs that have not ended, locked."""
    query = sa.select(AirflowFlight).where(AirflowFlight.run_id.in_(run_ids), AirflowFlight.state != FlightState.ENDED)
    found: dict[uuid.UUID, list[AirflowFlight]] = {}
    for flight in db.session.scalars(query.order_by(AirflowFlight.number).with_for_update()):
        assert flight.run_id is not None
        found.setdefault(flight.run_id, []).append(flight)
    return found


def end_flights_of_ended_runs() -> None:
    """A run that was cancelled before its task began, or ended in another way, has its DAG run stopped."""
    query = (
        sa.select(AirflowFlight)
        .join(Run, Run.id == AirflowFlight.run_id)
        .where(AirflowFlight.state != FlightState.ENDED, Run.state.in_(FINAL_STATES))
        .order_by(AirflowFlight.number)
        .limit(RUNS_A_STEP)
        .with_for_update(of=AirflowFlight, skip_locked=True)
    )
    for flight in db.session.scalars(query):
        end(flight, stop=True)
