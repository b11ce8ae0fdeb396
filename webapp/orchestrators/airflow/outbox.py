"""What has to be said to Airflow: taking errands, and writing down what came of them. Each function is one step of a
unit of work; nothing here talks to Airflow."""

import uuid
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from enum import StrEnum

import sqlalchemy as sa

from webapp import events
from webapp.config import Settings
from webapp.dates import utcnow
from webapp.db import db
from webapp.orchestrators.airflow.models import AirflowFlight, FlightState, move
from webapp.orchestrators.airflow.settling import settle_rocket, settle_run
from webapp.rockets import operations as rockets
from webapp.rockets.models import Rocket
from webapp.runs.models import Run
from webapp.runs.states import RunState

FIRST_PAUSE = 1.0
LAST_WORDS = timedelta(seconds=2)  # that a task's last call may take longer than Airflow's word that its run has ended
CLAIM_MARGIN = 5.0
RESTS_A_STEP = 1000


class Word(StrEnum):
    """What is to be said about a flight."""

    START = "start"
    LOOK = "look"
    STOP = "stop"


_WORDS: Mapping[FlightState, Word] = {
    FlightState.WAITING: Word.START,
    FlightState.STARTED: Word.LOOK,
    FlightState.ENDED: Word.STOP,
}


@dataclass(frozen=True)
class Errand:
    """Something to say to Airflow."""

    word: Word
    flight_id: uuid.UUID
    dag_id: str
    dag_run_id: str
    conf: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Result:
    """What came of an errand. `away`: Airflow did not answer; `refusal`: it would not, and why; `state` is the DAG
    run's, None when it is not there; `waits_because` is why a queued one may stay so."""

    errand: Errand
    away: str | None = None
    refusal: str | None = None
    state: str | None = None
    waits_because: str | None = None


def take_errands(settings: Settings, *, limit: int) -> list[Errand]:
    """What is to be said now, longest due first. Nobody else takes it while Airflow may still be answering."""
    now = utcnow()
    query = sa.select(AirflowFlight).where(AirflowFlight.next_at <= now).order_by(AirflowFlight.next_at)
    query = query.limit(limit).with_for_update(skip_locked=True)
    taken = []
    for flight in db.session.scalars(query):
        taken.append(Errand(_WORDS[flight.state], flight.id, flight.dag_id, flight.dag_run_id, flight.conf))
        # A token, a look at the DAG, the call and, after a conflict, another look: each may take its time.
        flight.next_at = now + timedelta(seconds=4 * settings.airflow_timeout + CLAIM_MARGIN)
    return taken


def next_errand_at() -> datetime | None:
    """When something has to be said next."""
    return db.session.scalar(sa.select(sa.func.min(AirflowFlight.next_at)))


def write_results(results: Sequence[Result], settings: Settings) -> None:
    """Write down what came of errands: flights are started, put off, settled."""
    for result in sorted(results, key=lambda result: result.errand.dag_run_id):
        flight = _lock(result.errand.flight_id)
        if flight is not None:  # else its rocket or job was deleted meanwhile
            _write_result(flight, result, settings)


def _lock(flight_id: uuid.UUID) -> AirflowFlight | None:
    """The flight, locked after what it flies: runs and rockets are locked before their flights."""
    where = sa.select(AirflowFlight.rocket_id, AirflowFlight.run_id).where(AirflowFlight.id == flight_id)
    found = db.session.execute(where).one_or_none()
    if found is None:
        return None
    # One that was cut loose has nothing to be locked before it.
    table, wanted = (Rocket, found.rocket_id) if found.rocket_id else (Run, found.run_id)
    db.session.execute(
        sa.select(table).where(table.id == wanted).with_for_update().execution_options(populate_existing=True)
    )
    query = sa.select(AirflowFlight).where(AirflowFlight.id == flight_id).with_for_update()
    return db.session.scalar(query.execution_options(populate_existing=True))


