"""Jobs for browser tests, made as a machine makes them, and a source that sends its rows when the test says so."""

import threading
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

from tests import factories
from tests.engine.api_server import Asked, Reply, api_server
from tests.support.stacks import Stack

ROWS_A_PAGE = 40
LONGEST_HOLD = 60  # seconds, after which a source gives up a test that forgot it


def unique(name: str) -> str:
    """A name that nothing else on the shared stack has."""
    return f"{name} {uuid.uuid4().hex[:6]}"


def csv_task(path: str, table: str) -> dict[str, Any]:
    """A task that loads a file of the data folder into browser.duckdb."""
    return {
        "extractor_config": {"type": "csv", "path": path},
        "loader_config": {"type": "duckdb", "db_path": "browser.duckdb", "table_name": table},
    }


def api_task(url: str, table: str) -> dict[str, Any]:
    """A task that loads the numbered pages of an API into browser.duckdb."""
    return {
        "extractor_config": {"type": "api", "url": url, "pagination": {"type": "page"}},
        "loader_config": {"type": "duckdb", "db_path": "browser.duckdb", "table_name": table},
    }


def call(stack: Stack, method: str, path: str, body: Any = None) -> Any:
    """What the JSON API answers to the owner."""
    status, found, _ = stack.request(method, path, body, token=stack.owner_token())
    assert status < 300, (status, found)
    return found


def add_job(stack: Stack, *tasks: dict[str, Any], name: str = "Probes", **facts: Any) -> dict[str, Any]:
    """A job with these tasks; returns it as the API does."""
    body = {"job_name": unique(name), "schedule": "@manual", "is_active": True, "tasks": list(tasks), **facts}
    job: dict[str, Any] = call(stack, "POST", "/api/v1/jobs", body)
    return job


def add_csv_job(stack: Stack, *, rows: int = 30, name: str = "Probes", table: str = "") -> dict[str, Any]:
    """A job that loads so many rows of a file."""
    table = table or f"t{uuid.uuid4().hex[:8]}"
    factories.write_csv(stack.home / "data" / f"{table}.csv", rows=rows)
    return add_job(stack, csv_task(f"{table}.csv", table), name=name)


def start(stack: Stack, job: dict[str, Any]) -> None:
    """Start a run as a machine does."""
    call(stack, "POST", f"/api/v1/jobs/{job['id']}/run")


def fly(stack: Stack, job: dict[str, Any]) -> dict[str, Any]:
    """Run the job to its end; returns the run as the API does."""
    start(stack, job)
    return wait_for_run(stack, job, "success", "failed")


def wait_for_run(stack: Stack, job: dict[str, Any], *statuses: str) -> dict[str, Any]:
    """The newest run of the job, once it is in one of these states."""

    def look() -> dict[str, Any] | None:
        runs = call(stack, "GET", f"/api/v1/jobs/{job['id']}/runs")
        return runs[0] if runs and runs[0]["status"] in statuses else None

    found: dict[str, Any] = stack.wait_for(look, seconds=30, what=f"a run that is {statuses}")
    return found


@dataclass
class SlowSource:
    """An API whose next page comes when the test releases it."""

    url: str = ""
    pages: threading.Semaphore = field(default_factory=lambda: threading.Semaphore(0))
    is_finished: threading.Event = field(default_factory=threading.Event)

    def send_page(self) -> None:
        """Let one page of ROWS_A_PAGE rows go."""
        self.pages.release()

    def finish(self) -> None:
        """There are no more pages."""
        self.is_finished.set()
        self.pages.release()

    def answer(self, asked: Asked) -> Reply:
        assert self.pages.acquire(timeout=LONGEST_HOLD), "nobody released the page"
        if self.is_finished.is_set():
            self.pages.release()
            return Reply([])
        number = int(asked.params["page"])
        return Reply([{"id": number * 1000 + row, "name": f"probe {row}"} for row in range(ROWS_A_PAGE)])


@contextmanager
def slow_source() -> Iterator[SlowSource]:
    """A source that is held back until the test releases its pages; all are released at the end."""
    source = SlowSource()
    with api_server(source.answer) as server:
        source.url = server.url
        try:
            yield source
        finally:
            source.finish()
