"""The HTML door of people: registration, log-in, log-out, settings; for admins also users and tokens of machines."""

import uuid
from datetime import UTC, datetime, time
from typing import Any

from flask import Blueprint, Flask, flash, g, redirect, render_template, request
from flask.typing import ResponseReturnValue
from flask_wtf import FlaskForm

from webapp import guard
from webapp.accounts import operations as accounts
from webapp.accounts.forms import (
    InvitationForm,
    LoginForm,
    MachineTokenForm,
    PasswordForm,
    ProfileForm,
    RegistrationForm,
)
from webapp.accounts.operations import Newcomer
from webapp.config import Role
from webapp.errors import Conflict, Invalid, NotAllowed, NotSignedIn, TooMany

door = Blueprint("accounts", __name__)


def wire(app: Flask) -> None:
    """Attach the pages."""
    app.register_blueprint(door)


# --- coming in and going out ------------------------------------------------------------------------------------------


@door.route("/register", methods=["GET", "POST"])
def register() -> ResponseReturnValue:
    """The form of the owner, of a guest with an invitation, or of anybody where registration is open."""
    if g.actor is not None:
        return redirect("/", 303)
    form = RegistrationForm(token=request.args.get("token", ""))
    door_is_open, why_not = accounts.may_register(from_loopback=guard.is_on_this_machine(), token=form.token.data)
    if not door_is_open:
        return _page("register", 403, form=None, is_first=not accounts.owner_exists(), why_not=why_not)
    if form.validate_on_submit():
        try:
            guard.start_session(accounts.register_user(_newcomer(form)))
            return redirect("/", 303)
        except (Invalid, Conflict, NotAllowed) as error:
            blame(form, error)
    is_first = not accounts.owner_exists()
    return _page("register", 422 if form.errors else 200, form=form, is_first=is_first, why_not="")


def _newcomer(form: RegistrationForm) -> Newcomer:
    return Newcomer(
        username=form.username.data,
        password=form.password.data,
        email=form.email.data or None,
        from_loopback=guard.is_on_this_machine(),
        token=form.token.data or None,
    )


@door.route("/login", methods=["GET", "POST"])
def login() -> ResponseReturnValue:
    """The log-in form; afterwards on to `next`, when that is an address of ours."""
    form = LoginForm(next=request.args.get("next", ""))
    target = local_path(form.next.data)
    if g.actor is not None:
        return redirect(target, 303)
    if not accounts.owner_exists():
        return redirect("/register", 303)
    status = 200
    if form.validate_on_submit():
        try:
            guard.start_session(guard.sign_in(form.username.data, form.password.data))
            return redirect(target, 303)
        except (NotSignedIn, NotAllowed, TooMany) as error:
            status = 429 if isinstance(error, TooMany) else 422
            form.form_errors.append(error.message)
    can_register = accounts.may_register(from_loopback=guard.is_on_this_machine(), token=None)[0]
    return _page("login", status if not form.errors or status == 429 else 422, form=form, can_register=can_register)


@door.post("/logout")
def logout() -> ResponseReturnValue:
    """End this session, and go to the log-in form."""
    guard.end_session()
    return redirect("/login", 303)


def local_path(target: str | None) -> str:
    """The target when it is a path on this host, else the board: a link must not lead people elsewhere."""
    if not target or not target.startswith("/") or target[1:2] in {"/", "\\"} or not target.isprintable():
        return "/"
    return target


# --- settings ---------------------------------------------------------------------------------------------------------


@door.get("/settings")
def settings() -> ResponseReturnValue:
    """One's own account."""
    user = accounts.own_account(guard.actor())
    return _page("settings", user=user, profile=ProfileForm(obj=user), password=PasswordForm())


@door.post("/settings/profile")
def update_profile() -> ResponseReturnValue:
    """Change name and email."""
    user, form = accounts.own_account(guard.actor()), ProfileForm()
    if form.validate_on_submit():
        try:
            accounts.update_profile(guard.actor(), full_name=form.full_name.data or None, email=form.email.data or None)
            flash("Saved.", "success")
            return redirect("/settings", 303)
        except (Invalid, Conflict) as error:
            blame(form, error)
    return _page("settings", 422, user=user, profile=form, password=PasswordForm())


