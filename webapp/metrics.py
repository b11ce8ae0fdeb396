"""What Prometheus reads: counts and times that the processes of this machine keep together, and the present state.

Counts lie in files under HOHMANN_HOME/run/metrics that all processes map (prometheus_client's multiprocess mode); they
begin at zero when the stack starts, as counters may. The state of queue, workers and schedules is asked of the database
at each scrape, so it is the same on every host.
"""

import os
import time
from collections.abc import Iterator
from typing import Any

import sqlalchemy as sa
import sqlalchemy.exc
from flask import Flask, Response, current_app, g, request
from prometheus_client import CollectorRegistry, Counter, Histogram, generate_latest
from prometheus_client.core import GaugeMetricFamily
from prometheus_client.multiprocess import MultiProcessCollector
from sqlalchemy.orm import Session

from webapp import db as database
from webapp.dates import utcnow
from webapp.db import db
from webapp.jobs.models import Job
from webapp.metrics_folder import FOLDER
from webapp.rockets.models import Rocket
from webapp.runs.models import Worker
from webapp.runs.operations import RunNews, look_at_queue, run_news
from webapp.runs.states import RunState

SECONDS_OF_RUNS = (0.1, 0.5, 1, 5, 15, 60, 300, 1800, 7200, 43_200)
SECONDS_OF_CALLS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 5)


class Meters:
    """The counters. They are made after the folder is known: the library looks at it once."""

    def __init__(self) -> None:
        own = {"registry": None}
        self.runs = Counter("hohmann_runs", "Runs that moved to this state.", ["state", "executor"], **own)  # type: ignore[arg-type]
        self.rows = Counter("hohmann_rows_written", "Rows that runs wrote.", **own)  # type: ignore[arg-type]
        self.read = Counter("hohmann_bytes_read", "Bytes that runs read.", **own)  # type: ignore[arg-type]
        self.seconds = Histogram(
            "hohmann_run_seconds",
            "From claim to end of a run.",
            ["state"],
            buckets=SECONDS_OF_RUNS,
            **own,  # type: ignore[arg-type]
        )
        self.waited = Histogram(
            "hohmann_run_wait_seconds",
            "From due to claimed.",
            buckets=SECONDS_OF_RUNS,
            **own,  # type: ignore[arg-type]
        )
        self.calls = Histogram(
            "hohmann_http_seconds", "Time to answer a request.", ["door", "method", "status"],
            buckets=SECONDS_OF_CALLS, **own,  # type: ignore[arg-type]
        )  # fmt: skip

        self._of_calls: dict[tuple[str, str, int], Histogram] = {}

    def of_call(self, door: str, method: str, hundreds: int) -> Histogram:
        """The times of such requests; looked up once, because the library's own look-up costs each request more."""
        found = self._of_calls.get((door, method, hundreds))
        if found is None:
            found = self._of_calls[door, method, hundreds] = self.calls.labels(door, method, f"{hundreds}xx")
        return found


def wire(app: Flask) -> None:
    """Count every request, and every run that moves."""
    app.extensions["meters"] = Meters()
    app.after_request(_count_call)
    run_news.listen(_note_runs)
    if _count_runs not in database.after_commit:
        database.after_commit.append(_count_runs)


def _meters() -> Meters:
    found: Meters = current_app.extensions["meters"]
    return found


def _count_call(response: Response) -> Response:
    if request.endpoint not in (None, "static"):
        took = time.perf_counter() - g.get("arrived", time.perf_counter())
        _meters().of_call(request.blueprint or "page", request.method, response.status_code // 100).observe(took)
    return response


def _note_runs(news: RunNews) -> None:
    """Remember what moved; it is counted when it is committed."""
    notes = db.session.info.setdefault("metered", [])
    for moved in news.moves:
        run = moved.run
        waited = (run.started_at - run.available_at).total_seconds() if run.started_at else None
        notes.append((moved.to, run.executor.value, run.seconds, waited, run.rows_written, run.bytes_read))


def _count_runs(session: Session) -> None:
    notes: list[tuple[RunState, str, float | None, float | None, int, int]] = session.info.get("metered", [])
    meters = _meters() if notes else None
    for state, executor, seconds, waited, rows, read in notes:
        assert meters is not None
        meters.runs.labels(state.value, executor).inc()
        if state is RunState.RUNNING and waited is not None:
            meters.waited.observe(max(0.0, waited))
        if state.is_final:
            meters.rows.inc(max(0, rows))
            meters.read.inc(max(0, read))
            if seconds is not None:
                meters.seconds.labels(state.value).observe(seconds)


class PresentState:
    """The state of the instance, asked of the database at each scrape."""

    def collect(self) -> Iterator[Any]:
        """The gauges; only `hohmann_database_up` while the database is away."""
        try:
            gauges = [*_queue(), *_schedules(), *_fleet()]
            is_up = 1.0
        except sqlalchemy.exc.OperationalError:
            gauges, is_up = [], 0.0
        yield _gauge("hohmann_database_up", "Whether the database answers.", is_up)
        yield from gauges


def _gauge(name: str, about: str, value: float) -> GaugeMetricFamily:
    return GaugeMetricFamily(name, about, value=value)


def _queue() -> Iterator[GaugeMetricFamily]:
    queue = look_at_queue()
    yield _gauge("hohmann_queue_depth", "Runs that wait.", queue.queued)
    yield _gauge("hohmann_runs_in_flight", "Runs under way.", queue.running)
    yield _gauge("hohmann_oldest_wait_seconds", "How long the oldest due run waits.", queue.oldest_wait_seconds or 0)
    yield _gauge("hohmann_workers_alive", "Workers that were seen lately.", queue.workers_alive)
    yield _gauge("hohmann_worker_slots", "Runs that they execute at most.", queue.slots)
    yield _gauge("hohmann_worker_slots_busy", "Runs that they execute.", queue.workers_busy)
    seen = db.session.scalar(sa.select(sa.func.max(Worker.seen_at)))
    pulse = (utcnow() - seen).total_seconds() if seen else float("inf")
    yield _gauge("hohmann_worker_pulse_seconds", "How long ago any worker was seen.", pulse)


def _schedules() -> Iterator[GaugeMetricFamily]:
    due = db.session.scalar(sa.select(sa.func.min(Job.next_run_at)).where(Job.is_enabled))
    late = max(0.0, (utcnow() - due).total_seconds()) if due else 0.0
    yield _gauge(
        "hohmann_scheduler_late_seconds", "How late the scheduler is with what is due; 0 when nothing is.", late
    )


def _fleet() -> Iterator[GaugeMetricFamily]:
    states = GaugeMetricFamily("hohmann_rockets", "Rockets by phase.", labels=["phase"])
    for phase, count in db.session.execute(sa.select(Rocket.phase, sa.func.count()).group_by(Rocket.phase)):
        states.add_metric([phase.value], count)
    yield states


def render() -> bytes:
    """All metrics in Prometheus' text format."""
    registry = CollectorRegistry()
    MultiProcessCollector(registry, path=os.environ[FOLDER])  # type: ignore[no-untyped-call]
    registry.register(PresentState())
    return generate_latest(registry)
