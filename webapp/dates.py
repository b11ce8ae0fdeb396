"""Instants: always aware, always UTC, RFC 3339 on the wire."""

from datetime import UTC, datetime


def utcnow() -> datetime:
    """The present instant, aware, in UTC."""
    return datetime.now(UTC)


def rfc3339(instant: datetime | None) -> str | None:
    """The instant as `2026-01-02T03:04:05.678901Z`, or None; naive values are taken as UTC."""
    if instant is None:
        return None
    return instant.replace(tzinfo=None).isoformat(timespec="microseconds") + "Z"
