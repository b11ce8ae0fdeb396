"""Runs: each one execution of a job. The run table is the queue."""

import uuid
from datetime import datetime
from enum import StrEnum
from typing import Any

import sqlalchemy as sa
from sqlalchemy.orm import Mapped, mapped_column

from webapp.config import Executor
from webapp.db import Base, BigNumber, Row, enum_column
from webapp.runs.states import RunState
from webapp.secrets import EncryptedJSON

#: Stands where a worker's name stands while it holds a run: this one is flown elsewhere, and only reported here.
REPORTED = "reported"


def is_reported(lease_owner: str | None) -> bool:
    """Whether the run that this holds is flown elsewhere and only reported here: nobody here works on it or counts."""
    return lease_owner == REPORTED


class Trigger(StrEnum):
    """What asked for a run, in contract 001's words."""

    MANUAL = "manual"
    SCHEDULER = "scheduler"


class Run(Row):
    """One execution. `lease_token` fences: what a worker writes that lost its lease is void, as the token moved on."""

    __tablename__ = "run"
    __table_args__ = (
        sa.UniqueConstraint("job_id", "scheduled_for"),
        sa.Index("ix_run_state_executor_available_at_number", "state", "executor", "available_at", "number"),
        sa.Index("ix_run_job_id_number", "job_id", "number"),
        sa.Index("ix_run_job_id_state", "job_id", "state"),
        sa.Index("ix_run_project_id_number", "project_id", "number"),
    )

    project_id: Mapped[uuid.UUID] = mapped_column(sa.ForeignKey("project.id", ondelete="CASCADE"))
    job_id: Mapped[uuid.UUID] = mapped_column(sa.ForeignKey("job.id", ondelete="CASCADE"))
    state: Mapped[RunState] = mapped_column(enum_column(RunState), default=RunState.QUEUED)
    trigger: Mapped[Trigger] = mapped_column(enum_column(Trigger), default=Trigger.MANUAL)
    triggered_by_name: Mapped[str] = mapped_column(sa.String(255), default="")
    scheduled_for: Mapped[datetime | None]
    retry_of: Mapped[uuid.UUID | None]
    spec: Mapped[dict[str, Any]] = mapped_column(EncryptedJSON, deferred=True)  # large, and rarely looked at

    # the queue
    executor: Mapped[Executor] = mapped_column(enum_column(Executor), default=Executor.LOCAL)
    dag_run_id: Mapped[str | None] = mapped_column(sa.String(250))  # of the last attempt that was handed to Airflow
    waits_because: Mapped[str | None] = mapped_column(sa.Text)  # why it has not been started elsewhere
    available_at: Mapped[datetime]
    attempt: Mapped[int] = mapped_column(default=0)
    max_attempts: Mapped[int] = mapped_column(default=1)
    first_task: Mapped[int] = mapped_column(default=1)
    lease_owner: Mapped[str | None] = mapped_column(sa.String(120))
    lease_token: Mapped[int] = mapped_column(default=0)
    lease_until: Mapped[datetime | None]
    cancel_requested_at: Mapped[datetime | None]
    cancel_requested_by: Mapped[str | None] = mapped_column(sa.String(255))

    # what became of it
    started_at: Mapped[datetime | None]
    finished_at: Mapped[datetime | None]
    rows_read: Mapped[int] = mapped_column(BigNumber, default=0)
    rows_written: Mapped[int] = mapped_column(BigNumber, default=0)
    rows_found: Mapped[int | None] = mapped_column(BigNumber)
    bytes_read: Mapped[int] = mapped_column(BigNumber, default=0)
    fraction: Mapped[float | None]
    progress_at: Mapped[datetime | None]
    doubt: Mapped[str | None] = mapped_column(sa.Text)
    error_message: Mapped[str | None] = mapped_column(sa.Text)
    error_origin: Mapped[str | None] = mapped_column(sa.String(24))
    error_kind: Mapped[str | None] = mapped_column(sa.String(24))
    error_fix: Mapped[str | None] = mapped_column(sa.Text)
    cpu_seconds: Mapped[float | None]
    peak_memory_mb: Mapped[float | None]
    log_lines: Mapped[int] = mapped_column(default=0)

    @property
    def is_finished(self) -> bool:
        """Whether nothing more will happen to this run."""
        return self.state.is_final

    @property
    def is_reported(self) -> bool:
        """Whether somebody else flies this run and reports it here: no worker has to do with it."""
        return is_reported(self.lease_owner)

    def hold_for_reports(self) -> None:
        """Keep the run from workers, for good: it is flown elsewhere."""
        self.lease_owner = REPORTED

    @property
    def seconds(self) -> float | None:
        """How long the work took, from claim to end."""
        return (self.finished_at - self.started_at).total_seconds() if self.started_at and self.finished_at else None


class RunAttempt(Base):
    """One try of a run: who tried, and how it ended."""

    __tablename__ = "run_attempt"

    run_id: Mapped[uuid.UUID] = mapped_column(sa.ForeignKey("run.id", ondelete="CASCADE"), primary_key=True)
    attempt: Mapped[int] = mapped_column(primary_key=True)
    worker: Mapped[str] = mapped_column(sa.String(120))
    started_at: Mapped[datetime]
    finished_at: Mapped[datetime]
    outcome: Mapped[str] = mapped_column(sa.String(24))
    error_message: Mapped[str | None] = mapped_column(sa.Text)


class RunStep(Base):
    """A stretch of a run's time: what was done, from when to when, with what result."""

    __tablename__ = "run_step"

    run_id: Mapped[uuid.UUID] = mapped_column(sa.ForeignKey("run.id", ondelete="CASCADE"), primary_key=True)
    attempt: Mapped[int] = mapped_column(primary_key=True)
    position: Mapped[int] = mapped_column(primary_key=True)
    task: Mapped[int]
    name: Mapped[str] = mapped_column(sa.String(120))
    started_at: Mapped[datetime]
    finished_at: Mapped[datetime | None]
    outcome: Mapped[str | None] = mapped_column(sa.String(24))
    facts: Mapped[dict[str, Any]] = mapped_column(default=dict)


class RunSample(Base):
    """How far an attempt was in a second of its time; at most one for each second."""

    __tablename__ = "run_sample"

    run_id: Mapped[uuid.UUID] = mapped_column(sa.ForeignKey("run.id", ondelete="CASCADE"), primary_key=True)
    attempt: Mapped[int] = mapped_column(primary_key=True)
    second: Mapped[int] = mapped_column(primary_key=True)
    rows_read: Mapped[int] = mapped_column(BigNumber)
    bytes_read: Mapped[int] = mapped_column(BigNumber)


class LogChunk(Base):
    """Some log lines of a run, as `[[instant, level, step, message], ...]`, numbered from `first_line`."""

    __tablename__ = "run_log"
    __table_args__ = (sa.UniqueConstraint("run_id", "first_line"),)

    id: Mapped[int] = mapped_column(BigNumber, primary_key=True, autoincrement=True)
    run_id: Mapped[uuid.UUID] = mapped_column(sa.ForeignKey("run.id", ondelete="CASCADE"))
    attempt: Mapped[int]
    first_line: Mapped[int]
    line_count: Mapped[int]
    worst_level: Mapped[int]
    lines: Mapped[list[Any]]


class Worker(Base):
    """A worker process that is, or was, alive."""

    __tablename__ = "worker"

    name: Mapped[str] = mapped_column(sa.String(120), primary_key=True)
    started_at: Mapped[datetime]
    seen_at: Mapped[datetime] = mapped_column(index=True)
    slots: Mapped[int]
    busy: Mapped[int]
