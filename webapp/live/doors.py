"""The two doors of the live feed: who may open a websocket is decided here, before its handshake is answered."""

import uuid

from flask import Blueprint, g, request, session
from flask_sock import Sock
from simple_websocket import Server

from webapp.config import Settings
from webapp.errors import NotAllowed, NotSignedIn
from webapp.guard import find_bearer
from webapp.live import frames
from webapp.live.browser import PageFeed, PageSocket, parse_topics
from webapp.live.handover import take_over
from webapp.live.hub import Hub
from webapp.live.machine import JobFeed, JobSocket, Wanted
from webapp.origins import is_allowed


def make_door(sock: Sock, settings: Settings, *, jobs: JobFeed, pages: PageFeed) -> Blueprint:
    """The blueprint with `/api/v1/ws/jobs` for machines and `/live` for pages."""
    door = Blueprint("live", __name__)

    @door.before_request
    def check_handshake() -> None:
        refuse_foreign_origin(settings)
        if request.endpoint == "live.machine":
            g.handshake_token = token_of_handshake(settings)
        # Compression would cost an encoding for each client, and a small message could inflate to a huge one here.
        request.environ.pop("HTTP_SEC_WEBSOCKET_EXTENSIONS", None)

    @sock.route("/api/v1/ws/jobs", bp=door)  # type: ignore[untyped-decorator]
    def machine(ws: Server) -> None:
        open_job_socket(ws, jobs)

    @sock.route("/live", bp=door)  # type: ignore[untyped-decorator]
    def page(ws: Server) -> None:
        open_page_socket(ws, pages)

    return door


def refuse_foreign_origin(settings: Settings) -> None:
    """Raise NotAllowed when a page of another origin asks, whoever's cookie or token it brings."""
    own = (request.host_url, settings.public_url)
    may_be_absent = request.endpoint == "live.machine"  # machines send none, browsers always do
    origin = request.headers.get("Origin")
    if not is_allowed(origin, own=own, listed=settings.allowed_origins, may_be_absent=may_be_absent):
        raise NotAllowed("Pages of this origin may not connect.", code="FOREIGN_ORIGIN")


def token_of_handshake(settings: Settings) -> str | None:
    """The handshake's token, None when it brings none. Raises NotSignedIn for one that is not good."""
    header = request.headers.get("Authorization")
    token = request.args.get("token") if header is None and settings.allow_ws_query_token else None
    if header is not None:
        scheme, _, token = header.partition(" ")
        token = token.strip() if scheme.lower() == "bearer" else ""
    if token is not None and find_bearer(token) is None:
        raise NotSignedIn("This token is not good (any more).")
    return token


def open_job_socket(ws: Server, feed: JobFeed) -> None:
    """Hand a machine's socket to the hub; closes it with 1008 when its address cannot be understood."""
    try:
        wanted = parse_wanted(request.args.get("user_id"), request.args.get("since"))
    except ValueError as error:
        refuse(ws, feed.hub, str(error))
        return
    socket = JobSocket(feed, wanted, token=g.handshake_token)
    socket.opened(feed.hub.adopt(take_over(ws), socket, admitted=False))


def parse_wanted(user_id: str | None, since: str | None) -> Wanted:
    """What the address asks for. Raises ValueError that says what is wrong with it."""
    try:
        wanted_user = None if user_id is None else uuid.UUID(user_id)
    except ValueError as error:
        raise ValueError("user_id is a UUID") from error
    return Wanted(user_id=wanted_user, since=parse_since(since))


def parse_since(text: str | None) -> int | None:
    """The event after which to begin. Raises ValueError for what is no event's number."""
    if text is None:
        return None
    if not (text.isdecimal() and len(text) <= 18):
        raise ValueError("since is the number of an event")
    return int(text)


def open_page_socket(ws: Server, feed: PageFeed) -> None:
    """Hand a page's socket to the hub; closes it with 1008 when nobody is signed in or the topics are none.

    A page cannot see why a handshake failed, so one that is signed out has to be told in a close frame.
    """
    try:
        since = parse_since(request.args.get("since"))
        topics = parse_topics(request.args.get("topics", ""))
    except ValueError as error:
        refuse(ws, feed.hub, str(error))
        return
    if g.actor is None or "_user_id" not in session:
        refuse(ws, feed.hub, "Sign in first")
        return
    socket = PageSocket(feed, topics, cookie_id=session["_user_id"], since=since)
    socket.opened(feed.hub.adopt(take_over(ws), socket, admitted=False))


class Refusal:
    """Stands behind a socket that is only told why it is closed."""

    def received(self, client: object, message: str) -> None:
        """Nothing that it says matters."""

    def closed(self, client: object) -> None:
        """Nothing is kept for it."""


def refuse(ws: Server, hub: Hub, reason: str) -> None:
    """Close with 1008 and the reason; by the hub, as the web server would wait for the peer on its main thread."""
    hub.close(hub.adopt(take_over(ws), Refusal(), admitted=False), frames.POLICY, reason)
