"""The queue as workers see it: claims, leases, reports, recovery."""

import threading
import uuid
from collections import Counter
from datetime import timedelta

import pytest
import sqlalchemy as sa
import sqlalchemy.exc

from tests.runs.together import in_threads
from webapp.dates import utcnow
from webapp.db import db, unit_of_work
from webapp.runs import claims, queue, recovery
from webapp.runs import operations as runs
from webapp.runs.models import LogChunk, Run, RunAttempt
from webapp.runs.queue import Lease, Outcome, Report
from webapp.runs.states import RunState

# --- claiming ---------------------------------------------------------------------------------------------------------


def test_the_run_that_is_due_for_the_longest_is_claimed_first(enqueue, claim):
    expected = enqueue(1) + enqueue(1) + enqueue(1)
    assert [claim(limit=1)[0].run_id for _ in range(3)] == expected


def test_a_run_that_waits_for_its_time_is_not_claimed(enqueue, claim, work):
    [early] = enqueue(1)
    with work() as session:
        session.execute(sa.update(Run).values(available_at=utcnow() + timedelta(minutes=1)))
    assert claim() == []
    with work() as session:
        session.execute(sa.update(Run).values(available_at=utcnow()))
    assert [lease.run_id for lease in claim()] == [early]


def test_a_job_never_has_more_runs_under_way_than_its_limit(enqueue, claim, report):
    enqueue(5, concurrency_limit=2)
    first, second = claim()
    assert claim("w2") == []
    report(first, Outcome("succeeded"))
    assert len(claim("w2")) == 1
    assert claim("w3") == []
    report(second, Outcome("failed", permanent=True))
    assert len(claim("w3")) == 1


def test_a_full_job_does_not_stand_in_the_way_of_others(enqueue, claim):
    enqueue(50, concurrency_limit=1)
    others = enqueue(1) + enqueue(1)
    assert {lease.run_id for lease in claim(limit=3)} > set(others)


def test_many_jobs_with_long_queues_fill_all_places_in_one_claim(enqueue, claim):
    for _ in range(12):
        enqueue(15, concurrency_limit=1)
    assert len(claim(limit=12)) == 12


def test_a_claim_counts_the_attempt_and_takes_a_lease(enqueue, claim, find, settings):
    [run_id] = enqueue(1)
    [lease] = claim("w1")
    run = find(run_id)
    assert (run.state, run.attempt, run.lease_owner, run.lease_token) == (RunState.RUNNING, 1, "w1", lease.token)
    left = (run.lease_until - utcnow()).total_seconds()
    assert settings.lease_seconds - 2 < left <= settings.lease_seconds
    assert run.started_at is not None


@pytest.mark.parametrize("limit", [0, -1])
def test_a_worker_without_a_free_place_claims_nothing(enqueue, claim, limit):
    enqueue(1)
    assert claim(limit=limit) == []


def test_four_claimers_at_once_share_the_runs_and_keep_the_limits(app, enqueue, settings, look):
    limits = {}
    for limit in (1, 2, 3):
        for _ in range(2):
            [first, *_] = enqueue(8, concurrency_limit=limit)
            with look() as session:
                limits[session.scalars(sa.select(Run.job_id).where(Run.id == first)).one()] = limit
    claimed: list[Lease] = []
    most: Counter[uuid.UUID] = Counter()
    start = threading.Barrier(4)

    def work_through(worker: str) -> None:
        start.wait()
        for _ in range(60):
            with app.app_context():
                with unit_of_work():
                    leases = claims.claim_runs(worker, limit=3, settings=settings)
                    query = sa.select(Run.job_id, sa.func.count()).where(Run.state == RunState.RUNNING)
                    for job_id, count in db.session.execute(query.group_by(Run.job_id)):
                        most[job_id] = max(most[job_id], count)
                with unit_of_work():
                    claims.announce_claims(leases)
                    queue.apply_reports([Report(lease, outcome=Outcome("succeeded")) for lease in leases])
            claimed.extend(leases)

    in_threads(work_through, ["a", "b", "c", "d"])

    assert Counter(lease.run_id for lease in claimed).most_common(1)[0][1] == 1, "a run was claimed twice"
    assert len(claimed) == 48
    assert all(most[job_id] <= limit for job_id, limit in limits.items()), most


