"""What becomes of claimed runs: heartbeats, reports, ends. Each function is one step of a unit of work.

Whoever writes names the token of its lease (`claims.py`); after a take-over it has moved on, and what the former holder
reports is dropped.
"""

import uuid
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any

import sqlalchemy as sa

from webapp import events
from webapp.config import Settings
from webapp.dates import utcnow
from webapp.db import db, insert_at_commit, update_at_commit, wake_at_commit
from webapp.jobs.sync.states import keep_receipts
from webapp.runs.claims import locked_runs
from webapp.runs.messages import Lease, Outcome, Step
from webapp.runs.models import LogChunk, Run, RunAttempt, RunStep, Worker
from webapp.runs.operations import LEVELS, RunMoved, announce, announce_progress
from webapp.runs.states import RunState, move
from webapp.wake import RUNS

LOST_WORKER_ATTEMPTS = 3  # a run is tried at least this often when it is its workers that get lost
LONGEST_RETRY_DELAY = 3600.0


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
    # Not read first: a row that others take for a dead worker's may go between the look and the write.
    seen = sa.update(Worker).where(Worker.name == worker).values(seen_at=now, busy=busy)
    if not db.session.execute(seen).rowcount:  # type: ignore[attr-defined]
        db.session.add(Worker(name=worker, started_at=started_at, slots=slots, seen_at=now, busy=busy))
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
    apply_to_locked([(run, wanted[run.id]) for run in locked_runs(wanted)])


def apply_to_locked(reported: Sequence[tuple[Run, Report]]) -> None:
    """Write what was reported of these runs, which the caller has locked, and announce it."""
    moves: list[RunMoved] = []
    moving: list[Run] = []
    for run, report in reported:
        if run.lease_token != report.lease.token or run.state is not RunState.RUNNING:
            continue
        update_at_commit(run)
        write_lines(run, report)
        _write_steps(run, report)
        if report.progress:
            _write_progress(run, report.progress)
        if report.outcome:
            end_attempt(run, report.outcome)
            moves.append(RunMoved(run, RunState.RUNNING, run.state))
        elif report.progress or report.steps:
            _event(run, "run.progress", {})
            moving.append(run)
    if moving:
        announce_progress(moving)
    if moves:
        db.session.flush()  # listeners read them back in bulk
        announce(moves)
        wake_at_commit(RUNS)  # a place is free, or a retry has to be waited for


def write_lines(run: Run, report: Report) -> None:
    """Append what was reported to the run's log."""
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
    receipts = [step.facts["stream"] for step in report.steps.values() if "stream" in step.facts]
    if receipts:
        keep_receipts(run.job_id, run.id, report.lease.spec, receipts)


def _write_progress(run: Run, progress: tuple[int, int, int, float | None]) -> None:
    run.rows_read, run.rows_written, run.bytes_read, run.fraction = progress
    run.progress_at = utcnow()


def end_attempt(run: Run, outcome: Outcome) -> None:
    """Write how an attempt ended, and decide what becomes of the run: it ends, or it is tried again."""
    now = utcnow()
    attempt = {
        "run_id": run.id,
        "attempt": run.attempt,
        "worker": run.lease_owner or "",
        "started_at": outcome.began or _attempt_began(run),
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
        return
    _close_steps(run, outcome, now)
    if outcome.name == "cancelled" or run.cancel_requested_at is not None:
        _end(run, RunState.CANCELLED, now)
        run.error_message = f"cancelled by {run.cancel_requested_by}" if run.cancel_requested_by else outcome.message
    elif _is_tried_again(run, outcome):
        run.state = move(run.state, RunState.QUEUED)
        run.first_task = _task_reached(run)
        if outcome.name != "lost":  # a run whose worker was lost keeps its place in the queue
            run.available_at = now + timedelta(seconds=_delay(run))
        run.fraction = None
    else:
        _end(run, RunState.FAILED, now)


def _attempt_began(run: Run) -> datetime:
    """When the present attempt began, as far as its steps tell."""
    earliest = sa.select(sa.func.min(RunStep.started_at)).where(
        RunStep.run_id == run.id, RunStep.attempt == run.attempt
    )
    first_claim = run.started_at if run.attempt == 1 else None
    return db.session.scalar(earliest) or first_claim or utcnow()


def _close_steps(run: Run, outcome: Outcome, now: datetime) -> None:
    """What was under way ended with the attempt, whether or not its process could say so."""
    query = sa.select(RunStep).where(
        RunStep.run_id == run.id, RunStep.attempt == run.attempt, RunStep.finished_at.is_(None)
    )
    for step in db.session.scalars(query):
        step.finished_at, step.outcome = now, outcome.name


def _task_reached(run: Run) -> int:
    """The task in which the attempt ended. Those before it are committed, and are not done again."""
    query = sa.select(sa.func.max(RunStep.task)).where(RunStep.run_id == run.id, RunStep.attempt == run.attempt)
    return max(run.first_task, db.session.scalar(query) or 1)


def _succeed(run: Run, outcome: Outcome, now: datetime) -> None:
    run.rows_read, run.rows_written, run.rows_found = outcome.rows_read, outcome.rows_written, outcome.rows_found
    run.bytes_read, run.doubt, run.fraction = outcome.bytes_read, outcome.doubt, 1.0
    _end(run, RunState.SUCCEEDED, now)


def _end(run: Run, state: RunState, now: datetime) -> None:
    run.state, run.finished_at = move(run.state, state), now


def _is_tried_again(run: Run, outcome: Outcome) -> bool:
    if outcome.name == "lost":
        return run.attempt < max(run.max_attempts, LOST_WORKER_ATTEMPTS)
    return not outcome.permanent and run.attempt < run.max_attempts


def _delay(run: Run) -> float:
    first = float(run.spec.get("retry_delay_seconds", 5.0))
    return min(first * 2.0 ** (run.attempt - 1), LONGEST_RETRY_DELAY)


def _event(run: Run, kind: str, payload: dict[str, Any]) -> None:
    payload = {"job_id": str(run.job_id), **payload}
    events.record(kind, project_id=run.project_id, subject_id=run.id, payload=payload)
