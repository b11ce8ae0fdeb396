"""Plain rockets on Airflow: launching, aborting, and what the DAG says of the flight."""

import uuid
from datetime import timedelta

import sqlalchemy as sa

from webapp.accounts.access import Actor, Scope
from webapp.config import Role, Settings
from webapp.dates import utcnow
from webapp.db import db, update_at_commit, wake_at_commit
from webapp.errors import Conflict, NotFound
from webapp.jobs.models import Job
from webapp.orchestrators.airflow.models import AirflowFlight, FlightState, move
from webapp.rockets import operations as rockets
from webapp.rockets.models import Rocket
from webapp.rockets.operations import RocketPatch
from webapp.rockets.states import Phase
from webapp.runs import operations as runs
from webapp.runs.models import Run
from webapp.wake import CLOCK

KEEP_LOOSE = timedelta(days=1)  # a DAG run that comes to be after it was stopped is stopped again
OVER = frozenset({Phase.LANDED, Phase.DESTROYED})


class AirflowFlights:
    """Hands rockets to the DAG that flies them. The dispatcher does the talking, so no caller waits for Airflow."""

    def __init__(self, settings: Settings) -> None:
        self._dag_id = settings.airflow_rocket_dag

    def launch(self, rocket: Rocket) -> None:
        """Want a DAG run for it."""
        supersede(rocket)
        assert rocket.airflow_dag_run_id is not None
        rockets.leave_plan(rocket)
        rocket.phase_started_at = utcnow()
        rocket.estimated_time = rocket.planned_seconds
        db.session.add(rocket)
        db.session.flush()  # the flight refers to its row
        db.session.add(
            AirflowFlight(
                rocket_id=rocket.id, dag_id=self._dag_id, dag_run_id=rocket.airflow_dag_run_id, next_at=utcnow()
            )
        )
        wake_at_commit(CLOCK)

    def abort(self, rocket: Rocket) -> None:
        """Have its DAG run stopped."""
        rockets.leave_plan(rocket)
        supersede(rocket)

    def is_flying(self, rocket: Rocket) -> bool:
        """In the air with a DAG run that has not ended."""
        return rocket.phase in rockets.IN_THE_AIR and bool(_open_flights(rocket.id))


def _open_flights(rocket_id: uuid.UUID) -> list[AirflowFlight]:
    query = sa.select(AirflowFlight).where(
        AirflowFlight.rocket_id == rocket_id, AirflowFlight.state != FlightState.ENDED
    )
    return list(db.session.scalars(query.order_by(AirflowFlight.number).with_for_update()))


def supersede(rocket: Rocket) -> None:
    """End what Airflow was asked to do with this rocket; a DAG run that may be there is stopped."""
    if not sa.inspect(rocket).persistent:
        return  # it is being built
    for flight in _open_flights(rocket.id):
        end(flight, stop=True)


def end(flight: AirflowFlight, *, stop: bool) -> None:
    """Take nothing more from this flight, and have its DAG run stopped if it may still go on."""
    move(flight, FlightState.ENDED)
    flight.reason = None
    flight.next_at = utcnow() if stop else None
    if stop:
        wake_at_commit(CLOCK)


def let_go_of_rocket(rocket: Rocket) -> None:
    """A rocket is about to be deleted: its DAG run is stopped."""
    _let_go(AirflowFlight.rocket_id == rocket.id)


def let_go_of_runs(job: Job) -> None:
    """A job is about to be deleted with its runs: their DAG runs are stopped."""
    of_job = sa.select(Run.id).where(Run.job_id == job.id)
    # Runs are locked before their flights; those under way have been locked by whoever asked whether the job may go.
    stopping = of_job.where(sa.exists().where(AirflowFlight.run_id == Run.id, _TO_BE_STOPPED))
    db.session.execute(stopping.order_by(Run.number).with_for_update())
    _let_go(AirflowFlight.run_id.in_(of_job))


def _let_go(of_these: sa.ColumnElement[bool]) -> None:
    """End these flights and cut them loose, so that they outlive what they flew until Airflow has been told."""
    for flight in db.session.scalars(sa.select(AirflowFlight).where(of_these, _TO_BE_STOPPED).with_for_update()):
        end(flight, stop=True)
        flight.rocket_id = flight.run_id = None
    db.session.flush()  # before the deletion, which takes along what it finds bound to it
    told = (AirflowFlight.rocket_id.is_(None), AirflowFlight.run_id.is_(None), AirflowFlight.next_at.is_(None))
    db.session.execute(sa.delete(AirflowFlight).where(*told, AirflowFlight.updated_at < utcnow() - KEEP_LOOSE))


_TO_BE_STOPPED = sa.or_(AirflowFlight.state != FlightState.ENDED, AirflowFlight.next_at.is_not(None))


def report_flight(actor: Actor, rocket_id: uuid.UUID, patch: RocketPatch, *, dag_run_id: str, sequence: int) -> Rocket:
    """Take what the DAG reports of its flight, if it is news: `sequence` numbers what it says, from 1.

    What was taken before, and what comes late, changes nothing. Raises Conflict for a flight that has ended, or whose
    place another has taken, and for a forbidden move; NotFound, NotAllowed.
    """
    rocket, flight = _find_flight(actor, rocket_id, dag_run_id)
    if flight is None:
        raise Conflict(f"No flight {dag_run_id} of this rocket was asked for.", code="STALE_FLIGHT")
    if sequence <= flight.sequence:
        return rocket
    if flight.state is FlightState.ENDED:
        raise Conflict("This flight has ended, or another has taken its place.", code="STALE_FLIGHT")
    rockets.change_rocket(actor, rocket, patch)
    if patch.estimated_time is not None and rocket.phase in rockets.IN_THE_AIR:
        rocket.counting_since = utcnow()
    update_at_commit(flight)
    flight.sequence = sequence
    note_heard(flight, runs.settings())
    if rocket.phase in OVER:
        end(flight, stop=False)
    return rocket


def _select_both() -> sa.Select[Rocket, AirflowFlight]:
    this = sa.and_(AirflowFlight.rocket_id == Rocket.id, AirflowFlight.dag_run_id == sa.bindparam("dag_run_id"))
    query = rockets.VISIBLE.where(Rocket.id == sa.bindparam("rocket_id")).add_columns(AirflowFlight)
    return query.outerjoin(AirflowFlight, this).with_for_update(of=Rocket).execution_options(populate_existing=True)


_BOTH = _select_both()  # made once: to make it takes as long as to execute it, and every report asks it


def _find_flight(actor: Actor, rocket_id: uuid.UUID, dag_run_id: str) -> tuple[Rocket, AirflowFlight | None]:
    """The rocket, locked, and its flight, which nobody changes but under that lock. Raises NotFound, NotAllowed."""
    asked = {"rocket_id": rocket_id, "projects": list(actor.project_ids), "dag_run_id": dag_run_id}
    found = db.session.execute(_BOTH, asked).one_or_none()
    if found is None:
        raise NotFound("Job not found", what="rocket")
    rocket, flight = found
    actor.require(Role.OPERATOR, rocket.project_id, Scope.ROCKETS_WRITE, what="Job")
    return rocket, flight


def note_heard(flight: AirflowFlight, settings: Settings) -> None:
    """The DAG run has spoken, so Airflow has taken it, and nobody needs to look after it for a while."""
    move(flight, FlightState.STARTED)
    flight.reason, flight.tries = None, 0
    flight.next_at = utcnow() + timedelta(seconds=settings.airflow_look_seconds)
