"""What tasks of Apache Airflow call that execute a run."""

import uuid
from typing import Any

from webapp.api import airflow
from webapp.api.openapi.told import Answer, Chapter, Told


class Pass(Answer):
    """The token of one attempt, which is all that the other two calls take."""

    token: str


class Specification(Answer):
    """What the attempt shall do, with the secrets that it needs."""

    run_id: uuid.UUID
    job_id: uuid.UUID
    attempt: int
    first_task: int
    spec: dict[str, Any]
    done: dict[str, Any]
    landed: list[Any]
    lease_seconds: float


class Heard(Answer):
    """The last message that was taken, and who wants the run stopped."""

    sequence: int
    taken: bool
    stop_for: str | None


CHAPTER = Chapter(
    "Airflow",
    "What tasks of Apache Airflow call that execute a run. The first wants a service token with `runs:execute`, "
    "the others the token of the attempt.",
    {
        "airflow_api.begin_run": Told(
            Pass, body=airflow.Begin, refuses=(409,),
            example={"dag_run_id": "hohmann__6b0c6f9e", "key": "6b0c6f9e-5d58-4b3e-9a53-0f0b4e1f7c11"},
        ),
        "airflow_api.read_specification": Told(Specification, refuses=(409,)),
        "airflow_api.take_report": Told(
            Heard, body=airflow.ReportBody, refuses=(409,),
            example={"sequence": 1, "lines": [{"at": "2026-01-02T03:04:05Z", "level": "info", "message": "began"}]},
        ),
    },
)  # fmt: skip
