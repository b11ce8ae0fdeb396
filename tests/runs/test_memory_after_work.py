"""What the whole stack keeps of the machine's memory when it has worked and rests."""

import contextlib
import http.cookiejar
import re
import threading
import urllib.parse
import urllib.request
from collections.abc import Callable
from pathlib import Path

import psutil

from tests import factories
from tests.runs.mission import task
from tests.support.stacks import Stack, command_line

MOST_KB = 300_000
ROWS = 200_000
REST_SECONDS = 30  # a child of the worker gives its memory back when it has rested for a while


def memory_of(stack: Stack) -> dict[str, int]:
    """The share of memory of each process, in kB."""
    found = {}
    for process in stack.processes():
        with contextlib.suppress(OSError):  # it has just ended
            lines = Path(f"/proc/{process.pid}/smaps_rollup").read_text().splitlines()
            share = sum(int(line.split()[1]) for line in lines if line.startswith("Pss:"))
            found[f"{process.pid} {command_line(process)}"] = share
    return found


def has_duckdb(process: psutil.Process) -> bool:
    """Whether the library lies in the memory of this process."""
    return "_duckdb" in Path(f"/proc/{process.pid}/maps").read_text()


def fly(stack: Stack, *jobs: str) -> None:
    """Run these jobs at once, and wait until all have landed."""
    token = stack.owner_token()
    runs = [stack.request("POST", f"/api/v1/jobs/{job}/run", {}, token=token)[1]["run_id"] for job in jobs]

    def landed(run: str) -> bool:
        return bool(stack.request("GET", f"/api/v1/runs/{run}", token=token)[1]["status"] == "success")

    for run in runs:
        stack.wait_for(lambda run=run: landed(run), seconds=60, what=f"run {run} to land")


class Visitor:
    """A browser without JavaScript in which the owner logs in."""

    def __init__(self, stack: Stack) -> None:
        self.url = stack.url
        jar = urllib.request.HTTPCookieProcessor(http.cookiejar.CookieJar())
        self.opener = urllib.request.build_opener(jar)
        self.opener.addheaders = [("Accept", "text/html")]
        token = re.search(r'name="csrf_token"[^>]*value="([^"]+)"', self.open("/login"))
        assert token
        form = {"csrf_token": token[1], "username": stack.owner["username"], "password": stack.owner["password"]}
        self.open("/login", urllib.parse.urlencode(form).encode())

    def open(self, path: str, data: bytes | None = None) -> str:
        """The page there."""
        with self.opener.open(self.url + path, data, timeout=60) as answer:
            return str(answer.read().decode())


def visit(stack: Stack, jobs: list[str]) -> None:
    """Log in and look at everything, the rows of the tables above all."""
    visitor = Visitor(stack)
    for job in jobs:
        assert f"{ROWS:,} rows" in visitor.open(f"/jobs/{job}/rows")
    for path in ("/", "/jobs", "/runs", "/rockets", f"/jobs/{jobs[0]}", "/jobs/new", "/settings"):
        visitor.open(path)


def test_the_stack_is_light_again_after_loads_and_visitors(make_stack: Callable[..., Stack]) -> None:
    stack = make_stack(WORKER_SLOTS="2")
    factories.write_csv(stack.home / "data" / "probes.csv", rows=ROWS)
    jobs = []
    for name in ("one", "two"):
        one = task(db=f"{name}.duckdb")
        body = {"name": name, "tasks": [{"extractor_config": one["extractor"], "loader_config": one["loader"]}]}
        jobs.append(stack.request("POST", "/api/v1/jobs", body, token=stack.owner_token())[1]["id"])
    fly(stack, *jobs)
    visitors = [threading.Thread(target=visit, args=(stack, jobs)) for _ in range(8)]
    for visitor in visitors:
        visitor.start()
    for visitor in visitors:
        visitor.join(60)

    assert all(map(has_duckdb, stack.workers())), "the sign that is looked for is not there"
    assert not any(map(has_duckdb, stack.find("gunicorn"))), "a web process keeps DuckDB"
    last: dict[str, int] = {}
    try:
        stack.wait_for(
            lambda: last.clear() or last.update(memory_of(stack)) or sum(last.values()) <= MOST_KB, seconds=REST_SECONDS
        )
    except AssertionError as error:
        raise AssertionError(f"{sum(last.values())} kB: {last}") from error
