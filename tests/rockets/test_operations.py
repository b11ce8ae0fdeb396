"""Plain rockets: flown by the clock, reported by hand, triggered, cancelled, deleted."""

import itertools
import uuid
from datetime import datetime, timedelta

import pytest
import sqlalchemy as sa

from tests import factories
from tests.runs.together import in_threads
from webapp.db import unit_of_work
from webapp.errors import Conflict, NotAllowed, NotFound
from webapp.events import Event
from webapp.rockets import operations as rockets
from webapp.rockets.models import Rocket, RocketHistory
from webapp.rockets.operations import RocketPatch
from webapp.rockets.states import MOVES, Phase, RocketState, state_of
from webapp.runs.models import Run
from webapp.runs.states import RunState

SECONDS = 100
START = 3  # seconds from the order to the launch: two to prepare, one on the pad


class Fleet:
    """Rockets of Alice, and a worker's clock that the test sets."""

    def __init__(self, work, look, actor) -> None:
        self._work, self._look, self._actor = work, look, actor

    def create(self, seconds: int = SECONDS) -> uuid.UUID:
        with self._work():
            rocket = rockets.create_rocket(self._actor, source="Earth", destination="Mars", estimated_time=seconds)
            return rocket.id

    def build(self, **facts) -> uuid.UUID:
        """A rocket that is on no flight plan, in any phase."""
        if "phase" in facts:
            facts["state"] = state_of(facts["phase"])
        with self._work():
            return factories.make_rocket(**facts).id

    def age(self, rocket_id: uuid.UUID, seconds: float) -> None:
        """Let the time pass that nobody flew it: as when the stack was stopped."""
        with self._work() as session:
            rocket = session.scalars(sa.select(Rocket).where(Rocket.id == rocket_id)).one()
            for name in ("phase_started_at", "next_step_at", "counting_since"):
                before: datetime | None = getattr(rocket, name)
                if before is not None:
                    setattr(rocket, name, before - timedelta(seconds=seconds))

    def fly(self) -> datetime | None:
        with self._work():
            return rockets.fly_plain_rockets()

    def pass_time(self, rocket_id: uuid.UUID, seconds: float) -> Rocket:
        self.age(rocket_id, seconds)
        self.fly()
        return self.get(rocket_id)

    def patch(self, rocket_id: uuid.UUID, **facts) -> None:
        with self._work():
            rockets.patch_rocket(self._actor, rocket_id, RocketPatch(**facts))

    def trigger(self, rocket_id: uuid.UUID) -> str:
        with self._work():
            return rockets.trigger_rocket(self._actor, rocket_id)

    def get(self, rocket_id: uuid.UUID) -> Rocket:
        with self._look() as session:
            rocket = session.scalars(sa.select(Rocket).where(Rocket.id == rocket_id)).one()
            session.expunge(rocket)
            return rocket

    def history(self, rocket_id: uuid.UUID) -> list[RocketHistory]:
        with self._look() as session:
            query = sa.select(RocketHistory).where(RocketHistory.rocket_id == rocket_id).order_by(RocketHistory.number)
            found = list(session.scalars(query))
            session.expunge_all()
            return found

    def trail(self, rocket_id: uuid.UUID) -> list[str]:
        return [str(state) for state, _ in itertools.groupby(entry.state for entry in self.history(rocket_id))]


@pytest.fixture
def fleet(work, look, people) -> Fleet:
    return Fleet(work, look, people.alice.actor)


# --- the flight plan --------------------------------------------------------------------------------------------------


def test_a_plain_rocket_prepares_gets_ready_launches_and_lands_by_itself(fleet):
    rocket_id = fleet.create()
    assert fleet.get(rocket_id).state is RocketState.PREPARING
    assert fleet.pass_time(rocket_id, 2.1).state is RocketState.READY
    flying = fleet.pass_time(rocket_id, 1)
    assert (flying.state, flying.status) == (RocketState.IN_FLIGHT, RunState.RUNNING)
    landed = fleet.pass_time(rocket_id, SECONDS)
    assert (landed.state, landed.status, landed.location) == (RocketState.LANDED_ON_MARS, RunState.SUCCEEDED, "Mars")
    assert landed.next_step_at is None
    assert fleet.trail(rocket_id) == ["Preparing", "Ready", "InFlight", "Landed_On_Mars"]


