"""The queue as workers see it: claim under a lease, report, finish, recover. Each function is one step of a unit of
work.

A lease is the pair of run id and `lease_token`. Whoever writes names the token; after a take-over it has moved on,
and what the former holder reports is dropped.
"""

import os
import socket
import uuid
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any

import sqlalchemy as sa
from sqlalchemy.orm import defer

from webapp import events
from webapp.config import Settings
from webapp.dates import utcnow
from webapp.db import db, insert_at_commit, is_postgresql, wake_at_commit
from webapp.jobs.models import Job
from webapp.notices import Notice
from webapp.runs.models import LogChunk, Run, RunAttempt, RunStep, Worker
from webapp.runs.operations import LEVELS, RunMoved, announce, end_unstarted
from webapp.runs.states import RunState
from webapp.wake import RUNS

CLAIM_LOCK = 7_203_003
CLAIM_ROUNDS = 4
LOST_WORKER_ATTEMPTS = 3  # a run is tried at least this often when it is its workers that get lost
LONGEST_RETRY_DELAY = 3600.0

runs_progressed: Notice[Sequence[Run]] = Notice()


@dataclass(frozen=True)
class Lease:
    """The right to execute a run, and what to execute."""

    run_id: uuid.UUID
    job_id: uuid.UUID
    token: int
    attempt: int
    first_task: int
    spec: Mapping[str, Any]
    cancelled: bool = False


@dataclass
class Step:
    """A step as a child reports it."""

    position: int
    task: int
    name: str
    started_at: datetime
    finished_at: datetime | None = None
    outcome: str | None = None
    facts: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Outcome:
    """How an attempt ended: "succeeded", "failed", "cancelled" or "lost", and what is known of it."""

    name: str
    message: str | None = None
    origin: str | None = None
    kind: str | None = None
    fix: str | None = None
    permanent: bool = False
    rows_read: int = 0
    rows_written: int = 0
    rows_found: int | None = None
    bytes_read: int = 0
    doubt: str | None = None
    cpu_seconds: float | None = None
    peak_memory_mb: float | None = None


@dataclass
class Report:
    """What has happened to a run since the last report."""

    lease: Lease
    lines: list[tuple[str, str, str, str]] = field(default_factory=list)
    steps: dict[int, Step] = field(default_factory=dict)
    progress: tuple[int, int, int, float | None] | None = None
    outcome: Outcome | None = None

    @property
    def is_empty(self) -> bool:
        """Whether there is nothing to write."""
        return not (self.lines or self.steps or self.progress or self.outcome)


def worker_name() -> str:
    """A name that says on which host and in which process a worker lives."""
    return f"{socket.gethostname()}:{os.getpid()}:{uuid.uuid4().hex[:8]}"


# --- claiming ---------------------------------------------------------------------------------------------------------


def claim_runs(worker: str, *, limit: int, settings: Settings) -> list[Lease]:
    """Take up to `limit` runs that are due, oldest first, never more of a job at once than its concurrency limit."""
    if limit <= 0:
        return []
    if is_postgresql():
        # One claimer at a time: two who count the running runs of a job at once would both take its last place.
        db.session.execute(sa.select(sa.func.pg_advisory_xact_lock(CLAIM_LOCK)))
    claimed: list[Run] = []
    for _ in range(CLAIM_ROUNDS):
        fresh = _claim_round(worker, limit - len(claimed), settings)
        claimed += fresh
        if not fresh or len(claimed) >= limit:
            break
    if claimed:
        announce([RunMoved(run, RunState.QUEUED, RunState.RUNNING) for run in claimed])
    return [_lease(run) for run in claimed]