# --- leases -----------------------------------------------------------------------------------------------------------


def test_what_is_reported_under_an_old_token_is_dropped(enqueue, claim, report, work, find, look):
    [run_id] = enqueue(1)
    [old] = claim("w1")
    expire(work)
    [new] = claim("w2")
    assert (new.token, new.attempt) == (old.token + 2, 2)

    report(old, Outcome("succeeded", rows_written=99), "from the grave")

    run = find(run_id)
    assert (run.state, run.rows_written, run.lease_owner) == (RunState.RUNNING, 0, "w2")
    with look() as session:
        assert "from the grave" not in str(session.scalars(sa.select(LogChunk.lines)).all())
    report(new, Outcome("succeeded", rows_written=7))
    assert (find(run_id).state, find(run_id).rows_written) == (RunState.SUCCEEDED, 7)


def expire(work) -> None:
    """Let all leases run out, and recover."""
    with work() as session:
        session.execute(sa.update(Run).values(lease_until=utcnow() - timedelta(seconds=1)))
    with work():
        recovery.recover_lost_runs()


def beat(work, settings, worker, leases):
    with work():
        return queue.beat(worker, leases, slots=2, busy=len(leases), started_at=utcnow(), settings=settings)


def test_a_heartbeat_prolongs_the_lease_and_learns_of_lost_and_cancelled_runs(
    enqueue, claim, work, settings, find, people
):
    kept, lost, cancelled = enqueue(1)[0], enqueue(1)[0], enqueue(1)[0]
    leases = claim("w1")
    with work() as session:
        session.execute(sa.update(Run).values(lease_until=utcnow() + timedelta(milliseconds=1)))
        session.execute(sa.update(Run).where(Run.id == lost).values(lease_token=Run.lease_token + 1, lease_owner="w2"))
    with work():
        runs.request_cancel(people.alice.actor, cancelled)

    pulse = beat(work, settings, "w1", leases)

    assert pulse.lost == {lost}
    assert pulse.to_cancel == {cancelled: "alice"}
    assert find(kept).lease_until > utcnow() + timedelta(seconds=settings.lease_seconds / 2)
    assert find(lost).lease_until < utcnow() + timedelta(seconds=1)


def test_a_heartbeat_goes_on_after_its_worker_was_forgotten(work, settings):
    beat(work, settings, "w1", [])
    with work() as session:
        session.execute(sa.text("DELETE FROM worker"))
    beat(work, settings, "w1", [])
    with work():
        assert runs.look_at_queue().workers_alive == 1


def test_a_run_whose_lease_ran_out_goes_back_to_its_place_in_the_queue(enqueue, claim, work, find, look):
    [lost_id], _ = enqueue(1), enqueue(1)
    claim("w1", limit=1)
    expire(work)

    run = find(lost_id)
    assert (run.state, run.attempt, run.lease_owner) == (RunState.QUEUED, 1, None)
    assert claim("w2", limit=1)[0].run_id == lost_id
    with look() as session:
        [attempt] = session.scalars(sa.select(RunAttempt)).all()
        assert (attempt.outcome, attempt.worker) == ("lost", "w1")


def test_a_lease_that_is_good_is_left_alone(enqueue, claim, work, find):
    [run_id] = enqueue(1)
    claim("elsewhere:1:x")
    with work():
        recovery.recover_lost_runs()
    assert find(run_id).state is RunState.RUNNING


