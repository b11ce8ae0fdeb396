"""Everything that can be asked of or done to people, projects and tokens."""

import hashlib
import re
import secrets
import uuid
from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path

import sqlalchemy as sa
from flask import current_app
from sqlalchemy.dialects import postgresql, sqlite

from webapp import events
from webapp.accounts.access import Actor, Via, check_scopes
from webapp.accounts.models import (
    DEFAULT_PROJECT_SLUG,
    Invitation,
    LoginFailure,
    Membership,
    Project,
    RevokedToken,
    ServiceToken,
    User,
)
from webapp.accounts.passwords import MAXIMUM_LENGTH, MINIMUM_LENGTH, hash_password, verify_password
from webapp.accounts.revocation import announce_revocation
from webapp.config import Registration, Role, Settings
from webapp.dates import utcnow
from webapp.db import db, is_postgresql, let_go
from webapp.errors import Conflict, Invalid, NotAllowed, NotFound, NotSignedIn, TooMany
from webapp.notices import Notice

REGISTRATION_LOCK = 7_203_002
SERVICE_TOKEN_PREFIX = "hoh_"  # noqa: S105 - what a service token begins with
MAXIMUM_USERNAME = 150
DEFAULT_PROJECT_NAMES = frozenset({"olake", "123"})  # as contract 002 and its web client write it
owner_registered: Notice[User] = Notice()
FAILURES_PER_ADDRESS = 4  # times Settings.login_failures: what one address may fail over all names


@dataclass(frozen=True)
class Newcomer:
    """What a door knows of somebody who registers."""

    username: str
    password: str
    email: str | None = None
    full_name: str | None = None
    from_loopback: bool = False
    token: str | None = None  # the owner's one-time token, or an invitation


def settings() -> Settings:
    """The settings of the present instance."""
    found: Settings = current_app.extensions["settings"]
    return found


# --- registration -----------------------------------------------------------------------------------------------------


def owner_exists() -> bool:
    """Whether the instance has been taken into possession."""
    return db.session.scalar(sa.select(sa.literal(1)).where(User.is_owner)) is not None


def owner_token_file() -> Path:
    """Where the one-time token of the owner's link is kept until it is used."""
    return settings().hohmann_home / "keys" / "owner_token"


def make_owner_token() -> str:
    """The one-time token that lets somebody register as the owner; the same until it is used."""
    path = owner_token_file()
    if path.exists():
        return path.read_text().strip()
    path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    path.touch(mode=0o600)
    token = secrets.token_urlsafe(24)
    path.write_text(token)
    return token


def register_user(newcomer: Newcomer) -> User:
    """Make an account; the first one owns the instance.

    Raises Invalid (a field cannot be used), Conflict (name or email taken), NotAllowed (registration is not open to
    this person).
    """
    username, email = _check_username(newcomer.username), _check_email(newcomer.email)
    _check_password(newcomer.password)
    let_go()
    password_hash = hash_password(newcomer.password)  # slow on purpose, so before any lock is taken
    if is_postgresql():
        db.session.execute(sa.select(sa.func.pg_advisory_xact_lock(REGISTRATION_LOCK)))
    role, is_owner = _admit(newcomer)
    _refuse_taken(username, email)
    user = User(
        username=username,
        username_key=username.casefold(),
        email=email,
        email_key=email.casefold() if email else None,
        full_name=newcomer.full_name,
        password_hash=password_hash,
        role=role,
        is_owner=is_owner,
    )
    db.session.add(user)
    db.session.flush()  # the membership and the event need its id
    project = default_project()
    db.session.add(Membership(user_id=user.id, project_id=project.id, role=role))
    events.record("user.registered", user_id=user.id, subject_id=user.id, payload={"username": username})
    if is_owner:
        owner_registered.tell(user)
    return user


def may_register(*, from_loopback: bool, token: str | None) -> tuple[bool, str]:
    """Whether somebody may make an account now, and if not, why."""
    if not owner_exists():
        if from_loopback or _is_owner_token(token):
            return True, ""
        return False, "The first user owns this instance: open the link that was printed at its start."
    if _find_invitation(token) or settings().registration_mode is Registration.OPEN:
        return True, ""
    return False, "Registration is closed here. Ask an admin for an invitation."


def _admit(newcomer: Newcomer) -> tuple[Role, bool]:
    admitted, why_not = may_register(from_loopback=newcomer.from_loopback, token=newcomer.token)
    if not admitted:
        raise NotAllowed(why_not, code="REGISTRATION_CLOSED" if owner_exists() else None)
    if not owner_exists():
        owner_token_file().unlink(missing_ok=True)
        return Role.ADMIN, True
    invitation = _find_invitation(newcomer.token)
    if invitation:
        invitation.used_at = utcnow()
        return invitation.role, False
    return settings().default_role, False


