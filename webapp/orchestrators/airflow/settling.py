"""Flights whose DAG run has ended, as Airflow says when it is asked, although the flight has not: they are settled."""

from datetime import timedelta

import sqlalchemy as sa

from webapp.config import Executor, Settings
from webapp.dates import utcnow
from webapp.db import db, wake_at_commit
from webapp.orchestrators.airflow.flights import OVER, end
from webapp.orchestrators.airflow.handover import flights_of
from webapp.orchestrators.airflow.models import AirflowFlight
from webapp.rockets import operations as rockets
from webapp.rockets.models import Rocket
from webapp.rockets.states import Phase
from webapp.runs import claims, queue
from webapp.runs.messages import Lease, Outcome
from webapp.runs.models import Run
from webapp.runs.operations import RunMoved, announce
from webapp.runs.queue import Report, end_attempt
from webapp.runs.states import RunState
from webapp.wake import RUNS


def _say(state: str | None) -> str:
    if state is None:
        return "The DAG run was deleted in Airflow"
    return "Airflow says that the DAG run failed" if state == "failed" else f"Airflow says that the DAG run is {state}"


def settle_rocket(flight: AirflowFlight, state: str | None) -> None:
    """The rocket, which the caller has locked, is lost with its DAG run, unless it has arrived."""
    rocket = db.session.scalars(sa.select(Rocket).where(Rocket.id == flight.rocket_id)).one()
    end(flight, stop=False)
    if rocket.phase in OVER or state == "success":
        return  # a DAG of somebody else's may end well without landing
    rockets.enter(rocket, Phase.DESTROYED, f"{_say(state)} ({flight.dag_run_id}).")
    rocket.status, rocket.estimated_time, rocket.counting_since = RunState.FAILED, 0, None


def settle_run(flight: AirflowFlight, state: str | None) -> None:
    """The attempt, whose run the caller has locked, ended with its DAG run: it is tried again by the job's policy.

    A DAG run that somebody deleted is not started again.
    """
    run = db.session.scalars(sa.select(Run).where(Run.id == flight.run_id)).one()
    end(flight, stop=False)
    if run.is_finished:
        return
    if run.state is RunState.QUEUED and flight.lease_token is None:
        if claims.claim_elsewhere(run, f"airflow:{flight.dag_run_id}"[:120], lease_seconds=0) is None:
            return  # its job has no place: it is handed over again when there is one
        flight.lease_token = run.lease_token
    if run.state is not RunState.RUNNING or run.lease_token != flight.lease_token:
        return  # it was taken back, and has a new flight or will have one
    text = f"{_say(state)} before its task had told how the run ended ({flight.dag_run_id})."
    _end(run, Outcome("failed", message=text, origin="platform", kind="transient", permanent=state is None))


def _end(run: Run, outcome: Outcome) -> None:
    queue.write_lines(run, _report(run, "error", outcome.message or outcome.name))
    run.lease_token += 1  # what the task may still say is void
    end_attempt(run, outcome)
    db.session.flush()
    announce([RunMoved(run, RunState.RUNNING, run.state)])
    wake_at_commit(RUNS)


def _report(run: Run, level: str, text: str) -> Report:
    lease = Lease(run.id, run.job_id, run.lease_token, run.attempt, run.first_task, {})
    return Report(lease, lines=[(utcnow().isoformat(), level, "", text)])


def end_runs_that_do_not_stop(settings: Settings) -> None:
    """Runs that were asked to stop and whose task has not ended in time: they end here, their DAG run is stopped."""
    patience = timedelta(seconds=settings.cancel_seconds + 1)
    query = sa.select(Run).where(
        Run.state == RunState.RUNNING,
        Run.executor == Executor.AIRFLOW,
        Run.cancel_requested_at < utcnow() - patience,
    )
    for run in db.session.scalars(query.order_by(Run.number).with_for_update(skip_locked=True)):
        _end(run, Outcome("cancelled", message="its task did not end in time and was stopped in Airflow"))
        for flight in flights_of({run.id}).get(run.id, ()):
            end(flight, stop=True)
