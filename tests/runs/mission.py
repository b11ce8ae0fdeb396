"""An instance whose workers are real processes, with an empty database of its own."""

import fcntl
import os
import signal
import subprocess
import sys
import time
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import duckdb
import psutil
import sqlalchemy as sa
from sqlalchemy.orm import Session

from tests import factories
from tests.support.databases import Databases, close_app
from tests.support.people import Person, as_person
from tests.support.stacks import CHECKOUT
from webapp import create_app
from webapp import db as database
from webapp.config import Role, Settings
from webapp.runs import operations as runs
from webapp.runs.models import Run, RunAttempt, RunStep, Worker
from webapp.runs.operations import LogLine

#: Short enough for tests, long enough for a machine under load.
PACE = {"lease_seconds": 3.0, "heartbeat_seconds": 0.5, "cancel_seconds": 1.0, "worker_slots": 2}
WORKER = "webapp.runs.worker"


class WorkerProcess:
    """`python -m webapp.runs.worker`, as the Procfile starts it."""

    def __init__(self, settings: Settings, name: str, module: str, **environment: str) -> None:
        self.log = settings.hohmann_home / f"{name}.log"
        given = {key: value for key, value in os.environ.items() if not key.startswith(("HOHMANN_", "TEST_"))}
        given |= {name.upper(): str(getattr(settings, name)) for name in PACE}
        given |= {
            "HOHMANN_HOME": str(settings.hohmann_home),
            "DATABASE_URL": settings.database_url,
            "HOHMANN_ALLOW_PRIVATE_ADDRESSES": "1",
            **environment,
        }
        with self.log.open("ab") as log:
            command = [sys.executable, "-m", module]
            self.process = subprocess.Popen(command, cwd=CHECKOUT, env=given, stdout=log, stderr=subprocess.STDOUT)

    @property
    def pid(self) -> int:
        return self.process.pid

    def children(self) -> list[psutil.Process]:
        """The processes that execute runs."""
        return psutil.Process(self.pid).children()

    def output(self) -> str:
        """What it has printed."""
        return self.log.read_text(errors="replace")

    def send(self, number: int) -> None:
        self.process.send_signal(number)

    def kill(self) -> None:
        """kill -9."""
        self.process.kill()
        self.process.wait(10)

    def stop(self) -> float:
        """SIGTERM; returns how long it took to end."""
        began = time.monotonic()
        self.send(signal.SIGCONT)
        self.send(signal.SIGTERM)
        assert self.process.wait(10) == 0, self.output()[-4000:]
        return time.monotonic() - began