def test_the_estimate_counts_down_and_the_location_moves_along_the_way(fleet):
    rocket_id = fleet.create()
    places, left = [], []
    fleet.pass_time(rocket_id, START)
    for _ in range(10):
        rocket = fleet.pass_time(rocket_id, SECONDS / 10 - 0.5)
        places.append(rocket.location)
        left.append(rocket.seconds_left(datetime.now(rocket.phase_started_at.tzinfo)))
    assert left == sorted(left, reverse=True) and left[0] < SECONDS
    assert len(set(places)) >= 5
    assert places[-1] != "Mars"


def test_a_flight_that_nobody_looked_after_is_where_it_would_have_been(fleet):
    """A restart in mid-flight changes nothing; what was missed stands in the history with its own instants."""
    rocket_id = fleet.create()
    began = fleet.get(rocket_id).phase_started_at
    fleet.pass_time(rocket_id, START + SECONDS / 2)
    rocket = fleet.get(rocket_id)
    assert rocket.state is RocketState.IN_FLIGHT
    assert abs(rocket.seconds_left(datetime.now(began.tzinfo)) - SECONDS / 2) <= 2
    ready, launched = fleet.history(rocket_id)[-2:]
    assert (launched.timestamp - ready.timestamp).total_seconds() == pytest.approx(1)
    assert fleet.pass_time(rocket_id, 10 * SECONDS).state is RocketState.LANDED_ON_MARS


def test_a_flight_of_no_seconds_lands_at_once(fleet):
    rocket_id = fleet.create(seconds=0)
    assert fleet.pass_time(rocket_id, START + 0.1).state is RocketState.LANDED_ON_MARS


def test_the_flier_says_when_it_wants_to_look_again(fleet):
    assert fleet.fly() is None
    rocket_id = fleet.create()
    following = fleet.fly()
    assert following == fleet.get(rocket_id).next_step_at
    assert following == fleet.get(rocket_id).phase_started_at + timedelta(seconds=2)


def test_each_change_is_one_event_of_the_whole_rocket(fleet, look):
    rocket_id = fleet.create()
    fleet.pass_time(rocket_id, 2.1)
    fleet.pass_time(rocket_id, 1)
    with look() as session:
        told = session.scalars(sa.select(Event).where(Event.kind == "rocket.moved").order_by(Event.id)).all()
        assert [event.payload["state"] for event in told] == ["Preparing", "Ready", "InFlight"]
        assert {event.subject_id for event in told} == {rocket_id}


def test_several_who_fly_the_fleet_at_once_move_each_rocket_once(app, fleet):
    ids = [fleet.create() for _ in range(12)]
    for rocket_id in ids:
        fleet.age(rocket_id, START + 1)

    def fly(_: int) -> None:
        with app.app_context(), unit_of_work():
            rockets.fly_plain_rockets()

    in_threads(fly, range(4))
    for rocket_id in ids:
        assert fleet.trail(rocket_id) == ["Preparing", "Ready", "InFlight"]
        assert len(fleet.history(rocket_id)) == 3


# --- trigger, cancel, delete ------------------------------------------------------------------------------------------


def test_a_landed_rocket_that_is_triggered_flies_home_and_then_out_again(fleet):
    rocket_id = fleet.create()
    fleet.pass_time(rocket_id, START + SECONDS + 1)
    first = fleet.get(rocket_id).airflow_dag_run_id
    assert fleet.trigger(rocket_id) != first
    home = fleet.get(rocket_id)
    assert (home.phase, home.state, home.location) == (Phase.RETURNING, RocketState.IN_FLIGHT, "Mars")
    half = fleet.pass_time(rocket_id, SECONDS / 2)
    assert half.location not in {"Earth", "Mars"}
    again = fleet.pass_time(rocket_id, SECONDS / 2 + START)
    assert again.state in {RocketState.READY, RocketState.IN_FLIGHT}
    assert fleet.pass_time(rocket_id, SECONDS + 5).state is RocketState.LANDED_ON_MARS
    assert fleet.trail(rocket_id)[-5:] == ["InFlight", "Preparing", "Ready", "InFlight", "Landed_On_Mars"]


