"""How fast the board is with a large fleet and a long history: `python -m benchmarks.board`.

First screen: `/` as a signed-in browser gets it, one request after the other, from the request to the last byte; 10,000
rockets, each with a job, and 100,000 runs. A change on screen: from just before the form is sent that launches a rocket
to the moment at which a real Chromium with the board open has changed its page.
"""

import argparse
import http.cookiejar
import re
import statistics
import time
import urllib.parse
import urllib.request
import uuid
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import psutil
import sqlalchemy as sa

from benchmarks.common import BenchStack, fresh_database, percentile, report

CHROMIUM = "/usr/bin/chromium"
STATES = ["Preparing"] * 10 + ["Ready"] * 45 + ["InFlight"] * 5 + ["Landed_On_Mars"] * 35 + ["RUD"] * 5
PHASES = {
    "Preparing": "preparing",
    "Ready": "ready",
    "InFlight": "outbound",
    "Landed_On_Mars": "landed",
    "RUD": "destroyed",
}
OUTCOMES = {"InFlight": "running", "RUD": "failed", "Landed_On_Mars": "succeeded"}
WATCH = """([id, into]) => new Promise((done) => {
  const look = () => { if (document.querySelector(`#${into} #${id}`)) { clearInterval(timer); done(Date.now()); } };
  const timer = setInterval(look, 1); look();
})"""


def main() -> None:
    """Measure both databases."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rockets", type=int, default=10_000)
    parser.add_argument("--runs", type=int, default=10, help="of each rocket")
    parser.add_argument("--requests", type=int, default=200)
    parser.add_argument("--changes", type=int, default=30)
    parser.add_argument("--databases", nargs="+", default=["sqlite", "postgresql"])
    chosen = parser.parse_args()
    rows = []
    for kind in chosen.databases:
        with fresh_database(kind) as url:
            stack = BenchStack(url)
            try:
                fill(stack, url, chosen.rockets, chosen.runs)
                visitor = Visitor(stack)
                screen = measure_screen(visitor, chosen.requests, stack.process.pid)
                rows.append([kind, *screen, *measure_change(visitor, chosen.changes)])
            finally:
                stack.stop()
    screen_headings = ["first screen p50 ms", "p95 ms", "processor ms", "kB"]
    headings = ["database", *screen_headings, "change on screen p50 ms", "p95 ms", "max ms"]
    report("board", headings, rows, rockets=chosen.rockets, runs=chosen.rockets * chosen.runs)


def processor_seconds(pid: int) -> float:
    """Processor time that the stack has used so far, which a busy machine disturbs less than the clock."""
    processes = [psutil.Process(pid), *psutil.Process(pid).children(recursive=True)]
    return sum(sum(process.cpu_times()[:2]) for process in processes)


def measure_screen(visitor: "Visitor", requests: int, pid: int) -> list[str]:
    """p50 and p95 of the whole page, the processor time that one costs, and its size."""
    for _ in range(20):
        visitor.get("/")
    took = []
    used = processor_seconds(pid)
    for _ in range(requests):
        began = time.perf_counter()
        page = visitor.get("/")
        took.append((time.perf_counter() - began) * 1000)
    processor = (processor_seconds(pid) - used) * 1000 / requests
    assert page.count('class="card"') >= 100, page.count('class="card"')
    p50, p95 = statistics.median(took), percentile(took, 0.95)
    return [f"{p50:.1f}", f"{p95:.1f}", f"{processor:.1f}", f"{len(page) / 1000:.0f}"]


def measure_change(visitor: "Visitor", changes: int) -> list[str]:
    """From the launch of a rocket to its card in the column Ready, or InFlight when that came first, in a browser."""
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        chromium = playwright.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox", "--disable-gpu"])
        context = chromium.new_context()
        context.add_cookies([{"name": c.name, "value": c.value, "url": visitor.url} for c in visitor.cookies])
        page = context.new_page()
        page.goto(visitor.url + "/")
        page.wait_for_selector('[data-live-state="live"]')
        took = [visitor.launch_and_watch(page) for _ in range(changes)]
        chromium.close()
    took = [value * 1000 for value in took]
    return [f"{statistics.median(took):.0f}", f"{percentile(took, 0.95):.0f}", f"{max(took):.0f}"]


class Visitor:
    """The owner in a browser without JavaScript: cookies and form tokens."""

    def __init__(self, stack: BenchStack) -> None:
        self.url = stack.url
        self._stack = stack
        self.cookies = http.cookiejar.CookieJar()
        self._opener = urllib.request.build_opener(urllib.request.HTTPCookieProcessor(self.cookies))
        self.post("/login", self.token_on("/login"), username="owner", password="bench-password")

    def get(self, path: str) -> str:
        """The page at this path."""
        request = urllib.request.Request(self.url + path, headers={"Accept": "text/html"})
        with self._opener.open(request, timeout=30) as answer:
            return str(answer.read().decode())

    def token_on(self, path: str) -> str:
        """The form token of a page."""
        return re.findall(r'name="csrf_token"[^>]*value="([^"]+)"', self.get(path))[0]

    def post(self, path: str, token: str, **fields: str) -> None:
        """Send a form."""
        data = urllib.parse.urlencode({"csrf_token": token, **fields}).encode()
        request = urllib.request.Request(self.url + path, data=data, headers={"Accept": "text/html"})
        with self._opener.open(request, timeout=30) as answer:
            answer.read()

    def launch_and_watch(self, page: Any) -> float:
        """Seconds from the call that makes a rocket to its card on the open board."""
        time.sleep(0.15)
        began = time.time()
        body = {"source": "Earth", "destination": "Mars", "estimated_time": 3600}
        rocket = self._stack.call("POST", "/api/v1/job", body)
        seen = page.evaluate(WATCH, [f"rocket-{rocket['id']}", "col-Preparing"])
        return float(seen) / 1000 - began


def fill(stack: BenchStack, url: str, rockets: int, runs: int) -> None:
    """Put a fleet with its history into the stack's database."""
    from webapp import create_app
    from webapp.accounts import operations as accounts
    from webapp.accounts.models import User
    from webapp.config import Settings
    from webapp.db import db, unit_of_work
    from webapp.jobs.models import Job
    from webapp.rockets.models import Rocket
    from webapp.runs.models import Run

    app = create_app(Settings(hohmann_home=Path(stack.home), database_url=url, log_level="WARNING"))
    with app.app_context():
        with unit_of_work() as session:
            owner = session.scalar(sa.select(User.id))
            project = accounts.default_project().id
            now = datetime.now().astimezone()
            jobs = [job_facts(at, project, owner, now) for at in range(rockets)]
            for start in range(0, rockets, 1000):
                part = jobs[start : start + 1000]
                session.execute(sa.insert(Job), part)
                session.execute(sa.insert(Rocket), [rocket_facts(start + i, job, now) for i, job in enumerate(part)])
            for turn in range(runs):
                for start in range(0, rockets, 1000):
                    part = jobs[start : start + 1000]
                    facts = [run_facts(start + i, job, turn, runs, now) for i, job in enumerate(part)]
                    session.execute(sa.insert(Run), facts)
        with db.engine.connect() as connection:
            connection.execution_options(isolation_level="AUTOCOMMIT").exec_driver_sql("ANALYZE")
        db.engine.dispose()


