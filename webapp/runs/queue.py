"""The queue as workers see it: claim under a lease, report, finish, recover. Each function is one step of a unit of
work.

A lease is the pair of run id and `lease_token`. Whoever writes names the token; after a take-over it has moved on,
and what the former holder reports is dropped.
"""

import uuid
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, fields
from datetime import datetime, timedelta
from typing import Any

import orjson
import sqlalchemy as sa
from cryptography.fernet import InvalidToken

from webapp import events
from webapp.config import Executor, Settings
from webapp.dates import utcnow
from webapp.db import db, insert_at_commit, update_at_commit, wake_at_commit
from webapp.engine.sync.plan import StreamStatus
from webapp.jobs.models import Job
from webapp.jobs.sync.states import keep_receipts
from webapp.runs.messages import Lease, Outcome, Step, Totals
from webapp.runs.models import LogChunk, Run, RunAttempt, RunStep, Worker
from webapp.runs.operations import LEVELS, RunMoved, announce, announce_later, announce_progress, end_unstarted
from webapp.runs.states import RunState, move
from webapp.wake import RUNS

CLAIM_LOCK = 7_203_003
CLAIM_ROUNDS = 32
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


# --- claiming ---------------------------------------------------------------------------------------------------------


def claim_runs(worker: str, *, limit: int, settings: Settings) -> list[Lease]:
    """Take up to `limit` runs that are due, oldest first, never more of a job at once than its concurrency limit."""
    if limit <= 0:
        return []
    places: dict[uuid.UUID, Places] = {}
    now = utcnow()
    claimed: list[Lease] = []
    for _ in range(CLAIM_ROUNDS):
        wanted = limit - len(claimed)
        found = _due_runs(now, wanted, places)
        claimed += _take([run for run in found if _gets_place(run.job_id, places)], worker, now, settings)
        if len(found) < wanted or len(claimed) >= limit:
            break
    announce_later(lease.run_id for lease in claimed)
    return claimed


def announce_claims(leases: Sequence[Lease]) -> None:
    """Tell the fleet and the event log that these runs have started.

    A step of its own, so that the work starts as soon as its lease is committed and not after all that follows from it.
    Should the worker die in between, whoever recovers the run announces what becomes of it.
    """
    tokens = {lease.run_id: lease.token for lease in leases}
    if not tokens:
        return
    here = [run for run in _locked(tokens) if run.lease_token == tokens[run.id]]
    started = [run for run in here if run.state is RunState.RUNNING]
    announce([RunMoved(run, RunState.QUEUED, RunState.RUNNING) for run in started])


_LOCKED = sa.select(Run).where(Run.id.in_(sa.bindparam("ids", expanding=True))).order_by(Run.number).with_for_update()


def _locked(run_ids: Iterable[uuid.UUID]) -> Iterable[Run]:
    return db.session.scalars(_LOCKED, {"ids": list(run_ids)})


@dataclass
class Places:
    """How many runs a job may have under way at once, and how many it has."""

    limit: int
    taken: int

    @property
    def are_full(self) -> bool:
        """Whether no other run of the job may start."""
        return self.taken >= self.limit


_ONE_CLAIMER = f"SELECT pg_advisory_xact_lock({CLAIM_LOCK})"
"""Two who count the running runs of a job at once would both take its last place."""


@dataclass(frozen=True)
class Due:
    """What a claim has to know of a run. A whole Run costs as much to load as the query that finds it."""

    number: int
    run_id: uuid.UUID
    job_id: uuid.UUID
    token: int
    attempt: int
    first_task: int
    spec: dict[str, Any]


def _select_due(spec: sa.ColumnElement[Any]) -> sa.Select[Any]:
    """The runs that have been due for the longest, of jobs that have a place left, with their job's places."""
    busy = sa.select(Run.job_id, sa.func.count().label("runs")).where(Run.state == RunState.RUNNING)
    under_way = busy.group_by(Run.job_id).subquery("under_way")
    taken = sa.func.coalesce(under_way.c.runs, 0)
    known = (Run.number, Run.id, Run.job_id, Run.lease_token, Run.attempt, Run.first_task, spec)
    query = (
        sa.select(Job.concurrency_limit, taken, *known)
        .join(Job, Job.id == Run.job_id)
        .outerjoin(under_way, under_way.c.job_id == Run.job_id)
        .where(Run.state == RunState.QUEUED, Run.executor == Executor.LOCAL)
        .where(Run.available_at <= sa.bindparam("now"), taken < Job.concurrency_limit)
        .order_by(Run.available_at, Run.number)
        .limit(sa.bindparam("wanted"))
        .with_for_update(of=Run, skip_locked=True)
    )
    return query.execution_options(led_by=_ONE_CLAIMER)


# Made once: to make it takes as long as to execute it, and every worker claims at every signal.
_DUE = _select_due(Run.__table__.c.spec)
_DUE_BUT_UNREADABLE = _select_due(sa.null())


def _due_runs(now: datetime, limit: int, places: dict[uuid.UUID, Places]) -> list[Due]:
    """The runs to take, oldest first; notes the places of their jobs."""
    asked = {"now": now, "wanted": limit}
    rows: Sequence[Any]
    try:
        rows = db.session.execute(_DUE, asked).all()
    except (InvalidToken, orjson.JSONDecodeError):
        rows = _readable(db.session.execute(_DUE_BUT_UNREADABLE, asked).all())
    due = []
    for at_once, count, *known in rows:
        due.append(Due(*known))
        places.setdefault(due[-1].job_id, Places(at_once, count))
    return due


