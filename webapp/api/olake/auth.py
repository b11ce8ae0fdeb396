"""Contract 002's log-in: by a cookie. The contract writes these addresses from the root (see `webapp.api.root`)."""

from flask import Blueprint, Response, current_app

from webapp import guard
from webapp.accounts import operations as accounts
from webapp.accounts.operations import Newcomer
from webapp.api.bodies import read_body
from webapp.api.olake.envelope import success
from webapp.api.users import Credentials, Registration
from webapp.cookies import LeanSessions
from webapp.errors import NotSignedIn

door = Blueprint("olake_auth", __name__, url_prefix="/api/olake")


@door.post("/login")
def login() -> Response:
    """200 with the session's cookie; wrong 400, because clients take any 401 for the end of a session."""
    body = read_body(Credentials)
    try:
        user = guard.sign_in(body.username, body.password)
    except NotSignedIn as error:
        error.status = 400
        raise
    guard.start_session(user)
    response = success({"username": user.username})
    sessions = current_app.session_interface
    if isinstance(sessions, LeanSessions):
        sessions.set_named_cookie(current_app, response)
    return response


@door.post("/signup")
def signup() -> Response:
    """200 with the new user, who is not signed in yet; a taken name is 409."""
    body = read_body(Registration)
    newcomer = Newcomer(
        username=body.username,
        password=body.password,
        email=body.email,
        full_name=body.full_name,
        from_loopback=guard.is_on_this_machine(),
        token=body.token,
    )
    user = accounts.register_user(newcomer)
    return success({"email": user.email or "", "username": user.username})


@door.get("/auth")
@door.get("/auth/check", endpoint="check")
def auth() -> Response:
    """Who is signed in; 401 without a session."""
    return success({"username": guard.actor().name})


@door.get("/telemetry-id")
def telemetry_id() -> Response:
    """Nobody's id: with an empty one, the web client reports nothing to anybody."""
    return success({"user_id": ""})
