"""A project's file."""

from typing import Any

from webapp.api.openapi.told import Answer, Chapter, Told
from webapp.api.portability import YAML, ProjectQuery
from webapp.portability.document import ProjectFile
from webapp.portability.plan import Verb

FILE = {
    "hohmann_project": 1,
    "sources": [{
        "name": "probes", "type": "postgres",
        "config": {"host": "db.example.org", "database": "probes", "username": "a", "password": {"secret": "needed"}},
    }],
}  # fmt: skip


class LineShown(Answer):
    """One thing in the file; `needs_secret` are the places whose secret is not stored here."""

    kind: str
    name: str
    place: str
    verb: Verb
    changes: list[str]
    needs_secret: list[str]


class KeyShown(Answer):
    """The key that signs the messages of a new webhook, shown this once."""

    webhook: str
    secret: str


class OutcomeShown(Answer):
    """What an import does, or did: a line for each thing in the file."""

    created: int
    changed: int
    unchanged: int
    lines: list[LineShown]
    new_secrets: list[KeyShown]


BROUGHT_IN = Told(OutcomeShown, query=ProjectQuery, body=ProjectFile, body_media=YAML, example=FILE, refuses=(404, 409))
CHAPTER = Chapter(
    "Project file",
    "A project as one YAML file without secrets: out of one instance, into another, or into version control.",
    {
        "portability_api.export_project": Told(dict[str, Any], query=ProjectQuery, media=YAML[:1], refuses=(404, 422)),
        "portability_api.plan_import": BROUGHT_IN,
        "portability_api.import_project": BROUGHT_IN,
    },
)
