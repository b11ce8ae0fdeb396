"""What a sync job moves, and how far each of its streams has come."""

import uuid
from datetime import datetime
from typing import Any

import sqlalchemy as sa
from sqlalchemy.orm import Mapped, mapped_column, relationship

from webapp.accounts.models import User
from webapp.connections.models import Connection
from webapp.dates import utcnow
from webapp.db import Base
from webapp.jobs.models import Job


class SyncDefinition(Base):
    """The part of a sync job that other jobs do not have; `streams` and `frequency` are kept as they were sent."""

    __tablename__ = "sync_definition"

    job_id: Mapped[uuid.UUID] = mapped_column(sa.ForeignKey("job.id", ondelete="CASCADE"), primary_key=True)
    source_id: Mapped[uuid.UUID] = mapped_column(sa.ForeignKey("connection.id", ondelete="CASCADE"), index=True)
    destination_id: Mapped[uuid.UUID] = mapped_column(sa.ForeignKey("connection.id", ondelete="CASCADE"), index=True)
    streams: Mapped[str] = mapped_column(sa.Text, default="[]")
    frequency: Mapped[str] = mapped_column(sa.String(200), default="")
    updated_by: Mapped[uuid.UUID | None] = mapped_column(sa.ForeignKey("user.id", ondelete="SET NULL"))

    job: Mapped[Job] = relationship(lazy="joined", innerjoin=True)
    source: Mapped[Connection] = relationship(foreign_keys=[source_id], lazy="joined", innerjoin=True)
    destination: Mapped[Connection] = relationship(foreign_keys=[destination_id], lazy="joined", innerjoin=True)
    editor: Mapped[User | None] = relationship(foreign_keys=[updated_by], lazy="select")


class StreamState(Base):
    """How far a stream has come: a copy of what its destination keeps, for people, and the count of its resets.

    The destination's own state decides; one committed with a smaller `epoch` is ignored by the next run. `receipt` is
    what the last run said of the stream.
    """

    __tablename__ = "stream_state"

    job_id: Mapped[uuid.UUID] = mapped_column(sa.ForeignKey("job.id", ondelete="CASCADE"), primary_key=True)
    namespace: Mapped[str] = mapped_column(sa.String(512), primary_key=True)
    name: Mapped[str] = mapped_column(sa.String(512), primary_key=True)
    epoch: Mapped[int] = mapped_column(default=0)
    state: Mapped[dict[str, Any] | None] = mapped_column(sa.JSON(none_as_null=True))
    receipt: Mapped[dict[str, Any] | None] = mapped_column(sa.JSON(none_as_null=True))
    run_id: Mapped[uuid.UUID | None]
    updated_at: Mapped[datetime] = mapped_column(default=utcnow, onupdate=utcnow)

    @property
    def label(self) -> str:
        """The stream's name as people and logs say it."""
        return f"{self.namespace}.{self.name}" if self.namespace else self.name
