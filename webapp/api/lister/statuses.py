"""Contract 004's statuses: the log of all jobs, which external jobs are reported through."""

from typing import Any

from flask import Response, request

from webapp import guard
from webapp.api.bodies import answer
from webapp.api.lister import metadata
from webapp.api.lister.bodies import Body, key_of, no_such_key, read_body, state_of
from webapp.api.lister.door import ITEM_METHODS, LIST_METHODS, path_number, serve
from webapp.api.lister.jobs import may_write
from webapp.api.lister.paging import asked_page
from webapp.api.lister.refusal import Wrong
from webapp.api.lister.words import show_status
from webapp.errors import Conflict, NotFound
from webapp.jobs.listing import numbered_job
from webapp.jobs.models import Job
from webapp.jobs.operations import get_job
from webapp.runs.states import RunState
from webapp.runs.statuses import log, operations
from webapp.runs.statuses.models import StatusEntry


@serve("/jobstatuses/", LIST_METHODS)
def status_list() -> Response:
    """GET: a page of the log, oldest first, of one job with `?job=`. POST: 201 with the status that is reported."""
    if request.method == "OPTIONS":
        return metadata.describe("Job Status List", verb="POST", fields=metadata.STATUS if may_write() else None)
    if request.method == "POST":
        job, state = _read(read_body())
        assert job is not None, "the field is required"
        return answer(_show(_report(job, state or RunState.QUEUED)), 201)
    return answer(_page())


def _page() -> dict[str, Any]:
    actor, text = guard.actor(), request.args.get("job", "")
    job_id = None
    if text:
        try:
            job_id = numbered_job(actor, int(text)).id
        except ValueError:
            choice = "Select a valid choice. That choice is not one of the available choices."
            raise Wrong({"job": [choice]}) from None
        except NotFound:  # it may just have been deleted: it has no statuses
            return asked_page(0).show([])
    page = asked_page(log.count_entries(actor, job_id=job_id))
    rows = log.page_of_entries(actor, offset=page.offset, limit=page.size, job_id=job_id)
    return page.show([show_status(number=row.number, job=row.job, state=row.state, at=row.at) for row in rows])


@serve("/jobstatuses/<pk>/", ITEM_METHODS)
def status_item(pk: str) -> Response:
    """One status. PUT, PATCH and DELETE edit the past, and leave a trace in the history of the job's rocket."""
    number = path_number(pk)
    if request.method == "OPTIONS":
        fields = metadata.STATUS if may_write() and _find(number) is not None else None
        return metadata.describe("Job Status Instance", verb="PUT", fields=fields)
    entry = _find(number)
    if entry is None:
        raise NotFound("No JobStatus matches the given query.")
    if request.method == "DELETE":
        operations.delete_status(guard.actor(), number)
        return Response(status=204)
    if request.method in ("PUT", "PATCH"):
        job, state = _read(read_body(is_partial=request.method == "PATCH"))
        try:
            entry = operations.edit_status(guard.actor(), number, job_id=job.id if job else None, state=state)
        except Conflict as error:
            raise Wrong({"job": [error.message]}) from error
    return answer(_show(entry))


def _find(number: int) -> StatusEntry | None:
    try:
        return log.get_entry(guard.actor(), number)
    except NotFound:
        return None


def _read(body: Body) -> tuple[Job | None, RunState | None]:
    """The job and the state that the body names; None for what may be left out. Raises Wrong."""
    job = body.take("job", _job_of, required=True)
    state = body.take("status_type", state_of, required=False)
    body.check()
    return job, state


def _job_of(value: Any) -> Job:
    try:
        return numbered_job(guard.actor(), key_of(value))
    except NotFound:
        raise no_such_key(value) from None


def _report(job: Job, state: RunState) -> StatusEntry:
    try:
        return operations.report_status(guard.actor(), job.id, state)
    except Conflict as error:
        raise Wrong({"job": [error.message]}) from error


def _show(entry: StatusEntry) -> dict[str, Any]:
    job = get_job(guard.actor(), entry.job_id)
    return show_status(number=entry.number, job=job.number, state=entry.state, at=entry.at)
