"""Contract 004: jobs with a log of statuses."""

from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, StringConstraints

from webapp.api.openapi.told import Answer, Chapter, Dialect, Told

StatusType = Literal["PENDING", "RUNNING", "COMPLETED", "FAILED"]
FORMS = ("application/json", "application/x-www-form-urlencoded", "multipart/form-data")
TIME = "2026-01-02T03:04:05.678901Z"
STATUS = {"id": 7, "job": 3, "status_type": "RUNNING", "timestamp": TIME}
JOB = {
    "id": 3, "name": "Nightly export", "created_at": TIME, "updated_at": TIME,
    "current_status": {"status_type": "RUNNING", "timestamp": TIME},
    "statuses": [{"id": 7, "status_type": "RUNNING", "timestamp": TIME}],
}  # fmt: skip


class CurrentStatus(Answer):
    """The newest status."""

    status_type: StatusType
    timestamp: str


class StatusOfJob(CurrentStatus):
    """A status of a job, below it."""

    id: int


class ListedJob(Answer):
    """A job of any kind, with its newest statuses, oldest of them first."""

    id: int
    name: str
    created_at: str
    updated_at: str
    current_status: CurrentStatus | None
    statuses: list[StatusOfJob]


class ListedStatus(Answer):
    """A status with the number of its job."""

    id: int
    job: int
    status_type: StatusType
    timestamp: str


class Page(Answer):
    """A page of a list, as Django REST framework answers it."""

    count: int
    next: str | None
    previous: str | None


class PageOfJobs(Page):
    """A page of jobs, newest first."""

    results: list[ListedJob]


class PageOfStatuses(Page):
    """A page of statuses, oldest first."""

    results: list[ListedStatus]


class Addresses(Answer):
    """Where the lists are."""

    jobs: str
    jobstatuses: str


class Healthy(Answer):
    """The server answers."""

    status: str


class PageQuery(BaseModel):
    """Which page is wanted: a number from 1, or `last`; and how many a page has."""

    page: str | None = None
    page_size: str | None = None


class StatusQuery(PageQuery):
    """The statuses of which job are wanted."""

    job: str | None = None


Name = Annotated[str, StringConstraints(min_length=1, max_length=255)]


class NewJob(BaseModel):
    """An external job: whoever runs it reports its statuses."""

    name: Name


class JobReport(BaseModel):
    """A new name, or a new status, or both."""

    model_config = ConfigDict(extra="allow")

    name: Name | None = Field(default=None)
    status_type: StatusType | None = Field(default=None)


class NewStatus(BaseModel):
    """A status that is reported; PENDING when none is named."""

    job: int
    status_type: StatusType = "PENDING"


class StatusChange(BaseModel):
    """What was wrong about a status."""

    job: int | None = None
    status_type: StatusType | None = None


def _told(answer: Any, body: Any = None, *, example: Any = None, **more: Any) -> Told:
    return Told(answer, body=body, example=example, body_media=FORMS if body else (), **more)


CHAPTER = Chapter(
    "Job lister",
    "Contract 004: jobs of every kind with their statuses, as Django REST framework answers. Jobs that are made "
    "here are external: whoever runs them reports here.",
    {
        "lister.root": Told(Addresses),
        "lister.job_list GET": Told(PageOfJobs, query=PageQuery),
        "lister.job_list POST": _told(ListedJob, NewJob, example={"name": "Nightly export"}, status=201, shown=JOB),
        "lister.job_item GET": Told(ListedJob, shown=JOB),
        "lister.job_item PUT": _told(ListedJob, NewJob, example={"name": "Nightly export"}, shown=JOB),
        "lister.job_item PATCH": _told(ListedJob, JobReport, example={"status_type": "RUNNING"}, shown=JOB),
        "lister.job_item DELETE": Told(None, 204, refuses=(409,)),
        "lister.status_list GET": Told(PageOfStatuses, query=StatusQuery),
        "lister.status_list POST": _told(
            ListedStatus, NewStatus, example={"job": 3, "status_type": "RUNNING"}, status=201, shown=STATUS
        ),
        "lister.status_item GET": Told(ListedStatus, shown=STATUS),
        "lister.status_item PUT": _told(
            ListedStatus,
            NewStatus,
            example={"job": 3, "status_type": "FAILED"},
            shown={**STATUS, "status_type": "FAILED"},
        ),
        "lister.status_item PATCH": _told(ListedStatus, StatusChange, example={"status_type": "RUNNING"}, shown=STATUS),
        "lister.status_item DELETE": Told(None, 204, refuses=(409,)),
        "lister_health.health": Told(Healthy),
    },
    Dialect.LISTER,
)
