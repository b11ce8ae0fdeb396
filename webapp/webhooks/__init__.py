"""Outgoing webhooks: what happens to runs and rockets is told to addresses that people name, signed and retried."""

from flask import Flask


def wire(app: Flask) -> None:
    """Attach the pages, write down what is to be sent with what caused it, let the workers see that it is sent."""
    from webapp.webhooks import courier, notices, pages

    notices.wire()
    courier.wire(app)
    pages.wire(app)
