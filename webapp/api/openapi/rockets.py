"""Contract 000: the fleet."""

import uuid
from datetime import datetime
from typing import Literal

from webapp.api import rockets
from webapp.api.openapi.told import Answer, Chapter, Told
from webapp.rockets.states import RocketState

Status = Literal["pending", "running", "succeeded", "failed", "cancelled"]
MISSION = {"source": "Earth", "destination": "Mars", "estimated_time": 3600}
SHOWN = {
    "id": "6b0c6f9e-5d58-4b3e-9a53-0f0b4e1f7c11", "state": "Preparing", **MISSION, "location": "Earth",
    "status": "pending", "airflow_dag_run_id": None, "user_id": "0f8fad5b-d9cb-469f-a165-70867728950e", "job_id": None,
    "created_at": "2026-01-02T03:04:05.678901Z", "updated_at": "2026-01-02T03:04:05.678901Z",
}  # fmt: skip


class RocketShown(Answer):
    """A rocket; `estimated_time` is in seconds."""

    id: uuid.UUID
    state: RocketState
    source: str
    destination: str
    location: str
    estimated_time: int
    status: Status
    airflow_dag_run_id: str | None
    user_id: uuid.UUID | None
    job_id: uuid.UUID | None
    created_at: datetime
    updated_at: datetime


class Flight(Answer):
    """A flight that was started."""

    dag_run_id: str | None
    message: str


class Entry(Answer):
    """A change of a rocket's state."""

    id: uuid.UUID
    job_id: uuid.UUID
    timestamp: datetime
    state: RocketState
    message: str | None


class Report(rockets.RocketReport):
    """What somebody reports of a rocket: any subset."""

    status: Status | None = None  # type: ignore[assignment]


class Query(rockets.RocketQuery):
    """Which rockets are wanted; without `limit` all of them are listed."""

    status: Status | None = None  # type: ignore[assignment]


CHAPTER = Chapter(
    "Rockets",
    "Contract 000: rockets, their flights and their history. Live messages come over the websocket `/api/v1/ws/jobs`.",
    {
        "rockets_api.create_job": Told(
            RocketShown, 201, body=rockets.NewRocket, refuses=(409,), example=MISSION, shown=SHOWN
        ),
        "rockets_api.list_jobs": Told(list[RocketShown], query=Query, shown=[SHOWN]),
        "rockets_api.get_job": Told(RocketShown, shown=SHOWN),
        "rockets_api.update_job": Told(
            RocketShown, body=Report, refuses=(409,), example={"state": "Ready"}, shown={**SHOWN, "state": "Ready"}
        ),
        "rockets_api.delete_job": Told(None, 204, refuses=(409,)),
        "rockets_api.trigger_job": Told(Flight, refuses=(409,)),
        "rockets_api.list_history": Told(list[Entry]),
    },
)