def test_a_rocket_in_the_air_is_not_triggered_and_a_destroyed_one_is_rebuilt(fleet):
    rocket_id = fleet.create()
    fleet.pass_time(rocket_id, START + 1)
    with pytest.raises(Conflict) as refusal:
        fleet.trigger(rocket_id)
    assert refusal.value.code == "IN_FLIGHT"
    fleet.patch(rocket_id, status=RunState.CANCELLED)
    fleet.trigger(rocket_id)
    assert fleet.get(rocket_id).state is RocketState.PREPARING
    assert fleet.pass_time(rocket_id, START + SECONDS + 1).state is RocketState.LANDED_ON_MARS


def test_cancelling_ends_a_flight_at_once_and_for_good(fleet):
    rocket_id = fleet.create()
    fleet.pass_time(rocket_id, START + 1)
    fleet.patch(rocket_id, status=RunState.CANCELLED)
    for rocket in (fleet.get(rocket_id), fleet.pass_time(rocket_id, 10 * SECONDS)):
        assert (rocket.state, rocket.status, rocket.estimated_time) == (RocketState.RUD, RunState.CANCELLED, 0)
    assert fleet.history(rocket_id)[-1].message == "flight cancelled by alice"


def test_cancelling_before_the_launch_leaves_the_rocket_on_the_ground(fleet):
    rocket_id = fleet.create()
    fleet.patch(rocket_id, status=RunState.CANCELLED)
    rocket = fleet.pass_time(rocket_id, 10 * SECONDS)
    assert (rocket.state, rocket.status) == (RocketState.PREPARING, RunState.CANCELLED)


def test_a_deleted_rocket_flies_no_more(fleet, work, look, people):
    rocket_id = fleet.create()
    fleet.pass_time(rocket_id, START + 1)
    with work():
        rockets.delete_rocket(people.alice.actor, rocket_id)
    assert fleet.fly() is None
    with look() as session:
        assert session.scalars(sa.select(RocketHistory)).all() == []
        assert session.scalars(sa.select(Event.kind).order_by(Event.id.desc())).first() == "rocket.deleted"


# --- by hand ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("phase", "to"), list(itertools.product(Phase, RocketState)), ids=str)
def test_a_move_by_hand_is_allowed_exactly_when_the_table_says_so(fleet, phase, to):
    rocket_id = fleet.build(phase=phase)
    allowed = {state_of(target) for target in MOVES[phase]}
    if to is state_of(phase):
        fleet.patch(rocket_id, state=to)
        assert fleet.history(rocket_id) == []
    elif to in allowed:
        fleet.patch(rocket_id, state=to)
        assert fleet.get(rocket_id).state is to
        assert [entry.message for entry in fleet.history(rocket_id)] == ["set by alice"]
    else:
        with pytest.raises(Conflict) as refusal:
            fleet.patch(rocket_id, state=to)
        assert set(refusal.value.details["allowed"]) == {state.value for state in allowed}
        assert fleet.get(rocket_id).phase is phase


def test_a_state_that_is_set_by_hand_takes_the_rocket_off_its_plan(fleet):
    rocket_id = fleet.create()
    fleet.patch(rocket_id, state=RocketState.READY)
    rocket = fleet.pass_time(rocket_id, 10 * SECONDS)
    assert (rocket.state, rocket.next_step_at) == (RocketState.READY, None)


def test_a_landing_by_hand_ends_the_countdown(fleet):
    rocket_id = fleet.create()
    fleet.pass_time(rocket_id, START + 1)
    fleet.patch(rocket_id, state=RocketState.LANDED_ON_MARS)
    rocket = fleet.get(rocket_id)
    assert (rocket.status, rocket.location, rocket.estimated_time) == (RunState.SUCCEEDED, "Mars", 0)


def test_a_new_estimate_moves_the_landing(fleet):
    rocket_id = fleet.create()
    fleet.pass_time(rocket_id, START + 1)
    fleet.patch(rocket_id, estimated_time=5)
    assert fleet.pass_time(rocket_id, 3).state is RocketState.IN_FLIGHT
    assert fleet.pass_time(rocket_id, 3).state is RocketState.LANDED_ON_MARS


