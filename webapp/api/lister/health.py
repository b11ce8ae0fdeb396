"""GET /health/, with a final slash: what this contract's front end asks whether its server is up."""

from flask import Blueprint, Response

from webapp.api.bodies import answer
from webapp.runs.operations import look_at_queue

health_door = Blueprint("lister_health", __name__)


@health_door.get("/health/")
def health() -> Response:
    """200 while the database answers; the guard says 503 when it does not."""
    look_at_queue()
    return answer({"status": "healthy"})
