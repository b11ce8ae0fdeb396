"""The accounts of contracts 000, 001 and 003, for people and for machines."""

import uuid
from datetime import datetime
from typing import Literal

from webapp.accounts.access import Scope
from webapp.api import users
from webapp.api.openapi.told import Answer, Chapter, Told
from webapp.config import Role

LOGIN = {"username": "ada", "password": "a long password"}


class NewUser(Answer):
    """Somebody who has just registered."""

    id: uuid.UUID
    username: str
    created_at: datetime
    role: Role


class EtlUser(Answer):
    """The same in contract 001's words."""

    user_id: uuid.UUID
    username: str
    created_at: datetime
    updated_at: datetime


class Token(Answer):
    """A JWT, for the header `Authorization: Bearer ...`."""

    access_token: str
    token_type: Literal["bearer"]


class PersonShown(Answer):
    """A person in contract 003's words."""

    id: uuid.UUID
    email: str
    full_name: str
    username: str
    icecube_id: str
    is_verified: bool


class Session(Answer):
    """A JWT and whose it is."""

    token: str
    access_token: str
    token_type: Literal["bearer"]
    expires_in: int
    user: PersonShown


class NewSession(Session):
    """A new account, signed in."""

    message: str


class Message(Answer):
    """One sentence."""

    message: str


class UserShown(Answer):
    """A user as admins see one."""

    id: uuid.UUID
    username: str
    email: str | None
    full_name: str | None
    role: Role
    is_active: bool
    is_owner: bool
    created_at: datetime
    updated_at: datetime
    last_login_at: datetime | None


class Invitation(Answer):
    """A one-time token and the link to register with it."""

    token: str
    url: str
    role: Role
    days: int


class ServiceTokenShown(Answer):
    """A machine's token without its secret."""

    id: uuid.UUID
    name: str
    role: Role
    scopes: list[Scope]
    hint: str
    created_at: datetime
    expires_at: datetime | None
    revoked_at: datetime | None


class NewServiceTokenShown(ServiceTokenShown):
    """A machine's token with its secret, which is shown this once."""

    token: str


SIGN_IN = Told(Session, body=users.SignIn, refuses=(401, 403), example=LOGIN)
SIGN_OUT = Told(Message)
PERSON = Told(PersonShown)

CHAPTER = Chapter(
    "Accounts",
    "Log-in, registration, users and tokens of machines. Contracts 000, 001 and 003 each have their own words for it.",
    {
        "users_api.register": Told(NewUser, 201, body=users.Registration, refuses=(403,), example=LOGIN),
        "users_api.login": Told(Token, body=users.Credentials, refuses=(401, 403), example=LOGIN),
        "users_api.logout": Told(None, 204),
        "users_api.auth_register": Told(EtlUser, body=users.Registration, refuses=(403,), example=LOGIN),
        "users_api.auth_login": SIGN_IN,
        "users_api.auth_signup": Told(
            NewSession, 201, body=users.SignUp, refuses=(403,),
            example={"email": "ada@example.org", "password": "a long password", "full_name": "Ada"},
        ),
        "users_api.auth_signin": SIGN_IN,
        "users_api.auth_signout": SIGN_OUT,
        "users_api.auth_logout": SIGN_OUT,
        "users_api.auth_user": PERSON,
        "users_api.auth_me": PERSON,
        "users_api.auth_password": Told(
            Session, body=users.NewPassword,
            example={"old_password": "a long password", "new_password": "a longer password"},
        ),
        "users_api.list_users": Told(list[UserShown]),
        "users_api.update_user": Told(UserShown, body=users.UserChange, refuses=(409,), example={"role": "developer"}),
        "users_api.create_invitation": Told(
            Invitation, 201, body=users.NewInvitation, example={"role": "operator", "days": 7}
        ),
        "users_api.list_service_tokens": Told(list[ServiceTokenShown]),
        "users_api.create_service_token": Told(
            NewServiceTokenShown, 201, body=users.NewServiceToken, refuses=(409,),
            example={"name": "airflow", "role": "operator", "scopes": ["read", "rockets:write", "jobs:run"]},
        ),
        "users_api.revoke_service_token": Told(ServiceTokenShown),
    },
)  # fmt: skip
