"""The JSON doors: one module or folder for each contract, over the same operations as the pages."""

from flask import Flask


def wire_api(app: Flask) -> None:
    """Attach all JSON doors, and the second addresses that contracts 001 and 003 write from the root."""
    from webapp.api import airflow, etl, health, lister, olake, openapi, portability, rockets, sync, users, webhooks
    from webapp.api.root import RootAddresses

    of_contracts = (
        users.door,
        rockets.door,
        airflow.door,
        etl.door,
        sync.door,
        olake.auth.door,
        olake.door,
        lister.door,
    )
    for door in (health.door, openapi.door, webhooks.door, portability.door, lister.health_door, *of_contracts):
        app.register_blueprint(door)
    app.wsgi_app = RootAddresses(app.wsgi_app)  # type: ignore[method-assign]