def _is_owner_token(token: str | None) -> bool:
    path = owner_token_file()
    return bool(token) and path.exists() and secrets.compare_digest(path.read_text().strip(), token or "")


def _find_invitation(token: str | None) -> Invitation | None:
    if not token or settings().registration_mode is Registration.CLOSED:
        return None
    found = db.session.scalar(sa.select(Invitation).where(Invitation.token_hash == _sha256(token)).with_for_update())
    return found if found and found.used_at is None and found.expires_at > utcnow() else None


def _refuse_taken(username: str | None, email: str | None) -> None:
    if username and db.session.scalar(sa.select(User.number).where(User.username_key == username.casefold())):
        raise Conflict("Username already registered", code="USERNAME_TAKEN", field="username")
    if email and db.session.scalar(sa.select(User.number).where(User.email_key == email.casefold())):
        raise Conflict("Email already registered", code="EMAIL_TAKEN", field="email")


def _check_username(username: str) -> str:
    name = username.strip()
    if not name or len(name) > MAXIMUM_USERNAME or not name.isprintable():
        raise Invalid(
            f"A username has 1 to {MAXIMUM_USERNAME} printable characters.",
            field="username",
            value=username[:MAXIMUM_USERNAME],
        )
    return name


def _check_email(email: str | None) -> str | None:
    if not email:
        return None
    if len(email) > 254 or not re.fullmatch(r"[^@\s]+@[^@\s]+\.[^@\s]+|[^@\s]+@localhost", email):
        raise Invalid("This is no email address.", field="email", value=email[:254])
    return email


def _check_password(password: str) -> None:
    if not MINIMUM_LENGTH <= len(password) <= MAXIMUM_LENGTH:
        raise Invalid(f"A password has {MINIMUM_LENGTH} to {MAXIMUM_LENGTH} characters.", field="password")


def invite(actor: Actor, *, role: Role, days: int = 7) -> str:
    """A one-time token with which one person may register in this role; it is shown once."""
    actor.require_admin()
    if actor.user_id is None:
        raise NotAllowed("Invitations are written by people.")
    token = secrets.token_urlsafe(24)
    expires_at = utcnow() + timedelta(days=days)
    db.session.add(Invitation(token_hash=_sha256(token), role=role, created_by=actor.user_id, expires_at=expires_at))
    return token


def default_project() -> Project:
    """The project in which everything lives that names no other."""
    found = db.session.scalar(sa.select(Project).where(Project.slug == DEFAULT_PROJECT_SLUG))
    if found is None:
        found = Project(slug=DEFAULT_PROJECT_SLUG, name="Default project")
        db.session.add(found)
        db.session.flush()  # its id is needed at once
    return found


def project_called(actor: Actor, name: str) -> uuid.UUID:
    """The project of this slug or number; contract 002's names mean the default one. Raises NotFound for strangers."""
    if name in DEFAULT_PROJECT_NAMES:
        wanted = Project.slug == DEFAULT_PROJECT_SLUG
    elif name.isascii() and name.isdigit() and len(name) < 19:
        wanted = sa.or_(Project.number == int(name), Project.slug == name)
    else:
        wanted = Project.slug == name
    query = sa.select(Project.id).where(wanted).order_by(Project.number)
    found = db.session.scalar(query) if name.isprintable() else None
    if found is None or not actor.can_see(found):
        raise NotFound("Project not found")
    return found


def projects_of(actor: Actor) -> list[Project]:
    """The projects that the actor belongs to, its default one first."""
    found = db.session.scalars(sa.select(Project).where(Project.id.in_(actor.project_ids)))
    return sorted(found, key=lambda one: actor.project_ids.index(one.id))


# --- signing in and out -----------------------------------------------------------------------------------------------


def authenticate(name: str, password: str, *, address: str) -> User:
    """The active user with this name (or email) and password.

    Raises NotSignedIn (wrong; the same for an unknown user), NotAllowed (deactivated), TooMany (throttled: only
    failures count).
    """
    keys = _throttle_keys(name, address)
    _refuse_throttled(keys)
    key = name.strip().casefold()
    user = db.session.scalar(sa.select(User).where(sa.or_(User.username_key == key, User.email_key == key)))
    password_hash = user.password_hash if user else None
    user_id = user.id if user else None
    let_go()
    if not verify_password(password_hash, password[:MAXIMUM_LENGTH]):
        raise NotSignedIn("Incorrect username or password", code="BAD_CREDENTIALS")
    user = db.session.scalar(sa.select(User).where(User.id == user_id))
    if user is None or not user.is_active:
        raise NotAllowed("This account is deactivated. Ask an admin.", code="INACTIVE_USER")
    user.last_login_at = utcnow()
    return user


