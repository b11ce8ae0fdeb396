"""Each run is a flight of the rocket that carries its job."""

import itertools
import uuid
from datetime import timedelta

import pytest
import sqlalchemy as sa

from tests import factories
from webapp.dates import utcnow
from webapp.db import db
from webapp.events import Event
from webapp.jobs import operations as jobs
from webapp.jobs.models import Job
from webapp.jobs.operations import JobDraft
from webapp.rockets.models import Rocket, RocketHistory
from webapp.rockets.states import MOVES, Phase, RocketState
from webapp.runs import claims, queue, recovery
from webapp.runs import operations as runs
from webapp.runs.models import Run
from webapp.runs.queue import Lease, Outcome, Report
from webapp.runs.states import RunState

GOOD = Outcome("succeeded", rows_read=5, rows_written=5, rows_found=5)


class Pad:
    """One job, its rocket, and the steps of a worker."""

    def __init__(self, work, look, settings, actor) -> None:
        self._work, self._look, self._settings, self._actor = work, look, settings, actor

    def build(self, **facts) -> uuid.UUID:
        with self._work():
            draft = JobDraft(name="probes", max_attempts=facts.pop("max_attempts", 1), retry_delay_seconds=0, **facts)
            self.job_id = jobs.create_job(self._actor, draft).id
        return self.job_id

    def queue(self) -> uuid.UUID:
        with self._work():
            return runs.start_run(self._actor, self.job_id).id

    def claim(self, limit: int = 10) -> list[Lease]:
        with self._work():
            leases = claims.claim_runs("w", limit=limit, settings=self._settings)
        with self._work():
            claims.announce_claims(leases)
        return leases

    def report(self, *reports: Report) -> None:
        with self._work():
            queue.apply_reports(reports)

    def end(self, lease: Lease, outcome: Outcome = GOOD) -> None:
        self.report(Report(lease, outcome=outcome))

    def fly(self, outcome: Outcome = GOOD) -> None:
        self.queue()
        [lease] = self.claim()
        self.end(lease, outcome)

    def cancel(self, run_id: uuid.UUID) -> None:
        with self._work():
            runs.request_cancel(self._actor, run_id)

    @property
    def rocket(self) -> Rocket:
        with self._look() as session:
            rocket = session.scalars(sa.select(Rocket).where(Rocket.job_id == self.job_id)).one()
            session.expunge(rocket)
            return rocket

    @property
    def history(self) -> list[tuple[RocketState, str]]:
        with self._look() as session:
            query = sa.select(RocketHistory.state, RocketHistory.message).order_by(RocketHistory.number)
            return [(state, message) for state, message in session.execute(query)]

    @property
    def trail(self) -> list[str]:
        """The states of the history, each once in a row."""
        return [str(state) for state, _ in itertools.groupby(state for state, _ in self.history)]

    def events(self) -> list[dict]:
        with self._look() as session:
            query = sa.select(Event.payload).where(Event.kind == "rocket.moved").order_by(Event.id)
            return list(session.scalars(query))


@pytest.fixture
def pad(work, look, settings, people) -> Pad:
    return Pad(work, look, settings, people.alice.actor)


def test_a_job_gets_a_rocket_that_knows_its_route(pad):
    task = factories.make_task_facts(source="in/probes.csv", target="out.duckdb", table="probes")
    pad.build(tasks=(jobs.TaskDraft(**task),))
    rocket = pad.rocket
    assert (rocket.source, rocket.destination) == ("probes.csv", "out.duckdb/probes")
    assert (rocket.state, rocket.status) == (RocketState.READY, RunState.QUEUED)
    assert pad.trail == ["Preparing", "Ready"]


def test_a_good_run_is_a_flight_from_the_pad_to_mars(pad):
    pad.build()
    pad.queue()
    assert pad.rocket.state is RocketState.READY
    [lease] = pad.claim()
    assert (pad.rocket.state, pad.rocket.status) == (RocketState.IN_FLIGHT, RunState.RUNNING)
    pad.end(lease)
    assert (pad.rocket.state, pad.rocket.status) == (RocketState.LANDED_ON_MARS, RunState.SUCCEEDED)
    assert pad.trail == ["Preparing", "Ready", "InFlight", "Landed_On_Mars"]
    assert pad.history[-1][1] == "landed: 5 rows"


