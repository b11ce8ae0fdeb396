"""Writing the log of statuses as jobs and runs move, and reading it back."""

import uuid
from collections import defaultdict
from collections.abc import Collection, Mapping, Sequence
from typing import Any

import sqlalchemy as sa

from webapp.accounts.access import Actor
from webapp.dates import utcnow
from webapp.db import db, insert_at_commit
from webapp.errors import NotFound
from webapp.jobs import operations as jobs
from webapp.jobs.models import Job
from webapp.runs import operations as runs
from webapp.runs.operations import RunMoved, RunNews
from webapp.runs.states import RunState
from webapp.runs.statuses.models import StatusEntry

LARGEST_NUMBER = 2**62


def wire() -> None:
    """Let the log follow jobs and runs."""
    jobs.job_created.listen(_begin)
    jobs.job_about_to_go.listen(_forget)
    runs.run_news.listen(_follow)


def _begin(job: Job) -> None:
    """A new job is pending. Written at once: whoever made it is shown its status."""
    db.session.add(StatusEntry(project_id=job.project_id, job_id=job.id, state=RunState.QUEUED, at=utcnow(), by=""))
    db.session.flush()


def _follow(news: RunNews) -> None:
    """Runs that moved here write how; a run that follows a report was written by the report."""
    for moved in news.moves:
        if not moved.reported_by:
            insert_at_commit(StatusEntry, _row(moved))


def _row(moved: RunMoved) -> dict[str, Any]:
    run = moved.run
    about = {"project_id": run.project_id, "job_id": run.job_id, "run_id": run.id}
    return {**about, "state": moved.to, "at": utcnow(), "by": ""}


def _forget(job: Job) -> None:
    db.session.execute(sa.delete(StatusEntry).where(StatusEntry.job_id == job.id))


# --- reading ----------------------------------------------------------------------------------------------------------


def entries_visible_to(actor: Actor) -> sa.Select[StatusEntry]:
    """The entries that the actor may see: those of the actor's projects."""
    return sa.select(StatusEntry).where(StatusEntry.project_id.in_(actor.project_ids))


def get_entry(actor: Actor, number: int) -> StatusEntry:
    """The entry with this number. Raises NotFound, also for a stranger."""
    query = entries_visible_to(actor).where(StatusEntry.number == number)
    found = db.session.scalar(query) if abs(number) < LARGEST_NUMBER else None
    if found is None:
        raise NotFound("Status not found")
    return found


def count_entries(actor: Actor, *, job_id: uuid.UUID | None = None) -> int:
    """How many entries the actor may see, of one job if asked."""
    query = sa.select(sa.func.count()).select_from(StatusEntry)
    return db.session.scalar(query.where(*_among(actor, job_id))) or 0


def page_of_entries(
    actor: Actor, *, offset: int, limit: int, job_id: uuid.UUID | None = None
) -> Sequence[sa.Row[*tuple[Any, ...]]]:
    """Rows (number, number of the job, state, at), oldest first."""
    # The numbers of the page are found in the index alone; only its rows are read.
    inner = sa.select(StatusEntry.number).where(*_among(actor, job_id))
    inner = inner.order_by(StatusEntry.at, StatusEntry.number).offset(offset).limit(limit)
    query = (
        sa.select(StatusEntry.number, Job.number.label("job"), StatusEntry.state, StatusEntry.at)
        .join(Job, Job.id == StatusEntry.job_id)
        .where(StatusEntry.number.in_(inner))
        .order_by(StatusEntry.at, StatusEntry.number)
    )
    return db.session.execute(query).all()


def _among(actor: Actor, job_id: uuid.UUID | None) -> list[sa.ColumnElement[bool]]:
    if job_id is not None:  # of a job that the actor was found to be allowed to see
        return [StatusEntry.job_id == job_id]
    return [StatusEntry.project_id.in_(actor.project_ids)]


def newest_entries(job_ids: Collection[uuid.UUID], *, count: int) -> Mapping[uuid.UUID, list[sa.Row[*tuple[Any, ...]]]]:
    """The newest entries of each of these jobs, oldest first, as many as `count` each: number, state, at, by, ..."""
    found: dict[uuid.UUID, list[sa.Row[*tuple[Any, ...]]]] = defaultdict(list)
    if not job_ids:
        return found
    # For each job the instant of its first entry to be shown is looked up, then the index is read from there.
    older = sa.orm.aliased(StatusEntry)
    first_at = (
        sa.select(older.at)
        .where(older.job_id == Job.id)
        .order_by(older.at.desc(), older.number.desc())
        .offset(count - 1)
        .limit(1)
        .scalar_subquery()
    )
    first = sa.select(Job.id, first_at.label("at")).where(Job.id.in_(job_ids)).cte("first")
    first = first.prefix_with("MATERIALIZED")  # SQLite would look the instant up again for each row that it reads
    is_shown = sa.or_(first.c.at.is_(None), StatusEntry.at >= first.c.at)
    query = sa.select(*StatusEntry.__table__.columns).join(first, sa.and_(StatusEntry.job_id == first.c.id, is_shown))
    for row in db.session.execute(query):
        found[row.job_id].append(row)
    for job_id, rows in found.items():
        found[job_id] = sorted(rows, key=lambda row: (row.at, row.number))[-count:]
    return found


def newest_of(job_id: uuid.UUID) -> StatusEntry | None:
    """The job's newest entry."""
    query = sa.select(StatusEntry).where(StatusEntry.job_id == job_id)
    return db.session.scalar(query.order_by(StatusEntry.at.desc(), StatusEntry.number.desc()).limit(1))
