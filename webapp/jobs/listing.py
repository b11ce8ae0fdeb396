"""Jobs by their integer numbers, and long lists of them in pages that are read from an index."""

from collections.abc import Sequence
from typing import Any

import sqlalchemy as sa
from sqlalchemy.orm import lazyload

from webapp.accounts.access import Actor
from webapp.db import db
from webapp.errors import NotFound
from webapp.jobs.models import Job
from webapp.jobs.operations import jobs_visible_to

LARGEST_NUMBER = 2**62


def numbered_job(actor: Actor, number: int) -> Job:
    """The job with this number; its tasks are read when they are used. Raises NotFound, also for a stranger."""
    query = jobs_visible_to(actor).where(Job.number == number).options(lazyload(Job.tasks))
    found = db.session.scalar(query) if abs(number) < LARGEST_NUMBER else None
    if found is None:
        raise NotFound("Job not found")
    return found


def count_jobs(actor: Actor) -> int:
    """How many jobs the actor may see."""
    query = sa.select(sa.func.count()).select_from(Job).where(Job.project_id.in_(actor.project_ids))
    return db.session.scalar(query) or 0


def page_of_jobs(actor: Actor, *, offset: int, limit: int) -> Sequence[sa.Row[*tuple[Any, ...]]]:
    """Rows (id, number, name, created_at, updated_at), newest first."""
    # The numbers of the page are found in the index alone; only its rows are read.
    inner = sa.select(Job.number).where(Job.project_id.in_(actor.project_ids))
    inner = inner.order_by(Job.created_at.desc(), Job.number.desc()).offset(offset).limit(limit)
    query = sa.select(Job.id, Job.number, Job.name, Job.created_at, Job.updated_at).where(Job.number.in_(inner))
    return db.session.execute(query.order_by(Job.created_at.desc(), Job.number.desc())).all()
