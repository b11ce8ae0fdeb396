"""The JSON doors of contract 000: the fleet."""

import uuid
from typing import Annotated, Any, Self

from flask import Blueprint, Response
from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, model_validator

from webapp import guard
from webapp.api.bodies import answer, parse_uuid, read_body, read_query
from webapp.api.fields import Name, WholeNumber
from webapp.api.paging import point_to_next
from webapp.api.words import STATUS_WORDS, Contract, states_called
from webapp.dates import utcnow
from webapp.orchestrators.airflow.flights import report_flight
from webapp.rockets import listing
from webapp.rockets import operations as rockets
from webapp.rockets.listing import RocketFilter
from webapp.rockets.models import Rocket
from webapp.rockets.operations import RocketPatch
from webapp.rockets.states import RocketState
from webapp.runs.states import RunState

door = Blueprint("rockets_api", __name__, url_prefix="/api/v1")

STATUS = STATUS_WORDS[Contract.ROCKETS]
WORD_OF_VALUE = {state.value: word for state, word in STATUS.items()}
TEN_YEARS = 10 * 365 * 86_400


def _read_status(word: Any) -> Any:
    found = states_called(word, Contract.ROCKETS) if isinstance(word, str) else ()
    if not found and word is not None:
        raise ValueError(f"must be one of {', '.join(STATUS.values())}")
    return found[0] if found else None


Status = Annotated[RunState | None, BeforeValidator(_read_status)]
Seconds = Annotated[WholeNumber, Field(ge=0, le=TEN_YEARS)]


class NewRocket(BaseModel):
    """A rocket to build and to send off; keys that the contract does not know are ignored, as its first server did."""

    source: Name
    destination: Name
    estimated_time: Seconds


class RocketReport(BaseModel):
    """What somebody reports of a rocket: any subset."""

    model_config = ConfigDict(extra="forbid")

    state: RocketState | None = None
    location: Name | None = None
    estimated_time: Seconds | None = None
    status: Status = None
    dag_run_id: Name | None = None
    sequence: Annotated[WholeNumber, Field(ge=1, le=2**53)] | None = None

    @model_validator(mode="after")
    def _both_or_neither(self) -> Self:
        if (self.dag_run_id is None) != (self.sequence is None):
            raise ValueError("dag_run_id and sequence belong together")
        return self


class RocketQuery(BaseModel):
    """Which rockets are wanted; without `limit` all of them are listed."""

    state: RocketState | None = None
    status: Status = None
    user_id: uuid.UUID | None = None
    owner: Name | None = None
    source: Name | None = None
    destination: Name | None = None
    limit: Annotated[int, Field(ge=1, le=1000)] | None = None
    cursor: Annotated[int, Field(ge=0, le=2**62)] | None = None


@door.post("/job")
def create_job() -> Response:
    """201 with a new rocket, whose flight plan begins at once."""
    body = read_body(NewRocket)
    rocket = rockets.create_rocket(
        guard.actor(), source=body.source, destination=body.destination, estimated_time=body.estimated_time
    )
    return answer(show_rocket(rocket), 201)


@door.get("/job")
def list_jobs() -> Response:
    """The rockets of the visitor's projects, newest first, a bare array; in pages when `limit` is given."""
    query = read_query(RocketQuery)
    page = listing.page_of_rockets(guard.actor(), RocketFilter(**dict(query)), now=utcnow(), words=WORD_OF_VALUE)
    is_full = query.limit is not None and len(page.rockets) == query.limit
    return point_to_next(answer(page.rockets), page.last if is_full else None)


@door.get("/job/<job_id>")
def get_job(job_id: str) -> Response:
    """The rocket."""
    return answer(show_rocket(rockets.get_rocket(guard.actor(), parse_uuid(job_id, what="Job"))))


@door.patch("/job/<job_id>")
def update_job(job_id: str) -> Response:
    """200 with the rocket as it is now; a forbidden move is 409 and says which moves are allowed.

    A DAG names its run and numbers what it says: what was taken before, or comes late, then changes nothing.
    """
    found = parse_uuid(job_id, what="Job")
    body = read_body(RocketReport)
    patch = RocketPatch(
        state=body.state, location=body.location, estimated_time=body.estimated_time, status=body.status
    )
    if body.dag_run_id is None or body.sequence is None:
        return answer(show_rocket(rockets.patch_rocket(guard.actor(), found, patch)))
    rocket = report_flight(guard.actor(), found, patch, dag_run_id=body.dag_run_id, sequence=body.sequence)
    return answer(show_rocket(rocket))


@door.delete("/job/<job_id>")
def delete_job(job_id: str) -> Response:
    """204; the rocket is gone, with its history, and so is its flight."""
    rockets.delete_rocket(guard.actor(), parse_uuid(job_id, what="Job"))
    return Response(status=204)


@door.post("/job/<job_id>/trigger")
def trigger_job(job_id: str) -> Response:
    """200 with the id of the new flight. 409 while the rocket is in the air."""
    flight = rockets.trigger_rocket(guard.actor(), parse_uuid(job_id, what="Job"))
    return answer({"dag_run_id": flight, "message": "DAG triggered successfully"})


@door.get("/job/<job_id>/history")
def list_history(job_id: str) -> Response:
    """Each change of the rocket's state, oldest first, a bare array."""
    found = parse_uuid(job_id, what="Job")
    entries = [
        {
            "id": entry.id,
            "job_id": found,
            "timestamp": entry.timestamp,
            "state": entry.state,
            "message": entry.message,
        }
        for entry in rockets.history_of(guard.actor(), found)
    ]
    return answer(entries)


def show_rocket(rocket: Rocket) -> dict[str, Any]:
    """A rocket in the contract's words; lists have the same keys in the same order."""
    return {
        "id": rocket.id,
        "state": rocket.state,
        "source": rocket.source,
        "destination": rocket.destination,
        "location": rocket.location,
        "estimated_time": rocket.seconds_left(utcnow()),
        "status": STATUS[rocket.status],
        "airflow_dag_run_id": rocket.airflow_dag_run_id,
        "user_id": rocket.user_id,
        "job_id": rocket.job_id,
        "created_at": rocket.created_at,
        "updated_at": rocket.updated_at,
    }