def note_login_failure(name: str, *, address: str) -> None:
    """Count a failed log-in. A unit of work of its own: the failed one is rolled back."""
    now = utcnow()
    ends_at = now + timedelta(seconds=settings().login_window)
    over = LoginFailure.window_ends_at <= now
    insert = postgresql.insert if is_postgresql() else sqlite.insert
    for key, _ in _throttle_keys(name, address):
        # One statement, so that failures at the same instant are all counted.
        statement = insert(LoginFailure).values(key=key, failures=1, window_ends_at=ends_at)
        counted = statement.on_conflict_do_update(
            index_elements=[LoginFailure.key],
            set_={
                "failures": sa.case((over, 1), else_=LoginFailure.failures + 1),
                "window_ends_at": sa.case((over, ends_at), else_=LoginFailure.window_ends_at),
            },
        )
        db.session.execute(counted)


def _throttle_keys(name: str, address: str) -> list[tuple[str, int]]:
    limit = settings().login_failures
    by_name = _sha256(f"{address} {name.strip().casefold()}")
    return [(by_name, limit), (_sha256(address), limit * FAILURES_PER_ADDRESS)]


def _refuse_throttled(keys: list[tuple[str, int]]) -> None:
    now = utcnow()
    for key, limit in keys:
        counter = db.session.get(LoginFailure, key)
        if counter and counter.window_ends_at > now and counter.failures >= limit:
            seconds = int((counter.window_ends_at - now).total_seconds()) + 1
            raise TooMany(f"Too many failed log-ins. Try again in {seconds} s.", retry_after=seconds)


def revoke_jwt(jti: str, *, user_id: uuid.UUID, expires_at: datetime) -> None:
    """Make a JWT worthless before its time; doing it twice changes nothing."""
    if db.session.get(RevokedToken, jti) is None:
        db.session.add(RevokedToken(jti=jti, expires_at=expires_at))
    _announce(user_id, jti=jti)


def end_sessions(user: User) -> None:
    """Make every cookie, JWT and socket of this user worthless."""
    user.session_version += 1
    _announce(user.id)


def _announce(user_id: uuid.UUID, *, jti: str | None = None) -> None:
    announce_revocation()
    events.record("user.revoked", user_id=user_id, subject_id=user_id, payload={"jti": jti} if jti else {})


def change_password(actor: Actor, *, old: str, new: str) -> User:
    """Give the actor a new password and end all sessions. Raises Invalid when the old one is wrong."""
    user = own_account(actor)
    password_hash = user.password_hash
    _check_password(new)
    let_go()
    if not verify_password(password_hash, old[:MAXIMUM_LENGTH]):
        raise Invalid("This is not your present password.", field="old_password")
    new_hash = hash_password(new)
    user = _find_user(actor.user_id)
    user.password_hash = new_hash
    end_sessions(user)
    return user


# --- people -----------------------------------------------------------------------------------------------------------


def own_account(actor: Actor) -> User:
    """The account of the person who asks. Raises NotAllowed for a machine, whose token names only who made it."""
    if actor.via is Via.SERVICE_TOKEN:
        raise NotAllowed("This token belongs to a machine, not to a person.", code="NO_PERSON")
    user = db.session.scalar(sa.select(User).where(User.id == actor.user_id))
    if user is None:
        raise NotFound("User not found")
    return user


def update_profile(actor: Actor, *, full_name: str | None, email: str | None) -> User:
    """Change what the actor says of themselves. Raises Invalid or Conflict (the email is somebody else's)."""
    user, checked = own_account(actor), _check_email(email)
    if checked and checked.casefold() != user.email_key:
        _refuse_taken(None, checked)
    user.full_name, user.email, user.email_key = full_name, checked, checked.casefold() if checked else None
    return user


def list_users(actor: Actor) -> list[User]:
    """All users, oldest first, for admins."""
    actor.require_admin()
    return list(db.session.scalars(sa.select(User).order_by(User.number)))


def update_user(actor: Actor, user_id: uuid.UUID, *, role: Role | None = None, is_active: bool | None = None) -> User:
    """Change a user's role or switch the account off or on; switching off ends all its sessions at once."""
    actor.require_admin()
    user = _find_user(user_id)
    loses_power = (role is not None and role is not Role.ADMIN) or is_active is False
    if user.is_owner and loses_power:
        raise Conflict("The owner stays an active admin.", code="OWNER")
    if role is not None and role is not user.role:
        user.role = role
        db.session.execute(sa.update(Membership).where(Membership.user_id == user.id).values(role=role))
        announce_revocation()  # cached actors carry the old role
        events.record("user.revoked", user_id=user.id, subject_id=user.id, payload={"reason": "role"})
    if is_active is not None and is_active != user.is_active:
        user.is_active = is_active
        end_sessions(user)
    db.session.flush()  # the caller shows when it changed
    return user


