"""Everything that people and machines ask of runs. What workers do with them is in
`claims.py` and `queue.py`."""

import uuid
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from typing import Any

import sqlalchemy as sa
from flask import current_app

from webapp import db as database
from webapp import events
from webapp.accounts.access import Actor, Scope
from webapp.config import Executor, Role, Settings
from webapp.dates import rfc3339, utcnow
from webapp.db import db, wake_at_commit
from webapp.engine.sync.plan import StreamStatus
from webapp.errors import Conflict, NotFound
from webapp.jobs import operations as jobs
from webapp.jobs.models import ExecutorChoice, Job, JobKind
from webapp.jobs.sync.plans import Wish, sync_of
from webapp.notices import Notice
from webapp.prepared import Prepared, adopt, table_of
from webapp.runs.models import LogChunk, Run, RunAttempt, RunStep, Trigger, Worker
from webapp.runs.states import ACTIVE_STATES, RunState, move
from webapp.wake import RUNS

LEVELS = ("debug", "info", "warning", "error")
WORKER_SILENT_SECONDS = 10


@dataclass(frozen=True)
class RunMoved:
    """A run changed its state from `was` (None: it is new) to `to`; by the time this is told it may have moved on.

    `given_back`: nothing went wrong, its worker could not go on with it. `reported_by` is who reported a run that is
    flown elsewhere, empty for one that is executed here.
    """

    run: Run
    was: RunState | None
    to: RunState
    given_back: bool = False
    reported_by: str = ""


@dataclass(frozen=True)
class RunNews:
    """What a unit of work did to runs: those that moved, in order, and those that came further.

    `to_launch` were claimed in it, and are announced by the next one.
    """

    moves: Sequence[RunMoved]
    progressed: Sequence[Run]
    to_launch: frozenset[uuid.UUID] = frozenset()


run_news: Notice[RunNews] = Notice()


# --- looking ----------------------------------------------------------------------------------------------------------


def runs_visible_to(actor: Actor) -> sa.Select[Run]:
    """The runs that the actor may see: those of the actor's projects."""
    return sa.select(Run).where(Run.project_id.in_(actor.project_ids))


def list_runs(
    actor: Actor,
    *,
    job_id: uuid.UUID | None = None,
    state: RunState | None = None,
    newest_first: bool = False,
    limit: int | None = None,
    cursor: int | None = None,
) -> list[Run]:
    """Runs that the actor may see, oldest first unless asked otherwise; `cursor` is the number of the last one seen."""
    query = runs_visible_to(actor)
    if job_id is not None:
        query = query.where(Run.job_id == job_id)
    if state is not None:
        query = query.where(Run.state == state)
    if cursor is not None:
        query = query.where(Run.number < cursor if newest_first else Run.number > cursor)
    query = query.order_by(Run.number.desc() if newest_first else Run.number)
    return list(db.session.scalars(query.limit(limit)))


def get_run(actor: Actor, run_id: uuid.UUID) -> Run:
    """The run. Raises NotFound, also for a stranger."""
    run = db.session.scalar(runs_visible_to(actor).where(Run.id == run_id))
    if run is None:
        raise NotFound("Run not found")
    return run


def steps_of(run: Run, *, attempt: int | None = None) -> list[RunStep]:
    """The steps of one attempt (default: the last), in order."""
    query = sa.select(RunStep).where(RunStep.run_id == run.id, RunStep.attempt == (attempt or run.attempt))
    return list(db.session.scalars(query.order_by(RunStep.position)))


def attempts_of(run: Run) -> list[RunAttempt]:
    """The attempts that have ended, in order."""
    query = sa.select(RunAttempt).where(RunAttempt.run_id == run.id).order_by(RunAttempt.attempt)
    return list(db.session.scalars(query))


@dataclass(frozen=True)
class LogLine:
    """One line of a run's log."""

    number: int
    at: str
    level: str
    step: str
    message: str
    attempt: int


def read_log(
    run: Run,
    *,
    after: int = 0,
    limit: int = 1000,
    level: str = "debug",
    search: str = "",
    attempt: int | None = None,
    tail: bool = False,
) -> list[LogLine]:
    """Lines numbered above `after`, at least this bad, that hold the text; the last ones first found when `tail`."""
    worst = LEVELS.index(level)
    query = sa.select(LogChunk).where(LogChunk.run_id == run.id, LogChunk.worst_level >= worst)
    query = query.where(LogChunk.first_line + LogChunk.line_count > after + 1)
    if attempt is not None:
        query = query.where(LogChunk.attempt == attempt)
    order = LogChunk.first_line.desc() if tail else LogChunk.first_line
    found: list[LogLine] = []
    for chunk in db.session.scalars(query.order_by(order).execution_options(yield_per=50)):
        lines = [line for line in _lines(chunk) if _fits(line, after, worst, search)]
        found = lines + found if tail else found + lines
        if len(found) >= limit:
            break
    return found[-limit:] if tail else found[:limit]


