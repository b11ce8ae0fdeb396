"""What a refusal looks like: JSON under /api, a page elsewhere; never a stack trace."""

import logging
from collections.abc import Callable
from typing import Any
from urllib.parse import quote

import orjson
from flask import Response, g, redirect, render_template, request
from werkzeug.exceptions import HTTPException, MethodNotAllowed

from webapp.accounts import operations as accounts
from webapp.errors import HohmannError, Invalid, NotSignedIn, TooMany, Unavailable

log = logging.getLogger("hohmann.web")

CODES = {
    400: "BAD_REQUEST",
    404: "NOT_FOUND",
    405: "METHOD_NOT_ALLOWED",
    406: "NOT_ACCEPTABLE",
    413: "BODY_TOO_LARGE",
    414: "URI_TOO_LONG",
    415: "UNSUPPORTED_MEDIA_TYPE",
    431: "HEADERS_TOO_LARGE",
}


VERBS = ("GET", "POST", "PUT", "PATCH", "DELETE", "HEAD", "OPTIONS")
"""In the order in which every `Allow` header names them, which is that of Django REST framework."""

TITLES = {
    403: "Not allowed",
    404: "Nothing here",
    405: "Not like this",
    409: "Not now",
    413: "Too large",
    429: "Too often",
    500: "Something broke",
    503: "Not at the moment",
}


Dialect = Callable[[str, int, str | None], tuple[dict[str, Any], int]]
#: How a contract says a refusal in a shape of its own, by where its addresses begin: from the message, the status and
#: the field to the body and the status.
DIALECTS: dict[str, Dialect] = {}
#: The same for a single address, with others of ours below it.
ROOT_DIALECTS: dict[str, Dialect] = {}


def speaks_json() -> bool:
    """Whether this request is answered in JSON, whatever its Accept header says."""
    return request.path.startswith("/api") or request.path in {"/health", "/health/", "/metrics"}


def body(message: str, code: str, details: dict[str, Any], detail: Any = None) -> dict[str, Any]:
    """The one shape of an error: contract 003's three keys, and contract 000's `detail`."""
    return {"error": message, "code": code, "details": details, "detail": message if detail is None else detail}


def answer(error: HohmannError) -> Response:
    """The answer to a refusal by an operation or the guard."""
    if not speaks_json():
        return _page(error)
    if (said := _in_dialect(error.message, error.status, getattr(error, "field", None))) is not None:
        response = said
    else:
        response = _json(body(error.message, error.code, error.details, _detail(error)), error.status)
    if isinstance(error, NotSignedIn):
        response.headers["WWW-Authenticate"] = "Bearer"
    if isinstance(error, TooMany):
        response.headers["Retry-After"] = str(error.retry_after)
    return response


def _in_dialect(message: str, status: int, field: str | None = None) -> Response | None:
    if request.path in ROOT_DIALECTS:
        return _json(*ROOT_DIALECTS[request.path](message, status, field))
    for beginning, dialect in DIALECTS.items():
        if request.path.startswith(beginning):
            return _json(*dialect(message, status, field))
    return None


def _detail(error: HohmannError) -> Any:
    """Validation errors list what is wrong in FastAPI's form (contract 000); all others are a text."""
    if not isinstance(error, Invalid):
        return error.message
    if "errors" in error.details:
        return error.details.pop("errors")
    where = error.details.pop("where", "body")
    loc = [where, error.field] if error.field else [where]
    return [{"type": "value_error", "loc": loc, "msg": error.message, "input": error.value}]


def answer_http(error: HTTPException) -> Response:
    """The answer to what Flask itself refuses: no such address, wrong verb, body too large, ..."""
    status = error.code or 500
    if not isinstance(error.get_response(), Response) and status < 400:
        return error.get_response()  # type: ignore[return-value]
    if status < 400:
        return error.get_response()  # type: ignore[return-value]
    message = {404: "There is nothing at this address.", 413: "The body is larger than this server takes."}.get(
        status, error.description or error.name
    )
    if not speaks_json():
        return _error_page(status, message)
    code = CODES.get(status, error.name.upper().replace(" ", "_"))
    response = _in_dialect(message, status) or _json(body(message, code, {}), status)
    for name, value in error.get_headers(None):
        if name.lower() == "retry-after":
            response.headers[name] = value
    if isinstance(error, MethodNotAllowed):
        # Werkzeug knows them as a set, whose order is another in each process.
        response.headers["Allow"] = ", ".join(verb for verb in VERBS if verb in (error.valid_methods or ()))
    return response


def unexpected(error: Exception) -> Response:
    """The answer when something broke that should not have: an id to look up in the log, and no more."""
    log.exception("request failed", exc_info=error)
    return answer(
        HohmannError(
            f"Something broke here. Quote {g.get('request_id', '-')} when you report it.", code="INTERNAL_ERROR"
        )
    )


def database_away(error: Exception) -> Response:
    """The answer while the database does not answer."""
    log.warning("database does not answer: %s", str(error).splitlines()[0])
    return answer(Unavailable("The database does not answer. Try again in a moment.", code="DATABASE_AWAY"))


def _page(error: HohmannError) -> Response:
    if isinstance(error, NotSignedIn) and request.method == "GET":
        return _to_login()
    return _error_page(error.status, error.message)


def _error_page(status: int, message: str) -> Response:
    title = TITLES.get(status, "This did not work")
    if request.headers.get("HX-Request"):
        html = render_template("errors/fragment.html", title=title, message=message)
        return Response(html, status, {"HX-Retarget": "#flashes", "HX-Reswap": "outerHTML"})
    html = render_template(
        "errors/error.html", status=status, title=title, message=message, request_id=g.get("request_id")
    )
    return Response(html, status)


def _to_login() -> Response:
    target = "/login?next=" + quote(request.full_path.rstrip("?"), safe="/")
    if not accounts.owner_exists():
        target = "/register"
    if request.headers.get("HX-Request"):
        return Response("", 401, {"HX-Redirect": target})
    return redirect(target, 303)  # type: ignore[return-value]


def _json(data: Any, status: int) -> Response:
    return Response(orjson.dumps(data, default=str), status, mimetype="application/json")
