"""`/api/openapi.json` and `/api/docs`. Both are open: they tell what every checkout of this software tells."""

from flask import Blueprint, Flask, Response, current_app, render_template

from webapp.api.bodies import answer
from webapp.api.openapi import accounts, airflow, etl, health, lister, olake, portability, rockets, webhooks
from webapp.api.openapi.document import Document
from webapp.api.openapi.reading import read_chapters

door = Blueprint("openapi", __name__, url_prefix="/api")

CHAPTERS = (
    accounts.CHAPTER,
    rockets.CHAPTER,
    *etl.CHAPTERS,
    olake.CHAPTER,
    lister.CHAPTER,
    webhooks.CHAPTER,
    portability.CHAPTER,
    airflow.CHAPTER,
    health.CHAPTER,
)


def get_document() -> Document:
    """The document of the present application."""
    document: Document | None = current_app.extensions.get("openapi")
    if document is None:
        app: Flask = current_app._get_current_object()  # type: ignore[attr-defined]
        document = current_app.extensions["openapi"] = Document(app, CHAPTERS)
    return document


@door.get("/openapi.json")
def document() -> Response:
    """This document."""
    return answer(get_document().content)


@door.get("/docs")
def docs() -> str:
    """The document as a page to read."""
    found = get_document().content
    return render_template("api/docs.html", info=found["info"], chapters=read_chapters(found))
