"""GET /health: alive, and how database, queue and workers are (contract 001 asks for 200 while the server runs).

GET /metrics: the same and more for Prometheus.
"""

import sqlalchemy.exc
from flask import Blueprint, Response, g
from prometheus_client import CONTENT_TYPE_LATEST

from webapp import guard
from webapp.api.bodies import answer
from webapp.errors import NotSignedIn
from webapp.metrics import render
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


@door.get("/metrics")
def metrics() -> Response:
    """Prometheus' text format; for anybody on this machine, else for a token with the scope `read` or a log-in."""
    if (g.actor is None or not g.actor.may_read) and not guard.is_on_this_machine():
        raise NotSignedIn("Send a token with the scope read, as `authorization` in the scrape configuration.")
    return Response(render(), mimetype="text/plain", headers={"Content-Type": CONTENT_TYPE_LATEST})


def _look() -> dict[str, object]:
    try:
        state = runs.look_at_queue()
    except sqlalchemy.exc.OperationalError:
        return {"status": "degraded", "database": "away", "workers": None, "queued": None, "running": None}
    workers = {"alive": state.workers_alive, "busy": state.workers_busy, "slots": state.slots}
    status = "ready" if state.workers_alive else "degraded"
    return {"status": status, "database": "ok", "workers": workers, "queued": state.queued, "running": state.running}