def _write_result(flight: AirflowFlight, result: Result, settings: Settings) -> None:
    problem = result.away or result.refusal
    if _WORDS[flight.state] is not result.errand.word:
        _overtaken(flight, result)
    elif problem and flight.state is FlightState.WAITING:
        _put_off(flight, problem, settings)
    elif problem:
        flight.tries += 1
        flight.next_at = utcnow() + _pause(flight.tries, settings)
    elif flight.state is FlightState.WAITING:
        _started(flight, settings)
    elif flight.state is FlightState.STARTED:
        _looked(flight, result, settings)
    else:
        flight.next_at = None  # stopped


def _overtaken(flight: AirflowFlight, result: Result) -> None:
    """While Airflow was asked the flight went on: its task has called, or it was ended. A DAG run that came to be
    although its flight has ended is stopped."""
    if flight.state is FlightState.ENDED and result.errand.word is Word.START:
        flight.next_at = utcnow()


def _pause(tries: int, settings: Settings) -> timedelta:
    return timedelta(seconds=min(FIRST_PAUSE * 2.0 ** min(tries - 1, 10), settings.airflow_retry_seconds))


def _put_off(flight: AirflowFlight, reason: str, settings: Settings) -> None:
    flight.tries += 1
    flight.next_at = utcnow() + _pause(flight.tries, settings)
    _tell_reason(flight, reason)


def tell_all_that_airflow_is_away(reason: str) -> None:
    """Write to every waiting flight why it has not started."""
    query = sa.select(AirflowFlight.id).where(AirflowFlight.state == FlightState.WAITING)
    query = query.where(sa.or_(AirflowFlight.reason.is_(None), AirflowFlight.reason != reason))
    for flight_id in db.session.scalars(query.order_by(AirflowFlight.number).limit(RESTS_A_STEP)).all():
        flight = _lock(flight_id)
        if flight is not None and flight.state is FlightState.WAITING:
            _tell_reason(flight, reason)


def airflow_is_back() -> None:
    """What waited because Airflow was away is due now."""
    waits = (AirflowFlight.state == FlightState.WAITING, AirflowFlight.reason.is_not(None))
    db.session.execute(
        sa.update(AirflowFlight).where(*waits).values(next_at=utcnow()).execution_options(synchronize_session=False)
    )


def _tell_reason(flight: AirflowFlight, reason: str) -> None:
    if flight.reason == reason:
        return
    flight.reason = reason
    if flight.rocket_id is None:
        _tell_run(flight, f"Not started. {reason} It is tried again until it starts or is cancelled.")
        return
    rocket = db.session.scalars(sa.select(Rocket).where(Rocket.id == flight.rocket_id)).one()
    rocket.status = RunState.QUEUED
    rockets.note(rocket, f"Not started. {reason} It is tried again until it starts or is aborted.")


def _tell_run(flight: AirflowFlight, reason: str | None) -> None:
    run = db.session.scalars(sa.select(Run).where(Run.id == flight.run_id)).one()
    if run.state is RunState.QUEUED and run.waits_because != reason:
        run.waits_because = reason
        events.record("run.changed", project_id=run.project_id, subject_id=run.id, payload={"job_id": str(run.job_id)})


def _started(flight: AirflowFlight, settings: Settings) -> None:
    move(flight, FlightState.STARTED)
    flight.reason, flight.tries = None, 0
    flight.next_at = utcnow() + timedelta(seconds=settings.airflow_look_seconds)
    if flight.rocket_id is None:
        _tell_run(flight, f"Airflow has taken it, as DAG run {flight.dag_run_id}; its task has not begun yet.")
        return
    rocket = db.session.scalars(sa.select(Rocket).where(Rocket.id == flight.rocket_id)).one()
    rocket.status = RunState.RUNNING
    rockets.note(rocket, f"Airflow has taken the flight, as DAG run {flight.dag_run_id}")


def _looked(flight: AirflowFlight, result: Result, settings: Settings) -> None:
    if result.state in ("queued", "running"):
        flight.tries = 0
        flight.next_at = utcnow() + timedelta(seconds=settings.airflow_look_seconds)
        if result.state == "queued" and result.waits_because:
            _tell_reason(flight, f"It is queued in Airflow. {result.waits_because}")
    elif flight.tries == 0:
        flight.tries = 1
        flight.next_at = utcnow() + LAST_WORDS
    elif flight.run_id is not None:
        settle_run(flight, result.state)
    else:
        settle_rocket(flight, result.state)
