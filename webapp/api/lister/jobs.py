"""Contract 004's jobs: every job of the project, by its number."""

from typing import Any

from flask import Response, g, request

from webapp import guard
from webapp.accounts.access import Scope
from webapp.api.bodies import answer
from webapp.api.lister import metadata
from webapp.api.lister.bodies import STATES, WORDS, Body, name_of, read_body
from webapp.api.lister.door import ITEM_METHODS, LIST_METHODS, path_number, serve
from webapp.api.lister.paging import asked_page
from webapp.api.lister.refusal import Wrong
from webapp.api.lister.words import show_job, show_jobs
from webapp.config import Role
from webapp.errors import Conflict, NotFound
from webapp.jobs import operations as jobs
from webapp.jobs.listing import count_jobs, numbered_job, page_of_jobs
from webapp.jobs.models import Job, JobKind
from webapp.jobs.operations import JobDraft
from webapp.runs.states import RunState
from webapp.runs.statuses import operations as statuses


@serve("/jobs/", LIST_METHODS)
def job_list() -> Response:
    """GET: a page of jobs, newest first. POST: 201 with the new external job, which is pending."""
    if request.method == "OPTIONS":
        return metadata.describe("Job List", verb="POST", fields=metadata.JOB if may_write() else None)
    if request.method == "POST":
        body = read_body()
        name = body.take("name", name_of, required=True)
        body.check()
        job = jobs.create_job(guard.actor(), JobDraft(name=name), kind=JobKind.EXTERNAL)
        return answer(show_job(job), 201)
    page = asked_page(count_jobs(guard.actor()))
    return answer(page.show(show_jobs(page_of_jobs(guard.actor(), offset=page.offset, limit=page.size))))


@serve("/jobs/<pk>/", ITEM_METHODS)
def job_item(pk: str) -> Response:
    """One job. PATCH with `status_type` reports it; DELETE answers 204, and 409 while a run of it is under way here."""
    number = path_number(pk)
    if request.method == "OPTIONS":
        fields = metadata.JOB if may_write() and _is_there(number) else None
        return metadata.describe("Job Instance", verb="PUT", fields=fields)
    job = find_job(number)
    if request.method == "DELETE":
        jobs.delete_job(guard.actor(), job.id)
        return Response(status=204)
    if request.method in ("PUT", "PATCH"):
        _change(job, read_body(is_partial=request.method == "PATCH"))
    return answer(show_job(job))


def _change(job: Job, body: Body) -> None:
    name = body.take("name", name_of, required=True)
    body.check()
    state = _reported(body) if body.is_partial and "status_type" in body.values else None
    if state is None or name is not None:
        jobs.update_job(guard.actor(), job.id, JobDraft(name=name), is_saved_anyway=True)
    if state is not None:
        try:
            statuses.report_status(guard.actor(), job.id, state)
        except Conflict as error:
            raise Wrong({"error": error.message}) from error


def _reported(body: Body) -> RunState:
    """The state that is reported. Raises Wrong, in the words that the public front end shows."""
    word: Any = body.values["status_type"]
    if not isinstance(word, str) or word not in STATES:
        raise Wrong({"error": f"Invalid status_type. Must be one of: {WORDS}"})
    return STATES[word]


def find_job(number: int) -> Job:
    """The job with this number. Raises NotFound."""
    try:
        return numbered_job(guard.actor(), number)
    except NotFound:
        raise NotFound("No Job matches the given query.") from None


def _is_there(number: int) -> bool:
    try:
        find_job(number)
    except NotFound:
        return False
    return True


def may_write() -> bool:
    """Whether whoever asks may make and change jobs somewhere."""
    who = g.actor
    return who is not None and any(who.has(Role.OPERATOR, project, Scope.JOBS_WRITE) for project in who.project_ids)
