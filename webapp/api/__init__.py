"""The JSON doors: one module or folder for each contract, over the same operations as the pages."""

from flask import Flask


def wire_api(app: Flask) -> None:
    """Attach all JSON doors, and the second addresses that contracts 001 and 003 write from the root."""
    from webapp.api import etl, health, rockets, users
    from webapp.api.root import RootAddresses

    for door in (health.door, users.door, rockets.door, etl.door):
        app.register_blueprint(door)
    app.wsgi_app = RootAddresses(app.wsgi_app)  # type: ignore[method-assign]
