"""Contract 002: sources, destinations, discovery and sync jobs."""

from typing import Any, Generic, Literal, TypeVar

from pydantic import ConfigDict

from webapp.api.olake import connections, jobs, specs, streams, tasks
from webapp.api.openapi.told import Answer, Chapter, Dialect, Told
from webapp.api.users import Credentials, Registration

Data = TypeVar("Data")
State = Literal["scheduled", "running", "completed", "failed", "cancelled"]


class Envelope(Answer, Generic[Data]):
    """What is around every answer of contract 002."""

    success: Literal[True]
    message: str
    data: Data


class ConnectionShown(Answer):
    """A source or a destination; `config` is a string that holds JSON, with secrets masked."""

    id: int
    name: str
    type: str
    version: str
    config: str


class Use(Answer):
    """A job that uses a source or destination; the fields of its last run are absent when there was none."""

    id: int
    name: str
    activate: bool
    destination_name: str = ""
    destination_type: str = ""
    dest_name: str = ""
    source_name: str = ""
    source_type: str = ""
    last_run_time: str = ""
    last_run_state: State = "completed"


class ConnectionListed(ConnectionShown):
    """A source or destination of a list."""

    created_at: str
    updated_at: str
    created_by: str
    updated_by: str
    jobs: list[Use]


class DeletedByName(Answer):
    """What was deleted."""

    name: str


class TestOutcome(Answer):
    """How a test went."""

    status: Literal["SUCCEEDED", "FAILED"]
    message: str


class LogLine(Answer):
    """A line of a test or a run."""

    model_config = ConfigDict(extra="forbid")

    level: str
    message: str
    time: str = ""


class TestShown(TestOutcome):
    """How a test went, as two releases of the web client read it."""

    connection_result: TestOutcome
    logs: list[LogLine]


class Spec(Answer):
    """A connector's JSON Schema and the hints for its form."""

    jsonschema: dict[str, Any]
    uischema: str


class SpecShown(Answer):
    """A connector's form."""

    type: str
    version: str
    spec: Spec


class Versions(Answer):
    """The versions that this server runs."""

    version: list[str]


class SyncJobShown(Answer):
    """A sync job; `streams_config` is a string that holds the catalog document."""

    id: int
    name: str
    source: ConnectionShown
    destination: ConnectionShown
    frequency: str
    streams_config: str
    activate: bool


class SyncJobListed(SyncJobShown):
    """A sync job of a list; the fields of the last run are absent when there was none."""

    job_id: str
    created_at: str
    updated_at: str
    created_by: str
    updated_by: str
    last_run_time: str = ""
    last_run_state: State = "completed"


class Unique(Answer):
    """Whether a name is free."""

    unique: bool


class Said(Answer):
    """One sentence."""

    message: str


class Activated(Answer):
    """Whether a job is on."""

    activate: bool


class TaskShown(Answer):
    """A run of a sync job; `file_path` asks for its log."""

    id: str
    start_time: str
    runtime: str
    status: State
    file_path: str


class TaskLogs(Answer):
    """The log of a run."""

    task_logs: list[LogLine]


class Document(Answer):
    """The catalog document: what the source has, and what the job has chosen of it."""

    streams: list[dict[str, Any]]
    selected_streams: dict[str, list[dict[str, Any]]]


class DocumentTwice(Document):
    """The same, also whole as a string."""

    streams_config: str


class Username(Answer):
    """Who is signed in."""

    username: str


class SignedUp(Answer):
    """Who registered."""

    email: str
    username: str


class NobodysId(Answer):
    """An empty id: nothing is reported to anybody."""

    user_id: str


SOURCE = {
    "name": "shop",
    "type": "postgres",
    "version": "v1.0.0",
    "config": {"host": "db.example.org", "port": 5432, "database": "shop", "username": "reader", "password": "..."},
}
DESTINATION = {
    "name": "lake",
    "type": "s3",
    "version": "v1.0.0",
    "config": {"type": "PARQUET", "writer": {"local_path": "lake"}},
}
JOB = {
    "name": "shop to lake",
    "source": SOURCE,
    "destination": DESTINATION,
    "frequency": "0 6 * * *",
    "streams_config": {"streams": [], "selected_streams": {}},
}
LOGIN = {"username": "ada", "password": "a long password"}


