"""What a task of Airflow that executes a run asks and says: it begins, reads what to do, and reports until the end."""

import uuid
from dataclasses import dataclass, replace
from datetime import timedelta

import sqlalchemy as sa
from sqlalchemy.orm import undefer

from webapp.accounts.access import Actor, Scope, Via
from webapp.config import Role, Settings
from webapp.dates import utcnow
from webapp.db import db, update_at_commit
from webapp.errors import Conflict, NotAllowed, NotFound
from webapp.orchestrators.airflow.flights import end, note_heard
from webapp.orchestrators.airflow.models import AirflowFlight, FlightState
from webapp.prepared import Prepared, adopt, table_of
from webapp.run_tokens import RunPass
from webapp.runs import claims, queue
from webapp.runs.messages import Lease
from webapp.runs.models import Run
from webapp.runs.operations import RunMoved, announce, runs_visible_to
from webapp.runs.queue import Report
from webapp.runs.recovery import take_back
from webapp.runs.states import RunState


@dataclass(frozen=True)
class Heard:
    """The answer to a report: the number of the last message that was taken, and whether the run shall stop."""

    sequence: int
    taken: bool
    stop_for: str | None


def begin_run(actor: Actor, run_id: uuid.UUID, *, dag_run_id: str, key: str, settings: Settings) -> RunPass:
    """Give the run to the task that asks; `key` names the task, so that asking twice changes nothing.

    A task that Airflow has started again takes the run over from itself: what it did before is lost, and a new attempt
    begins. Raises Conflict: RUN_FINISHED, STALE_FLIGHT (another DAG run has taken its place), NO_PLACE (ask again
    later); NotAllowed for anybody but a machine's token with the scope for it: what a run shall do holds secrets.
    """
    run = _lock(runs_visible_to(actor).where(Run.id == run_id))
    if actor.via is not Via.SERVICE_TOKEN:
        raise NotAllowed("Only a machine's token with the scope runs:execute may do this.", needed_scope="runs:execute")
    actor.require(Role.OPERATOR, run.project_id, Scope.RUNS_EXECUTE, what="Run")
    flight = _find_flight(AirflowFlight.run_id == run.id, AirflowFlight.dag_run_id == dag_run_id)
    if run.is_finished:
        raise Conflict(f"This run has ended: {run.state}. Start it again in Hohmann.", code="RUN_FINISHED")
    if flight is None or flight.state is FlightState.ENDED:
        raise Conflict("This DAG run was not asked for, or another has taken its place.", code="STALE_FLIGHT")
    if run.state is RunState.RUNNING:
        if flight.lease_token == run.lease_token and flight.begun_by == key:
            return RunPass(run.id, run.lease_token)
        _take_over(run, flight)
    lease = claims.claim_elsewhere(run, f"airflow:{dag_run_id}"[:120], lease_seconds=settings.airflow_lease_seconds)
    if lease is None:
        raise Conflict("As many runs of this job are under way as may be.", code="NO_PLACE")
    flight.begun_by, flight.lease_token, flight.sequence = key, lease.token, 0
    run.waits_because = None
    note_heard(flight, settings)
    return RunPass(run.id, lease.token)


def _take_over(run: Run, flight: AirflowFlight) -> None:
    if flight.lease_token != run.lease_token:
        raise Conflict("This run is executed by somebody else.", code="STALE_FLIGHT")
    take_back(run, "Airflow has started the task again; what the attempt had not committed is gone.")
    announce([RunMoved(run, RunState.RUNNING, run.state)])
    if run.is_finished:
        raise Conflict(f"This run has ended: {run.error_message}", code="RUN_FINISHED")


def read_lease(run_pass: RunPass) -> Lease:
    """What the holder of the token shall do. Raises Conflict (LEASE_LOST) when the attempt is not its own any more."""
    query = sa.select(Run).where(Run.id == run_pass.run_id).options(undefer(Run.spec))
    run = db.session.scalar(query)
    if run is None:
        raise NotFound("Run not found")
    _check_lease(run, run_pass)
    return claims.lease_of(run)


def take_report(run_pass: RunPass, report: Report, *, sequence: int, settings: Settings) -> Heard:
    """Take the message number `sequence` of an attempt, which begins with 1; each prolongs the lease.

    One that was taken before changes nothing. Raises Conflict: OUT_OF_ORDER (with the number that is `expected`) when
    one before it is missing, LEASE_LOST when the attempt is not the holder's any more.
    """
    run, flight = _lock_both(run_pass)
    if flight is not None and sequence <= flight.sequence:
        return Heard(flight.sequence, taken=False, stop_for=run.cancel_requested_by)
    _check_lease(run, run_pass)
    if flight is None or flight.state is FlightState.ENDED:
        raise Conflict("This DAG run has lost its run.", code="LEASE_LOST")
    if sequence != flight.sequence + 1:
        raise Conflict("A message before this one is missing.", code="OUT_OF_ORDER", expected=flight.sequence + 1)
    update_at_commit(flight)
    flight.sequence = sequence
    run.lease_until = utcnow() + timedelta(seconds=settings.airflow_lease_seconds)
    note_heard(flight, settings)
    spec = run.spec if report.steps else {}  # decrypted only where it is needed: the receipts of streams are kept by it
    lease = Lease(run.id, run.job_id, run.lease_token, run.attempt, run.first_task, spec)
    queue.apply_to_locked([(run, replace(report, lease=lease))])
    if report.outcome is not None:
        end(flight, stop=False)
    return Heard(sequence, taken=True, stop_for=run.cancel_requested_by)


def _check_lease(run: Run, run_pass: RunPass) -> None:
    if run.lease_token != run_pass.lease_token or run.state is not RunState.RUNNING:
        raise Conflict("The run is not this task's any more.", code="LEASE_LOST", state=run.state.value)


def _lock(query: sa.Select[Run]) -> Run:
    """The run, locked: runs are locked before their flights. Raises NotFound."""
    run = db.session.scalar(query.with_for_update(of=Run).execution_options(populate_existing=True))
    if run is None:
        raise NotFound("Run not found")
    return run


_RUN, _FLIGHT = table_of(Run), table_of(AirflowFlight)
_THIS = sa.and_(_FLIGHT.c.run_id == _RUN.c.id, _FLIGHT.c.lease_token == sa.bindparam("lease_token"))
_BOTH = Prepared(  # every report asks it
    sa.select(*claims.RUN_COLUMNS, _FLIGHT)
    .outerjoin_from(_RUN, _FLIGHT, _THIS)
    .where(_RUN.c.id == sa.bindparam("run_id"))
    .with_for_update(of=_RUN)
)
_WIDTH = len(claims.RUN_COLUMNS)


def _lock_both(run_pass: RunPass) -> tuple[Run, AirflowFlight | None]:
    """The run, locked, and the flight that has this lease, which nobody changes but under that lock."""
    session = db.session()
    found = _BOTH.rows(session, {"run_id": run_pass.run_id, "lease_token": run_pass.lease_token})
    if not found:
        raise NotFound("Run not found")
    [row] = found
    flight = dict(zip(_FLIGHT.columns.keys(), row[_WIDTH:], strict=True))
    run = claims.adopt_run(session, row[:_WIDTH])
    return run, adopt(session, AirflowFlight, flight) if flight["number"] is not None else None


def _find_flight(*wanted: sa.ColumnElement[bool]) -> AirflowFlight | None:
    query = sa.select(AirflowFlight).where(*wanted).with_for_update()
    return db.session.scalar(query.execution_options(populate_existing=True))
