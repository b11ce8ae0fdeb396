"""What every request leaves behind: a request id, safe headers, a log line. Secrets are struck out of all logs."""

import logging
import re
import sys
import time
import uuid
from datetime import UTC, datetime

import orjson
from flask import Flask, Response, g, has_request_context, request

from webapp.config import LogFormat, Settings
from webapp.redaction import redact

REQUEST_ID = re.compile(r"[A-Za-z0-9._:-]{1,100}")
CONTENT_SECURITY_POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; font-src 'self'; "
    "connect-src 'self'; form-action 'self'; base-uri 'none'; frame-ancestors 'none'; manifest-src 'self'"
)

log = logging.getLogger("hohmann.web")


class Redact(logging.Filter):
    """Strikes out what looks like a secret, in every record that passes."""

    def filter(self, record: logging.LogRecord) -> bool:
        record.msg, record.args = redact(record.getMessage()), ()
        return True


class JsonLines(logging.Formatter):
    """A record as one JSON object in one line, for machines that collect logs."""

    def format(self, record: logging.LogRecord) -> str:
        said: dict[str, object] = {
            "at": datetime.fromtimestamp(record.created, UTC),
            "level": record.levelname.lower(),
            "logger": record.name,
            "message": record.getMessage(),
            "process": record.process,
        }
        if has_request_context() and (request_id := g.get("request_id")):
            said["request_id"] = request_id
        if record.exc_info:
            said["exception"] = redact(self.formatException(record.exc_info))
        return orjson.dumps(said, option=orjson.OPT_UTC_Z).decode()


def set_up_logging(level: str, style: LogFormat) -> None:
    """Logs go to standard error, one line each, without secrets."""
    handler = logging.StreamHandler(sys.stderr)
    text = logging.Formatter("%(asctime)s %(levelname)s %(name)s %(message)s")
    handler.setFormatter(JsonLines() if style is LogFormat.JSON else text)
    handler.addFilter(Redact())
    root = logging.getLogger("hohmann")
    root.handlers[:] = [handler]
    root.setLevel(level.upper())
    root.propagate = False


def wire(app: Flask) -> None:
    """Attach to every request of the application."""
    settings: Settings = app.extensions["settings"]
    set_up_logging(settings.log_level, settings.log_format)
    app.before_request(_arrive)
    app.after_request(_leave)


def _arrive() -> None:
    given = request.headers.get("X-Request-ID", "")
    g.request_id = given if REQUEST_ID.fullmatch(given) else uuid.uuid4().hex
    g.arrived = time.perf_counter()


def _leave(response: Response) -> Response:
    response.headers["X-Request-ID"] = g.get("request_id") or uuid.uuid4().hex
    response.headers["X-Content-Type-Options"] = "nosniff"
    response.headers["Referrer-Policy"] = "same-origin"
    if request.endpoint != "static":
        response.headers.setdefault("Cache-Control", "no-store")
        if log.isEnabledFor(logging.DEBUG):
            took = (time.perf_counter() - g.get("arrived", time.perf_counter())) * 1000
            log.debug(
                "%s %s %s %.1f ms %s", request.method, request.path, response.status_code, took, g.get("request_id")
            )
    if response.mimetype == "text/html":
        response.headers["Content-Security-Policy"] = CONTENT_SECURITY_POLICY
        response.headers["X-Frame-Options"] = "DENY"
        response.vary.add("HX-Request")
    return response
