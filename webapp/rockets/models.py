"""Rockets: the vehicles of contract 000, and their histories."""

import math
import uuid
from datetime import datetime

import sqlalchemy as sa
from sqlalchemy.orm import Mapped, mapped_column

from webapp.db import Base, BigNumber, Row, enum_column
from webapp.rockets.states import Phase, RocketState
from webapp.runs.states import RunState


class Rocket(Row):
    """A vehicle. It carries a job (`job_id`), or flies the plain flight plan, or is flown by callers from outside.

    `state` repeats what `phase` says, so that lists can filter by it. While `counting_since` is set, the estimated
    time counts down from that instant; `next_step_at` is when the flight plan has to be looked at again.
    """

    __tablename__ = "rocket"
    __table_args__ = (
        sa.Index("ix_rocket_project_id_number", "project_id", "number"),
        sa.Index("ix_rocket_project_id_state_number", "project_id", "state", "number"),
        sa.Index("ix_rocket_project_id_state_phase_started_at", "project_id", "state", "phase_started_at"),
        sa.Index("ix_rocket_project_id_status_number", "project_id", "status", "number"),
        sa.Index("ix_rocket_user_id_number", "user_id", "number"),
    )

    project_id: Mapped[uuid.UUID] = mapped_column(sa.ForeignKey("project.id", ondelete="CASCADE"))
    user_id: Mapped[uuid.UUID | None] = mapped_column(sa.ForeignKey("user.id", ondelete="SET NULL"))
    job_id: Mapped[uuid.UUID | None] = mapped_column(sa.ForeignKey("job.id", ondelete="CASCADE"), unique=True)
    phase: Mapped[Phase] = mapped_column(enum_column(Phase), default=Phase.PREPARING)
    state: Mapped[RocketState] = mapped_column(enum_column(RocketState), default=RocketState.PREPARING)
    status: Mapped[RunState] = mapped_column(enum_column(RunState), default=RunState.QUEUED)
    source: Mapped[str] = mapped_column(sa.String(255))
    destination: Mapped[str] = mapped_column(sa.String(255))
    location: Mapped[str] = mapped_column(sa.String(255))
    planned_seconds: Mapped[int] = mapped_column(default=0)
    estimated_time: Mapped[int] = mapped_column(default=0)
    counting_since: Mapped[datetime | None]
    phase_started_at: Mapped[datetime]
    next_step_at: Mapped[datetime | None] = mapped_column(index=True)
    airflow_dag_run_id: Mapped[str | None] = mapped_column(sa.String(250))
    version: Mapped[int] = mapped_column(default=1)

    __mapper_args__ = {"version_id_col": version}  # noqa: RUF012 - SQLAlchemy reads it from the class

    def seconds_left(self, now: datetime) -> int:
        """The estimated time left in the present state, in whole seconds."""
        return count_down(self.estimated_time, self.counting_since, now)


def count_down(estimated_time: int, counting_since: datetime | None, now: datetime) -> int:
    """What is left of `estimated_time` at `now`, when it has been counted down since that instant."""
    if counting_since is None:
        return estimated_time
    return max(0, math.ceil(estimated_time - (now - counting_since).total_seconds()))


class RocketHistory(Base):
    """One entry of a rocket's history."""

    __tablename__ = "rocket_history"
    __table_args__ = (sa.Index("ix_rocket_history_rocket_id_number", "rocket_id", "number"),)

    number: Mapped[int] = mapped_column(BigNumber, primary_key=True, autoincrement=True)
    id: Mapped[uuid.UUID] = mapped_column(unique=True, default=uuid.uuid4)
    rocket_id: Mapped[uuid.UUID] = mapped_column(sa.ForeignKey("rocket.id", ondelete="CASCADE"))
    run_id: Mapped[uuid.UUID | None]
    timestamp: Mapped[datetime]
    state: Mapped[RocketState] = mapped_column(enum_column(RocketState))
    message: Mapped[str] = mapped_column(sa.Text)