def _readable(rows: Sequence[Any]) -> list[tuple[Any, ...]]:
    """Those whose definition can be decrypted; the others end here, or they would stop every worker that meets them."""
    good = []
    for at_once, count, number, *known, _ in rows:
        run = db.session.get_one(Run, number)
        try:
            good.append((at_once, count, number, *known, run.spec))
        except (InvalidToken, orjson.JSONDecodeError):
            run.error_origin, run.error_kind = "platform", "configuration"
            run.error_fix = "Put the key file of this instance back under HOHMANN_HOME/keys, or define the job again."
            end_unstarted(run, RunState.FAILED, "What this run should do cannot be decrypted with the instance's keys.")
    return good


def _gets_place(job_id: uuid.UUID, places: dict[uuid.UUID, Places]) -> bool:
    """Whether another run of the job may start; it has its place from now on."""
    if places[job_id].are_full:
        return False
    places[job_id].taken += 1
    return True


_BEGIN = (
    sa.update(Run)
    .where(Run.number.in_(sa.bindparam("numbers", expanding=True)))
    .values(
        state=move(RunState.QUEUED, RunState.RUNNING),
        lease_owner=sa.bindparam("holder"),
        lease_token=Run.lease_token + 1,
        lease_until=sa.bindparam("until"),
        attempt=Run.attempt + 1,
        started_at=sa.func.coalesce(Run.started_at, sa.bindparam("now", type_=Run.started_at.type)),
        progress_at=sa.bindparam("now", type_=Run.started_at.type),
        updated_at=sa.bindparam("now", type_=Run.started_at.type),
    )
    .execution_options(synchronize_session=False)
)


def _take(due: Sequence[Due], worker: str, now: datetime, settings: Settings) -> list[Lease]:
    """Give these runs, which are locked, to the worker."""
    if not due:
        return []
    _begin_attempts([run.number for run in due], worker, now, settings.lease_seconds)
    return [_first_lease(run) if run.attempt == 0 else _later_lease(run) for run in due]


def _begin_attempts(numbers: list[int], holder: str, now: datetime, lease_seconds: float) -> None:
    until = now + timedelta(seconds=lease_seconds)
    db.session.execute(_BEGIN, {"numbers": numbers, "holder": holder, "until": until, "now": now})


def _first_lease(run: Due) -> Lease:
    return Lease(run.run_id, run.job_id, run.token + 1, 1, run.first_task, run.spec)


def _later_lease(run: Due) -> Lease:
    return lease_of(db.session.get_one(Run, run.number, populate_existing=True))


def claim_elsewhere(run: Run, holder: str, *, lease_seconds: float) -> Lease | None:
    """Give this queued run, which the caller has locked, to a holder that is no worker of ours, and announce it.

    None when as many runs of its job are under way as may be.
    """
    if _places_of(run.job_id).are_full:
        return None
    _begin_attempts([run.number], holder, utcnow(), lease_seconds)
    db.session.refresh(run)
    announce([RunMoved(run, RunState.QUEUED, RunState.RUNNING)])
    return lease_of(run)


def _places_of(job_id: uuid.UUID) -> Places:
    """How many runs of this job may be under way and are, which nobody else counts until the unit of work ends."""
    running = sa.and_(Run.job_id == Job.id, Run.state == RunState.RUNNING)
    query = sa.select(Job.concurrency_limit, sa.func.count(Run.number)).outerjoin(Run, running).where(Job.id == job_id)
    query = query.group_by(Job.concurrency_limit).execution_options(led_by=_ONE_CLAIMER)
    return Places(*db.session.execute(query).one())


def lease_of(run: Run) -> Lease:
    """The lease under which this run is executed now."""
    done = _totals_before(run) if run.attempt > 1 and run.first_task > 1 else Totals()
    landed = _landed_before(run) if run.attempt > 1 and "sync" in run.spec else ()
    return Lease(run.id, run.job_id, run.lease_token, run.attempt, run.first_task, run.spec, done, landed)


def _landed_before(run: Run) -> list[Mapping[str, Any]]:
    """The receipts of the streams that landed in earlier attempts: what is committed is not moved again."""
    query = sa.select(RunStep.facts).where(RunStep.run_id == run.id, RunStep.outcome == "succeeded")
    receipts = [facts["stream"] for facts in db.session.scalars(query) if "stream" in facts]
    landed = {receipt["stream"]: receipt for receipt in receipts if receipt["status"] == StreamStatus.LANDED}
    return list(landed.values())


def _totals_before(run: Run) -> Totals:
    """What the tasks before `first_task` came to, in the attempts that did them."""
    query = sa.select(RunStep.facts).where(RunStep.run_id == run.id, RunStep.task < run.first_task)
    receipts = [facts for facts in db.session.scalars(query) if "rows_read" in facts]
    return Totals(**{item.name: sum(receipt[item.name] for receipt in receipts) for item in fields(Totals)})


def _select_next() -> sa.Select[datetime | None, datetime | None]:
    first = sa.func.min(Run.available_at)
    query = sa.select(first, first.filter(Run.available_at > sa.bindparam("now")))
    return query.where(Run.state == RunState.QUEUED, Run.executor == Executor.LOCAL)


_NEXT = _select_next()


def look_ahead() -> tuple[bool, datetime | None]:
    """Whether a queued run is due, and when the next one that still waits for its time will be."""
    now = utcnow()
    earliest, later = db.session.execute(_NEXT, {"now": now}).one()
    return earliest is not None and earliest <= now, later


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
    apply_to_locked([(run, wanted[run.id]) for run in _locked(wanted)])


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
