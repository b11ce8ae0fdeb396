"""How fast a filtered page of the fleet is served as JSON: `python -m benchmarks.fleet_api`.

Each request asks with a JWT for 50 of 100,000 rockets, filtered by status, from a cursor in the middle. Ours is the
real stack as `make run` starts it; the peer is the same list in FastAPI with the async SQLAlchemy ORM on uvicorn with
two processes. Both run at once, wrk (32 connections) asks them in turn, and the ratio is the median of the rounds' own.
The processor time that each server took for a request is measured beside it; a busy machine disturbs it less.
"""

import argparse
import json
import os
import re
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
import urllib.request
import uuid
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import psutil
import sqlalchemy as sa

from benchmarks.common import HOME, ROOT, BenchStack, free_port, fresh_database, peer_python, report

PACKAGES = (
    "fastapi==0.165.0", "uvicorn==0.54.0", "uvloop==0.23.0", "httptools==0.9.0", "sqlalchemy[asyncio]==2.1.9",
    "asyncpg==0.32.0", "aiosqlite==0.22.1", "pyjwt==2.15.1",
)  # fmt: skip
SECRET = "a secret of the benchmark, long enough for HS256"
STATES = ["Preparing", "Ready", "InFlight", "Landed_On_Mars", "RUD"]
PHASES = ["preparing", "ready", "outbound", "landed", "destroyed"]
STATUSES = ["queued", "queued", "running", "succeeded", "failed"]


def main() -> None:
    """Measure both databases."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rockets", type=int, default=100_000)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--seconds", type=int, default=3)
    parser.add_argument("--database", choices=("sqlite", "postgresql"), action="append")
    chosen = parser.parse_args()
    if shutil.which("wrk") is None:
        sys.exit("wrk is needed: apt-get install wrk")
    rows = []
    for kind in chosen.database or ("sqlite", "postgresql"):
        rows += measure(kind, chosen)
    headings = ["server", "requests/s (min-max)", "p50 ms", "p99 ms", "CPU ms/request", "ratio"]
    report("fleet api", headings, rows, rockets=chosen.rockets, rounds=chosen.rounds, connections=32)


@dataclass(frozen=True)
class Target:
    """A server that is asked: where, with which token, and which processes do the work."""

    name: str
    url: str
    token: str
    root: int

    def cpu_seconds(self) -> float:
        """The processor time of all its processes so far."""
        found = psutil.Process(self.root)
        times = [process.cpu_times() for process in (found, *found.children(recursive=True))]
        return sum(time.user + time.system for time in times)


def measure(kind: str, chosen: argparse.Namespace) -> list[list[str]]:
    """Rounds in turn, ours and the peer's; a row for each."""
    with fresh_database(kind) as own_url, fresh_database(kind) as peer_url:
        stack = BenchStack(own_url)
        fill_stack(stack, own_url, chosen.rockets)
        peer = Peer(peer_url, chosen.rockets)
        try:
            page = f"/api/v1/job?status=running&limit=50&cursor={chosen.rockets // 2}"
            targets = [
                Target("Hohmann", stack.url + page, stack.token, stack.process.pid),
                Target("FastAPI", peer.url + page, peer.token, peer.process.pid),
            ]
            for target in targets:
                check_page(target.url, target.token)
                wrk(target, 2)
            rounds = [{target.name: wrk(target, chosen.seconds) for target in targets} for _ in range(chosen.rounds)]
        finally:
            peer.stop()
            stack.stop()
    ratio = statistics.median(turn["Hohmann"]["rate"] / turn["FastAPI"]["rate"] for turn in rounds)
    return [_row(f"{target.name}, {kind}", [turn[target.name] for turn in rounds], ratio) for target in targets]


def _row(name: str, turns: list[dict[str, float]], ratio: float) -> list[str]:
    rates = [turn["rate"] for turn in turns]
    p50, p99, cpu = (statistics.median(turn[key] for turn in turns) for key in ("p50", "p99", "cpu"))
    shown = f"{ratio:.2f}" if name.startswith("Hohmann") else "1"
    rate = f"{statistics.median(rates):,.0f} ({min(rates):,.0f}-{max(rates):,.0f})"
    return [name, rate, f"{p50:.1f}", f"{p99:.1f}", f"{cpu:.2f}", shown]


def check_page(url: str, token: str) -> None:
    """Both must really serve fifty rockets that fit the filter."""
    request = urllib.request.Request(url, headers={"Authorization": f"Bearer {token}"})
    with urllib.request.urlopen(request, timeout=10) as answer:
        page = json.load(answer)
    assert len(page) == 50, len(page)
    assert {rocket["status"] for rocket in page} == {"running"}


def wrk(target: Target, seconds: int) -> dict[str, float]:
    """One turn: requests a second, latencies and processor time in milliseconds."""
    bearer = f"Authorization: Bearer {target.token}"
    command = ["wrk", "-t1", "-c32", f"-d{seconds}s", "--latency", "-H", bearer, target.url]
    before = target.cpu_seconds()
    text = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    spent = target.cpu_seconds() - before
    if "Non-2xx" in text or re.search(r"Socket errors: connect [^0]|read [1-9]|write [1-9]", text):
        raise RuntimeError(text)
    requests = int(re.findall(r"(\d+) requests in", text)[0])
    found = {"rate": float(re.findall(r"Requests/sec:\s+([\d.]+)", text)[0]), "cpu": spent / requests * 1000}
    for share in ("50", "99"):
        value, unit = re.findall(rf"^\s+{share}%\s+([\d.]+)(us|ms|s)\s*$", text, re.MULTILINE)[0]
        found[f"p{share}"] = float(value) * {"us": 0.001, "ms": 1, "s": 1000}[unit]
    return found


