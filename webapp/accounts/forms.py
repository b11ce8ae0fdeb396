"""The forms of people: what a browser sends, before the operations judge it."""

from flask_wtf import FlaskForm
from wtforms import (
    DateField,
    Field,
    HiddenField,
    PasswordField,
    SelectField,
    SelectMultipleField,
    StringField,
    validators,
    widgets,
)
from wtforms.fields import IntegerField

from webapp.accounts.access import Scope
from webapp.config import Role

LONGEST_TEXT = 1024

REQUIRED = validators.InputRequired("This is needed.")
ROLES = [str(role) for role in Role]
ROLE_MEANINGS = (
    "A viewer looks, an operator starts and stops, a developer may also run code, an admin manages people and machines."
)


def at_least_one(_form: FlaskForm, field: Field) -> None:
    """Unlike InputRequired, this does not make the browser ask for each of the boxes."""
    if not field.data:
        raise validators.ValidationError("Choose at least one.")


class RegistrationForm(FlaskForm):  # type: ignore[misc]
    """A new account; `token` comes from the link that led here."""

    username = StringField("Username", [REQUIRED, validators.Length(max=LONGEST_TEXT)])
    email = StringField("Email", [validators.Length(max=LONGEST_TEXT)], description="May be left out.")
    password = PasswordField("Password", [REQUIRED], description="At least 8 characters.")
    token = HiddenField()


class LoginForm(FlaskForm):  # type: ignore[misc]
    """Name and password; `next` is where to go afterwards."""

    username = StringField("Username or email", [REQUIRED, validators.Length(max=LONGEST_TEXT)])
    password = PasswordField("Password", [REQUIRED])
    next = HiddenField()


class ProfileForm(FlaskForm):  # type: ignore[misc]
    """What a person says about themselves."""

    full_name = StringField("Full name", [validators.Length(max=255)])
    email = StringField("Email", [validators.Length(max=254)])


class PasswordForm(FlaskForm):  # type: ignore[misc]
    """The present password and the next one."""

    old_password = PasswordField("Present password", [REQUIRED])
    new_password = PasswordField("New password", [REQUIRED], description="At least 8 characters.")


class InvitationForm(FlaskForm):  # type: ignore[misc]
    """The role that the guest will have."""

    role = SelectField("Role", choices=ROLES, default=str(Role.OPERATOR), description=ROLE_MEANINGS)
    days = IntegerField("Good for days", [validators.NumberRange(1, 90)], default=7)


class MachineTokenForm(FlaskForm):  # type: ignore[misc]
    """A machine's account."""

    name = StringField("Name", [REQUIRED, validators.Length(max=100)], description="What will use it, such as airflow.")
    role = SelectField("Role", choices=ROLES, default=str(Role.OPERATOR))
    scopes = SelectMultipleField(
        "Scopes",
        [at_least_one],
        choices=[str(scope) for scope in Scope],
        widget=widgets.ListWidget(prefix_label=False),
        option_widget=widgets.CheckboxInput(),
        description="What the token may be used for; its role limits it further.",
    )
    expires_on = DateField("Expires on", [validators.Optional()], description="Empty: never.")
