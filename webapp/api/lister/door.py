"""The blueprint that the modules of this folder put their doors on, and what all of them do alike."""

from collections.abc import Callable
from typing import Any, TypeVar

from flask import Blueprint, Response, current_app, g, request
from werkzeug.exceptions import NotAcceptable

from webapp import guard
from webapp.accounts import operations as accounts
from webapp.accounts.access import SYSTEM, Actor, Scope, Via
from webapp.accounts.models import DEFAULT_PROJECT_SLUG
from webapp.api.bodies import answer
from webapp.api.lister.refusal import Wrong
from webapp.config import Opening, Role, Settings
from webapp.errors import NotFound
from webapp.refusals import VERBS

ANONYMOUS_DOORS = "lister"
LIST_METHODS, ITEM_METHODS = ["GET", "POST", "OPTIONS"], ["GET", "PUT", "PATCH", "DELETE", "OPTIONS"]
RENDERED = ("application/json", "application/*", "text/html", "text/*", "*/*")
"""What we answer in JSON. A browser that wants HTML gets JSON too, as everywhere under /api."""

View = TypeVar("View", bound=Callable[..., Any])

door = Blueprint(ANONYMOUS_DOORS, __name__, url_prefix="/api")


@door.before_request
def negotiate() -> None:
    """Refuse what asks for another format. OPTIONS comes past the guard, which lets preflights in: see who it is."""
    accept = request.headers.get("Accept")
    wanted = [] if accept is None else [part.partition(";")[0].strip().lower() for part in accept.split(",")]
    if wanted and not any(part in RENDERED for part in wanted):
        raise NotAcceptable("Could not satisfy the request Accept header.")
    if request.args.get("format", "json") not in ("", "json", "api"):
        raise NotFound("Not found.")
    if request.method == "OPTIONS":
        g.actor = guard.identify() or guard.stand_in()


@door.after_request
def describe(response: Response) -> Response:
    """Every answer says which verbs its address knows."""
    rule = request.url_rule
    if rule is not None and response.status_code not in (301, 308):
        response.headers["Allow"] = ", ".join(verb for verb in VERBS if verb in (rule.methods or ()))
        response.vary.add("Accept")
    return response


@door.errorhandler(Wrong)
def _refuse_wrong(error: Wrong) -> Response:
    return answer(error.errors, 400)


def add_slash(**_parts: str) -> Response:
    """To the same address with its final slash: 301 as Django says it; 308 where a client would lose its body."""
    # With an empty body: nothing under /api is HTML.
    query = f"?{request.query_string.decode('latin-1')}" if request.query_string else ""
    status = 301 if request.method in guard.SAFE_METHODS else 308
    return Response(status=status, headers={"Location": f"{request.path}/{query}"})


def serve(path: str, methods: list[str]) -> Callable[[View], View]:
    """A door at this path; the address without the final slash leads there."""

    def attach(view: View) -> View:
        door.add_url_rule(
            path, view.__name__, view, methods=methods, provide_automatic_options=False, strict_slashes=True
        )
        bare = path.removesuffix("/")
        door.add_url_rule(bare, "add_slash", add_slash, methods=methods, provide_automatic_options=False)
        return view

    return attach


def path_number(text: str) -> int:
    """The integer id in an address. Raises NotFound for what is none."""
    try:
        return int(text)
    except ValueError:
        raise NotFound("Not found.") from None


def anonymous() -> Actor | None:
    """Who acts for callers without credentials, if CONTRACT_004_ANONYMOUS lets them in: in the default project."""
    settings: Settings = current_app.extensions["settings"]
    opening = settings.contract_004_anonymous
    if opening is None:
        return None
    try:
        project_id = accounts.project_called(SYSTEM, DEFAULT_PROJECT_SLUG)
    except NotFound:
        return None  # before there is an owner, there is nothing to open
    writes = opening is Opening.WRITE
    scopes = {Scope.READ, Scope.JOBS_WRITE, Scope.JOBS_RUN} if writes else {Scope.READ}
    role = Role.OPERATOR if writes else Role.VIEWER
    return Actor("anonymous", Via.ANONYMOUS, memberships={project_id: role}, scopes=frozenset(scopes))
