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
    RUN = "the token of one run"


class Protocol(StrEnum):
    """How a door speaks, which decides how errors look and whether a form token is needed."""

    PAGE = "page"
    JSON = "json"


SAME_ORIGIN = frozenset({"olake"})
"""Blueprints that a cookie may use without a form token, as their contract says, but only from our own origin."""

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
    # sources and destinations
    "connections.index": Access.SIGNED_IN,
    "connections.show_list": Access.SIGNED_IN,
    "connections.new": Access.SIGNED_IN,
    "connections.show": Access.SIGNED_IN,
    "connections.edit": Access.SIGNED_IN,
    "connections.delete": Access.SIGNED_IN,
    "connections.test": Access.SIGNED_IN,
    "connections.discover": Access.SIGNED_IN,
    "connections.rows": Access.SIGNED_IN,
    "connections.streams": Access.SIGNED_IN,
    # health and metrics
    "health.health": Access.PUBLIC,
    "health.live": Access.PUBLIC,
    "health.ready": Access.PUBLIC,
    "health.metrics": Access.PUBLIC,  # beyond this machine it wants a token
    # what the JSON API is: the same in every checkout
    "openapi.document": Access.PUBLIC,
    "openapi.docs": Access.PUBLIC,
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
    "syncs.new": Access.SIGNED_IN,
    "syncs.edit": Access.SIGNED_IN,
    "syncs.redraw_streams": Access.SIGNED_IN,
    "syncs.streams": Access.SIGNED_IN,
    "syncs.restore": Access.SIGNED_IN,
    "runs.index": Access.SIGNED_IN,
    "runs.show": Access.SIGNED_IN,
    "runs.show_waits": Access.SIGNED_IN,
    "runs.show_streams": Access.SIGNED_IN,
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
    # contract 002: log-in, sources and destinations
    "olake_auth.login": Access.PUBLIC,
    "olake_auth.signup": Access.PUBLIC,
    "olake_auth.auth": Access.SIGNED_IN,
    "olake_auth.check": Access.SIGNED_IN,
    "olake_auth.telemetry_id": Access.PUBLIC,
    "olake.list_sources": Access.SIGNED_IN,
    "olake.create_source": Access.SIGNED_IN,
    "olake.update_source": Access.SIGNED_IN,
    "olake.delete_source": Access.SIGNED_IN,
    "olake.test_source": Access.SIGNED_IN,
    "olake.source_spec": Access.SIGNED_IN,
    "olake.source_versions": Access.SIGNED_IN,
    "olake.list_destinations": Access.SIGNED_IN,
    "olake.create_destination": Access.SIGNED_IN,
    "olake.update_destination": Access.SIGNED_IN,
    "olake.delete_destination": Access.SIGNED_IN,
    "olake.test_destination": Access.SIGNED_IN,
    "olake.destination_spec": Access.SIGNED_IN,
    "olake.destination_versions": Access.SIGNED_IN,
    "olake.list_jobs": Access.SIGNED_IN,
    "olake.get_job": Access.SIGNED_IN,
    "olake.create_job": Access.SIGNED_IN,
    "olake.update_job": Access.SIGNED_IN,
    "olake.delete_job": Access.SIGNED_IN,
    "olake.check_unique": Access.SIGNED_IN,
    "olake.sync_job": Access.SIGNED_IN,
    "olake.activate_job": Access.SIGNED_IN,
    "olake.cancel_job": Access.SIGNED_IN,
    "olake.cancel_job_by_get": Access.SIGNED_IN,
    "olake.list_tasks": Access.SIGNED_IN,
    "olake.read_log": Access.SIGNED_IN,
    "olake.get_log": Access.SIGNED_IN,
    "olake.discover_streams": Access.SIGNED_IN,
    "olake.discover_streams_by_get": Access.SIGNED_IN,
    # sync jobs beyond contract 002
    "sync_api.list_streams": Access.SIGNED_IN,
    "sync_api.reset_stream": Access.SIGNED_IN,
    "sync_api.refresh_stream": Access.SIGNED_IN,
    "sync_api.list_generations": Access.SIGNED_IN,
    "sync_api.pull_parachute": Access.SIGNED_IN,
    "sync_api.show_flight_plan": Access.SIGNED_IN,
    # contract 004: jobs and their statuses; CONTRACT_004_ANONYMOUS may open them
    "lister.root": Access.SIGNED_IN,
    "lister.job_list": Access.SIGNED_IN,
    "lister.job_item": Access.SIGNED_IN,
    "lister.status_list": Access.SIGNED_IN,
    "lister.status_item": Access.SIGNED_IN,
    "lister.add_slash": Access.PUBLIC,
    "lister_health.health": Access.PUBLIC,
    # jobs that are run elsewhere: pages
    "external.new": Access.SIGNED_IN,
    "external.edit": Access.SIGNED_IN,
    "external.report": Access.SIGNED_IN,
    # outgoing webhooks
    "webhooks.index": Access.SIGNED_IN,
    "webhooks.new": Access.SIGNED_IN,
    "webhooks.show": Access.SIGNED_IN,
    "webhooks.edit": Access.SIGNED_IN,
    "webhooks.switch": Access.SIGNED_IN,
    "webhooks.delete": Access.SIGNED_IN,
    "webhooks.send_test": Access.SIGNED_IN,
    "webhooks.show_deliveries": Access.SIGNED_IN,
    "webhooks.send_again": Access.SIGNED_IN,
    "webhooks.show_of_job": Access.SIGNED_IN,
    "webhooks_api.list_webhooks": Access.SIGNED_IN,
    "webhooks_api.create_webhook": Access.SIGNED_IN,
    "webhooks_api.get_webhook": Access.SIGNED_IN,
    "webhooks_api.update_webhook": Access.SIGNED_IN,
    "webhooks_api.delete_webhook": Access.SIGNED_IN,
    "webhooks_api.send_test": Access.SIGNED_IN,
    "webhooks_api.list_deliveries": Access.SIGNED_IN,
    "webhooks_api.send_again": Access.SIGNED_IN,
    # a project's file
    "portability.show": Access.SIGNED_IN,
    "portability.download": Access.SIGNED_IN,
    "portability.bring_in": Access.SIGNED_IN,
    "portability_api.export_project": Access.SIGNED_IN,
    "portability_api.plan_import": Access.SIGNED_IN,
    "portability_api.import_project": Access.SIGNED_IN,
    # contract 000: rockets
    "rockets_api.create_job": Access.SIGNED_IN,
    "rockets_api.list_jobs": Access.SIGNED_IN,
    "rockets_api.get_job": Access.SIGNED_IN,
    "rockets_api.delete_job": Access.SIGNED_IN,
    "rockets_api.update_job": Access.SIGNED_IN,
    "rockets_api.trigger_job": Access.SIGNED_IN,
    "rockets_api.list_history": Access.SIGNED_IN,
    # what tasks of Apache Airflow say
    "airflow_api.begin_run": Access.SIGNED_IN,
    "airflow_api.read_specification": Access.RUN,
    "airflow_api.take_report": Access.RUN,
}
