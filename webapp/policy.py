"""Who may come in where: one line for each endpoint. An endpoint that is not listed lets nobody in, and fails the build.

This table only decides whether somebody must be signed in. What a role may do is decided below the doors, by the operations.
"""

from enum import StrEnum


class Access(StrEnum):
    """What a door asks of a visitor."""

    PUBLIC = "public"
    SIGNED_IN = "signed in"
    ADMIN = "admin"


class Protocol(StrEnum):
    """How a door speaks, which decides how errors look and whether a form token is needed."""

    PAGE = "page"
    JSON = "json"
    WEBSOCKET = "websocket"


POLICY: dict[str, Access] = {
    "static": Access.PUBLIC,
    # health and metrics
    "health.health": Access.PUBLIC,
    # accounts: pages
    "accounts.login": Access.PUBLIC,
    "accounts.register": Access.PUBLIC,
    "accounts.logout": Access.SIGNED_IN,
    # contract 000: accounts
    "rockets_api.register": Access.PUBLIC,
    "rockets_api.login": Access.PUBLIC,
    "rockets_api.logout": Access.SIGNED_IN,
}