def job_facts(at: int, project: uuid.UUID, owner: uuid.UUID | None, now: datetime) -> dict[str, Any]:
    """A job; every second one has a schedule whose next instant is far away."""
    return {
        "id": uuid.uuid4(),
        "project_id": project,
        "created_by": owner,
        "name": f"Load of region {at % 97}, part {at}",
        "schedule": "0 4 1 1 *" if at % 2 else "@manual",
        "next_run_at": now + timedelta(days=30, seconds=at) if at % 2 else None,
        "created_at": now,
        "updated_at": now,
    }


def rocket_facts(at: int, job: dict[str, Any], now: datetime) -> dict[str, Any]:
    """The rocket of the job."""
    state = STATES[at % 100]
    return {
        "id": uuid.uuid4(),
        "project_id": job["project_id"],
        "user_id": job["created_by"],
        "job_id": job["id"],
        "state": state,
        "phase": PHASES[state],
        "status": OUTCOMES.get(state, "queued"),
        "source": f"region-{at % 97}.csv",
        "destination": f"lake.duckdb/part_{at}",
        "location": "40 % of the way",
        "planned_seconds": 3600,
        "estimated_time": 3600 if state == "InFlight" else 0,
        "counting_since": now if state == "InFlight" else None,
        "phase_started_at": now - timedelta(seconds=rocket_age(at)),
        "created_at": now,
        "updated_at": now,
    }


def rocket_age(at: int) -> int:
    """Seconds since the rocket moved: scattered, so that the order of the columns is not that of the table."""
    return at * 7919 % 86_400


def run_facts(at: int, job: dict[str, Any], turn: int, turns: int, now: datetime) -> dict[str, Any]:
    """A run; the last one of a rocket is what the rocket's state says."""
    is_last = turn == turns - 1
    state = OUTCOMES.get(STATES[at % 100], "succeeded") if is_last else ("failed" if at % 11 == turn else "succeeded")
    started = now - timedelta(hours=turns - turn)
    return {
        "id": uuid.uuid4(),
        "project_id": job["project_id"],
        "job_id": job["id"],
        "state": state,
        "spec": {"tasks": []},
        "triggered_by_name": "schedule",
        "available_at": started,
        "attempt": 1,
        "lease_owner": "elsewhere" if state == "running" else None,
        "lease_until": now + timedelta(days=1) if state == "running" else None,
        "started_at": started,
        "finished_at": None if state == "running" else started + timedelta(seconds=5 + at % 50),
        "rows_read": 1000 + at,
        "rows_written": 1000 + at,
        "error_message": "the server answered 503" if state == "failed" else None,
        "created_at": started,
        "updated_at": started,
    }


if __name__ == "__main__":
    main()