def _connections(kind: str, example: dict[str, Any]) -> dict[str, Told]:
    listed = Told(Envelope[list[ConnectionListed]])
    change = Told(Envelope[ConnectionShown], body=connections.ConnectionBody, refuses=(409,), example=example)
    trial = {key: example[key] for key in ("type", "version", "config")}
    return {
        f"olake.list_{kind}s": listed,
        f"olake.create_{kind}": change,
        f"olake.update_{kind}": change,
        f"olake.delete_{kind}": Told(Envelope[DeletedByName], refuses=(409,)),
        f"olake.test_{kind}": Told(Envelope[TestShown], body=connections.TestBody, example=trial),
        f"olake.{kind}_spec": Told(
            Envelope[SpecShown],
            body=specs.SpecQuery,
            query=specs.SpecQuery,
            body_is_optional=True,
            example={"type": example["type"], "version": "v1.0.0"},
        ),
        f"olake.{kind}_versions": Told(Envelope[Versions], query=specs.SpecQuery),
    }


DISCOVER = {"body": streams.StreamsBody, "query": None, "example": {**SOURCE, "job_id": -1, "job_name": ""}}
CHAPTER = Chapter(
    "Sources, destinations and sync (OLake)",
    "Contract 002, every answer in its envelope. `project` is a project's slug or number; `olake` and `123` mean the "
    "default one. Its log-in is a cookie; a bearer token works as well.",
    {
        "olake_auth.login": Told(Envelope[Username], body=Credentials, refuses=(403,), example=LOGIN),
        "olake_auth.signup": Told(Envelope[SignedUp], body=Registration, refuses=(403, 409), example=LOGIN),
        "olake_auth.auth": Told(Envelope[Username]),
        "olake_auth.check": Told(Envelope[Username]),
        "olake_auth.telemetry_id": Told(Envelope[NobodysId]),
        **_connections("source", SOURCE),
        **_connections("destination", DESTINATION),
        "olake.list_jobs": Told(Envelope[list[SyncJobListed]]),
        "olake.get_job": Told(Envelope[SyncJobListed | list[SyncJobListed]]),
        "olake.create_job": Told(Envelope[SyncJobShown], body=jobs.JobBody, refuses=(409,), example=JOB),
        "olake.update_job": Told(Envelope[SyncJobShown], body=jobs.JobBody, refuses=(409,), example=JOB),
        "olake.delete_job": Told(Envelope[DeletedByName], refuses=(409,)),
        "olake.check_unique": Told(Envelope[Unique], body=jobs.NameQuestion, example={"job_name": "shop to lake"}),
        "olake.sync_job": Told(Envelope[None], refuses=(409,)),
        "olake.activate_job": Told(Envelope[Activated], body=jobs.Activation, example={"activate": False}),
        "olake.cancel_job": Told(Envelope[Said], refuses=(409,)),
        "olake.cancel_job_by_get": Told(Envelope[Said], refuses=(409,)),
        "olake.list_tasks": Told(Envelope[list[TaskShown]]),
        "olake.read_log": Told(
            Envelope[list[LogLine]], body=tasks.LogQuestion,
            example={"file_path": "6b0c6f9e-5d58-4b3e-9a53-0f0b4e1f7c11"},
        ),
        "olake.get_log": Told(Envelope[TaskLogs]),
        "olake.discover_streams": Told(Envelope[Document], refuses=(409, 504), body=streams.StreamsBody,
                                       example=DISCOVER["example"]),
        "olake.discover_streams_by_get": Told(Envelope[DocumentTwice], refuses=(409, 504), body=streams.StreamsBody,
                                              example=DISCOVER["example"]),
    },
    Dialect.OLAKE,
)  # fmt: skip