def _find_user(user_id: uuid.UUID | None) -> User:
    user = db.session.scalar(sa.select(User).where(User.id == user_id).with_for_update())
    if user is None:
        raise NotFound("User not found")
    return user


# --- tokens of machines -----------------------------------------------------------------------------------------------


def create_service_token(
    actor: Actor, *, name: str, role: Role, scopes: list[str], expires_at: datetime | None = None
) -> tuple[ServiceToken, str]:
    """A service account's token: the row, and the secret itself, which is shown this once. Raises Invalid."""
    actor.require_admin()
    if not 0 < len(name.strip()) <= 100:
        raise Invalid("A token needs a name of 1 to 100 characters.", field="name", value=name[:100])
    try:
        checked = check_scopes(scopes)
    except ValueError as error:
        raise Invalid(str(error), field="scopes", value=scopes) from error
    if not checked:
        raise Invalid("A token needs at least one scope.", field="scopes", value=scopes)
    secret = SERVICE_TOKEN_PREFIX + secrets.token_urlsafe(32)
    token = ServiceToken(
        name=name.strip(),
        project_id=actor.default_project_id,
        created_by=actor.user_id,
        role=role,
        scopes=checked,
        hint=secret[:8],
        token_hash=_sha256(secret),
        expires_at=expires_at,
    )
    db.session.add(token)
    db.session.flush()  # the caller shows its id
    return token, secret


def list_service_tokens(actor: Actor) -> list[ServiceToken]:
    """All tokens of machines, newest first, for admins."""
    actor.require_admin()
    return list(db.session.scalars(sa.select(ServiceToken).order_by(ServiceToken.number.desc())))


def revoke_service_token(actor: Actor, token_id: uuid.UUID) -> ServiceToken:
    """Make a machine's token worthless at once."""
    actor.require_admin()
    token = db.session.scalar(sa.select(ServiceToken).where(ServiceToken.id == token_id))
    if token is None:
        raise NotFound("Token not found")
    token.revoked_at = token.revoked_at or utcnow()
    announce_revocation()
    events.record("user.revoked", subject_id=token.id, payload={"service_token": str(token.id)})
    return token


# --- who is it? -------------------------------------------------------------------------------------------------------


def actor_for_user(user_id: uuid.UUID, *, session_version: int, via: Via, jti: str | None = None) -> Actor | None:
    """The actor behind a cookie or JWT, or None when it is not good any more."""
    user = db.session.execute(
        sa.select(User.username, User.email, User.role, User.is_active, User.session_version).where(User.id == user_id)
    ).one_or_none()
    if user is None or not user.is_active or user.session_version != session_version:
        return None
    if jti and db.session.get(RevokedToken, jti):
        return None
    memberships = db.session.execute(
        sa.select(Membership.project_id, Membership.role)
        .join(Project, Project.id == Membership.project_id)
        .where(Membership.user_id == user_id)
        .order_by(Project.number)
    )
    return Actor(
        name=user.username,
        email=user.email,
        via=via,
        user_id=user_id,
        is_instance_admin=user.role is Role.ADMIN,
        memberships={row.project_id: row.role for row in memberships},
    )


def actor_for_service_token(secret: str) -> tuple[Actor, datetime | None] | None:
    """The actor behind a service token and when the token expires, or None when it is not good."""
    token = db.session.scalar(sa.select(ServiceToken).where(ServiceToken.token_hash == _sha256(secret)))
    if token is None or token.revoked_at or (token.expires_at and token.expires_at <= utcnow()):
        return None
    if db.session.scalar(sa.select(User.is_active).where(User.id == token.created_by)) is False:
        return None  # whoever was switched off does not go on acting through a machine
    actor = Actor(
        name=f"token {token.name}",
        via=Via.SERVICE_TOKEN,
        user_id=token.created_by,
        memberships={token.project_id: token.role},
        scopes=frozenset(token.scopes),
        token_id=token.id,
    )
    return actor, token.expires_at


def prune_accounts() -> None:
    """Forget revoked tokens and log-in counters whose time is over."""
    now = utcnow()
    db.session.execute(sa.delete(RevokedToken).where(RevokedToken.expires_at < now))
    db.session.execute(sa.delete(LoginFailure).where(LoginFailure.window_ends_at < now))


def _sha256(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()