@door.post("/settings/password")
def change_password() -> ResponseReturnValue:
    """Change the password; this browser stays signed in, all other sessions end."""
    user, form = accounts.own_account(guard.actor()), PasswordForm()
    if form.validate_on_submit():
        try:
            changed = accounts.change_password(guard.actor(), old=form.old_password.data, new=form.new_password.data)
            guard.start_session(changed)
            flash("Your password is changed. All your other sessions and tokens have ended.", "success")
            return redirect("/settings", 303)
        except Invalid as error:
            blame(form, error, {"password": "new_password"})
    return _page("settings", 422, user=user, profile=ProfileForm(obj=user), password=form)


# --- for admins -------------------------------------------------------------------------------------------------------


@door.get("/settings/users")
def users() -> ResponseReturnValue:
    """Everybody who has an account."""
    return _users_page(InvitationForm())


@door.post("/settings/users/<uuid:user_id>")
def update_user(user_id: uuid.UUID) -> ResponseReturnValue:
    """Give a user another role, or switch the account off or on."""
    role, active = request.form.get("role"), request.form.get("is_active")
    user = accounts.update_user(
        guard.actor(),
        user_id,
        role=_role(role) if role else None,
        is_active=active == "1" if active in {"0", "1"} else None,
    )
    flash(f"{user.username} is {'an active' if user.is_active else 'a switched-off'} {user.role}.", "success")
    return redirect("/settings/users", 303)


@door.post("/settings/invitations")
def invite() -> ResponseReturnValue:
    """Make a link with which one person can register; it is shown this once."""
    form = InvitationForm()
    if not form.validate_on_submit():
        return _users_page(form, status=422)
    token = accounts.invite(guard.actor(), role=Role(form.role.data), days=form.days.data)
    return _users_page(InvitationForm(formdata=None), link=f"{accounts.settings().base_url}/register?token={token}")


@door.get("/settings/tokens")
def machine_tokens() -> ResponseReturnValue:
    """The accounts of machines."""
    return _tokens_page(MachineTokenForm())


@door.post("/settings/tokens")
def create_machine_token() -> ResponseReturnValue:
    """Make a token; its secret is shown this once."""
    form = MachineTokenForm()
    if form.validate_on_submit():
        expires = form.expires_on.data
        try:
            _, secret = accounts.create_service_token(
                guard.actor(),
                name=form.name.data,
                role=Role(form.role.data),
                scopes=form.scopes.data,
                expires_at=datetime.combine(expires, time.max, UTC) if expires else None,
            )
            return _tokens_page(MachineTokenForm(formdata=None), secret=secret)
        except Invalid as error:
            blame(form, error)
    return _tokens_page(form, status=422)


@door.post("/settings/tokens/<uuid:token_id>/revoke")
def revoke_machine_token(token_id: uuid.UUID) -> ResponseReturnValue:
    """Make a machine's token worthless at once."""
    token = accounts.revoke_service_token(guard.actor(), token_id)
    flash(f"The token {token.name} is revoked.", "success")
    return redirect("/settings/tokens", 303)


def _users_page(form: InvitationForm, *, status: int = 200, link: str = "") -> ResponseReturnValue:
    return _page("users", status, users=accounts.list_users(guard.actor()), form=form, link=link, roles=list(Role))


def _tokens_page(form: MachineTokenForm, *, status: int = 200, secret: str = "") -> ResponseReturnValue:
    tokens = accounts.list_service_tokens(guard.actor())
    return _page("tokens", status, tokens=tokens, form=form, secret=secret, now=datetime.now(UTC))


def _role(text: str) -> Role:
    try:
        return Role(text)
    except ValueError as error:
        raise Invalid(f"There is no such role; there are {', '.join(Role)}.", field="role", value=text) from error


def blame(form: FlaskForm, error: Invalid | Conflict | NotAllowed, form_names: dict[str, str] | None = None) -> None:
    """Put an operation's refusal beside the field that it names, else above the form."""
    name = getattr(error, "field", None) or error.details.get("field") or ""
    field = form._fields.get((form_names or {}).get(name, name))
    if field is None:
        form.form_errors.append(error.message)
    else:
        field.errors = [*field.errors, error.message]


def _page(name: str, status: int = 200, **facts: Any) -> ResponseReturnValue:
    return render_template(f"accounts/{name}.html", **facts), status
