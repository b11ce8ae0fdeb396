"""The pages of this room."""

from flask import Flask


def wire(app: Flask) -> None:
    """Attach the pages."""
