"""Missions (instances whose workers are real processes), and the steps of workers as functions."""

import uuid
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import sqlalchemy as sa

from tests import factories
from tests.runs.mission import Mission
from tests.support.databases import Databases
from webapp.dates import utcnow
from webapp.db import db
from webapp.jobs.models import Job
from webapp.runs import claims, queue
from webapp.runs import operations as runs
from webapp.runs.models import Run
from webapp.runs.queue import Lease, Outcome, Report


@pytest.fixture
def mission(tmp_path: Path, databases: Databases) -> Iterator[Mission]:
    """An instance of this test's own; no worker runs yet."""
    made = Mission(tmp_path / "mission", databases)
    yield made
    made.close()


@pytest.fixture(scope="module")
def busy(tmp_path_factory: pytest.TempPathFactory, databases: Databases) -> Iterator[Mission]:
    """An instance with one worker, which the tests of a module share: harm nothing but your own runs."""
    made = Mission(tmp_path_factory.mktemp("busy") / "home", databases)
    made.start_worker()
    yield made
    made.close()


@pytest.fixture
def make_mission(tmp_path: Path, databases: Databases) -> Iterator[Callable[..., Mission]]:
    """Makes instances with settings of their own."""
    made: list[Mission] = []

    def make(**changes: object) -> Mission:
        made.append(Mission(tmp_path / f"mission{len(made)}", databases, **changes))
        return made[-1]

    yield make
    for one in made:
        one.close()


@pytest.fixture
def claim(work, settings):
    """Claim runs as a worker of this name."""

    def take(worker: str = "w1", limit: int = 10) -> list[Lease]:
        with work():
            leases = claims.claim_runs(worker, limit=limit, settings=settings)
        with work():
            claims.announce_claims(leases)
        return leases

    return take


@pytest.fixture
def report(work):
    """Report something under a lease."""

    def tell(lease: Lease, outcome: Outcome | None = None, *lines: str) -> None:
        said = [(utcnow().isoformat(), "info", "", line) for line in lines]
        with work():
            queue.apply_reports([Report(lease, lines=said, outcome=outcome)])

    return tell


@pytest.fixture
def enqueue(work):
    """Put runs into the queue: of a new job unless one is given."""

    def put(count: int = 1, *, job_id: uuid.UUID | None = None, **facts) -> list[uuid.UUID]:
        with work():
            job = db.session.scalars(sa.select(Job).where(Job.id == job_id)).one() if job_id else None
            job = job or factories.make_job(**facts)
            made = [
                runs.add_run(runs.new_run(job, trigger=runs.Trigger.MANUAL, asked_by="alice")) for _ in range(count)
            ]
            return [run.id for run in made]

    return put


@pytest.fixture
def find(look):
    """The run as it is stored."""

    def get(run_id: uuid.UUID) -> Run:
        with look() as session:
            run = session.scalars(sa.select(Run).where(Run.id == run_id)).one()
            session.expunge(run)
            return run

    return get