def _lines(chunk: LogChunk) -> Iterable[LogLine]:
    for at, (instant, level, step, message) in enumerate(chunk.lines):
        yield LogLine(chunk.first_line + at, instant, level, step, message, chunk.attempt)


def _fits(line: LogLine, after: int, worst: int, search: str) -> bool:
    return line.number > after and LEVELS.index(line.level) >= worst and search.casefold() in line.message.casefold()


@dataclass(frozen=True)
class QueueState:
    """How the queue and its workers are."""

    queued: int
    running: int
    oldest_wait_seconds: float | None
    workers_alive: int
    workers_busy: int
    slots: int


def look_at_queue() -> QueueState:
    """The present state of the queue and of the workers that were seen lately."""
    now = utcnow()
    waiting = sa.select(Run.state, sa.func.count()).where(Run.state.in_(ACTIVE_STATES)).group_by(Run.state)
    counts: dict[RunState, int] = dict(db.session.execute(waiting).all())
    oldest = db.session.scalar(
        sa.select(sa.func.min(Run.available_at)).where(Run.state == RunState.QUEUED, Run.available_at <= now)
    )
    alive = list(
        db.session.scalars(sa.select(Worker).where(Worker.seen_at > now - timedelta(seconds=WORKER_SILENT_SECONDS)))
    )
    return QueueState(
        queued=counts.get(RunState.QUEUED, 0),
        running=counts.get(RunState.RUNNING, 0),
        oldest_wait_seconds=(now - oldest).total_seconds() if oldest else None,
        workers_alive=len(alive),
        workers_busy=sum(worker.busy for worker in alive),
        slots=sum(worker.slots for worker in alive),
    )


def why_it_waits(run: Run) -> str | None:
    """For a run that has not ended: what it waits for, in a sentence; None for one that moves or has ended."""
    if run.state is RunState.RUNNING and run.cancel_requested_at:
        return f"Being stopped for {run.cancel_requested_by}."
    if run.state is not RunState.QUEUED:
        return None
    now = utcnow()
    if run.available_at > now:
        left = int((run.available_at - now).total_seconds()) + 1
        return f"Attempt {run.attempt + 1} of {run.max_attempts} starts in {left} s, because the last one failed."
    if run.executor is Executor.AIRFLOW:
        return run.waits_because or _wait_for_airflow()
    queue = look_at_queue()
    if not queue.workers_alive:
        return "No worker is alive, so nothing can start. Start the stack with `make run`, or a worker beside it."
    if _running_of(run.job_id) >= _limit_of(run.job_id):
        return "Waits for the run of the same job that is under way."
    return f"Waits for a free worker: {queue.workers_busy} of {queue.slots} places are busy."


def _wait_for_airflow() -> str:
    if not settings().airflow_url:
        return "It is to be executed by Apache Airflow, but AIRFLOW_URL is not set."
    return "Waits to be handed to Apache Airflow."


def _running_of(job_id: uuid.UUID) -> int:
    query = sa.select(sa.func.count()).select_from(Run).where(Run.job_id == job_id, Run.state == RunState.RUNNING)
    return db.session.scalar(query) or 0


def _limit_of(job_id: uuid.UUID) -> int:
    return db.session.scalar(sa.select(Job.concurrency_limit).where(Job.id == job_id)) or 1


# --- asking for work --------------------------------------------------------------------------------------------------


def start_run(
    actor: Actor, job_id: uuid.UUID, *, retry_of: Run | None = None, first_task: int = 1, wish: Wish | None = None
) -> Run:
    """Queue a run of this job now, of a sync job with what is special about it. Raises NotFound, NotAllowed."""
    job = jobs.hold_job(actor, job_id)
    actor.require(Role.OPERATOR, job.project_id, Scope.JOBS_RUN, what="Job")
    if job.kind is JobKind.EXTERNAL:
        raise Conflict("This job is run elsewhere: it starts when RUNNING is reported of it.", code="EXTERNAL_JOB")
    run = new_run(job, trigger=Trigger.MANUAL, asked_by=actor.name, wish=wish)
    if problem := run.spec.get("sync", {}).get("problem"):
        raise Conflict(f"{problem['message']} {problem['fix']}", code="NOT_READY")
    if retry_of is not None:
        run.retry_of, run.first_task = retry_of.id, first_task
    return add_run(run)


