"""The page of a project's file: download it; upload one, look at what it would do, then import it.

`project` in the address or the form is the slug or number of the project that is meant; without it, the first.
"""

from flask import Blueprint, Flask, Response, render_template, request
from flask.typing import ResponseReturnValue

from webapp import db as database
from webapp.accounts import operations as accounts
from webapp.accounts.access import Actor
from webapp.errors import Invalid
from webapp.guard import actor
from webapp.portability import operations as portability
from webapp.portability.plan import Outcome

door = Blueprint("portability", __name__, url_prefix="/settings/project")
MOST_PROBLEMS_SHOWN = 20


def wire(app: Flask) -> None:
    """Attach the pages."""
    app.register_blueprint(door)


@door.get("")
def show() -> ResponseReturnValue:
    """What can be done with the project as a whole."""
    return _page()


@door.get("/file")
def download() -> Response:
    """The project's file."""
    return answer_file(portability.export_project(_actor()))


def answer_file(data: bytes) -> Response:
    """An answer that browsers save as a file."""
    headers = {"Content-Disposition": 'attachment; filename="hohmann-project.yaml"', "Cache-Control": "no-store"}
    return Response(data, mimetype="application/yaml", headers=headers)


@door.post("/import")
def bring_in() -> ResponseReturnValue:
    """What the file that was sent would do; when that was confirmed, do it."""
    data = _sent()
    try:
        if not data:
            raise Invalid("Choose a file first.", field="file")
        plan = portability.plan_import(_actor(), data)
        if request.form.get("digest") != plan.digest:
            return _page(plan=plan, text=data.decode(), is_other=bool(request.form.get("digest")))
        return _page(done=portability.import_project(_actor(), data))
    except Invalid as error:
        database.abandon(database.db.session())
        return _page(422, problems=_problems(error))


def _actor() -> Actor:
    """The visitor, in the project that is meant."""
    return portability.in_project(actor(), request.values.get("project", ""))


def _sent() -> bytes:
    """The file as it was uploaded, or as the page with the plan carried it along."""
    upload = request.files.get("file")
    if upload is not None:
        return bytes(upload.read())
    # Browsers send a field's line breaks as CRLF; YAML means the same by either.
    return request.form.get("text", "").encode()


def _problems(error: Invalid) -> list[str]:
    listed = error.details.get("errors")
    return [item["msg"] for item in listed[:MOST_PROBLEMS_SHOWN]] if listed else [error.message]


def _page(
    status: int = 200,
    *,
    plan: Outcome | None = None,
    done: Outcome | None = None,
    text: str = "",
    is_other: bool = False,
    problems: list[str] | None = None,
) -> ResponseReturnValue:
    page = "portability/plan.html" if plan else "portability/project.html"
    here = _actor()
    return render_template(
        page,
        plan=plan,
        done=done,
        text=text,
        is_other=is_other,
        problems=problems or [],
        projects=accounts.projects_of(actor()),
        chosen=next(iter(accounts.projects_of(here)), None),
        may_import=portability.may_import(here),
    ), status
