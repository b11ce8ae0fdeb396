"""The guard at the doors: finds out who comes, asks the policy table, checks form tokens, shapes refusals."""

import ipaddress
import re
import time
import uuid
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

import sqlalchemy.exc
from flask import Flask, Response, current_app, g, request, session
from flask_jwt_extended import JWTManager, create_access_token, decode_token
from flask_login import AnonymousUserMixin, LoginManager, UserMixin, current_user, login_user, logout_user
from flask_wtf.csrf import CSRFError, CSRFProtect
from jwt.exceptions import PyJWTError
from werkzeug.exceptions import HTTPException, RequestEntityTooLarge

from webapp import db as database
from webapp import refusals
from webapp.accounts import operations as accounts
from webapp.accounts.access import Actor, Scope, Via
from webapp.accounts.models import User
from webapp.accounts.revocation import CACHE_SECONDS, Epoch
from webapp.config import Settings
from webapp.dates import utcnow
from webapp.edge.cross_origin import may_use_cookies
from webapp.edge.rate_limits import count_visit
from webapp.errors import HohmannError, NotAllowed, NotSignedIn
from webapp.policy import POLICY, SAME_ORIGIN, Access
from webapp.run_tokens import read_token

SAFE_METHODS = frozenset({"GET", "HEAD", "OPTIONS"})
CACHE_SIZE = 4096
AUDIENCE = "hohmann"
COOKIE_BEARER = "authenticated"
"""What contract 002's web client always sends as its token, while its cookie says who it is."""
_LOOPBACK_HOST = re.compile(r"(localhost|127(\.\d{1,3}){3}|\[::1\])(:\d+)?", re.IGNORECASE)
_PROXY_HEADERS = ("X-Forwarded-For", "X-Real-IP", "Forwarded")


class Logins(LoginManager):  # type: ignore[misc]
    """Flask-Login without its "remember me", which would open the session after every request of a machine, too."""

    def _update_remember_cookie(self, response: Response) -> Response:
        return response


#: Who acts for callers that show no credentials at the doors of a blueprint, when the settings open them.
STAND_INS: dict[str, Callable[[], Actor | None]] = {}

login_manager = Logins()
csrf = CSRFProtect()
jwt = JWTManager()


@dataclass
class SignedIn(UserMixin):  # type: ignore[misc]
    """The person behind a cookie, for Flask-Login."""

    actor: Actor
    session_version: int
    session_id: str  # of this log-in alone, so that logging out ends it wherever the cookie was copied to

    @property
    def username(self) -> str:
        return self.actor.name

    def get_id(self) -> str:
        return f"{self.actor.user_id}:{self.session_version}:{self.session_id}"


@dataclass(frozen=True)
class Bearer:
    """What a bearer token stands for, until `good_until` (seconds since 1970)."""

    actor: Actor
    good_until: float
    jti: str | None = None
    expires_at: datetime | None = None


class BearerCache:
    """Whom recent tokens belong to. Entries live for a few seconds and die with any revocation on this machine."""

    def __init__(self, epoch: Epoch) -> None:
        self._epoch = epoch
        self._seen = epoch.read()
        self._known: dict[str, Bearer] = {}

    def find(self, token: str) -> Bearer | None:
        """The token's bearer when it is known and still good."""
        now_at = self._epoch.read()
        if now_at != self._seen:
            self._known, self._seen = {}, now_at
        bearer = self._known.get(token)
        return bearer if bearer and bearer.good_until > time.time() else None

    def keep(self, token: str, bearer: Bearer, *, epoch: int) -> None:
        """Remember a bearer that was looked up while the counter stood at `epoch`."""
        if epoch == self._seen:
            if len(self._known) >= CACHE_SIZE:
                self._known.clear()
            self._known[token] = bearer


def wire(app: Flask) -> None:
    """Put the guard before every request."""
    settings: Settings = app.extensions["settings"]
    app.config.update(
        JWT_SECRET_KEY=app.config["SECRET_KEY"],
        JWT_ALGORITHM="HS256",
        JWT_DECODE_ALGORITHMS=["HS256"],
        JWT_ENCODE_AUDIENCE=AUDIENCE,
        JWT_DECODE_AUDIENCE=AUDIENCE,
        JWT_ACCESS_TOKEN_EXPIRES=settings.token_hours * 3600,
    )
    jwt.init_app(app)
    login_manager.init_app(app)
    csrf.init_app(app)
    app.extensions["bearers"] = BearerCache(app.extensions["revocations"])
    app.before_request(check_visitor)
    app.register_error_handler(HohmannError, _refuse)
    app.register_error_handler(HTTPException, _refuse_http)
    app.register_error_handler(CSRFError, _refuse_csrf)
    app.register_error_handler(sqlalchemy.exc.OperationalError, _database_away)
    app.register_error_handler(Exception, refusals.unexpected)


