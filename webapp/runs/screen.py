"""What a run's page shows, gathered from its tables: nothing here asks who looks."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

import sqlalchemy as sa

from webapp.dates import utcnow
from webapp.db import db
from webapp.jobs.models import Job
from webapp.jobs.routes import name_destination, name_source
from webapp.runs import logs
from webapp.runs import operations as runs
from webapp.runs.compare import Difference, differences, last_good_run
from webapp.runs.marks import Mark, last_marks
from webapp.runs.models import Run, RunAttempt, RunStep
from webapp.runs.samples import rate_points
from webapp.runs.states import RunState
from webapp.runs.streams import Flight, flight_of

TREND_LENGTH = 30
MOST_BARS = 40  # more streams than that are told by their strips alone

#: Whose fault it is, in words that answer "is it my fault?".
ORIGINS = {
    "source": "the source",
    "destination": "the destination",
    "transform": "the transformation",
    "platform": "Hohmann itself or its machine",
    "user": "how the job is set up",
}
#: What sort of fault it is, in words that answer "what now?".
KINDS = {
    "configuration": "Trying again will not help until something is changed.",
    "transient": "It may go away by itself: trying again can help.",
    "system": "The machine or the service behind it needs a look.",
}


@dataclass(frozen=True)
class Bar:
    """A step against time: seconds since the attempt was waited for; None for what has not come."""

    name: str
    step: str
    status: str
    queued: float
    started: float | None
    ended: float | None
    since: datetime | None = None


@dataclass(frozen=True)
class TaskLine:
    """What became of one task of the run."""

    number: int
    source: str
    destination: str
    mode: str
    status: str
    facts: dict[str, Any]


@dataclass(frozen=True)
class Now:
    """The first screen: what happened, is it my fault, what now."""

    run: Run
    waits_for: str | None
    since: datetime
    retries_at: datetime | None
    origin: str | None
    advice: str | None
    arrives: datetime | None
    rate: int | None
    mean_rate: int | None


@dataclass(frozen=True)
class Picture:
    """One attempt drawn: its steps against time, its tasks, its rows per second."""

    run: Run
    attempt: int
    bars: list[Bar]
    seconds: float
    tasks: list[TaskLine]
    points: list[tuple[int, int]]
    flight: Flight | None = None


@dataclass(frozen=True)
class Past:
    """The run among its likes: the last runs of the job, and what is different from the last good one."""

    run: Run
    trend: Sequence[Mark]
    good: Run | None
    differences: list[Difference]
    attempts: list[RunAttempt]


def job_name_of(run: Run) -> str:
    """The job's present name."""
    return db.session.scalar(sa.select(Job.name).where(Job.id == run.job_id)) or ""


def look_at_now(run: Run) -> Now:
    """The state of the run, and what follows from it."""
    points = rate_points(run, run.attempt) if run.state is RunState.RUNNING else []
    retries_at = run.available_at if run.state is RunState.QUEUED and run.available_at > utcnow() else None
    return Now(
        run=run,
        waits_for=None if retries_at else runs.why_it_waits(run) or _held_up(run),  # a countdown says it better
        since=_since(run),
        retries_at=retries_at,
        origin=ORIGINS.get(run.error_origin or ""),
        advice=KINDS.get(run.error_kind or ""),
        arrives=_arrives(run),
        rate=points[-1][1] if points else None,
        mean_rate=_mean_rate(run),
    )


def _held_up(run: Run) -> str | None:
    """What a run that has begun waits for, by its own log."""
    line = logs.wait_of(run) if run.state is RunState.RUNNING else None
    return f"Begun, and {line.message}." if line else None


def _since(run: Run) -> datetime:
    if run.finished_at:
        return run.finished_at
    if run.state is RunState.RUNNING and run.started_at:
        return run.started_at
    return run.created_at