def test_each_step_of_a_flight_is_told_to_those_who_follow_the_fleet(pad):
    pad.build()
    before = len(pad.events())
    pad.queue()
    [lease] = pad.claim()
    pad.end(lease)
    told = pad.events()[before:]
    assert [event["state"] for event in told] == ["Ready", "InFlight", "Landed_On_Mars"]
    assert [event["status"] for event in told] == ["queued", "running", "succeeded"]


def test_the_next_flight_begins_with_the_way_home(pad):
    pad.build()
    pad.fly()
    pad.fly()
    assert pad.trail[-6:] == ["Landed_On_Mars", "InFlight", "Preparing", "Ready", "InFlight", "Landed_On_Mars"]


def test_a_failed_run_is_a_loss_and_the_history_says_why(pad):
    pad.build()
    pad.fly(Outcome("failed", message="the file is not there", permanent=True))
    assert (pad.rocket.state, pad.rocket.status) == (RocketState.RUD, RunState.FAILED)
    assert pad.history[-1] == (RocketState.RUD, "the file is not there")
    pad.fly()
    assert pad.trail[-5:] == ["RUD", "Preparing", "Ready", "InFlight", "Landed_On_Mars"]


def test_each_attempt_is_a_flight_of_its_own(pad):
    pad.build(max_attempts=2)
    pad.queue()
    [first] = pad.claim()
    pad.end(first, Outcome("failed", message="no answer"))
    assert pad.rocket.state is RocketState.READY
    assert (RocketState.RUD, "attempt 1 of 2 ended: no answer") in pad.history
    [second] = pad.claim()
    pad.end(second)
    assert pad.rocket.state is RocketState.LANDED_ON_MARS


def test_a_run_that_is_given_back_is_recalled_and_no_loss(pad, work):
    pad.build()
    pad.queue()
    leases = pad.claim()
    with work():
        recovery.release_runs(leases, reason="the worker was shut down")
    assert (pad.rocket.state, pad.rocket.status) == (RocketState.READY, RunState.QUEUED)
    assert "RUD" not in pad.trail
    assert "recalled" in pad.history[-1][1]


def test_a_run_whose_worker_was_lost_is_a_loss_and_flies_again(pad, work):
    pad.build()
    pad.queue()
    pad.claim()
    with work() as session:
        session.execute(sa.update(Run).values(lease_until=utcnow() - timedelta(seconds=1)))
    with work():
        recovery.recover_lost_runs()
    assert pad.rocket.state is RocketState.READY
    assert "its worker was lost" in str(pad.history)
    [lease] = pad.claim()
    pad.end(lease)
    assert pad.rocket.state is RocketState.LANDED_ON_MARS


def test_cancelling_on_the_pad_keeps_the_rocket_and_in_flight_destroys_it(pad):
    pad.build()
    pad.cancel(pad.queue())
    assert (pad.rocket.state, pad.rocket.status) == (RocketState.READY, RunState.CANCELLED)
    assert pad.history[-1][1] == "cancelled by alice"

    run_id = pad.queue()
    [lease] = pad.claim()
    pad.cancel(run_id)
    pad.end(lease, Outcome("cancelled"))
    assert (pad.rocket.state, pad.rocket.status) == (RocketState.RUD, RunState.CANCELLED)
    assert pad.history[-1][1] == "cancelled by alice"


def test_a_landing_with_doubt_says_so(pad):
    pad.build()
    pad.fly(Outcome("succeeded", rows_written=5, rows_found=4, doubt="one row is missing"))
    assert pad.rocket.state is RocketState.LANDED_ON_MARS
    assert pad.history[-1][1] == "landed with doubt, 5 rows: one row is missing"


def test_a_rocket_stays_in_flight_until_the_last_of_overlapping_runs_has_ended(pad):
    pad.build(concurrency_limit=2)
    pad.queue(), pad.queue()
    first, second = pad.claim()
    assert pad.trail == ["Preparing", "Ready", "InFlight"]
    pad.end(first)
    assert (pad.rocket.state, pad.rocket.status) == (RocketState.IN_FLIGHT, RunState.RUNNING)
    assert "another is still in flight" in pad.history[-1][1]
    pad.end(second, Outcome("failed", message="broke", permanent=True))
    assert (pad.rocket.state, pad.rocket.status) == (RocketState.RUD, RunState.FAILED)


