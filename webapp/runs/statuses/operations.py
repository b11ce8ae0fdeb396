"""Reporting an external job, and editing the log of any job.

A report of RUNNING opens a run, COMPLETED or FAILED ends it, PENDING calls it back: so durations, history and figures
are those of every other job. Nobody here executes such a run; it has no lease, and no worker claims or recovers it.
"""

import uuid
from dataclasses import dataclass

import sqlalchemy as sa

from webapp import events
from webapp.accounts.access import Actor, Scope
from webapp.dates import utcnow
from webapp.db import db
from webapp.errors import Conflict
from webapp.jobs import operations as jobs
from webapp.jobs.models import Job, JobKind
from webapp.notices import Notice
from webapp.runs.models import Run, Trigger
from webapp.runs.operations import RunMoved, announce, end_reported, new_run
from webapp.runs.states import RunState, move
from webapp.runs.statuses.log import get_entry, newest_of
from webapp.runs.statuses.models import StatusEntry


@dataclass(frozen=True)
class JobNote:
    """Something to be read in the history of the job's rocket. `waits`: the job is pending, and no run is open."""

    job_id: uuid.UUID
    text: str
    waits: bool = False


job_noted: Notice[JobNote] = Notice()


def report_status(actor: Actor, job_id: uuid.UUID, state: RunState) -> StatusEntry:
    """Add a status to the log of an external job, and let its run and rocket follow. Raises Conflict, NotFound."""
    job = jobs.hold_to_change(actor, job_id, scope=Scope.JOBS_RUN)
    _require_external(job)
    before = newest_of(job.id)
    now = utcnow()
    entry = StatusEntry(project_id=job.project_id, job_id=job.id, state=state, at=now, by=actor.name)
    job.updated_at = now
    entry.run_id = _follow(job, state, before.state if before else None, by=actor.name)
    db.session.add(entry)
    db.session.flush()  # whoever asked is told its number
    _record("status.reported", job, entry, by=actor.name)
    return entry


def edit_status(
    actor: Actor, number: int, *, job_id: uuid.UUID | None = None, state: RunState | None = None
) -> StatusEntry:
    """Change what an entry says, or whose it is; the trace stays in the entry, the history and the event log.

    An external job whose newest status changed by this follows, as if it had been reported. The runs and rockets of
    other jobs stay what they are. Raises Conflict, NotFound.
    """
    entry, held = _hold(actor, number, job_id)
    old, new = held[entry.job_id], held[job_id or entry.job_id]
    if new is not old:
        _require_external(new)
    said: list[str] = []
    if state is not None and state is not entry.state:
        said.append(f"from {entry.state} to {state}")
    if new is not old:
        said.append(f"from the job {old.number} to the job {new.number}")
    if said:
        before = {job.id: newest_of(job.id) for job in held.values()}
        states = {key: found.state if found else None for key, found in before.items()}
        entry.state, entry.job_id, entry.project_id = state or entry.state, new.id, new.project_id
        entry.edited_at, entry.edited_by = utcnow(), actor.name
        db.session.flush()
        for job in held.values():
            _leave_trace("status.changed", job, entry, f"changed {' and '.join(said)}", by=actor.name)
            _catch_up(job, states[job.id], by=actor.name)
    return entry


def delete_status(actor: Actor, number: int) -> None:
    """Take an entry out of the log; what follows is as after an edit. Raises NotFound."""
    entry, held = _hold(actor, number)
    job = held[entry.job_id]
    before = newest_of(job.id)
    db.session.delete(entry)
    db.session.flush()
    _leave_trace("status.deleted", job, entry, f"({entry.state}) deleted", by=actor.name)
    _catch_up(job, before.state if before else None, by=actor.name)


def _hold(actor: Actor, number: int, other: uuid.UUID | None = None) -> tuple[StatusEntry, dict[uuid.UUID, Job]]:
    """The entry and its job, and another job if named, kept from everybody else until the unit of work ends."""
    entry = get_entry(actor, number)
    wanted = sorted({entry.job_id, other or entry.job_id})  # one order for all, so that two never wait in a ring
    held = {job_id: jobs.hold_to_change(actor, job_id) for job_id in wanted}
    db.session.refresh(entry)
    if entry.job_id not in held:
        raise Conflict("This status was changed at the same moment. Look at it again.", code="CHANGED_MEANWHILE")
    return entry, held


def _require_external(job: Job) -> None:
    if job.kind is not JobKind.EXTERNAL:
        raise Conflict(
            f"The job {job.number} is run here: its runs write its statuses. Only jobs of the kind external are "
            "reported.",
            code="NOT_EXTERNAL",
            field="job",
        )


# --- what follows from the log ----------------------------------------------------------------------------------------


def _catch_up(job: Job, before: RunState | None, *, by: str) -> None:
    """Bring an external job to what its newest status says, when an edit changed that."""
    newest = newest_of(job.id)
    if job.kind is not JobKind.EXTERNAL:
        return
    job.updated_at = utcnow()
    if newest is not None and newest.state is not before:
        _follow(job, newest.state, before, by=by)


def _follow(job: Job, state: RunState, before: RunState | None, *, by: str) -> uuid.UUID | None:
    """Open, prolong, end or call back the job's run; returns its id."""
    run = _open_run_of(job)
    if state is RunState.RUNNING:
        run = _prolong(run) if run else _open(job, by)
    elif state is RunState.QUEUED:
        _call_back(job, run, by)
    elif run is not None or state is not before:  # told twice, it has ended already
        run = run or _open(job, by, is_started=False)
        end_reported(run, state, by=by)
    return run.id if run else None


def _open_run_of(job: Job) -> Run | None:
    query = sa.select(Run).where(Run.job_id == job.id, Run.state == RunState.RUNNING).order_by(Run.number)
    return db.session.scalars(query.with_for_update().execution_options(populate_existing=True)).first()


def _prolong(run: Run) -> Run:
    run.progress_at = utcnow()
    return run


def _open(job: Job, by: str, *, is_started: bool = True) -> Run:
    """A run that is flown elsewhere; when only its end was reported, nobody knows when it started."""
    run = new_run(job, trigger=Trigger.MANUAL, asked_by=by)
    run.hold_for_reports()
    run.state = move(run.state, RunState.RUNNING)
    run.attempt, run.max_attempts = 1, 1
    run.started_at = run.progress_at = utcnow() if is_started else None
    db.session.add(run)
    db.session.flush()  # listeners need its number
    announce([RunMoved(run, None, RunState.RUNNING, reported_by=by)])
    return run


def _call_back(job: Job, run: Run | None, by: str) -> None:
    if run is None:
        job_noted.tell(JobNote(job.id, f"pending: reported by {by}", waits=True))
    else:
        end_reported(run, RunState.CANCELLED, by=by, given_back=True)


def _leave_trace(kind: str, job: Job, entry: StatusEntry, what: str, *, by: str) -> None:
    job_noted.tell(JobNote(job.id, f"status {entry.number} {what} by {by}"))
    _record(kind, job, entry, by=by, what=what)


def _record(kind: str, job: Job, entry: StatusEntry, **facts: str) -> None:
    payload = {"job_id": str(job.id), "number": entry.number, "state": entry.state.value, **facts}
    events.record(kind, project_id=job.project_id, user_id=job.created_by, subject_id=job.id, payload=payload)