@login_manager.user_loader  # type: ignore[untyped-decorator]
def load_signed_in(cookie_id: str) -> SignedIn | None:
    """The person of a session cookie, or None when the cookie is not good any more."""
    try:
        user_id, version, session_id = cookie_id.split(":")
        actor = accounts.actor_for_user(
            uuid.UUID(user_id), session_version=int(version), via=Via.COOKIE, jti=session_id
        )
    except ValueError:
        return None
    return SignedIn(actor, int(version), session_id) if actor else None


def start_session(user: User) -> None:
    """Sign this user in at the browser that asks."""
    actor = accounts.actor_for_user(user.id, session_version=user.session_version, via=Via.COOKIE)
    assert actor is not None, "only active users sign in"
    session.clear()  # nothing that somebody planted before the log-in lives on after it
    session.permanent = True
    login_user(SignedIn(actor, user.session_version, uuid.uuid4().hex))


def end_session() -> None:
    """Sign out at the browser that asks; copies of its cookie are worthless too."""
    signed_in = current_user._get_current_object()
    if isinstance(signed_in, SignedIn) and signed_in.actor.user_id is not None:
        lifetime = current_app.permanent_session_lifetime
        accounts.revoke_jwt(signed_in.session_id, user_id=signed_in.actor.user_id, expires_at=utcnow() + lifetime)
    logout_user()
    session.clear()


def check_visitor() -> None:
    """Let the request in, or raise. Sets `g.actor` (None for a stranger at a public door)."""
    g.actor = None
    if request.content_length and request.content_length > int(request.max_content_length or 0):
        raise RequestEntityTooLarge  # before a byte of it is read
    if request.endpoint is None or request.method == "OPTIONS":
        return  # an unknown address: the 404 says so; a preflight asks nothing
    access = POLICY.get(request.endpoint)
    if access is None:
        raise NotSignedIn("This door is not in the policy table.")
    if access is Access.PUBLIC and request.endpoint == "static":
        return
    if access is Access.RUN:
        _admit_run()
        return
    g.actor = identify()
    count_visit(g.actor)
    g.actor = g.actor or stand_in()
    if access is not Access.PUBLIC and g.actor is None:
        raise NotSignedIn("Sign in first." if not request.authorization else "This token is not good (any more).")
    if access is Access.ADMIN and g.actor is not None:
        g.actor.require_admin()
    if access is not Access.PUBLIC and request.method in SAFE_METHODS and not g.actor.may_read:
        raise NotAllowed(f"This token lacks the scope {Scope.READ}.", needed_scope=Scope.READ.value)
    _check_form_token()


def _admit_run() -> None:
    """Let in whoever holds the token of one run. It opens these doors alone: elsewhere it is no good token."""
    scheme, _, token = request.headers.get("Authorization", "").partition(" ")
    g.run_pass = read_token(token.strip()) if scheme.lower() == "bearer" else None
    if g.run_pass is None:
        raise NotSignedIn("The token of a run is needed here, and this is none.")


def actor() -> Actor:
    """Who asks, at a door that lets only known visitors in."""
    found: Actor | None = g.actor
    if found is None:
        raise NotSignedIn("Sign in first.")
    return found


def identify() -> Actor | None:
    """Who this request comes from: its bearer token, else its cookie."""
    header = request.headers.get("Authorization", "")
    scheme, _, token = header.partition(" ")
    if scheme.lower() == "bearer" and token.strip() and token.strip() != COOKIE_BEARER:
        bearer = find_bearer(token.strip())
        g.bearer = bearer
        return bearer.actor if bearer else None
    if session.get("_user_id") and current_user.is_authenticated:
        signed_in: SignedIn = current_user._get_current_object()
        return signed_in.actor
    return None


def stand_in() -> Actor | None:
    """Who acts for a caller that shows no credentials at this door: nobody, unless a setting opens it."""
    found = STAND_INS.get(request.blueprint or "")
    return found() if found and "Authorization" not in request.headers else None


def find_bearer(token: str) -> Bearer | None:
    """Whom a JWT or service token belongs to, or None when it is not good."""
    cache: BearerCache = current_app.extensions["bearers"]
    known = cache.find(token)
    if known:
        return known
    epoch = current_app.extensions["revocations"].read()
    bearer = _read_service_token(token) if token.startswith(accounts.SERVICE_TOKEN_PREFIX) else _read_jwt(token)
    if bearer:
        cache.keep(token, bearer, epoch=epoch)
    return bearer


