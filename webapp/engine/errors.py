"""What can go wrong while data moves, as facts that a page and a retry policy can act on."""

from enum import StrEnum
from typing import Any


class Origin(StrEnum):
    """Whose fault it is."""

    SOURCE = "source"
    DESTINATION = "destination"
    TRANSFORM = "transform"
    PLATFORM = "platform"
    USER = "user"


class Kind(StrEnum):
    """What sort of fault it is."""

    CONFIGURATION = "configuration"
    TRANSIENT = "transient"
    SYSTEM = "system"


class EngineError(Exception):
    """A load that could not be done, with whose fault it is and whether trying again can help.

    ``permanent`` is True when the same load would fail again; ``fix`` says in words what would resolve it; ``facts``
    carries what a program may want to know (file, line, column, address, status ...), JSON-able.
    """

    def __init__(
        self,
        message: str,
        *,
        origin: Origin,
        kind: Kind = Kind.CONFIGURATION,
        permanent: bool | None = None,
        fix: str | None = None,
        **facts: Any,
    ) -> None:
        super().__init__(message)
        self.message = message
        self.origin = origin
        self.kind = kind
        self.permanent = kind is not Kind.TRANSIENT if permanent is None else permanent
        self.fix = fix
        self.facts: dict[str, Any] = facts

    def __reduce__(self) -> tuple[Any, ...]:
        # Exceptions cross process borders by pickle, which would call __init__ with the message alone.
        return (_rebuild, (type(self), self.message, self.origin, self.kind, self.permanent, self.fix, self.facts))


class Cancelled(EngineError):
    """Someone asked for the load to stop; the table is as it was before."""

    def __init__(self, message: str = "cancelled", **facts: Any) -> None:
        super().__init__(message, origin=Origin.USER, kind=Kind.SYSTEM, permanent=True, **facts)


def _rebuild(
    cls: type[EngineError],
    message: str,
    origin: Origin,
    kind: Kind,
    permanent: bool,
    fix: str | None,
    facts: dict[str, Any],
) -> EngineError:
    error = cls.__new__(cls)
    EngineError.__init__(error, message, origin=origin, kind=kind, permanent=permanent, fix=fix, **facts)
    return error
