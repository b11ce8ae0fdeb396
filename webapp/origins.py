"""Which pages may open a websocket: browsers name the page's origin, and no page can forge it."""

from collections.abc import Iterable
from urllib.parse import urlsplit

DEFAULT_PORTS = {"http": 80, "https": 443}


def is_allowed(origin: str | None, *, own: Iterable[str], listed: Iterable[str], may_be_absent: bool) -> bool:
    """Whether a handshake with this Origin header may go on: it must be exactly one of ours or of the listed ones.

    `own` and `listed` are origins or addresses (the path does not matter). Machines send no Origin at all.
    """
    if origin is None:
        return may_be_absent
    asked = _normal(origin)
    return asked is not None and asked in {_normal(address) for address in (*own, *listed) if address}


def _normal(address: str) -> tuple[str, str, int] | None:
    """Scheme, host and port; None for what is no origin ("null", a path, nonsense)."""
    try:
        parts = urlsplit(address.strip().lower())
        port = parts.port or DEFAULT_PORTS.get(parts.scheme)
    except ValueError:
        return None
    return (parts.scheme, parts.hostname, port) if parts.hostname and port and not parts.username else None