def test_one_run_after_another_lands_each_time_also_when_both_are_told_at_once(pad, work, settings):
    pad.build()
    pad.queue(), pad.queue()
    [first] = pad.claim()
    with work():
        queue.apply_reports([Report(first, outcome=GOOD)])
        second = claims.claim_runs("w", limit=1, settings=settings)
    with work():
        claims.announce_claims(second)
        queue.apply_reports([Report(second[0], outcome=GOOD)])
    assert pad.trail.count("Landed_On_Mars") == 2
    assert pad.rocket.state is RocketState.LANDED_ON_MARS


def test_a_run_that_waits_behind_one_in_flight_moves_nothing(pad):
    pad.build()
    pad.queue()
    pad.claim()
    before = pad.trail
    pad.cancel(pad.queue())
    assert pad.trail == before
    assert pad.rocket.status is RunState.RUNNING


def test_progress_moves_the_rocket_and_its_estimate(pad):
    pad.build()
    pad.queue()
    [lease] = pad.claim()
    pad.report(Report(lease, progress=(50, 0, 1000, 0.25)))
    rocket = pad.rocket
    assert rocket.location.startswith("25% of the way")
    assert rocket.counting_since is not None
    assert pad.events()[-1]["location"] == rocket.location
    pad.end(lease)
    assert pad.rocket.seconds_left(utcnow()) == 0


def test_the_length_of_the_last_flight_is_the_estimate_of_the_next(pad, work):
    pad.build()
    pad.queue()
    [lease] = pad.claim()
    with work() as session:
        session.execute(sa.update(Run).values(started_at=utcnow() - timedelta(seconds=40)))
    pad.end(lease)
    pad.queue()
    pad.claim()
    assert 35 <= pad.rocket.seconds_left(utcnow()) <= 41


def test_a_job_that_is_switched_off_keeps_its_rocket_in_the_workshop(pad, work, people):
    pad.build()
    for enabled, state in ((False, RocketState.PREPARING), (True, RocketState.READY)):
        with work():
            jobs.set_enabled(people.alice.actor, pad.job_id, enabled=enabled)
        assert pad.rocket.state is state
    with work():
        jobs.set_enabled(people.alice.actor, pad.job_id, enabled=False)
    pad.fly()
    assert pad.rocket.state is RocketState.LANDED_ON_MARS, "a job that is switched off can still be started by hand"


def test_switching_a_job_off_in_flight_leaves_the_flight_alone(pad, work, people):
    pad.build()
    pad.queue()
    [lease] = pad.claim()
    with work():
        jobs.set_enabled(people.alice.actor, pad.job_id, enabled=False)
    assert pad.rocket.state is RocketState.IN_FLIGHT
    pad.end(lease)
    assert pad.rocket.state is RocketState.LANDED_ON_MARS


def test_a_rocket_goes_with_its_job_and_those_who_follow_are_told(pad, work, look, people):
    pad.build()
    rocket_id = pad.rocket.id
    with work():
        jobs.delete_job(people.alice.actor, pad.job_id)
    with look() as session:
        assert session.scalars(sa.select(Rocket)).all() == []
        [event] = session.scalars(sa.select(Event).where(Event.kind == "rocket.deleted")).all()
        assert event.subject_id == rocket_id


def test_every_history_tells_a_flight_that_could_have_happened(pad, work):
    """Phases are finer than the states in the history: a state may follow when some phase of it may follow."""
    pad.build(max_attempts=2)
    for outcome in (GOOD, Outcome("failed", message="x", permanent=True), GOOD):
        pad.fly(outcome)
    pad.queue()
    [lease] = pad.claim()
    pad.end(lease, Outcome("failed", message="x"))
    [lease] = pad.claim()
    pad.end(lease)
    allowed = {(phase_word(phase), phase_word(following)) for phase, targets in MOVES.items() for following in targets}
    assert set(itertools.pairwise(pad.trail)) <= allowed


def phase_word(phase: Phase) -> str:
    words = {Phase.OUTBOUND: "InFlight", Phase.RETURNING: "InFlight", Phase.LANDED: "Landed_On_Mars",
             Phase.DESTROYED: "RUD"}  # fmt: skip
    return words.get(phase, phase.value.capitalize())


def test_one_rocket_for_each_job_and_none_twice(pad, look):
    pad.build()
    pad.build()
    with look() as session:
        assert session.scalar(sa.select(sa.func.count()).select_from(Rocket)) == 2
        assert db.session.scalar(sa.select(sa.func.count()).select_from(Job)) == 2