def test_a_worker_that_died_on_this_machine_is_known_at_once(enqueue, claim, work, find):
    import subprocess
    import sys

    code = "from webapp.runs.recovery import worker_name; print(worker_name())"
    dead = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.strip()
    assert recovery.is_dead_here(dead)
    assert not recovery.is_dead_here(recovery.worker_name())
    host, pid, tail = dead.split(":")
    assert not recovery.is_dead_here(f"other-{host}:{pid}:{tail}")
    assert not recovery.is_dead_here(f"{host}:{pid}:00000000-{tail.partition('-')[2]}"), "another container's process"

    [run_id] = enqueue(1)
    claim(dead)
    with work():
        recovery.recover_lost_runs()
    assert find(run_id).state is RunState.QUEUED


def test_two_who_recover_at_once_take_a_run_back_once(app, enqueue, claim, work, look):
    ids = enqueue(6, concurrency_limit=6)
    claim("w1")
    with work() as session:
        session.execute(sa.update(Run).values(lease_until=utcnow() - timedelta(seconds=1)))
    start = threading.Barrier(3)

    def recover(_: int) -> None:
        start.wait()
        with app.app_context(), unit_of_work():
            recovery.recover_lost_runs()

    in_threads(recover, range(3))
    with look() as session:
        attempts = Counter(session.scalars(sa.select(RunAttempt.run_id)))
        assert attempts == dict.fromkeys(ids, 1)


# --- attempts ---------------------------------------------------------------------------------------------------------


def test_the_pause_between_attempts_doubles_and_has_an_end(enqueue, claim, report, work, find):
    [run_id] = enqueue(1, max_attempts=20, retry_delay_seconds=100)
    pauses = []
    for _ in range(8):
        [lease] = claim()
        report(lease, Outcome("failed", message="no"))
        pauses.append(round((find(run_id).available_at - utcnow()).total_seconds() / 100))
        with work() as session:
            session.execute(sa.update(Run).values(available_at=utcnow()))
    assert pauses == [1, 2, 4, 8, 16, 32, 36, 36]


def test_a_run_that_was_asked_to_stop_is_not_tried_again_whatever_its_end(enqueue, claim, report, work, find, people):
    [run_id] = enqueue(1, max_attempts=5)
    [lease] = claim()
    with work():
        runs.request_cancel(people.alice.actor, run_id)
    report(lease, Outcome("failed", message="broke while stopping"))
    assert (find(run_id).state, find(run_id).error_message) == (RunState.CANCELLED, "cancelled by alice")


def test_work_that_was_committed_before_the_stop_reached_it_is_a_success(enqueue, claim, report, work, find, people):
    [run_id] = enqueue(1)
    [lease] = claim()
    with work():
        runs.request_cancel(people.alice.actor, run_id)
    report(lease, Outcome("succeeded", rows_read=5, rows_written=5, rows_found=5))
    assert (find(run_id).state, find(run_id).rows_found) == (RunState.SUCCEEDED, 5)


def test_a_difference_in_rows_is_kept_as_doubt(enqueue, claim, report, find):
    [run_id] = enqueue(1)
    [lease] = claim()
    report(lease, Outcome("succeeded", rows_read=5, rows_written=5, rows_found=4, doubt="one is missing"))
    run = find(run_id)
    assert (run.state, run.doubt) == (RunState.SUCCEEDED, "one is missing")


def test_lines_are_numbered_without_gap_over_reports_and_attempts(enqueue, claim, report, work, look):
    [run_id] = enqueue(1, max_attempts=2, retry_delay_seconds=0)
    [first] = claim()
    report(first, None, "a", "b")
    report(first, Outcome("failed", message="no"), "c")
    [second] = claim()
    report(second, Outcome("succeeded"), "d")
    with look() as session:
        run = session.scalars(sa.select(Run).where(Run.id == run_id)).one()
        lines = runs.read_log(run)
        assert [(line.number, line.message, line.attempt) for line in lines] == [
            (1, "a", 1), (2, "b", 1), (3, "c", 1), (4, "d", 2)]  # fmt: skip
        assert [line.message for line in runs.read_log(run, after=2)] == ["c", "d"]
        assert [line.message for line in runs.read_log(run, attempt=1, tail=True, limit=2)] == ["b", "c"]