def _claim_round(worker: str, limit: int, settings: Settings) -> list[Run]:
    now = utcnow()
    other = sa.orm.aliased(Run)
    running = (
        sa.select(sa.func.count()).where(other.job_id == Run.job_id, other.state == RunState.RUNNING).scalar_subquery()
    )
    query = (
        sa.select(Run, (Job.concurrency_limit - running).label("room"))
        .join(Job, Job.id == Run.job_id)
        .where(Run.state == RunState.QUEUED, Run.available_at <= now, running < Job.concurrency_limit)
        .order_by(Run.number)
        .limit(limit)
        .with_for_update(of=Run, skip_locked=True)
    )
    room: dict[uuid.UUID, int] = {}
    taken: list[Run] = []
    for run, left in db.session.execute(query):
        if room.setdefault(run.job_id, left) <= 0:
            continue
        room[run.job_id] -= 1
        run.state = RunState.RUNNING
        run.lease_owner, run.lease_token = worker, run.lease_token + 1
        run.lease_until = now + timedelta(seconds=settings.lease_seconds)
        run.attempt += 1
        run.started_at = run.started_at or now
        run.progress_at = now
        taken.append(run)
    db.session.flush()  # the next round counts these
    return taken


def _lease(run: Run) -> Lease:
    return Lease(
        run.id, run.job_id, run.lease_token, run.attempt, run.first_task, run.spec, run.cancel_requested_at is not None
    )


def next_due() -> datetime | None:
    """When the next queued run that waits for its time becomes due."""
    return db.session.scalar(
        sa.select(sa.func.min(Run.available_at)).where(Run.state == RunState.QUEUED, Run.available_at > utcnow())
    )


# --- heartbeats -------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Pulse:
    """What a heartbeat brought back: leases that are gone, and runs that somebody wants stopped (with the name)."""

    lost: frozenset[uuid.UUID]
    to_cancel: Mapping[uuid.UUID, str]


def beat(
    worker: str, leases: Iterable[Lease], *, slots: int, busy: int, started_at: datetime, settings: Settings
) -> Pulse:
    """Say that the worker lives, prolong its leases, and learn which are lost or cancelled."""
    now = utcnow()
    seen = db.session.get(Worker, worker)
    if seen is None:
        seen = Worker(name=worker, started_at=started_at, slots=slots)
        db.session.add(seen)
    seen.seen_at, seen.busy = now, busy
    held = {lease.run_id: lease.token for lease in leases}
    if held:
        db.session.execute(
            sa.update(Run)
            .where(Run.id.in_(held), Run.lease_owner == worker, Run.state == RunState.RUNNING)
            .values(lease_until=now + timedelta(seconds=settings.lease_seconds), updated_at=Run.updated_at)
            .execution_options(synchronize_session=False)
        )
    return look_at_leases(held)


def look_at_leases(held: Mapping[uuid.UUID, int]) -> Pulse:
    """Which of these leases are lost, and which runs are to be stopped."""
    if not held:
        return Pulse(frozenset(), {})
    query = sa.select(Run.id, Run.lease_token, Run.state, Run.cancel_requested_by).where(Run.id.in_(held))
    rows = {row.id: row for row in db.session.execute(query)}
    lost = {
        run_id
        for run_id, token in held.items()
        if run_id not in rows or rows[run_id].lease_token != token or rows[run_id].state is not RunState.RUNNING
    }
    wanted = {run_id: row.cancel_requested_by for run_id, row in rows.items() if row.cancel_requested_by}
    return Pulse(frozenset(lost), {run_id: name for run_id, name in wanted.items() if run_id not in lost})


def sign_off(worker: str) -> None:
    """Forget a worker that ends in good order."""
    db.session.execute(sa.delete(Worker).where(Worker.name == worker))


# --- reports ----------------------------------------------------------------------------------------------------------


def apply_reports(reports: Sequence[Report]) -> None:
    """Write what children reported. Reports under a lease that is gone are dropped."""
    wanted = {report.lease.run_id: report for report in reports if not report.is_empty}
    if not wanted:
        return
    # The definition is large and encrypted, and is needed only where a retry is due.
    query = sa.select(Run).where(Run.id.in_(wanted)).order_by(Run.number).options(defer(Run.spec)).with_for_update()
    moves: list[RunMoved] = []
    moving: list[Run] = []
    for run in db.session.scalars(query):
        report = wanted[run.id]
        if run.lease_token != report.lease.token or run.state is not RunState.RUNNING:
            continue
        _write_lines(run, report)
        _write_steps(run, report)
        if report.progress:
            _write_progress(run, report.progress)
        if report.outcome:
            _end_attempt(run, report.outcome)
            moves.append(RunMoved(run, RunState.RUNNING, run.state))
        elif report.progress or report.steps:
            _event(run, "run.progress", {})
            moving.append(run)
    db.session.flush()
    if moving:
        runs_progressed.tell(moving)
    if moves:
        announce(moves)
        wake_at_commit(RUNS)  # a place is free, or a retry has to be waited for


