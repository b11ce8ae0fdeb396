"""The queue in every order: whatever happens when, one holder, one end, and only moves that the table allows."""

import itertools
import tempfile
import uuid
from datetime import timedelta
from pathlib import Path

import pytest
import sqlalchemy as sa
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    Bundle,
    RuleBasedStateMachine,
    consumes,
    initialize,
    invariant,
    multiple,
    rule,
    run_state_machine_as_test,
)

from tests import factories
from tests.runs.mission import Mission
from tests.support.databases import Databases
from webapp.dates import utcnow
from webapp.db import db
from webapp.errors import Conflict
from webapp.events import Event
from webapp.jobs.models import Job
from webapp.runs import claims, queue, recovery
from webapp.runs import operations as runs
from webapp.runs.models import Run, RunAttempt
from webapp.runs.queue import Lease, Outcome, Report
from webapp.runs.states import MOVES, RunState

OUTCOMES = (
    Outcome("succeeded", rows_written=1),
    Outcome("failed", message="broke", permanent=True),
    Outcome("failed", message="broke"),
    Outcome("cancelled", message="cancelled"),
)
LIMITS = (1, 2)


class QueueLife(RuleBasedStateMachine):
    """Two jobs, any number of runs, three workers that claim, report, fall silent, and come back too late."""

    mission: Mission
    leases = Bundle("leases")
    run_ids = Bundle("runs")

    @initialize()
    def begin(self) -> None:
        self.valid: dict[uuid.UUID, int] = {}
        self.ended: dict[uuid.UUID, RunState] = {}
        with self.mission.work() as session:
            session.execute(sa.delete(Job))
            session.execute(sa.delete(Event))
            made = [
                factories.make_job(concurrency_limit=limit, max_attempts=3, retry_delay_seconds=0.0) for limit in LIMITS
            ]
            self.job_ids = [job.id for job in made]

    @rule(target=run_ids, job=st.sampled_from((0, 1)))
    def enqueue(self, job):
        with self.mission.work():
            return runs.start_run(self.mission.alice.actor, self.job_ids[job]).id

    @rule(target=leases, worker=st.sampled_from("abc"), limit=st.integers(1, 3))
    def claim(self, worker, limit):
        with self.mission.work():
            claimed = claims.claim_runs(worker, limit=limit, settings=self.mission.settings)
        with self.mission.work():
            claims.announce_claims(claimed)
        for lease in claimed:
            assert lease.run_id not in self.valid, "a run was claimed while somebody held it"
            self.valid[lease.run_id] = lease.token
        return multiple(*claimed)

    @rule(lease=consumes(leases), outcome=st.sampled_from(OUTCOMES))
    def report_end(self, lease: Lease, outcome: Outcome):
        before = self.state_of(lease)
        with self.mission.work():
            queue.apply_reports([Report(lease, outcome=outcome)])
        if self.valid.get(lease.run_id) == lease.token:
            del self.valid[lease.run_id]
            assert self.state_of(lease) is not RunState.RUNNING
        else:
            assert self.state_of(lease) is before, "a report under a lost lease had an effect"

    @rule(lease=leases)
    def report_a_line(self, lease: Lease):
        with self.mission.work():
            queue.apply_reports([Report(lease, lines=[(utcnow().isoformat(), "info", "", "on the way")])])

    @rule(lease=leases)
    def beat(self, lease: Lease):
        with self.mission.work():
            pulse = queue.beat("a", [lease], slots=2, busy=1, started_at=utcnow(), settings=self.mission.settings)
        assert (lease.run_id in pulse.lost) is (self.valid.get(lease.run_id) != lease.token)

    @rule(lease=leases)
    def fall_silent(self, lease: Lease):
        with self.mission.work() as session:
            past = utcnow() - timedelta(seconds=1)
            session.execute(sa.update(Run).where(Run.id == lease.run_id).values(lease_until=past))
        with self.mission.work():
            recovery.recover_lost_runs()
        self.valid.pop(lease.run_id, None)

    @rule(lease=consumes(leases))
    def release(self, lease: Lease):
        with self.mission.work():
            recovery.release_runs([lease], reason="shut down")
        if self.valid.get(lease.run_id) == lease.token:
            del self.valid[lease.run_id]

    @rule(run_id=run_ids)
    def cancel(self, run_id):
        try:
            with self.mission.work():
                runs.request_cancel(self.mission.alice.actor, run_id)
        except Conflict:
            assert run_id in self.ended

    def state_of(self, lease: Lease) -> RunState:
        with self.mission.look() as session:
            return session.scalars(sa.select(Run.state).where(Run.id == lease.run_id)).one()

    @invariant()
    def everything_is_in_order(self):
        with self.mission.look() as session:
            found = session.scalars(sa.select(Run)).all()
            attempts = list(session.execute(sa.select(RunAttempt.run_id, RunAttempt.attempt)))
            told = session.scalars(sa.select(Event).where(Event.kind == "run.moved").order_by(Event.id)).all()
            session.expunge_all()
        running = {run.id for run in found if run.state is RunState.RUNNING}
        assert running == set(self.valid), "running, and held by one worker, is the same"
        assert len(attempts) == len(set(attempts))
        for run in found:
            assert (run.lease_owner is not None) is (run.state is RunState.RUNNING)
            assert (run.finished_at is not None) is run.state.is_final
            assert run.attempt <= max(run.max_attempts, queue.LOST_WORKER_ATTEMPTS)
            counted = sum(run_id == run.id for run_id, _ in attempts)
            assert counted == run.attempt - (run.state is RunState.RUNNING)
            assert self.ended.setdefault(run.id, run.state) is run.state if run.state.is_final else True
            assert run.state.is_final or run.id not in self.ended
        self._check_limits(running, found)
        self._check_moves(told, found)

    def _check_limits(self, running, found):
        of_job = [sum(run.job_id == job_id for run in found if run.id in running) for job_id in self.job_ids]
        assert all(count <= limit for count, limit in zip(of_job, LIMITS, strict=True))

    def _check_moves(self, told, found):
        trails = {run.id: [None] for run in found}
        for event in told:
            trail = trails[event.subject_id]
            was = RunState(event.payload["was"]) if event.payload["was"] else None
            assert trail[-1] is was, "an event is missing, or stands in the wrong place"
            trail.append(RunState(event.payload["state"]))
        for run in found:
            trail = trails[run.id]
            assert trail[-1] is run.state
            assert trail[1] is RunState.QUEUED
            assert all(after in MOVES[before] for before, after in itertools.pairwise(trail[1:]))

    def teardown(self):
        """Every run ends: those that are left are carried to an end by one good worker."""
        if not hasattr(self, "job_ids"):
            return
        with self.mission.work() as session:
            session.execute(sa.update(Run).values(lease_until=utcnow() - timedelta(seconds=1)))
        with self.mission.work():
            recovery.recover_lost_runs()
        while True:
            with self.mission.work():
                claimed = claims.claim_runs("z", limit=10, settings=self.mission.settings)
            if not claimed:
                break
            with self.mission.work():
                queue.apply_reports([Report(lease, outcome=OUTCOMES[0]) for lease in claimed])
        with self.mission.look():
            assert all(run.state.is_final for run in db.session.scalars(sa.select(Run)))


@pytest.fixture(scope="module")
def machine_mission(databases: Databases):
    with tempfile.TemporaryDirectory() as folder:
        mission = Mission(Path(folder) / "home", databases)
        yield mission
        mission.close()


def test_whatever_happens_when_the_queue_stays_in_order(machine_mission):
    QueueLife.mission = machine_mission
    run_state_machine_as_test(
        QueueLife,
        settings=settings(
            max_examples=25, stateful_step_count=40, deadline=None, suppress_health_check=list(HealthCheck)
        ),
    )
