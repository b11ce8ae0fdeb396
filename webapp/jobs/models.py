"""Jobs: what should happen, and when."""

import uuid
from datetime import datetime
from enum import StrEnum
from typing import Any

import sqlalchemy as sa
from sqlalchemy.orm import Mapped, mapped_column, relationship

from webapp.db import Row, enum_column
from webapp.secrets import EncryptedJSON


class JobKind(StrEnum):
    """Who defines the work: contract 001 (etl), 002 (sync), 003 (notebook, sql, pipeline), 004 (external)."""

    ETL = "etl"
    SYNC = "sync"
    NOTEBOOK = "notebook"
    SQL = "sql"
    PIPELINE = "pipeline"
    EXTERNAL = "external"


class Overlap(StrEnum):
    """What happens to a scheduled run while as many runs as allowed are under way."""

    QUEUE = "queue"
    SKIP = "skip"
    REPLACE = "replace"


class Missed(StrEnum):
    """What happens to scheduled instants that passed while nobody looked."""

    SKIP = "skip"
    ONE = "one"
    ALL = "all"


class ExecutorChoice(StrEnum):
    """Who executes the runs of a job: whom the setting EXECUTOR names, or one in particular."""

    DEFAULT = "default"
    LOCAL = "local"
    AIRFLOW = "airflow"


class Job(Row):
    """A definition. Its runs are in `runs`, its vehicle in `rockets`."""

    __tablename__ = "job"
    __table_args__ = (
        sa.Index("ix_job_project_id_number", "project_id", "number"),
        sa.Index("ix_job_project_id_created_at_number", "project_id", "created_at", "number"),
    )

    project_id: Mapped[uuid.UUID] = mapped_column(sa.ForeignKey("project.id", ondelete="CASCADE"))
    created_by: Mapped[uuid.UUID | None] = mapped_column(sa.ForeignKey("user.id", ondelete="SET NULL"))
    kind: Mapped[JobKind] = mapped_column(enum_column(JobKind), default=JobKind.ETL)
    name: Mapped[str] = mapped_column(sa.String(255))
    description: Mapped[str | None] = mapped_column(sa.Text)
    schedule: Mapped[str] = mapped_column(sa.String(200), default="@manual")
    timezone: Mapped[str] = mapped_column(sa.String(64), default="UTC")
    is_enabled: Mapped[bool] = mapped_column(default=True)
    is_sample: Mapped[bool] = mapped_column(default=False)
    overlap: Mapped[Overlap] = mapped_column(enum_column(Overlap), default=Overlap.QUEUE)
    missed: Mapped[Missed] = mapped_column(enum_column(Missed), default=Missed.ONE)
    concurrency_limit: Mapped[int] = mapped_column(default=1)
    max_attempts: Mapped[int] = mapped_column(default=3)
    retry_delay_seconds: Mapped[float] = mapped_column(default=5.0)
    timeout_seconds: Mapped[float] = mapped_column(default=6 * 3600.0)
    no_progress_seconds: Mapped[float] = mapped_column(default=900.0)
    executor: Mapped[ExecutorChoice] = mapped_column(enum_column(ExecutorChoice), default=ExecutorChoice.DEFAULT)
    next_run_at: Mapped[datetime | None] = mapped_column(index=True)
    version: Mapped[int] = mapped_column(default=1)

    tasks: Mapped[list["Task"]] = relationship(
        order_by="Task.position", cascade="all, delete-orphan", passive_deletes=True, lazy="selectin"
    )

    __mapper_args__ = {"version_id_col": version}  # noqa: RUF012 - SQLAlchemy reads it from the class


class Task(Row):
    """One step of an etl job: an extractor and a loader, as they were sent."""

    __tablename__ = "task"
    __table_args__ = (sa.UniqueConstraint("job_id", "position"),)

    job_id: Mapped[uuid.UUID] = mapped_column(sa.ForeignKey("job.id", ondelete="CASCADE"))
    position: Mapped[int]
    extractor: Mapped[dict[str, Any]] = mapped_column(EncryptedJSON)
    loader: Mapped[dict[str, Any]] = mapped_column(EncryptedJSON)