def _write_lines(run: Run, report: Report) -> None:
    if not report.lines:
        return
    chunk = {
        "run_id": run.id,
        "attempt": run.attempt,
        "first_line": run.log_lines + 1,
        "line_count": len(report.lines),
        "worst_level": max(LEVELS.index(level) for _, level, _, _ in report.lines),
        "lines": [list(line) for line in report.lines],
    }
    insert_at_commit(LogChunk, chunk)
    run.log_lines += len(report.lines)
    _event(run, "run.logged", {"from": run.log_lines - len(report.lines) + 1, "to": run.log_lines})


def _write_steps(run: Run, report: Report) -> None:
    if not report.steps:
        return
    query = sa.select(RunStep).where(
        RunStep.run_id == run.id, RunStep.attempt == run.attempt, RunStep.position.in_(report.steps)
    )
    known = {row.position: row for row in db.session.scalars(query)}
    for step in report.steps.values():
        row = known.get(step.position)
        if row is None:
            row = RunStep(run_id=run.id, attempt=run.attempt, position=step.position, task=step.task)
            db.session.add(row)
        row.name, row.started_at, row.finished_at = step.name, step.started_at, step.finished_at
        row.outcome, row.facts = step.outcome, step.facts


def _write_progress(run: Run, progress: tuple[int, int, int, float | None]) -> None:
    run.rows_read, run.rows_written, run.bytes_read, run.fraction = progress
    run.progress_at = utcnow()


def _end_attempt(run: Run, outcome: Outcome) -> None:
    now = utcnow()
    attempt = {
        "run_id": run.id,
        "attempt": run.attempt,
        "worker": run.lease_owner or "",
        "started_at": _attempt_began(run),
        "finished_at": now,
        "outcome": outcome.name,
        "error_message": outcome.message,
    }
    insert_at_commit(RunAttempt, attempt)
    run.cpu_seconds, run.peak_memory_mb = outcome.cpu_seconds, outcome.peak_memory_mb
    run.error_message, run.error_fix = outcome.message, outcome.fix
    run.error_origin, run.error_kind = outcome.origin, outcome.kind
    run.lease_owner, run.lease_until = None, None
    if outcome.name == "succeeded":
        _succeed(run, outcome, now)
    elif outcome.name == "cancelled" or run.cancel_requested_at is not None:
        _end(run, RunState.CANCELLED, now)
        run.error_message = f"cancelled by {run.cancel_requested_by}" if run.cancel_requested_by else outcome.message
    elif _is_tried_again(run, outcome):
        run.state = RunState.QUEUED
        run.available_at = now + timedelta(seconds=_delay(run, outcome))
        run.fraction = None
    else:
        _end(run, RunState.FAILED, now)


def _attempt_began(run: Run) -> datetime:
    earliest = (
        db.session.scalar(
            sa.select(sa.func.min(RunStep.started_at)).where(RunStep.run_id == run.id, RunStep.attempt == run.attempt)
        )
        if run.attempt > 1
        else None
    )
    return earliest or run.started_at or utcnow()


def _succeed(run: Run, outcome: Outcome, now: datetime) -> None:
    run.rows_read, run.rows_written, run.rows_found = outcome.rows_read, outcome.rows_written, outcome.rows_found
    run.bytes_read, run.doubt, run.fraction = outcome.bytes_read, outcome.doubt, 1.0
    _end(run, RunState.SUCCEEDED, now)


def _end(run: Run, state: RunState, now: datetime) -> None:
    run.state, run.finished_at = state, now