def _arrives(run: Run) -> datetime | None:
    if run.state is not RunState.RUNNING or not run.fraction or not run.started_at or not run.progress_at:
        return None
    elapsed = (run.progress_at - run.started_at).total_seconds()
    return run.started_at + timedelta(seconds=elapsed / run.fraction)


def _mean_rate(run: Run) -> int | None:
    end = run.finished_at or (utcnow() if run.state is RunState.RUNNING else None)
    if not run.started_at or not end or not run.rows_read:
        return None
    return round(run.rows_read / max((end - run.started_at).total_seconds(), 0.001))


def look_at_picture(run: Run, *, attempt: int | None = None) -> Picture:
    """The steps of an attempt, the last one unless another is asked for."""
    chosen = attempt or run.attempt
    steps = runs.steps_of(run, attempt=chosen)
    began, until = _span(run, chosen)
    flight = flight_of(run, steps, ORIGINS)
    drawn = steps if flight is None or flight.total <= MOST_BARS else [step for step in steps if not step.facts]
    return Picture(
        run=run,
        attempt=chosen,
        bars=_bars(drawn, began, _status_of(run, chosen)),
        seconds=(until - began).total_seconds(),
        tasks=_tasks(run, steps),
        points=rate_points(run, chosen),
        flight=flight,
    )


def _span(run: Run, attempt: int) -> tuple[datetime, datetime]:
    """From when the attempt was waited for to its end, or to now."""
    ended = {past.attempt: past.finished_at for past in runs.attempts_of(run)}
    return ended.get(attempt - 1, run.created_at), ended.get(attempt) or run.finished_at or utcnow()


def _status_of(run: Run, attempt: int) -> str:
    """What an open step of this attempt is doing."""
    return "running" if attempt == run.attempt and run.state is RunState.RUNNING else "failed"


def _bars(steps: Sequence[RunStep], began: datetime, open_status: str) -> list[Bar]:
    many = len({step.task for step in steps}) > 1
    bars: list[Bar] = []
    for step in steps:
        started = (step.started_at - began).total_seconds()
        ended = (step.finished_at - began).total_seconds() if step.finished_at else None
        name = f"{step.task} · {step.name}" if many else step.name
        status = _word(step.outcome, open_status)
        since = step.started_at if status == RunState.RUNNING else None
        bars.append(Bar(name, step.name, status, started if bars else 0.0, started, ended, since))
    return bars


def _word(outcome: str | None, open_status: str) -> str:
    """A step's outcome as a run's word; what was lost with its worker counts as failed."""
    return open_status if outcome is None else outcome if outcome in set(RunState) else RunState.FAILED.value


def _tasks(run: Run, steps: Sequence[RunStep]) -> list[TaskLine]:
    lines = []
    for number, task in enumerate(run.spec.get("tasks", []), start=1):
        own = [step for step in steps if step.task == number]
        facts: dict[str, Any] = next((step.facts for step in reversed(own) if step.facts), {})
        lines.append(
            TaskLine(
                number,
                name_source(task["extractor"]),
                name_destination(task["loader"]),
                task["loader"].get("mode", "replace"),
                _task_status(run, number, own, facts),
                facts,
            )
        )
    return lines


def _task_status(run: Run, number: int, steps: Sequence[RunStep], facts: dict[str, Any]) -> str:
    if number < run.first_task:
        return "skipped"
    if facts:
        return "doubt" if facts.get("doubt") else "succeeded"
    if not steps:
        return "not started"
    bad = [step.outcome for step in steps if step.outcome not in (None, "succeeded")]
    return _word(bad[0] if bad else None, "running" if run.state is RunState.RUNNING else run.state.value)


def look_at_past(run: Run) -> Past:
    """The run beside the ones before it."""
    good = last_good_run(run)
    return Past(
        run=run,
        trend=last_marks([run.job_id], count=TREND_LENGTH).get(run.job_id, []),
        good=good,
        differences=differences(run, good) if good else [],
        attempts=runs.attempts_of(run),
    )