def _read_service_token(token: str) -> Bearer | None:
    found = accounts.actor_for_service_token(token)
    if found is None:
        return None
    actor, expires_at = found
    return Bearer(actor, _good_until(expires_at), expires_at=expires_at)


def _read_jwt(token: str) -> Bearer | None:
    try:
        claims = decode_token(token)
        user_id, version = uuid.UUID(claims["sub"]), int(claims["ver"])
        jti, expires_at = str(uuid.UUID(claims["jti"])), datetime.fromtimestamp(claims["exp"], UTC)
    except (PyJWTError, KeyError, ValueError, TypeError):
        return None
    found = accounts.actor_for_user(user_id, session_version=version, via=Via.JWT, jti=jti)
    return Bearer(found, _good_until(expires_at), jti=jti, expires_at=expires_at) if found else None


def _good_until(expires_at: datetime | None) -> float:
    soon = time.time() + CACHE_SECONDS
    return min(soon, expires_at.timestamp()) if expires_at else soon


def make_jwt(user: User) -> str:
    """A JWT for this user, with the claims of contracts 001 and 003."""
    claims: dict[str, Any] = {"ver": user.session_version, "userId": str(user.id), "email": user.email}
    token: str = create_access_token(identity=str(user.id), additional_claims=claims)
    return token


def is_on_this_machine() -> bool:
    """Whether the visitor sits at this machine: the connection is a loopback's, and so is the name that was asked for.

    The name is checked because a web page elsewhere may have its own name point at 127.0.0.1; a header of a proxy that
    is not trusted says that somebody else stands behind the connection.
    """
    if not _is_loopback(request.remote_addr or "") or _LOOPBACK_HOST.fullmatch(request.host) is None:
        return False
    settings: Settings = current_app.extensions["settings"]
    return settings.trusted_proxies > 0 or not any(name in request.headers for name in _PROXY_HEADERS)


def _is_loopback(address: str) -> bool:
    try:
        return ipaddress.ip_address(address).is_loopback
    except ValueError:
        return False


def sign_in(name: str, password: str) -> User:
    """The user with this name and password; a failure is counted, though the unit of work that failed is rolled back.

    Raises what `accounts.authenticate` raises.
    """
    address = request.remote_addr or ""
    try:
        return accounts.authenticate(name, password, address=address)
    except NotSignedIn:
        database.let_go()
        with database.unit_of_work():
            accounts.note_login_failure(name, address=address)
        raise


def _check_form_token() -> None:
    """Unsafe requests that a browser could be tricked into need a form token; a bearer token proves itself."""
    if request.method in SAFE_METHODS or getattr(g, "bearer", None) is not None:
        return
    if refusals.speaks_json() and (g.actor is None or g.actor.via is Via.ANONYMOUS):
        return  # a log-in or registration by a machine: nothing of a browser's session is used
    if request.blueprint in SAME_ORIGIN:
        _check_origin()
    else:
        csrf.protect()


def _check_origin() -> None:
    """At doors whose clients have a cookie, but no form token: refuse what a page of another origin makes a browser do.

    Browsers say where an unsafe request comes from. Without their word it comes from a machine, or from a browser so
    old that it can only be tricked into sending forms.
    """
    origin, site = request.headers.get("Origin"), request.headers.get("Sec-Fetch-Site", "same-origin")
    is_foreign = site not in {"same-origin", "none"} or (origin is not None and origin != request.host_url.rstrip("/"))
    is_foreign = is_foreign and not may_use_cookies(origin, current_app.extensions["settings"])
    if is_foreign or (request.mimetype and request.mimetype != "application/json"):
        raise NotAllowed(
            "This call comes from another origin, or as a form; send JSON from this one.", code="FOREIGN_ORIGIN"
        )


def _refuse(error: HohmannError) -> Response:
    return refusals.answer(error)


def _refuse_http(error: HTTPException) -> Response:
    return refusals.answer_http(error)


def _refuse_csrf(error: CSRFError) -> Response:

    return refusals.answer(NotAllowed("The form is too old. Load the page again and repeat.", code="BAD_FORM_TOKEN"))


def _database_away(error: sqlalchemy.exc.OperationalError) -> Response:
    g._login_user = AnonymousUserMixin()  # the page's header asks who is there: it must not ask the database again
    return refusals.database_away(error)
