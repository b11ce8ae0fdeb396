"""The blueprint that the modules of this folder put their doors on."""

import uuid

from flask import Blueprint
from werkzeug.exceptions import BadRequest

door = Blueprint("etl_api", __name__, url_prefix="/api/v1")


def path_id(text: str, *, name: str) -> uuid.UUID:
    """The id in an address. Raises 400 for one that is no UUID, as contract 001's server does."""
    try:
        return uuid.UUID(text)
    except ValueError:
        raise BadRequest(f"{name}: {text[:64]!r} is no UUID.") from None
