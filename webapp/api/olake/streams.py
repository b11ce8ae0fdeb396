"""Contract 002's discovery: what a source can give, with what a job has chosen of it."""

from typing import Annotated, Any

from flask import Response
from pydantic import ConfigDict, Field

from webapp import db as database
from webapp import guard
from webapp.accounts.access import Actor
from webapp.api.fields import Line
from webapp.api.olake.connections import TestBody
from webapp.api.olake.door import door, project_id
from webapp.api.olake.envelope import as_text, config_of, read_any_body, success
from webapp.connections import operations as connections
from webapp.connections.discovery import discover_now
from webapp.connections.models import ConnectionRole
from webapp.jobs.sync import operations as sync
from webapp.jobs.sync.catalog import document_of, read_catalog
from webapp.jobs.sync.choices import NAMESPACE, database_of

NEW_JOB = -1


class StreamsBody(TestBody):
    """A source, saved or not, and the job that it is chosen for (-1 or nothing for a new one)."""

    model_config = ConfigDict(extra="ignore")

    name: Annotated[Line, Field(max_length=255)] = ""
    job_id: int | str | None = NEW_JOB
    job_name: Annotated[Line, Field(max_length=255)] | None = ""

    @property
    def job_number(self) -> int | None:
        """The number of an existing job."""
        text = str(NEW_JOB if self.job_id is None else self.job_id).strip()
        return int(text) if text.isdigit() and 0 < int(text[:20]) < 2**62 else None


@door.post("/source/streams")
@door.post("/sources/streams")
def discover_streams() -> Response:
    """The catalog document, its two parts directly in `data`."""
    return success(_discover(read_any_body(StreamsBody)))


@door.get("/source/streams", endpoint="discover_streams_by_get")
@door.get("/sources/streams", endpoint="discover_streams_by_get")
def discover_streams_by_get() -> Response:
    """The same as the contract's text has it: also whole as `streams_config`, a string."""
    body = read_any_body(StreamsBody)
    database.let_go()
    with database.unit_of_work():  # what was found is kept with the source
        document = _discover(body)
    return success({**document, "streams_config": as_text(document)})


def _discover(body: StreamsBody) -> dict[str, Any]:
    actor, project, config = guard.actor(), project_id(), config_of(body.config)
    chosen = _chosen(actor, body)
    known = connections.find_by_name(actor, ConnectionRole.SOURCE, body.name, project_id=project) if body.name else None
    is_same = known is not None and known.type == body.type.strip().lower()
    found = discover_now(
        actor,
        type_=body.type,
        config=config,
        project_id=project,
        connection_id=known.id if known is not None and is_same else None,
    )
    return document_of(found, prefix=_prefix(chosen) or body.job_name or body.name or body.type, chosen=chosen)


def _prefix(chosen: str | None) -> str:
    """What the databases of a job's streams begin with already, so that a renamed job sends new ones there too."""
    database, colon, end = database_of(read_catalog(chosen)).rpartition(":") if chosen else ("", "", "")
    return database if colon and end == NAMESPACE else ""


def _chosen(actor: Actor, body: StreamsBody) -> str | None:
    if body.job_number is None:
        return None
    return sync.get_numbered(actor, project_id(), body.job_number).streams
