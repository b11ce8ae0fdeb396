"""The JSON doors of people and machines: the log-in of contracts 000, 001 and 003, and the accounts themselves."""

from typing import Annotated, Any

from flask import Blueprint, Response, current_app, g, request
from pydantic import AwareDatetime, BaseModel, ConfigDict, Field, StringConstraints

from webapp import guard
from webapp.accounts import operations as accounts
from webapp.accounts.access import Scope
from webapp.accounts.models import ServiceToken, User
from webapp.accounts.operations import Newcomer
from webapp.api.bodies import answer, parse_uuid, read_body
from webapp.api.fields import Flag, Line, Name
from webapp.config import Role, Settings
from webapp.errors import Conflict, Invalid, NotAllowed

door = Blueprint("users_api", __name__, url_prefix="/api/v1")

LoginName = Annotated[Line, StringConstraints(min_length=1, max_length=254)]


class Registration(BaseModel):
    """Who registers, in the words of contracts 000 and 001; `token` is an invitation, or the owner's one-time token."""

    username: Line
    password: str
    email: Line | None = None
    full_name: Annotated[Line, StringConstraints(max_length=255)] | None = None
    token: Line | None = None


class SignUp(Registration):
    """Who registers, in the words of contract 003: by email."""

    username: Line | None = None  # type: ignore[assignment]
    email: Line


class Credentials(BaseModel):
    """A name and a password."""

    username: LoginName
    password: str


class SignIn(BaseModel):
    """An email, or a name, and a password, in the words of contract 003."""

    email: LoginName | None = None
    username: LoginName | None = None
    password: str


class NewPassword(BaseModel):
    """The present password and the next one."""

    old_password: str
    new_password: str


class UserChange(BaseModel):
    """What an admin changes about a user."""

    model_config = ConfigDict(extra="forbid")

    role: Role | None = None
    is_active: Flag | None = None


class NewServiceToken(BaseModel):
    """A machine's account: what it is called, what it may do, and until when."""

    model_config = ConfigDict(extra="forbid")

    name: Annotated[Name, StringConstraints(max_length=100)]
    role: Role = Role.OPERATOR
    scopes: list[Scope] = Field(min_length=1)
    expires_at: AwareDatetime | None = None


class NewInvitation(BaseModel):
    """The role that the guest will have, and how long the invitation is good."""

    model_config = ConfigDict(extra="forbid")

    role: Role = Role.OPERATOR
    days: Annotated[int, Field(ge=1, le=90, strict=True)] = 7


# --- contract 000 -----------------------------------------------------------------------------------------------------


@door.post("/register")
def register() -> Response:
    """201 with the new user; a taken name is 400."""
    user = _register(read_body(Registration))
    return answer({"id": user.id, "username": user.username, "created_at": user.created_at, "role": user.role}, 201)


@door.post("/login")
def login() -> Response:
    """200 with a JWT; wrong 401, deactivated 403, too many failures 429."""
    body = read_body(Credentials)
    user = guard.sign_in(body.username, body.password)
    return answer({"access_token": guard.make_jwt(user), "token_type": "bearer"})


@door.post("/logout")
def logout() -> Response:
    """204; from now on this JWT is worth nothing."""
    _revoke_own_token()
    return Response(status=204)


# --- contracts 001 and 003 --------------------------------------------------------------------------------------------


@door.post("/auth/register")
def auth_register() -> Response:
    """200 with the new user in contract 001's words."""
    user = _register(read_body(Registration))
    return answer(
        {
            "user_id": user.id,
            "username": user.username,
            "created_at": user.created_at,
            "updated_at": user.updated_at,
        }
    )


@door.post("/auth/login")
def auth_login() -> Response:
    """200 with a JWT, in contract 001's words and 003's."""
    body = read_body(SignIn)
    return answer(_session(_sign_in(body)))


@door.post("/auth/signup")
def auth_signup() -> Response:
    """201 with the new user, signed in at once, in contract 003's words."""
    user = _register(read_body(SignUp))
    return answer({**_session(user), "message": "Account created"}, 201)


@door.post("/auth/signin")
def auth_signin() -> Response:
    """200 with a JWT and the user in contract 003's words."""
    return answer(_session(_sign_in(read_body(SignIn))))


@door.post("/auth/signout")
@door.post("/auth/logout", endpoint="auth_logout")
def auth_signout() -> Response:
    """200; from now on this JWT is worth nothing."""
    _revoke_own_token()
    return answer({"message": "Signed out successfully"})


@door.get("/auth/user")
@door.get("/auth/me", endpoint="auth_me")
def auth_user() -> Response:
    """The person whose token this is."""
    return answer(show_person(accounts.own_account(guard.actor())))


@door.post("/auth/password")
def auth_password() -> Response:
    """200 with a new JWT; all older ones, cookies and sockets of this person end."""
    body = read_body(NewPassword)
    user = accounts.change_password(guard.actor(), old=body.old_password, new=body.new_password)
    return answer(_session(user))


