"""The blueprint that the modules of this folder put their doors on, and the project that an address names."""

import uuid

from flask import Blueprint, g, request

from webapp import guard
from webapp.accounts import operations as accounts
from webapp.errors import NotFound

door = Blueprint("olake", __name__, url_prefix="/api/v1/project/<project>")
"""Views on it take no `project`: they ask `project_id()`."""

MAXIMUM_NUMBER = 2**62


@door.before_request
def find_project() -> None:
    """Read which project the address means. Raises NotFound, also for a stranger to it."""
    named = (request.view_args or {}).pop("project", "")
    g.project_id = accounts.project_called(guard.actor(), named)


def project_id() -> uuid.UUID:
    """The project of the present request, which its actor belongs to."""
    found: uuid.UUID = g.project_id
    return found


def path_number(text: str, *, what: str) -> int:
    """The integer id in an address. Raises NotFound: nothing is there under another name."""
    if not (text.isascii() and text.isdigit()) or int(text[:20]) > MAXIMUM_NUMBER:
        raise NotFound(f"{what} not found")
    return int(text)
