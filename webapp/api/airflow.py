"""What tasks of Apache Airflow say that execute a run: they begin it, read what to do, and report until its end.

A service token with the scope `runs:execute` begins a run and gets the token of that one attempt, which is all that the
other two doors take.
"""

from dataclasses import asdict
from typing import Annotated, Any, Literal

from flask import Blueprint, Response, g
from pydantic import AfterValidator, AwareDatetime, BaseModel, ConfigDict, Field, StringConstraints, field_validator

from webapp import guard
from webapp.api.bodies import answer, parse_uuid, read_body
from webapp.api.fields import Flag, Name, WholeNumber
from webapp.engine.sync.plan import StreamReceipt, StreamStatus
from webapp.errors import NotFound
from webapp.orchestrators.airflow import callbacks
from webapp.run_tokens import RunPass, make_token
from webapp.runs import operations as runs
from webapp.runs.messages import Lease, Outcome, Step
from webapp.runs.queue import Report

door = Blueprint("airflow_api", __name__, url_prefix="/api/v1/airflow/runs")

Count = Annotated[WholeNumber, Field(ge=0, le=2**62)]
Key = Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9-]{8,64}$")]
Text = Annotated[str, AfterValidator(lambda text: text.replace("\x00", "\N{SYMBOL FOR NULL}"))]
ShortText = Annotated[Text, StringConstraints(max_length=120)]
LongText = Annotated[Text, StringConstraints(max_length=20_000)]
Fraction = Annotated[float, Field(ge=0, le=1, allow_inf_nan=False)]
Measure = Annotated[float, Field(ge=0, le=1e12, allow_inf_nan=False)]


class Begin(BaseModel):
    """A task of this DAG run wants to execute the run; `key` is its own, the same whenever it asks."""

    model_config = ConfigDict(extra="forbid")

    dag_run_id: Name
    key: Key


class StepBody(BaseModel):
    """A step, as far as it is."""

    position: Annotated[WholeNumber, Field(ge=1, le=1_000_000)]
    task: Annotated[WholeNumber, Field(ge=1, le=1_000_000)]
    name: ShortText
    started_at: AwareDatetime
    finished_at: AwareDatetime | None = None
    outcome: Literal["succeeded", "failed", "cancelled"] | None = None
    facts: dict[str, Any] = {}

    @field_validator("facts")
    @classmethod
    def _whole_receipt(cls, facts: dict[str, Any]) -> dict[str, Any]:
        """The receipt of a stream is kept with its job: it has to be one."""
        if "stream" in facts:
            try:
                StreamReceipt(**{**facts["stream"], "status": StreamStatus(facts["stream"]["status"])})
            except (TypeError, KeyError, ValueError) as error:
                raise ValueError("stream: this is no receipt") from error
        return facts


class ProgressBody(BaseModel):
    """How far the attempt is."""

    rows_read: Count
    rows_written: Count
    bytes_read: Count
    fraction: Fraction | None = None


class LineBody(BaseModel):
    """A line of the log."""

    at: AwareDatetime
    level: Literal["debug", "info", "warning", "error"]
    step: ShortText = ""
    message: LongText


class OutcomeBody(BaseModel):
    """How the attempt ended."""

    name: Literal["succeeded", "failed", "cancelled"]
    message: LongText | None = None
    origin: Literal["source", "destination", "transform", "platform", "user"] | None = None
    kind: Literal["configuration", "transient", "system"] | None = None
    fix: LongText | None = None
    permanent: Flag = False
    rows_read: Count = 0
    rows_written: Count = 0
    rows_found: Count | None = None
    bytes_read: Count = 0
    doubt: LongText | None = None
    cpu_seconds: Measure | None = None
    peak_memory_mb: Measure | None = None
    began: AwareDatetime | None = None


class ReportBody(BaseModel):
    """What has happened since the last message; `sequence` numbers the messages of an attempt, from 1."""

    model_config = ConfigDict(extra="forbid")

    sequence: Annotated[WholeNumber, Field(ge=1, le=2**53)]
    lines: Annotated[list[LineBody], Field(max_length=5000)] = []
    steps: Annotated[list[StepBody], Field(max_length=5000)] = []
    progress: ProgressBody | None = None
    outcome: OutcomeBody | None = None

    def for_lease(self, lease: Lease) -> Report:
        """The report as the queue takes it."""
        return Report(
            lease,
            lines=[(line.at.isoformat(), line.level, line.step, line.message) for line in self.lines],
            steps={step.position: Step(**dict(step)) for step in self.steps},
            progress=None if self.progress is None else tuple(dict(self.progress).values()),
            outcome=None if self.outcome is None else Outcome(**dict(self.outcome)),
        )


@door.post("/<run_id>/begin")
def begin_run(run_id: str) -> Response:
    """200 with the token of the attempt; 409 with RUN_FINISHED or STALE_FLIGHT, or NO_PLACE: then ask again later."""
    found = parse_uuid(run_id, what="Run")
    body = read_body(Begin)
    run_pass = callbacks.begin_run(
        guard.actor(), found, dag_run_id=body.dag_run_id, key=body.key, settings=runs.settings()
    )
    return answer({"token": make_token(run_pass)})


@door.get("/<run_id>/specification")
def read_specification(run_id: str) -> Response:
    """What the attempt shall do, its secrets included, for the holder of its token; 409 LEASE_LOST when it is over."""
    lease = callbacks.read_lease(_pass(run_id))
    facts = {
        "run_id": lease.run_id,
        "job_id": lease.job_id,
        "attempt": lease.attempt,
        "first_task": lease.first_task,
        "spec": lease.spec,
        "done": asdict(lease.done),
        "landed": list(lease.landed),
    }
    limits = {"lease_seconds": runs.settings().airflow_lease_seconds}
    return answer({**facts, **limits})


@door.post("/<run_id>/reports")
def take_report(run_id: str) -> Response:
    """200 with the number of the last message taken, and `stop_for`: who wants the run stopped, if anybody does.

    409 OUT_OF_ORDER with the number that is `expected`, LEASE_LOST when the attempt is not this task's any more.
    """
    run_pass = _pass(run_id)
    body = read_body(ReportBody)
    lease = Lease(run_pass.run_id, run_pass.run_id, run_pass.lease_token, 0, 1, {})
    heard = callbacks.take_report(run_pass, body.for_lease(lease), sequence=body.sequence, settings=runs.settings())
    return answer({"sequence": heard.sequence, "taken": heard.taken, "stop_for": heard.stop_for})


def _pass(run_id: str) -> RunPass:
    """The pass that the visitor holds. Raises NotFound when it is for another run."""
    found: RunPass = g.run_pass
    if found.run_id != parse_uuid(run_id, what="Run"):
        raise NotFound("Run not found")
    return found