def new_run(
    job: Job, *, trigger: Trigger, asked_by: str, scheduled_for: datetime | None = None, wish: Wish | None = None
) -> Run:
    """A run of this job as it is defined now, not yet added to the queue."""
    now = utcnow()
    return Run(
        id=uuid.uuid4(),
        project_id=job.project_id,
        job_id=job.id,
        state=RunState.QUEUED,
        trigger=trigger,
        triggered_by_name=asked_by,
        scheduled_for=scheduled_for,
        spec=spec_of(job, wish),
        executor=_executor_of(job),
        available_at=now,
        attempt=0,
        max_attempts=job.max_attempts,
        first_task=1,
        created_at=now,
        updated_at=now,
    )


_UNSET = {
    column.key: column.default.arg if column.default is not None and column.default.is_scalar else None
    for column in Run.__table__.columns
    if column.key != "number"
}
"""What the columns of a run hold that is new and has nothing else in them; its number is given by the database."""
_INSERT = Prepared(sa.insert(table_of(Run)).returning(table_of(Run).c.number), columns=list(_UNSET))


def _executor_of(job: Job) -> Executor:
    """Who executes a run of this job, as it is set now."""
    return settings().executor if job.executor is ExecutorChoice.DEFAULT else Executor(job.executor.value)


def add_run(run: Run) -> Run:
    """Put a new run into the queue and wake the workers."""
    # Not by a flush, which takes three times as long: whoever starts a run waits for it.
    values = {**_UNSET, **{name: value for name, value in run.__dict__.items() if name in _UNSET}}
    [(number,)] = _INSERT.rows(db.session(), values)
    run = adopt(db.session(), Run, {**values, "number": number})
    announce([RunMoved(run, None, RunState.QUEUED)])
    wake_at_commit(RUNS)
    return run


def spec_of(job: Job, wish: Wish | None = None) -> dict[str, Any]:
    """What a run executes: the job's definition as it is now, so that later edits do not touch the run."""
    work = {"sync": sync_of(job, wish)} if job.kind is JobKind.SYNC else {}
    return {
        **work,
        "job_name": job.name,
        "kind": job.kind.value,
        "job_version": job.version,
        "tasks": [{"extractor": task.extractor, "loader": task.loader} for task in job.tasks],
        "retry_delay_seconds": job.retry_delay_seconds,
        "timeout_seconds": job.timeout_seconds,
        "no_progress_seconds": job.no_progress_seconds,
    }


def retry_run(actor: Actor, run_id: uuid.UUID, *, from_failed_step: bool = False) -> Run:
    """Run the job again; from the task that failed, if asked. Raises Conflict while the run has not ended."""
    run = get_run(actor, run_id)
    if not run.is_finished:
        raise Conflict(f"This run is {run.state}; cancel it first.", code="RUN_NOT_FINISHED")
    if "sync" in run.spec:
        wish = _wish_again(run, only_failed=from_failed_step)
        return start_run(actor, run.job_id, retry_of=run, wish=wish)
    first_task = _failed_task(run) if from_failed_step else 1
    return start_run(actor, run.job_id, retry_of=run, first_task=first_task)


def _wish_again(run: Run, *, only_failed: bool) -> Wish:
    """What was special about the run; of its streams those that did not land, if asked."""
    wish = Wish.from_json(run.spec["sync"].get("wish", {}))
    receipts = [step.facts["stream"] for step in steps_of(run) if "stream" in step.facts]
    landed = {receipt["stream"] for receipt in receipts if receipt["status"] == StreamStatus.LANDED}
    left = tuple(receipt["stream"] for receipt in receipts if receipt["stream"] not in landed)
    return replace(wish, streams=left) if only_failed and left and not wish.restore else wish


def _failed_task(run: Run) -> int:
    steps = [step for step in steps_of(run) if step.outcome == "failed"]
    return steps[0].task if steps else run.first_task