def test_reports_that_come_at_once_lose_nothing(app, fleet, people):
    """Each of them changes what another does not name; all of it is there afterwards."""
    rocket_id = fleet.build(phase=Phase.READY, location="Earth")
    patches = [
        RocketPatch(location="low orbit"),
        RocketPatch(estimated_time=77),
        RocketPatch(status=RunState.RUNNING),
        RocketPatch(state=RocketState.IN_FLIGHT, location="low orbit"),
    ]

    def send(patch: RocketPatch) -> None:
        with app.app_context(), unit_of_work():
            rockets.get_rocket(people.alice.actor, rocket_id)  # as a door does that looked at it before
            rockets.patch_rocket(people.alice.actor, rocket_id, patch)

    for _ in range(3):
        in_threads(send, patches[:3])
    in_threads(send, patches)
    rocket = fleet.get(rocket_id)
    assert (rocket.location, rocket.estimated_time, rocket.status) == ("low orbit", 77, RunState.RUNNING)
    assert rocket.state is RocketState.IN_FLIGHT


def test_of_two_who_launch_the_same_rocket_at_once_one_is_refused_or_says_nothing_new(app, fleet, people):
    rocket_id = fleet.build(phase=Phase.READY)

    def land(_: int) -> None:
        with app.app_context(), unit_of_work():
            rockets.patch_rocket(people.alice.actor, rocket_id, RocketPatch(state=RocketState.IN_FLIGHT))

    in_threads(land, range(4))
    assert fleet.trail(rocket_id) == ["InFlight"]
    assert len(fleet.history(rocket_id)) == 1, "a launch was counted twice"


# --- carriers and rights ----------------------------------------------------------------------------------------------


@pytest.fixture
def carrier(work, people):
    """A rocket that carries a job, as (rocket id, job id)."""
    from webapp.jobs import operations as jobs

    with work():
        job = jobs.create_job(people.alice.actor, jobs.JobDraft(name="probes"))
        rocket = rockets.rocket_of_job(job.id)
        assert rocket is not None
        return rocket.id, job.id


def test_a_rocket_that_carries_a_job_is_started_and_cancelled_through_its_runs(fleet, carrier, look):
    rocket_id, job_id = carrier
    run_id = fleet.trigger(rocket_id)
    with look() as session:
        assert session.scalars(sa.select(Run.job_id).where(Run.id == uuid.UUID(run_id))).one() == job_id
    fleet.patch(rocket_id, status=RunState.CANCELLED)
    with look() as session:
        assert session.scalars(sa.select(Run.state)).one() is RunState.CANCELLED
    with pytest.raises(Conflict):
        fleet.patch(rocket_id, state=RocketState.IN_FLIGHT)


def test_a_viewer_changes_nothing_and_a_stranger_finds_nothing(fleet, carrier, work, people):
    plain, (carried, _) = fleet.create(), carrier
    for rocket_id in (plain, carried):
        for patch in (RocketPatch(status=RunState.CANCELLED), RocketPatch(state=RocketState.RUD)):
            with pytest.raises(NotAllowed), work():
                rockets.patch_rocket(people.rita.actor, rocket_id, patch)
            with pytest.raises(NotFound), work():
                rockets.patch_rocket(people.charlie.actor, rocket_id, patch)
        for ask in (rockets.trigger_rocket, rockets.delete_rocket):
            with pytest.raises(NotAllowed), work():
                ask(people.rita.actor, rocket_id)
            with pytest.raises(NotFound), work():
                ask(people.charlie.actor, rocket_id)
        with pytest.raises(NotFound), work():
            rockets.history_of(people.charlie.actor, rocket_id)


# --- with a real worker -----------------------------------------------------------------------------------------------


def test_a_worker_flies_a_rocket_through_a_restart_in_mid_flight(tmp_path, databases):
    from tests.runs.mission import Mission

    mission = Mission(tmp_path / "mission", databases)
    try:
        fleet = Fleet(mission.work, mission.look, mission.alice.actor)
        worker = mission.start_worker()
        rocket_id = fleet.create(seconds=4)
        mission.wait_for(lambda: fleet.get(rocket_id).state is RocketState.IN_FLIGHT)
        worker.kill()
        mission.start_worker()
        mission.wait_for(lambda: fleet.get(rocket_id).state is RocketState.LANDED_ON_MARS)
        launched, landed = fleet.history(rocket_id)[-2:]
        assert (landed.timestamp - launched.timestamp).total_seconds() == pytest.approx(4)
    finally:
        mission.close()