class Mission:
    """An instance: its settings, its application for asking, and the workers that a test starts."""

    def __init__(self, home: Path, databases: Databases, **changes: Any) -> None:
        url = databases.for_app(home) if databases.kind == "sqlite" else databases.separate()
        self.settings = Settings(hohmann_home=home, database_url=url, web_threads=4, **PACE | changes)
        self.app = create_app(self.settings)
        self.data = self.settings.data_folder
        self.workers: list[WorkerProcess] = []
        with self.work():
            user = factories.make_user("alice", role=Role.ADMIN, is_owner=True)
            self.alice: Person = as_person(self.app, user)

    def close(self) -> None:
        """End what is left, without mercy."""
        for worker in self.workers:
            if worker.process.poll() is None:
                worker.process.kill()
                worker.process.wait(10)
        close_app(self.app)

    # --- processes

    def start_worker(self, module: str = WORKER, *, wait: bool = True, **environment: str) -> WorkerProcess:
        """A worker; returns when it has said that it lives."""
        worker = WorkerProcess(self.settings, f"worker{len(self.workers)}", module, **environment)
        self.workers.append(worker)
        if wait:
            self.wait_for(lambda: self._is_known(worker), seconds=30, what="the worker to sign on")
        return worker

    def _is_known(self, worker: WorkerProcess) -> bool:
        assert worker.process.poll() is None, worker.output()[-4000:]
        with self.look() as session:
            return any(f":{worker.pid}:" in name for name in session.scalars(sa.select(Worker.name)))

    def child_of(self, run: Run) -> psutil.Process:
        """The process that executes this run, as the run's log names it."""
        text = self.wait_for(lambda: self.find_line(run.id, "begins in process", attempt=run.attempt))
        return psutil.Process(int(text.rstrip(".").split()[-1]))

    # --- database

    @contextmanager
    def work(self) -> Iterator[Session]:
        """One unit of work, committed at the end."""
        with self.app.app_context(), database.unit_of_work() as session:
            yield session

    @contextmanager
    def look(self) -> Iterator[Session]:
        """A look at what is committed."""
        with self.app.app_context(), database.reading() as session:
            yield session

    # --- jobs and runs

    def add_job(self, *tasks: dict[str, Any], **facts: Any) -> uuid.UUID:
        """A job with these tasks (none: a job that does nothing)."""
        given = {"retry_delay_seconds": 0.1, "max_attempts": 1, **facts}
        with self.work() as session:
            job = factories.make_job(tasks=list(tasks) or None, **given)
            if not tasks:
                job.tasks.clear()
            session.flush()
            return job.id

    def start(self, job_id: uuid.UUID) -> uuid.UUID:
        """Queue a run."""
        with self.work():
            return runs.start_run(self.alice.actor, job_id).id

    def start_kind(self, kind: str, **facts: Any) -> uuid.UUID:
        """Queue a run of a kind that only the probe worker knows."""
        job_id = self.add_job(**facts)
        with self.work():
            run = runs.start_run(self.alice.actor, job_id)
            run.spec = {**run.spec, "kind": kind}
            return run.id

    def fly(self, *tasks: dict[str, Any], seconds: float = 20, **facts: Any) -> Run:
        """Run a new job with these tasks to its end."""
        return self.wait_until_ended(self.start(self.add_job(*tasks, **facts)), seconds=seconds)

    def cancel(self, run_id: uuid.UUID) -> None:
        with self.work():
            runs.request_cancel(self.alice.actor, run_id)

    def run(self, run_id: uuid.UUID) -> Run:
        """The run as it is now."""
        with self.look() as session:
            run = session.scalars(sa.select(Run).where(Run.id == run_id)).one()
            session.expunge(run)
            return run

    def wait_until_ended(self, run_id: uuid.UUID, *, seconds: float = 20) -> Run:
        self.wait_for(lambda: self.run(run_id).is_finished, seconds=seconds, what=f"the end of run {run_id}")
        return self.run(run_id)

    def wait_until_running(self, run_id: uuid.UUID, *, attempt: int = 1) -> Run:
        """The run, as soon as its process has begun with this attempt."""
        self.wait_for(lambda: self.find_line(run_id, "begins in process", attempt=attempt), what="the run to begin")
        return self.run(run_id)

    def lines(self, run_id: uuid.UUID, **more: Any) -> list[LogLine]:
        with self.look() as session:
            return runs.read_log(session.scalars(sa.select(Run).where(Run.id == run_id)).one(), **more)

    def find_line(self, run_id: uuid.UUID, text: str, **more: Any) -> str:
        """The first line of the log that holds this text, "" when none does."""
        found = self.lines(run_id, search=text, **more)
        return found[0].message if found else ""

    def steps(self, run_id: uuid.UUID) -> list[RunStep]:
        return self._all(sa.select(RunStep).where(RunStep.run_id == run_id).order_by(RunStep.attempt, RunStep.position))

    def attempts(self, run_id: uuid.UUID) -> list[RunAttempt]:
        return self._all(sa.select(RunAttempt).where(RunAttempt.run_id == run_id).order_by(RunAttempt.attempt))

    def _all(self, query: Any) -> list[Any]:
        with self.look() as session:
            rows = list(session.scalars(query))
            session.expunge_all()
            return rows

    # --- data

    def csv(self, name: str = "probes.csv", *, rows: int = 100) -> str:
        """A CSV file in the data folder; returns its name."""
        factories.write_csv(self.data / name, rows=rows)
        return name

    def query(self, sql: str, db: str = "out.duckdb") -> list[tuple[Any, ...]]:
        with duckdb.connect(str(self.data / db), read_only=True) as connection:
            return connection.execute(sql).fetchall()

    def count(self, table: str = "rows", db: str = "out.duckdb") -> int:
        return int(self.query(f"SELECT count(*) FROM {table}", db)[0][0])

    @contextmanager
    def hold(self, db: str = "out.duckdb") -> Iterator[None]:
        """Keep a DuckDB file as another load would: a run that wants to write it waits until the block ends."""
        self.data.mkdir(parents=True, exist_ok=True)
        with (self.data / f"{db}.lock").open("w") as handle:
            fcntl.flock(handle, fcntl.LOCK_EX)
            yield

    def wait_for(self, is_so: Callable[[], Any], *, seconds: float = 15, what: str = "it") -> Any:
        """Wait until the function returns something true; returns that."""
        end = time.monotonic() + seconds
        while time.monotonic() < end:
            if found := is_so():
                return found
            time.sleep(0.02)
        said = "\n".join(worker.output()[-9000:] for worker in self.workers)
        raise AssertionError(f"waited {seconds} s for {what}\n{said}")


def task(source: str = "probes.csv", *, table: str = "rows", db: str = "out.duckdb", mode: str = "replace") -> Any:
    """A task from a CSV file of the data folder into a table of a DuckDB file there."""
    return {
        "extractor": {"type": "csv", "path": source},
        "loader": {"type": "duckdb", "db_path": db, "table_name": table, "mode": mode},
    }


def api_task(url: str, *, table: str = "rows", mode: str = "replace", **more: Any) -> Any:
    """A task from an API that is asked once, into a table of out.duckdb."""
    return {
        "extractor": {"type": "api", "url": url, "retries": 0, **more},
        "loader": {"type": "duckdb", "db_path": "out.duckdb", "table_name": table, "mode": mode},
    }