def rockets(count: int) -> list[dict[str, Any]]:
    """The fleet of both servers."""
    now = datetime.now(UTC).replace(tzinfo=None)
    return [
        {
            "id": uuid.UUID(int=number + (4 << 76) + (2 << 62)),
            "state": STATES[number % 5],
            "phase": PHASES[number % 5],
            "source": f"Launch complex {number % 97}",
            "destination": "Mars",
            "location": "Hohmann transfer orbit, 40 % of the way",
            "estimated_time": 3600 + number % 1000,
            "status": STATUSES[number % 5],
            "airflow_dag_run_id": f"rocket_job_{number:032x}_20260102T030405678901",
            "created_at": now - timedelta(seconds=number),
            "updated_at": now,
        }
        for number in range(count)
    ]


def fill_stack(stack: BenchStack, url: str, count: int) -> None:
    """Put the fleet into the stack's own table."""
    engine = sa.create_engine(
        url.replace("postgresql://", "postgresql+psycopg2://") or f"sqlite:///{stack.home}/hohmann.db"
    )
    metadata = sa.MetaData()
    with engine.begin() as connection:
        table = sa.Table("rocket", metadata, autoload_with=connection)
        project = connection.execute(sa.text("SELECT id FROM project")).scalar_one()
        user = connection.execute(sa.text('SELECT id FROM "user"')).scalar_one()
        plain = url == ""
        rows = [
            {
                **rocket,
                "id": rocket["id"].hex if plain else rocket["id"],
                "project_id": project,
                "user_id": user,
                "phase_started_at": rocket["created_at"],
                "planned_seconds": 3600,
                "version": 1,
            }
            for rocket in rockets(count)
        ]
        for begin in range(0, count, 5000):
            connection.execute(table.insert(), rows[begin : begin + 5000])
    with engine.connect().execution_options(isolation_level="AUTOCOMMIT") as connection:
        connection.execute(sa.text("ANALYZE"))
    engine.dispose()


class Peer:
    """The FastAPI application on uvicorn, with the same fleet."""

    def __init__(self, database_url: str, count: int) -> None:
        self.python = peer_python("fastapi", *PACKAGES)
        folder = Path(tempfile.mkdtemp(prefix="fastapi-", dir=HOME))
        if database_url:
            sync_url = database_url.replace("postgresql://", "postgresql+psycopg2://")
            async_url = _for_asyncpg(database_url)
        else:
            sync_url, async_url = f"sqlite:///{folder}/fleet.db", f"sqlite+aiosqlite:///{folder}/fleet.db"
        self._fill(sync_url, count)
        self.port = free_port()
        self.url = f"http://127.0.0.1:{self.port}"
        environment = {**os.environ, "DATABASE": async_url, "SECRET": SECRET}
        command = [self.python, "-m", "uvicorn", "benchmarks.peers.fleet_fastapi:app", "--port", str(self.port)]
        command += ["--workers", "2", "--no-access-log", "--log-level", "warning"]
        self.process = subprocess.Popen(command, cwd=ROOT, env=environment)
        self.token = self._make_token()
        self._wait()

    def _fill(self, url: str, count: int) -> None:
        engine = sa.create_engine(url)
        table = sa.Table(
            "fleet",
            sa.MetaData(),
            sa.Column("number", sa.Integer, primary_key=True),
            sa.Column("id", sa.Uuid, unique=True, nullable=False),
            *(sa.Column(name, sa.String(255)) for name in ("state", "source", "destination", "location", "status")),
            sa.Column("estimated_time", sa.Integer),
            sa.Column("airflow_dag_run_id", sa.String(250)),
            sa.Column("user_id", sa.Uuid),
            sa.Column("job_id", sa.Uuid),
            sa.Column("created_at", sa.DateTime),
            sa.Column("updated_at", sa.DateTime),
            sa.Index("ix_fleet_status_number", "status", "number"),
        )
        user = uuid.uuid4()
        rows = [{**{k: v for k, v in rocket.items() if k != "phase"}, "user_id": user} for rocket in rockets(count)]
        with engine.begin() as connection:
            table.create(connection)
            for begin in range(0, count, 5000):
                connection.execute(table.insert(), rows[begin : begin + 5000])
        with engine.connect().execution_options(isolation_level="AUTOCOMMIT") as connection:
            connection.execute(sa.text("ANALYZE"))
        engine.dispose()

    def _make_token(self) -> str:
        code = f"import jwt; print(jwt.encode({{'sub': 'bench'}}, {SECRET!r}, algorithm='HS256'))"
        return subprocess.run([self.python, "-c", code], capture_output=True, text=True, check=True).stdout.strip()

    def _wait(self) -> None:
        end = time.monotonic() + 30
        while time.monotonic() < end:
            try:
                with urllib.request.urlopen(self.url + "/openapi.json", timeout=1):
                    return
            except OSError:
                time.sleep(0.05)
        raise RuntimeError("the peer did not start")

    def stop(self) -> None:
        """End both of its processes."""
        self.process.terminate()
        self.process.wait(20)


def _for_asyncpg(url: str) -> str:
    return url.replace("postgresql://", "postgresql+asyncpg://")


if __name__ == "__main__":
    main()
