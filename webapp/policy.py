"""Who may come in where: one line for each endpoint. One that is not listed lets nobody in, and fails the build.

This table only decides whether somebody must be signed in. What a role may do is decided below the doors,
by the operations.
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
    # the board and the fleet; before there is an owner, the board shows a stranger how to become it
    "rockets.show_board": Access.PUBLIC,
    "rockets.show_crew": Access.SIGNED_IN,
    "rockets.remove_sample": Access.SIGNED_IN,
    "rockets.list_rockets": Access.SIGNED_IN,
    "rockets.new_rocket": Access.SIGNED_IN,
    "rockets.show_rocket": Access.SIGNED_IN,
    "rockets.trigger_rocket": Access.SIGNED_IN,
    "rockets.abort_rocket": Access.SIGNED_IN,
    "rockets.rebuild_rocket": Access.SIGNED_IN,
    "rockets.delete_rocket": Access.SIGNED_IN,
    # health and metrics
    "health.health": Access.PUBLIC,
    "health.live": Access.PUBLIC,
    "health.ready": Access.PUBLIC,
    # accounts: pages
    "accounts.login": Access.PUBLIC,
    "accounts.register": Access.PUBLIC,
    "accounts.logout": Access.SIGNED_IN,
    "accounts.settings": Access.SIGNED_IN,
    "accounts.update_profile": Access.SIGNED_IN,
    "accounts.change_password": Access.SIGNED_IN,
    "accounts.users": Access.ADMIN,
    "accounts.update_user": Access.ADMIN,
    "accounts.invite": Access.ADMIN,
    "accounts.machine_tokens": Access.ADMIN,
    "accounts.create_machine_token": Access.ADMIN,
    "accounts.revoke_machine_token": Access.ADMIN,
    # contracts 000, 001 and 003: log-in and registration
    "users_api.register": Access.PUBLIC,
    "users_api.login": Access.PUBLIC,
    "users_api.logout": Access.SIGNED_IN,
    "users_api.auth_register": Access.PUBLIC,
    "users_api.auth_login": Access.PUBLIC,
    "users_api.auth_signup": Access.PUBLIC,
    "users_api.auth_signin": Access.PUBLIC,
    "users_api.auth_signout": Access.SIGNED_IN,
    "users_api.auth_logout": Access.SIGNED_IN,
    "users_api.auth_user": Access.SIGNED_IN,
    "users_api.auth_me": Access.SIGNED_IN,
    "users_api.auth_password": Access.SIGNED_IN,
    # accounts and tokens of machines
    "users_api.list_users": Access.ADMIN,
    "users_api.update_user": Access.ADMIN,
    "users_api.create_invitation": Access.ADMIN,
    "users_api.list_service_tokens": Access.ADMIN,
    "users_api.create_service_token": Access.ADMIN,
    "users_api.revoke_service_token": Access.ADMIN,
    # the live feed closes strangers' sockets itself: a machine may show its token in its first message, and a page
    # learns only from a close frame that its session has ended
    "live.machine": Access.PUBLIC,
    "live.page": Access.PUBLIC,
    # jobs and runs: pages
    "jobs.index": Access.SIGNED_IN,
    "jobs.new": Access.SIGNED_IN,
    "jobs.edit": Access.SIGNED_IN,
    "jobs.show": Access.SIGNED_IN,
    "jobs.run": Access.SIGNED_IN,
    "jobs.pause": Access.SIGNED_IN,
    "jobs.resume": Access.SIGNED_IN,
    "jobs.delete": Access.SIGNED_IN,
    "jobs.rows": Access.SIGNED_IN,
    "jobs.redraw_tasks": Access.SIGNED_IN,
    "jobs.preview_schedule": Access.SIGNED_IN,
    "runs.index": Access.SIGNED_IN,
    "runs.show": Access.SIGNED_IN,
    "runs.download_log": Access.SIGNED_IN,
    "runs.abort": Access.SIGNED_IN,
    "runs.again": Access.SIGNED_IN,
    # contract 001: jobs and runs, also in contract 003's words
    "etl_api.list_jobs": Access.SIGNED_IN,
    "etl_api.create_job": Access.SIGNED_IN,
    "etl_api.get_job": Access.SIGNED_IN,
    "etl_api.update_job": Access.SIGNED_IN,
    "etl_api.patch_job": Access.SIGNED_IN,
    "etl_api.delete_job": Access.SIGNED_IN,
    "etl_api.run_job": Access.SIGNED_IN,
    "etl_api.get_schedule": Access.SIGNED_IN,
    "etl_api.preview_schedule": Access.SIGNED_IN,
    "etl_api.list_runs": Access.SIGNED_IN,
    "etl_api.list_runs_of_job": Access.SIGNED_IN,
    "etl_api.get_run": Access.SIGNED_IN,
    "etl_api.cancel_run": Access.SIGNED_IN,
    "etl_api.retry_run": Access.SIGNED_IN,
    "etl_api.read_log": Access.SIGNED_IN,
    # contract 000: rockets
    "rockets_api.create_job": Access.SIGNED_IN,
    "rockets_api.list_jobs": Access.SIGNED_IN,
    "rockets_api.get_job": Access.SIGNED_IN,
    "rockets_api.delete_job": Access.SIGNED_IN,
    "rockets_api.update_job": Access.SIGNED_IN,
    "rockets_api.trigger_job": Access.SIGNED_IN,
    "rockets_api.list_history": Access.SIGNED_IN,
}
