"""The cast: Alice owns it, Bob operates, Dave develops, Rita may only read, Charlie must see nothing."""

import secrets
import uuid
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from flask import Flask
from flask.testing import FlaskClient
from itsdangerous import URLSafeTimedSerializer
from werkzeug.test import TestResponse

from tests import factories
from webapp import db as database
from webapp.accounts import operations as accounts
from webapp.accounts.access import Actor, Via
from webapp.accounts.models import User
from webapp.config import Role
from webapp.guard import make_jwt

FORM_TOKEN_SALT = "wtf-csrf-token"


class Browser:
    """A browser in which somebody may be signed in: keeps cookies, sends form tokens with its forms, wants HTML."""

    def __init__(self, app: Flask, user_cookie: str | None = None) -> None:
        self.client: FlaskClient = app.test_client()
        self._app = app
        if user_cookie:
            with self.client.session_transaction() as session:
                session.update({"_user_id": user_cookie, "_fresh": True})

    @property
    def form_token(self) -> str:
        """What a page of this session has in its forms."""
        with self.client.session_transaction() as session:
            secret = session.setdefault("csrf_token", secrets.token_hex(20))
        signer = URLSafeTimedSerializer(self._app.config["SECRET_KEY"], salt=FORM_TOKEN_SALT)
        return str(signer.dumps(secret))

    def get(self, path: str, *, htmx: bool = False, **more: Any) -> TestResponse:
        """Open a page; `htmx` asks as htmx does."""
        return self.client.get(path, headers=_headers(htmx), **more)

    def post(self, path: str, data: dict[str, Any] | None = None, *, htmx: bool = False, **more: Any) -> TestResponse:
        """Send a form with its token."""
        filled = {"csrf_token": self.form_token, **(data or {})}
        return self.client.post(path, data=filled, headers=_headers(htmx), **more)


def _headers(htmx: bool) -> dict[str, str]:
    return {"Accept": "text/html"} | ({"HX-Request": "true"} if htmx else {})


@dataclass(frozen=True)
class Person:
    """Somebody with an account: as an actor, as a machine (`headers` bear a JWT), as a browser (`browser()`)."""

    app: Flask
    id: uuid.UUID
    username: str
    actor: Actor
    jwt: str
    cookie: str
    password: str = factories.PASSWORD

    @property
    def headers(self) -> dict[str, str]:
        """Headers of a machine that acts for this person."""
        return {"Authorization": f"Bearer {self.jwt}"}

    def browser(self) -> Browser:
        """A browser in which this person is signed in."""
        return Browser(self.app, self.cookie)


@dataclass(frozen=True)
class Cast:
    """Everybody."""

    alice: Person
    bob: Person
    dave: Person
    rita: Person
    charlie: Person

    def __iter__(self) -> Iterator[Person]:
        return iter((self.alice, self.bob, self.dave, self.rita, self.charlie))


def make_cast(app: Flask) -> Cast:
    """Register everybody."""
    with app.app_context():
        with database.unit_of_work():
            made = {
                "alice": factories.make_user("alice", role=Role.ADMIN, is_owner=True),
                "bob": factories.make_user("bob", role=Role.OPERATOR),
                "dave": factories.make_user("dave", role=Role.DEVELOPER),
                "rita": factories.make_user("rita", role=Role.VIEWER),
                "charlie": factories.make_user("charlie", role=Role.OPERATOR, stranger=True),
            }
        with database.reading():
            return Cast(**{name: as_person(app, user) for name, user in made.items()})


def as_person(app: Flask, user: User) -> Person:
    """The person of a user row that is in the present session. Needs an application context."""
    actor = accounts.actor_for_user(user.id, session_version=user.session_version, via=Via.JWT)
    assert actor is not None, f"{user.username} cannot come in"
    cookie = f"{user.id}:{user.session_version}:{uuid.uuid4().hex}"
    return Person(app, user.id, user.username, actor, make_jwt(user), cookie)