def request_cancel(actor: Actor, run_id: uuid.UUID) -> Run:
    """Stop a run: a queued one at once, a running one within the cancel deadline. Raises Conflict when it has ended."""
    query = runs_visible_to(actor).where(Run.id == run_id).with_for_update(of=Run)
    run = db.session.scalar(query.execution_options(populate_existing=True))  # it may have been read without the lock
    if run is None:
        raise NotFound("Run not found")
    actor.require(Role.OPERATOR, run.project_id, Scope.JOBS_RUN, what="Run")
    if run.is_finished:
        raise Conflict(f"This run has ended already: {run.state}.", code="RUN_FINISHED", state=run.state.value)
    if run.cancel_requested_at is None:
        run.cancel_requested_at, run.cancel_requested_by = utcnow(), actor.name
        if run.state is RunState.QUEUED:
            end_unstarted(run, RunState.CANCELLED, f"cancelled by {actor.name}")
        elif run.is_reported:
            end_reported(run, RunState.CANCELLED, by=actor.name, is_report=False)
        db.session.flush()  # the caller shows when it changed
        wake_at_commit(RUNS)
        events.record("run.changed", project_id=run.project_id, subject_id=run.id, payload={"job_id": str(run.job_id)})
    return run


def end_unstarted(run: Run, to: RunState, reason: str) -> None:
    """End a run that never started."""
    was = run.state
    run.state, run.error_message, run.finished_at = move(was, to), reason, utcnow()
    db.session.flush()  # listeners read it back in bulk
    announce([RunMoved(run, was, to)])


def end_reported(run: Run, to: RunState, *, by: str, given_back: bool = False, is_report: bool = True) -> None:
    """End a run that is flown elsewhere, as was reported, or as was asked for here.

    `given_back`: it goes back to pending.
    """
    was, run.state, run.finished_at = run.state, move(run.state, to), utcnow()
    if to is not RunState.SUCCEEDED:
        said = "reported as failed" if to is RunState.FAILED else "cancelled"
        run.error_message = f"{'set back to pending' if given_back else said} by {by}"
    db.session.flush()  # listeners read it back in bulk
    announce([RunMoved(run, was, to, given_back=given_back, reported_by=by if is_report else "")])


def stop_runs_of(job: Job) -> None:
    """Refuse to let a job go while a run of it is under way here; drop what only waits, or is flown elsewhere.

    The runs are locked: one that is being claimed at this moment is waited for, and rows are locked in the order in
    which everybody locks them.
    """
    active = sa.select(Run.state).where(Run.job_id == job.id, Run.state.in_(ACTIVE_STATES)).order_by(Run.number)
    states = db.session.scalars(active.with_for_update()).all()
    if RunState.RUNNING in states and job.kind is not JobKind.EXTERNAL:
        raise Conflict("A run of this job is under way. Cancel it first.", code="JOB_RUNNING")


jobs.job_may_go.listen(stop_runs_of)


def announce(moves: Sequence[RunMoved]) -> None:
    """Tell the upper rooms and the event log, when the unit of work ends, that these runs changed their state.

    Not at once: listeners lock rockets, and a unit of work that locked some now and some later could meet another
    that did so in the opposite order.
    """
    db.session.info.setdefault("runs moved", []).extend(moves)


def announce_progress(moving: Sequence[Run]) -> None:
    """Tell the upper rooms, when the unit of work ends, that these runs came further."""
    db.session.info.setdefault("runs progressed", []).extend(moving)


def announce_later(run_ids: Iterable[uuid.UUID]) -> None:
    """These runs are claimed; that they have started is announced by a unit of work of its own."""
    db.session.info["runs to launch"] = frozenset(run_ids)


def tell_news(session: sa.orm.Session) -> None:
    """Called before the commit: tell all that was announced in the unit of work, at once and in its order."""
    moves: list[RunMoved] = session.info.pop("runs moved", [])
    progressed: list[Run] = session.info.pop("runs progressed", [])
    to_launch: frozenset[uuid.UUID] = session.info.pop("runs to launch", frozenset())
    for moved in moves:
        run = moved.run
        payload = {"job_id": str(run.job_id), "state": moved.to.value, "was": moved.was.value if moved.was else None}
        events.record("run.moved", project_id=run.project_id, subject_id=run.id, payload=payload)
    if moves or progressed:
        run_news.tell(RunNews(moves, progressed, to_launch))


database.before_commit.insert(0, tell_news)


def shown_spec(run: Run) -> Mapping[str, Any]:
    """The configuration as it was for this run, secrets masked."""
    from webapp.secrets import mask

    masked: Mapping[str, Any] = mask(run.spec)
    return masked


def settings() -> Settings:
    """The settings of the present instance."""
    found: Settings = current_app.extensions["settings"]
    return found


def describe_trigger(run: Run) -> str:
    """Who or what asked for the run, in words."""
    if run.trigger is Trigger.SCHEDULER:
        return f"schedule, for {rfc3339(run.scheduled_for)}"
    if run.is_reported:
        return f"flown elsewhere, reported by {run.triggered_by_name}"
    return f"retry asked for by {run.triggered_by_name}" if run.retry_of else f"started by {run.triggered_by_name}"
