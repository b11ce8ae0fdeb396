"""People, projects, and the tokens of machines."""

import uuid
from datetime import datetime
from typing import Any

import sqlalchemy as sa
from sqlalchemy.orm import Mapped, mapped_column

from webapp.config import Role
from webapp.db import Base, Row, enum_column

DEFAULT_PROJECT_SLUG = "default"


class User(Row):
    """A person. `session_version` is in every cookie and token; raising it ends them all."""

    __tablename__ = "user"
    __table_args__ = (
        sa.Index(
            "uq_user_owner",
            "is_owner",
            unique=True,
            sqlite_where=sa.text("is_owner"),
            postgresql_where=sa.text("is_owner"),
        ),
    )

    username: Mapped[str] = mapped_column(sa.String(150))
    username_key: Mapped[str] = mapped_column(sa.String(150), unique=True)
    email: Mapped[str | None] = mapped_column(sa.String(254))
    email_key: Mapped[str | None] = mapped_column(sa.String(254), unique=True)
    full_name: Mapped[str | None] = mapped_column(sa.String(255))
    password_hash: Mapped[str] = mapped_column(sa.String(255))
    role: Mapped[Role] = mapped_column(enum_column(Role))
    is_owner: Mapped[bool] = mapped_column(default=False)
    is_active: Mapped[bool] = mapped_column(default=True)
    session_version: Mapped[int] = mapped_column(default=1)
    last_login_at: Mapped[datetime | None]


class Project(Row):
    """A tenant: jobs, runs, rockets and connections belong to one."""

    __tablename__ = "project"

    slug: Mapped[str] = mapped_column(sa.String(64), unique=True)
    name: Mapped[str] = mapped_column(sa.String(255))


class Membership(Base):
    """A user's role in a project."""

    __tablename__ = "membership"

    user_id: Mapped[uuid.UUID] = mapped_column(sa.ForeignKey("user.id", ondelete="CASCADE"), primary_key=True)
    project_id: Mapped[uuid.UUID] = mapped_column(sa.ForeignKey("project.id", ondelete="CASCADE"), primary_key=True)
    role: Mapped[Role] = mapped_column(enum_column(Role))


class ServiceToken(Row):
    """A machine's account: named, scoped, may expire, can be revoked. Only its SHA-256 is kept."""

    __tablename__ = "service_token"

    name: Mapped[str] = mapped_column(sa.String(100))
    project_id: Mapped[uuid.UUID] = mapped_column(sa.ForeignKey("project.id", ondelete="CASCADE"))
    created_by: Mapped[uuid.UUID | None] = mapped_column(sa.ForeignKey("user.id", ondelete="SET NULL"))
    role: Mapped[Role] = mapped_column(enum_column(Role))
    scopes: Mapped[list[Any]]
    hint: Mapped[str] = mapped_column(sa.String(12))
    token_hash: Mapped[str] = mapped_column(sa.String(64), unique=True)
    expires_at: Mapped[datetime | None]
    revoked_at: Mapped[datetime | None]


class RevokedToken(Base):
    """A JWT that was logged out, kept until it would have expired anyway."""

    __tablename__ = "revoked_token"

    jti: Mapped[str] = mapped_column(sa.String(36), primary_key=True)
    expires_at: Mapped[datetime] = mapped_column(index=True)


class LoginFailure(Base):
    """Failed log-ins in a window, counted for a key (address and name, or address alone)."""

    __tablename__ = "login_failure"

    key: Mapped[str] = mapped_column(sa.String(64), primary_key=True)
    window_ends_at: Mapped[datetime] = mapped_column(index=True)
    failures: Mapped[int]


class Invitation(Row):
    """A link that lets one person register; only its SHA-256 is kept."""

    __tablename__ = "invitation"

    token_hash: Mapped[str] = mapped_column(sa.String(64), unique=True)
    role: Mapped[Role] = mapped_column(enum_column(Role))
    created_by: Mapped[uuid.UUID] = mapped_column(sa.ForeignKey("user.id", ondelete="CASCADE"))
    expires_at: Mapped[datetime]
    used_at: Mapped[datetime | None]
