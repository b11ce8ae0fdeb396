"""Webhooks and what was sent, or is to be sent, to each."""

import uuid
from datetime import datetime
from enum import StrEnum
from typing import Any

import sqlalchemy as sa
from sqlalchemy.orm import Mapped, mapped_column, relationship

from webapp.db import Row, enum_column
from webapp.secrets import EncryptedJSON


class Topic(StrEnum):
    """What a webhook can be told of."""

    RUN_STARTED = "run.started"
    RUN_SUCCEEDED = "run.succeeded"
    RUN_FAILED = "run.failed"
    RUN_CANCELLED = "run.cancelled"
    RUN_RECOVERED = "run.recovered"
    RUN_NO_SHOW = "run.no_show"
    ROCKET_MOVED = "rocket.moved"
    PING = "ping"


class DeliveryState(StrEnum):
    """How far a message is."""

    WAITING = "waiting"
    DELIVERED = "delivered"
    GIVEN_UP = "given_up"


class Webhook(Row):
    """An address, and what it is told: of one job, or of all in the project."""

    __tablename__ = "webhook"

    project_id: Mapped[uuid.UUID] = mapped_column(sa.ForeignKey("project.id", ondelete="CASCADE"), index=True)
    job_id: Mapped[uuid.UUID | None] = mapped_column(sa.ForeignKey("job.id", ondelete="CASCADE"), index=True)
    name: Mapped[str] = mapped_column(sa.String(255))
    url: Mapped[str] = mapped_column(sa.Text)
    secret: Mapped[str] = mapped_column(EncryptedJSON)
    topics: Mapped[list[Any]]
    after_failures: Mapped[int] = mapped_column(default=1)
    no_show_seconds: Mapped[int] = mapped_column(default=300)
    is_enabled: Mapped[bool] = mapped_column(default=True)
    off_because: Mapped[str | None] = mapped_column(sa.Text)
    created_by: Mapped[uuid.UUID | None]


class Delivery(Row):
    """A message to a webhook; `subject` keeps what is told once from being told twice."""

    __tablename__ = "webhook_delivery"
    __table_args__ = (
        sa.UniqueConstraint("webhook_id", "subject"),
        sa.Index("ix_webhook_delivery_state_due_at", "state", "due_at"),
    )

    webhook_id: Mapped[uuid.UUID] = mapped_column(sa.ForeignKey("webhook.id", ondelete="CASCADE"))
    topic: Mapped[Topic] = mapped_column(enum_column(Topic))
    subject: Mapped[str] = mapped_column(sa.String(200))
    body: Mapped[str] = mapped_column(sa.Text)
    state: Mapped[DeliveryState] = mapped_column(enum_column(DeliveryState), default=DeliveryState.WAITING)
    attempts: Mapped[int] = mapped_column(default=0)
    due_at: Mapped[datetime]
    delivered_at: Mapped[datetime | None]
    status: Mapped[int | None]
    error: Mapped[str | None] = mapped_column(sa.Text)
    answer: Mapped[str | None] = mapped_column(sa.Text)

    webhook: Mapped[Webhook] = relationship()
