"""The JSON doors of a project's file, which itself is YAML.

`?project=` is the slug or number of the project that is meant; without it, the caller's first.
"""

from dataclasses import asdict
from typing import Any

from flask import Blueprint, Response, request
from pydantic import BaseModel, ConfigDict, Field
from werkzeug.exceptions import UnsupportedMediaType

from webapp.accounts.access import Actor
from webapp.api.bodies import answer, read_query
from webapp.guard import actor
from webapp.portability import operations as portability
from webapp.portability.plan import Outcome, Verb

door = Blueprint("portability_api", __name__, url_prefix="/api/v1/project-file")
YAML = ("application/yaml", "text/yaml", "application/x-yaml")


class ProjectQuery(BaseModel):
    """Which of the caller's projects is meant."""

    model_config = ConfigDict(extra="ignore")
    project: str = Field("", max_length=64, description="Slug or number of a project; empty: the caller's first.")


@door.get("")
def export_project() -> Response:
    """The caller's project as a YAML file: sources, destinations, jobs, webhooks; no secrets."""
    headers = {"Content-Disposition": 'attachment; filename="hohmann-project.yaml"', "Cache-Control": "no-store"}
    return Response(portability.export_project(_actor()), mimetype=YAML[0], headers=headers)


@door.post("/plan")
def plan_import() -> Response:
    """What importing the file in the body would do; nothing is changed."""
    return answer(show_outcome(portability.plan_import(_actor(), _read())))


@door.post("")
def import_project() -> Response:
    """Import the file in the body, all of it or, when a part is refused, nothing; the answer says what was done."""
    return answer(show_outcome(portability.import_project(_actor(), _read())))


def _actor() -> Actor:
    return portability.in_project(actor(), read_query(ProjectQuery).project)


def _read() -> bytes:
    portability.project_to_change(_actor())  # whoever may not import is told so, whatever was sent
    if request.mimetype not in YAML:
        raise UnsupportedMediaType("Send the file as application/yaml.")
    return request.get_data()


def show_outcome(outcome: Outcome) -> dict[str, Any]:
    """What an import does, or did."""
    return {
        **{verb.value: outcome.count(verb) for verb in Verb},
        "lines": [asdict(line) for line in outcome.lines],
        "new_secrets": [{"webhook": name, "secret": secret} for name, secret in outcome.new_secrets],
    }
