"""What can go wrong, as facts. Operations raise these; the doors turn them into statuses in one place."""

from typing import Any


class HohmannError(Exception):
    """A refusal with its facts: a text for people, a code for machines, details for both."""

    status = 500
    code = "ERROR"

    def __init__(self, message: str, *, code: str | None = None, **details: Any) -> None:
        super().__init__(message)
        self.message = message
        self.code = code or type(self).code
        self.details = details


class NotFound(HohmannError):
    """The thing is not there, or the actor may not know that it is."""

    status = 404
    code = "NOT_FOUND"


class NotSignedIn(HohmannError):
    """Nobody is signed in, or the token is not good."""

    status = 401
    code = "UNAUTHORIZED"


class NotAllowed(HohmannError):
    """The actor may see the thing, but not do this to it."""

    status = 403
    code = "FORBIDDEN"


class Invalid(HohmannError):
    """A value cannot be used; `field` names it and the message says what would be right."""

    status = 422
    code = "INVALID"

    def __init__(self, message: str, *, field: str | None = None, value: Any = None, **details: Any) -> None:
        super().__init__(message, **details)
        self.field = field
        self.value = value


class Conflict(HohmannError):
    """The thing is in a state in which this cannot be done."""

    status = 409
    code = "CONFLICT"


class TooMany(HohmannError):
    """Asked too often; `retry_after` is in seconds."""

    status = 429
    code = "TOO_MANY_REQUESTS"

    def __init__(self, message: str, *, retry_after: int, **details: Any) -> None:
        super().__init__(message, **details)
        self.retry_after = retry_after


class Unavailable(HohmannError):
    """A part that is needed does not answer at present; asking again later may work."""

    status = 503
    code = "UNAVAILABLE"
