"""Status entries: the integer-numbered log of contract 004."""

import uuid
from datetime import datetime

import sqlalchemy as sa
from sqlalchemy.orm import Mapped, mapped_column

from webapp.db import Base, BigNumber, enum_column
from webapp.runs.states import RunState


class StatusEntry(Base):
    """One status of a job, and from when it was. `by` is who reported it, empty for what a run here wrote.

    No foreign keys: the row of a run is locked when its status is written, and a check of the job's row after that
    would meet those who lock jobs before their runs. The entries of a job that is deleted are deleted with it.
    """

    __tablename__ = "job_status"
    __table_args__ = (
        sa.Index("ix_job_status_project_id_at_number", "project_id", "at", "number"),
        sa.Index("ix_job_status_job_id_at_number", "job_id", "at", "number"),
        {"sqlite_autoincrement": True},  # the number of an entry that was deleted is never used again
    )

    number: Mapped[int] = mapped_column(BigNumber, primary_key=True, autoincrement=True)
    project_id: Mapped[uuid.UUID]
    job_id: Mapped[uuid.UUID]
    run_id: Mapped[uuid.UUID | None]
    state: Mapped[RunState] = mapped_column(enum_column(RunState))
    at: Mapped[datetime]
    by: Mapped[str] = mapped_column(sa.String(255), default="")
    edited_at: Mapped[datetime | None]
    edited_by: Mapped[str | None] = mapped_column(sa.String(255))
