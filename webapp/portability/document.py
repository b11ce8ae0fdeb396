"""What a project's file may hold. Absent settings stay as they are, or as the default says for what is new."""

from typing import Annotated, Any, Literal

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, Strict, ValidationError

from webapp.errors import Invalid
from webapp.jobs.models import ExecutorChoice, JobKind, Missed, Overlap
from webapp.portability.yaml_text import read_yaml, write_yaml
from webapp.webhooks.models import Topic

FORMAT = 1
HEADER = "# A project of Hohmann, without its secrets: see `flask import-project`, or the page Settings, Project.\n"
MOST_ERRORS = 100
Kind = Literal[JobKind.ETL, JobKind.SYNC, JobKind.EXTERNAL]


def _printable(text: str) -> str:
    if not text.strip() or not text.isprintable():
        raise ValueError("must be printable characters, not only spaces")
    return text.strip()


Name = Annotated[str, Field(max_length=255), AfterValidator(_printable)]
Whole = Annotated[int, Strict()]
Seconds = Annotated[float, Strict()]
Flag = Annotated[bool, Strict()]


class Entry(BaseModel):
    """A part of the file; a setting that this release does not know is refused by name."""

    model_config = ConfigDict(extra="forbid")

    @property
    def given(self) -> dict[str, Any]:
        """The settings that the file names, as plain values; null counts as absent."""
        return {key: value for key, value in self.model_dump(mode="json").items() if value is not None}


class ConnectionEntry(Entry):
    """A source or a destination."""

    name: Name
    type: str | None = None
    version: str | None = None
    config: dict[str, Any] | None = None


class TaskEntry(Entry):
    """A step of an etl job."""

    extractor: dict[str, Any]
    loader: dict[str, Any]


class JobEntry(Entry):
    """A job. `tasks` belong to etl jobs; `source`, `destination` and `streams` to sync jobs."""

    name: Name
    kind: Kind = JobKind.ETL
    description: str | None = None
    enabled: Flag | None = None
    schedule: str | None = None
    timezone: Name | None = None
    overlap: Overlap | None = None
    missed: Missed | None = None
    concurrency_limit: Whole | None = None
    max_attempts: Whole | None = None
    retry_delay_seconds: Seconds | None = None
    timeout_seconds: Seconds | None = None
    no_progress_seconds: Seconds | None = None
    executor: ExecutorChoice | None = None
    source: Name | None = None
    destination: Name | None = None
    streams: dict[str, Any] | list[Any] | None = None
    tasks: list[TaskEntry] | None = None


class JobName(Entry):
    """Which job a webhook is told of."""

    name: Name
    kind: Kind = JobKind.ETL


class WebhookEntry(Entry):
    """A webhook of one job, or of the whole project."""

    name: Name
    job: JobName | None = None
    url: Annotated[str, Field(max_length=2000)] | None = None
    topics: list[Topic] | None = None
    after_failures: Whole | None = None
    no_show_seconds: Whole | None = None
    enabled: Flag | None = None


class ProjectFile(Entry):
    """The whole file."""

    hohmann_project: Literal[1]
    sources: list[ConnectionEntry] = []
    destinations: list[ConnectionEntry] = []
    jobs: list[JobEntry] = []
    webhooks: list[WebhookEntry] = []


def write_file(content: dict[str, Any]) -> bytes:
    """The file that says this."""
    return (HEADER + write_yaml({"hohmann_project": FORMAT, **content})).encode()


def read_file(data: bytes) -> ProjectFile:
    """What the file says. Raises Invalid that names each wrong place, as `jobs[2].schedule`."""
    value = read_yaml(data)
    if not isinstance(value, dict) or "hohmann_project" not in value:
        raise Invalid("hohmann_project: this line is missing; the file is no project of Hohmann.", field="file")
    if value["hohmann_project"] != FORMAT:
        message = f"hohmann_project: this release reads format {FORMAT}, not {str(value['hohmann_project'])[:20]}."
        raise Invalid(message, field="file")
    try:
        return ProjectFile.model_validate(value)
    except ValidationError as error:
        found = error.errors(include_url=False, include_context=False, include_input=False)
        raise refusal([(item["loc"], _said(item)) for item in found]) from error


def _said(item: Any) -> str:
    if item["type"] == "extra_forbidden":
        return "this release does not know this setting."
    return f"{item['msg']}."


def refusal(problems: list[tuple[tuple[str | int, ...], str]]) -> Invalid:
    """One refusal for all that is wrong, each with its place."""
    errors = [
        {"type": "value_error", "loc": ["body", *loc], "msg": f"{place(loc)}: {said}", "input": None}
        for loc, said in problems[:MOST_ERRORS]
    ]
    return Invalid(str(errors[0]["msg"]), errors=errors, field="file")


def place(loc: tuple[str | int, ...]) -> str:
    """A place in the file as people write it: `jobs[2].schedule`."""
    return "".join(f"[{part}]" if isinstance(part, int) else f".{part}" for part in loc).removeprefix(".")


JobKey = tuple[JobKind, str, int]
"""A job by its kind and name; the number tells apart those that have both in common, from the oldest on."""