def _is_tried_again(run: Run, outcome: Outcome) -> bool:
    if outcome.name == "lost":
        return run.attempt < max(run.max_attempts, LOST_WORKER_ATTEMPTS)
    return not outcome.permanent and run.attempt < run.max_attempts


def _delay(run: Run, outcome: Outcome) -> float:
    if outcome.name == "lost":
        return 0.0
    first = float(run.spec.get("retry_delay_seconds", 5.0))
    return min(first * 2.0 ** (run.attempt - 1), LONGEST_RETRY_DELAY)


def _event(run: Run, kind: str, payload: dict[str, Any]) -> None:
    payload = {"job_id": str(run.job_id), **payload}
    events.record(kind, project_id=run.project_id, subject_id=run.id, payload=payload)


# --- recovery ---------------------------------------------------------------------------------------------------------


def recover_lost_runs() -> None:
    """Take back the runs of workers that are gone: silent for longer than a lease, or dead on this host."""
    now = utcnow()
    query = sa.select(Run).where(Run.state == RunState.RUNNING).with_for_update(skip_locked=True)
    lost = [run for run in db.session.scalars(query) if _is_lost(run, now)]
    for run in lost:
        _take_back(run)
    db.session.flush()
    if lost:
        announce([RunMoved(run, RunState.RUNNING, run.state) for run in lost])
        wake_at_commit(RUNS)
    db.session.execute(sa.delete(Worker).where(Worker.seen_at < now - timedelta(minutes=5)))


def _is_lost(run: Run, now: datetime) -> bool:
    expired = run.lease_until is None or run.lease_until < now
    return expired or is_dead_here(run.lease_owner or "")


def is_dead_here(worker: str) -> bool:
    """Whether this worker lived on this host and its process is gone."""
    host, _, rest = worker.partition(":")
    pid = rest.partition(":")[0]
    if host != socket.gethostname() or not pid.isdigit():
        return False
    try:
        os.kill(int(pid), 0)
    except ProcessLookupError:
        return True
    except PermissionError:
        return False
    return False


def _take_back(run: Run) -> None:
    line = "The worker that executed this run was lost; nothing of this attempt was kept."
    report = Report(Lease(run.id, run.job_id, run.lease_token, run.attempt, run.first_task, {}))
    report.lines.append((utcnow().isoformat(), "warning", "", line))
    _write_lines(run, report)
    run.lease_token += 1  # what the lost worker may still send is void
    _end_attempt(run, Outcome("lost", message="its worker was lost", origin="platform", kind="transient"))


def release_runs(leases: Sequence[Lease], *, reason: str) -> None:
    """Give runs back to the queue that this worker cannot finish; the attempt does not count."""
    held = {lease.run_id: lease for lease in leases}
    moves = []
    for run in db.session.scalars(sa.select(Run).where(Run.id.in_(held)).with_for_update()):
        lease = held[run.id]
        if run.lease_token != lease.token or run.state is not RunState.RUNNING:
            continue
        report = Report(lease, lines=[(utcnow().isoformat(), "info", "", reason)])
        _write_lines(run, report)
        run.state, run.lease_owner, run.lease_until = RunState.QUEUED, None, None
        run.attempt -= 1
        run.available_at = utcnow()
        moves.append(RunMoved(run, RunState.RUNNING, run.state))
    db.session.flush()
    if moves:
        announce(moves)
        wake_at_commit(RUNS)


def cancel_unclaimed(job_id: uuid.UUID, *, reason: str) -> None:
    """Cancel what waits of a job, and ask what runs to stop."""
    active = (
        sa.select(Run).where(Run.job_id == job_id, Run.state.in_([RunState.QUEUED, RunState.RUNNING])).with_for_update()
    )
    for run in db.session.scalars(active):
        if run.state is RunState.QUEUED:
            end_unstarted(run, RunState.CANCELLED, reason)
        elif run.cancel_requested_at is None:
            run.cancel_requested_at, run.cancel_requested_by = utcnow(), "the schedule (overlap policy: replace)"
    wake_at_commit(RUNS)
