"""GET /health: alive, and how database, queue and workers are (contract 001 asks for 200 while the server runs)."""

import sqlalchemy.exc
from flask import Blueprint, Response

from webapp.api.bodies import answer
from webapp.runs import operations as runs

door = Blueprint("health", __name__)


@door.get("/health")
@door.get("/health/live", endpoint="live")
def health() -> Response:
    """200 as long as the web server answers; the body says what is well and what is not."""
    return answer(_look())


@door.get("/health/ready")
def ready() -> Response:
    """200 when a run could be accepted and executed now, else 503."""
    state = _look()
    return answer(state, 200 if state["status"] == "ready" else 503)


def _look() -> dict[str, object]:
    try:
        state = runs.look_at_queue()
    except sqlalchemy.exc.OperationalError:
        return {"status": "degraded", "database": "away", "workers": None, "queued": None, "running": None}
    workers = {"alive": state.workers_alive, "busy": state.workers_busy, "slots": state.slots}
    status = "ready" if state.workers_alive else "degraded"
    return {"status": status, "database": "ok", "workers": workers, "queued": state.queued, "running": state.running}
