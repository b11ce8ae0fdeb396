"""The event log: what changed, appended in the transaction that changed it. `live` tails it.

The order of ids is the order of commits: writers take their ids under one lock, just before they commit, so that a
reader who has seen event n will never meet a smaller one later.
"""

import uuid
from datetime import datetime, timedelta
from typing import Any

import sqlalchemy as sa
from sqlalchemy.orm import Mapped, Session, mapped_column

from webapp import db as database
from webapp import wake
from webapp.dates import utcnow
from webapp.db import Base, BigNumber, db

EVENT_LOCK = 7_203_001


class Event(Base):
    """One change: its kind, whose it is, what it concerns, and the facts that listeners need."""

    __tablename__ = "event"
    __table_args__ = ({"sqlite_autoincrement": True},)  # ids are never used again, even when the log was emptied

    id: Mapped[int] = mapped_column(BigNumber, primary_key=True, autoincrement=True)
    at: Mapped[datetime] = mapped_column(index=True)
    kind: Mapped[str] = mapped_column(sa.String(40))
    project_id: Mapped[uuid.UUID | None]
    user_id: Mapped[uuid.UUID | None]
    subject_id: Mapped[uuid.UUID | None]
    payload: Mapped[dict[str, Any]]


def record(
    kind: str,
    *,
    project_id: uuid.UUID | None = None,
    user_id: uuid.UUID | None = None,
    subject_id: uuid.UUID | None = None,
    payload: dict[str, Any] | None = None,
) -> None:
    """Append an event to the present unit of work. `user_id` is who made the subject, `project_id` who may see it."""
    event = {
        "at": utcnow(),
        "kind": kind,
        "project_id": project_id,
        "user_id": user_id,
        "subject_id": subject_id,
        "payload": payload or {},
    }
    db.session.info.setdefault("events", []).append(event)


def _write(session: Session) -> None:
    waiting = session.info.pop("events", [])
    if not waiting:
        return
    database.insert_last(Event, waiting, lock=EVENT_LOCK)
    database.wake_at_commit(wake.EVENTS)


database.before_commit.append(_write)


def latest_id() -> int:
    """The id of the newest event, 0 in an empty log."""
    return db.session.scalar(sa.select(sa.func.max(Event.id))) or 0


def oldest_id() -> int:
    """The id of the oldest event that is kept, 0 in an empty log."""
    return db.session.scalar(sa.select(sa.func.min(Event.id))) or 0


_AFTER = (
    sa.select(*Event.__table__.columns)
    .where(Event.id > sa.bindparam("event_id"))
    .order_by(Event.id)
    .limit(sa.bindparam("most"))
)


def events_after(event_id: int, *, limit: int = 1000) -> list[Event]:
    """The events that follow `event_id`, oldest first. They belong to no session, so they outlive the transaction."""
    # Read for every event in every web process: half as costly as through the session's identity map.
    found = db.session.connection().execute(_AFTER, {"event_id": event_id, "most": limit})
    return [Event(**row) for row in found.mappings()]


def prune(*, keep_days: int) -> int:
    """Drop events older than `keep_days`; returns how many went."""
    result = db.session.execute(sa.delete(Event).where(Event.at < utcnow() - timedelta(days=keep_days)))
    return int(result.rowcount)  # type: ignore[attr-defined]
