"""Contract 002's sources and destinations: look, make, change, put away, test."""

from collections.abc import Sequence
from typing import Annotated, Any

from flask import Response
from pydantic import BaseModel, ConfigDict, StringConstraints

from webapp import guard
from webapp.api.bodies import read_body
from webapp.api.fields import Line, Name
from webapp.api.olake.door import door, path_number, project_id
from webapp.api.olake.envelope import as_text, config_of, success
from webapp.api.words import STATUS_WORDS, Contract
from webapp.connections import checks
from webapp.connections import operations as connections
from webapp.connections.checks import CheckResult
from webapp.connections.models import Connection, ConnectionRole
from webapp.connections.operations import ConnectionDraft
from webapp.connections.uses import JobUse, jobs_using
from webapp.dates import rfc3339
from webapp.runs.marks import Mark, last_marks
from webapp.runs.states import RunState

SOURCE, DESTINATION = ConnectionRole.SOURCE, ConnectionRole.DESTINATION
SOURCES, DESTINATIONS = {"role": SOURCE}, {"role": DESTINATION}
STATUS = STATUS_WORDS[Contract.OLAKE]

Word = Annotated[Line, StringConstraints(min_length=1, max_length=64)]
Version = Annotated[Line, StringConstraints(max_length=64)]


class TestBody(BaseModel):
    """A configuration to try; destinations also send their source's type and version, which change nothing here."""

    model_config = ConfigDict(extra="ignore")

    type: Word
    version: Version = ""
    config: Any


class ConnectionBody(TestBody):
    """A source or a destination."""

    name: Name

    @property
    def draft(self) -> ConnectionDraft:
        """What is wanted. Raises Invalid for a configuration that is no JSON object."""
        return ConnectionDraft(self.name, self.type, self.version, config_of(self.config))


@door.get("/sources", defaults=SOURCES, endpoint="list_sources")
@door.get("/destinations", defaults=DESTINATIONS, endpoint="list_destinations")
def list_connections(role: ConnectionRole) -> Response:
    """All of the project, newest first, each with the jobs that use it."""
    found = connections.list_connections(guard.actor(), role, project_id=project_id())
    names, uses = connections.usernames(found), jobs_using(found)
    marks = last_marks([use.id for job_uses in uses.values() for use in job_uses], count=1)
    return success(
        [
            {
                "id": connection.number,
                **show_connection(connection),
                "created_at": rfc3339(connection.created_at),
                "updated_at": rfc3339(connection.updated_at),
                "created_by": names.get(connection.created_by, ""),
                "updated_by": names.get(connection.updated_by, ""),
                "jobs": [_show_use(role, use, marks.get(use.id, [])) for use in uses[connection.id]],
            }
            for connection in found
        ]
    )


@door.post("/sources", defaults=SOURCES, endpoint="create_source")
@door.post("/destinations", defaults=DESTINATIONS, endpoint="create_destination")
def create_connection(role: ConnectionRole) -> Response:
    """200 with what was sent, secrets masked; a taken name is 409."""
    draft = read_body(ConnectionBody).draft
    made = connections.create_connection(guard.actor(), role, draft, project_id=project_id())
    return success({"id": made.number, **show_connection(made)})


@door.put("/sources/<number>", defaults=SOURCES, endpoint="update_source")
@door.put("/destinations/<number>", defaults=DESTINATIONS, endpoint="update_destination")
def update_connection(role: ConnectionRole, number: str) -> Response:
    """200 with the changed source or destination, secrets masked; a mask that is sent back keeps its secret."""
    key, draft = path_number(number, what=role.capitalize()), read_body(ConnectionBody).draft
    changed = connections.update_connection(guard.actor(), key, draft, role=role, project_id=project_id())
    return success({"id": changed.number, **show_connection(changed)})


@door.delete("/sources/<number>", defaults=SOURCES, endpoint="delete_source")
@door.delete("/destinations/<number>", defaults=DESTINATIONS, endpoint="delete_destination")
def delete_connection(role: ConnectionRole, number: str) -> Response:
    """200 with its name; jobs that use it stay, switched off."""
    key = path_number(number, what=role.capitalize())
    return success({"name": connections.delete_connection(guard.actor(), key, role=role, project_id=project_id())})


@door.post("/sources/test", defaults=SOURCES, endpoint="test_source")
@door.post("/destinations/test", defaults=DESTINATIONS, endpoint="test_destination")
def test_connection(role: ConnectionRole) -> Response:
    """200 also when the test fails; how it went is said twice, as two releases of the client read it."""
    body = read_body(TestBody)
    result = checks.test_draft(guard.actor(), role, body.type, config_of(body.config), project_id=project_id())
    said = {"status": "SUCCEEDED" if result.ok else "FAILED", "message": result.message}
    return success({"connection_result": said, **said, "logs": _logs(result)})


def show_connection(connection: Connection) -> dict[str, Any]:
    """A source or destination as jobs and lists name it; its configuration is a string, secrets masked."""
    return {
        "name": connection.name,
        "type": connection.type,
        "version": connection.version,
        "config": as_text(connections.shown_config(connection)),
    }


def _show_use(role: ConnectionRole, use: JobUse, marks: Sequence[Mark]) -> dict[str, Any]:
    if role is SOURCE:
        other = {
            "destination_name": use.other_name,
            "destination_type": use.other_type,
            "dest_name": use.other_name,
        }
    else:
        other = {"source_name": use.other_name, "source_type": use.other_type}
    # Clients take an empty last run for a run: one that never was is left out.
    last = [{"last_run_time": rfc3339(mark.at), "last_run_state": STATUS[RunState(mark.status)]} for mark in marks[-1:]]
    return {"id": use.number, "name": use.name, "activate": use.is_enabled, **other, **(last[0] if last else {})}


def _logs(result: CheckResult) -> list[dict[str, str]]:
    return [
        {
            "level": "info" if step["ok"] else "error",
            "message": f"{step['name']}: {step['message'] or ('ok' if step['ok'] else 'failed')}"
            + (f" {step['fix']}" if step.get("fix") else "")
            + f" ({step['seconds']:.2f} s)",
        }
        for step in result.steps
    ]