# --- people, for admins -----------------------------------------------------------------------------------------------


@door.get("/users")
def list_users() -> Response:
    """All users, oldest first."""
    return answer([show_user(user) for user in accounts.list_users(guard.actor())])


@door.patch("/users/<user_id>")
def update_user(user_id: str) -> Response:
    """200 with the user in the new role, or switched off or on."""
    found = parse_uuid(user_id, what="User")
    body = read_body(UserChange)
    user = accounts.update_user(guard.actor(), found, role=body.role, is_active=body.is_active)
    return answer(show_user(user))


@door.post("/invitations")
def create_invitation() -> Response:
    """201 with a one-time token, and the link to register with it; shown this once."""
    body = read_body(NewInvitation)
    token = accounts.invite(guard.actor(), role=body.role, days=body.days)
    link = f"{_public_url()}/register?token={token}"
    return answer({"token": token, "url": link, "role": body.role, "days": body.days}, 201)


# --- tokens of machines -----------------------------------------------------------------------------------------------


@door.get("/service-tokens")
def list_service_tokens() -> Response:
    """All tokens of machines, newest first, without their secrets."""
    return answer([show_service_token(token) for token in accounts.list_service_tokens(guard.actor())])


@door.post("/service-tokens")
def create_service_token() -> Response:
    """201 with the token itself, shown this once."""
    body = read_body(NewServiceToken)
    token, secret = accounts.create_service_token(
        guard.actor(), name=body.name, role=body.role, scopes=[*body.scopes], expires_at=body.expires_at
    )
    return answer({**show_service_token(token), "token": secret}, 201)


@door.delete("/service-tokens/<token_id>")
def revoke_service_token(token_id: str) -> Response:
    """200 with the token, which from now on is worth nothing."""
    found = parse_uuid(token_id, what="Token")
    return answer(show_service_token(accounts.revoke_service_token(guard.actor(), found)))


# --- words ------------------------------------------------------------------------------------------------------------


def show_person(user: User) -> dict[str, Any]:
    """A person as contract 003's clients read one."""
    return {
        "id": user.id,
        "email": user.email or "",
        "full_name": user.full_name or "",
        "username": user.username,
        "icecube_id": account_number(user),
        "is_verified": True,  # nobody has to prove an address here, so nobody waits for it
    }


def account_number(user: User) -> str:
    """Twelve digits that stay the same for a user: contract 003's clients show them as the account id."""
    return f"{user.id.int % 900_000_000_000 + 100_000_000_000}"


def show_user(user: User) -> dict[str, Any]:
    """A user as admins see one."""
    return {
        "id": user.id,
        "username": user.username,
        "email": user.email,
        "full_name": user.full_name,
        "role": user.role,
        "is_active": user.is_active,
        "is_owner": user.is_owner,
        "created_at": user.created_at,
        "updated_at": user.updated_at,
        "last_login_at": user.last_login_at,
    }


def show_service_token(token: ServiceToken) -> dict[str, Any]:
    """A machine's token without its secret."""
    return {
        "id": token.id,
        "name": token.name,
        "role": token.role,
        "scopes": token.scopes,
        "hint": token.hint,
        "created_at": token.created_at,
        "expires_at": token.expires_at,
        "revoked_at": token.revoked_at,
    }


def _register(body: Registration) -> User:
    newcomer = Newcomer(
        username=body.username or body.email or "",
        password=body.password,
        email=body.email,
        full_name=body.full_name,
        from_loopback=guard.is_on_this_machine(),
        token=body.token,
    )
    try:
        return accounts.register_user(newcomer)
    except Conflict as error:
        error.status = 400  # what the first servers of contracts 000 and 003 answer
        raise


def _sign_in(body: SignIn) -> User:
    name = body.email or body.username
    if name is None:
        raise Invalid("email or username: one of them is needed", field="email")
    return guard.sign_in(name, body.password)


def _session(user: User) -> dict[str, Any]:
    token = guard.make_jwt(user)
    return {
        "token": token,
        "access_token": token,
        "token_type": "bearer",
        "expires_in": _settings().token_hours * 3600,
        "user": show_person(user),
    }


def _revoke_own_token() -> None:
    bearer: guard.Bearer | None = getattr(g, "bearer", None)
    if bearer is None or bearer.jti is None or bearer.expires_at is None or bearer.actor.user_id is None:
        raise NotAllowed("Only a JWT can be logged out; tokens of machines are revoked by an admin.", code="NO_JWT")
    accounts.revoke_jwt(bearer.jti, user_id=bearer.actor.user_id, expires_at=bearer.expires_at)


def _settings() -> Settings:
    settings: Settings = current_app.extensions["settings"]
    return settings


def _public_url() -> str:
    return _settings().public_url.rstrip("/") or request.host_url.rstrip("/")
