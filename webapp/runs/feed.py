"""What open pages show of runs and jobs as they change: events in, HTML out, once for all who look."""

import uuid
from collections.abc import Iterable

import sqlalchemy as sa
from flask import render_template

from webapp.db import db
from webapp.events import Event
from webapp.runs import browse, job_lines, logs, screen
from webapp.runs.marks import last_marks
from webapp.runs.models import Run

REFRESH = "<div data-live-refresh></div>"  # the page fetches itself again: it shows more than can be said here
MOST_LINES = 500  # of one rendering; a page that follows a flood of lines gets its end, and a way to what is left out


def page_of(event: Event) -> Iterable[str]:
    """The run's own page; its log lines have a renderer of their own."""
    return () if event.kind == "run.logged" else (f"run:{event.subject_id}",)


def log_of(event: Event) -> Iterable[str]:
    """The page that shows the log."""
    return (f"run:{event.subject_id}",)


def lists_of_runs(event: Event) -> Iterable[str]:
    """Every list in which the run has a row."""
    return () if event.kind == "run.logged" else ("runs", f"job:{event.payload['job_id']}")


def lists_of_jobs(event: Event) -> Iterable[str]:
    """Every list in which the job has a row, and its own page."""
    return ("jobs", f"job:{_job_id(event)}")


def page_of_job(event: Event) -> Iterable[str]:
    """The job's own page, on which an edit may have changed anything."""
    return (f"job:{_job_id(event)}",)


def show_run(events: list[Event]) -> str:
    """The first screen and the picture; its place among other runs only when its state has changed."""
    run = _find(events[-1].subject_id)
    if run is None:
        return ""
    shown = [
        render_template("runs/_now.html", now=screen.look_at_now(run)),
        render_template("runs/_picture.html", picture=screen.look_at_picture(run)),
    ]
    if any(event.kind == "run.moved" for event in events):
        shown.append(render_template("runs/_past.html", past=screen.look_at_past(run)))
        shown.append(render_template("runs/_attempts.html", run=run, chosen=None))
    return "".join(shown)


def show_log(events: list[Event]) -> str:
    """The lines that came, the last MOST_LINES of them; the first screen too when one says what the run waits for."""
    run_id = events[-1].subject_id
    assert run_id is not None
    first, last = events[0].payload["from"], events[-1].payload["to"]
    start = max(first, last - MOST_LINES + 1)
    lines = logs.lines_between(run_id, start, last)
    shown = render_template("runs/_log_lines.html", run_id=run_id, lines=lines, left_out=start - first, first=first)
    run = _find(run_id) if any(map(logs.is_wait, lines)) else None
    return shown + (render_template("runs/_now.html", now=screen.look_at_now(run)) if run else "")


def show_row(events: list[Event]) -> str:
    """The run's row, put on top of lists that show everything."""
    line = browse.line_of(events[-1].subject_id) if events[-1].subject_id else None
    return render_template("runs/_row.html", line=line, is_live=True) if line else ""


def show_job(events: list[Event]) -> str:
    """What changes of a job when it is edited, or when one of its runs moves."""
    line = job_lines.line_of_job(_job_id(events[-1]))
    if line is None:
        return ""
    marks = last_marks([line.id], count=screen.TREND_LENGTH).get(line.id, [])
    return render_template("jobs/_live.html", line=line, marks=marks)


def show_edited_job(events: list[Event]) -> str:
    """The page shows tasks and policies, which only it knows how to draw."""
    return REFRESH


def show_new_job(events: list[Event]) -> str:
    """A row on top of lists that show everything."""
    line = job_lines.line_of_job(_job_id(events[-1]))
    return render_template("jobs/_row.html", line=line, is_live=True) if line else ""


def show_deleted_job(events: list[Event]) -> str:
    """The row goes."""
    return render_template("jobs/_gone.html", job_id=_job_id(events[-1]))


def _job_id(event: Event) -> uuid.UUID:
    if event.kind.startswith("run."):
        return uuid.UUID(event.payload["job_id"])
    assert event.subject_id is not None
    return event.subject_id


def _find(run_id: uuid.UUID | None) -> Run | None:
    return db.session.scalar(sa.select(Run).where(Run.id == run_id))
