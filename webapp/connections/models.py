"""Connections: where data comes from and where it goes, how the last test went, and what a source was found to hold."""

import uuid
from datetime import datetime
from enum import StrEnum
from typing import Any

import sqlalchemy as sa
from sqlalchemy.orm import Mapped, mapped_column

from webapp.db import Base, Row, enum_column
from webapp.secrets import EncryptedJSON


class ConnectionRole(StrEnum):
    """Which end of a sync a connection is."""

    SOURCE = "source"
    DESTINATION = "destination"


class ConnectionStatus(StrEnum):
    """What the last test said; a change of the configuration makes it untested."""

    UNTESTED = "untested"
    WORKS = "works"
    FAILS = "fails"


class DiscoveryState(StrEnum):
    """How far looking through a source has come."""

    RUNNING = "running"
    DONE = "done"
    FAILED = "failed"
    INTERRUPTED = "interrupted"


class Connection(Row):
    """A source or a destination. Deleted ones stay, for the runs and jobs that name them."""

    __tablename__ = "connection"
    __table_args__ = (
        sa.Index(
            "uq_connection_living_name",
            "project_id",
            "role",
            "name",
            unique=True,
            sqlite_where=sa.text("deleted_at IS NULL"),
            postgresql_where=sa.text("deleted_at IS NULL"),
        ),
    )

    project_id: Mapped[uuid.UUID] = mapped_column(sa.ForeignKey("project.id", ondelete="CASCADE"))
    role: Mapped[ConnectionRole] = mapped_column(enum_column(ConnectionRole))
    type: Mapped[str] = mapped_column(sa.String(64))
    version: Mapped[str] = mapped_column(sa.String(64))
    name: Mapped[str] = mapped_column(sa.String(255))
    config: Mapped[dict[str, Any]] = mapped_column(EncryptedJSON)
    created_by: Mapped[uuid.UUID | None] = mapped_column(sa.ForeignKey("user.id", ondelete="SET NULL"))
    updated_by: Mapped[uuid.UUID | None] = mapped_column(sa.ForeignKey("user.id", ondelete="SET NULL"))
    status: Mapped[ConnectionStatus] = mapped_column(enum_column(ConnectionStatus), default=ConnectionStatus.UNTESTED)
    last_test_at: Mapped[datetime | None]
    last_test_ok: Mapped[bool | None]
    last_test_steps: Mapped[list[Any] | None] = mapped_column(sa.JSON(none_as_null=True))
    deleted_at: Mapped[datetime | None]


class Discovery(Base):
    """The last look through a source. `attempt` tells its writer from one that was started after it."""

    __tablename__ = "discovery"

    connection_id: Mapped[uuid.UUID] = mapped_column(
        sa.ForeignKey("connection.id", ondelete="CASCADE"), primary_key=True
    )
    attempt: Mapped[uuid.UUID]
    state: Mapped[DiscoveryState] = mapped_column(enum_column(DiscoveryState))
    found: Mapped[int] = mapped_column(default=0)
    started_at: Mapped[datetime]
    seen_at: Mapped[datetime]
    finished_at: Mapped[datetime | None]
    error: Mapped[dict[str, Any] | None] = mapped_column(sa.JSON(none_as_null=True))


class DiscoveredStream(Base):
    """One stream that was found, in the order of finding. `document` is the engine's `Stream` as JSON."""

    __tablename__ = "discovered_stream"

    connection_id: Mapped[uuid.UUID] = mapped_column(
        sa.ForeignKey("connection.id", ondelete="CASCADE"), primary_key=True
    )
    position: Mapped[int] = mapped_column(primary_key=True, autoincrement=False)
    namespace: Mapped[str] = mapped_column(sa.String(512))
    name: Mapped[str] = mapped_column(sa.String(512))
    document: Mapped[dict[str, Any]]
