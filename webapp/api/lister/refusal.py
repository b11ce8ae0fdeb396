"""A refusal as Django REST framework says it: `{"detail": text}`, or the wrong fields with what is wrong with each."""

from typing import Any

from flask import request

OURS = ("/api/jobs", "/api/jobstatuses")
"""Where the addresses of this contract begin, besides `/api/` itself."""


class Wrong(Exception):
    """What was sent cannot be used: messages by the name of the field. All wrong fields are in one of these."""

    def __init__(self, errors: dict[str, Any]) -> None:
        super().__init__(str(errors))
        self.errors = errors


def refusal(message: str, status: int, field: str | None = None) -> tuple[dict[str, Any], int]:
    """Its body and its status, which is 400 where other contracts have 422."""
    if status == 422:
        return ({field: [message]} if field else {"detail": message}), 400
    if status == 401 and "Authorization" not in request.headers:
        message = "Authentication credentials were not provided."
    if status == 405:
        message = f'Method "{request.method}" not allowed.'
    return {"detail": message}, status
