"""What happens to runs when processes are killed, machines stop, and the database goes away. All processes are real."""

import shutil
import signal
import sqlite3
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from functools import partial
from pathlib import Path

import psutil
import psycopg2
import pytest
import sqlalchemy as sa

from tests.runs.mission import Mission, task
from tests.support import disks
from tests.support.databases import Databases
from webapp.config import Settings
from webapp.db import db
from webapp.runs.models import Run, Worker
from webapp.runs.states import RunState

DEFAULTS = {
    "lease_seconds": Settings.lease_seconds,
    "heartbeat_seconds": Settings.heartbeat_seconds,
    "cancel_seconds": Settings.cancel_seconds,
}
RECOVERY_SECONDS = 12.0


def start_held_run(mission: Mission, **facts: object) -> Run:
    """A run that waits for its DuckDB file; the caller holds that."""
    run_id = mission.start(mission.add_job(task(mission.csv(rows=50)), **facts))
    return mission.wait_until_running(run_id)


def test_a_run_of_a_killed_worker_is_ended_by_another_and_its_process_dies_with_the_worker(make_mission):
    mission = make_mission(**DEFAULTS)
    first = mission.start_worker()
    with mission.hold():
        run = start_held_run(mission)
        child = mission.child_of(run)
        mission.start_worker()
        first.kill()
        killed_at = time.monotonic()
        mission.wait_for(lambda: not child.is_running(), seconds=2, what="the child to die with its worker")
        mission.wait_until_running(run.id, attempt=2)
    ended = mission.wait_until_ended(run.id)

    assert time.monotonic() - killed_at < RECOVERY_SECONDS
    assert (ended.state, ended.attempt, ended.rows_found) == (RunState.SUCCEEDED, 2, 50)
    assert [attempt.outcome for attempt in mission.attempts(run.id)] == ["lost", "succeeded"]
    assert mission.find_line(run.id, "worker that executed this run was lost")
    assert all(step.finished_at for step in mission.steps(run.id))


def test_a_worker_that_starts_after_everything_was_killed_ends_the_run(make_mission):
    mission = make_mission(**DEFAULTS)
    first = mission.start_worker()
    with mission.hold():
        run = start_held_run(mission)
        first.kill()
    began = time.monotonic()
    mission.start_worker(wait=False)
    ended = mission.wait_until_ended(run.id)

    assert time.monotonic() - began < RECOVERY_SECONDS
    assert (ended.state, ended.attempt) == (RunState.SUCCEEDED, 2)
    assert mission.count() == 50


def test_a_run_whose_workers_are_killed_again_and_again_ends_as_failed(mission: Mission):
    with mission.hold():
        run_id = mission.start(mission.add_job(task(mission.csv())))
        for attempt in (1, 2, 3):
            worker = mission.start_worker(wait=False)
            mission.wait_until_running(run_id, attempt=attempt)
            worker.kill()
        mission.start_worker()
        ended = mission.wait_until_ended(run_id)

    assert (ended.state, ended.error_message) == (RunState.FAILED, "its worker was lost")
    assert [attempt.outcome for attempt in mission.attempts(run_id)] == ["lost"] * 3


def test_a_cancelled_run_whose_worker_is_killed_is_not_started_again(mission: Mission):
    first = mission.start_worker()
    with mission.hold():
        run = start_held_run(mission, max_attempts=5)
        mission.child_of(run).send_signal(signal.SIGSTOP)
        mission.cancel(run.id)
        first.kill()
        mission.start_worker()
        ended = mission.wait_until_ended(run.id)

    assert (ended.state, ended.attempt, ended.error_message) == (RunState.CANCELLED, 1, "cancelled by alice")


def test_a_worker_that_is_asked_to_end_gives_its_runs_back_and_leaves_nothing_behind(mission: Mission):
    worker = mission.start_worker()
    with mission.hold():
        run = start_held_run(mission)
        mission.wait_for(lambda: mission.steps(run.id))
        children = worker.children()
        assert worker.stop() < 10
        assert not [child for child in children if child.is_running()]
        given_back = mission.run(run.id)
        assert (given_back.state, given_back.attempt, given_back.lease_owner) == (RunState.QUEUED, 0, None)
        assert given_back.available_at == run.available_at, "it lost its place in the queue"
        assert mission.steps(run.id) == []
    with mission.look() as session:
        assert session.scalars(sa.select(Worker)).all() == []
    mission.start_worker()
    ended = mission.wait_until_ended(run.id)

    assert (ended.state, ended.attempt) == (RunState.SUCCEEDED, 1)
    assert mission.find_line(run.id, "The worker was shut down")


def test_a_run_that_somebody_wants_stopped_is_not_given_back(mission: Mission):
    worker = mission.start_worker(CANCEL_SECONDS="60")
    with mission.hold():
        run = start_held_run(mission)
        mission.child_of(run).send_signal(signal.SIGSTOP)
        mission.cancel(run.id)
        worker.stop()
    assert mission.run(run.id).state is RunState.CANCELLED


def test_a_worker_that_was_stopped_and_taken_over_loads_nothing_twice(mission: Mission):
    """Its process holds its breath while the lease is in doubt, and is ended when the worker learns that it is lost."""
    stopped = mission.start_worker()
    with mission.hold():
        run_id = mission.start(mission.add_job(task(mission.csv(rows=50), mode="append")))
        child = mission.child_of(mission.wait_until_running(run_id))
        stopped.send(signal.SIGSTOP)
        mission.start_worker()
        mission.wait_until_running(run_id, attempt=2)
    ended = mission.wait_until_ended(run_id)
    assert ended.state is RunState.SUCCEEDED, ended.error_message
    assert mission.count() == 50
    assert child.is_running(), "the process of the stopped worker ended too early to prove anything"

    stopped.send(signal.SIGCONT)
    mission.wait_for(lambda: not child.is_running(), what="the process that lost its lease to be ended")
    assert mission.count() == 50
    assert mission.run(run_id).attempt == 2


def test_a_worker_that_lets_the_other_go_first_takes_what_the_other_leaves(mission: Mission):
    workers = {worker.pid: worker for worker in (mission.start_worker(), mission.start_worker())}
    job_id = mission.add_job(task(mission.csv(rows=5)))
    last = [mission.wait_until_ended(mission.start(job_id)) for _ in range(8)][-1]  # one of them gets used to winning
    [attempt] = mission.attempts(last.id)
    [winner] = [worker for pid, worker in workers.items() if f":{pid}:" in attempt.worker]
    winner.send(signal.SIGSTOP)
    try:
        ended = mission.wait_until_ended(mission.start(job_id), seconds=5)
        assert ended.state is RunState.SUCCEEDED
        assert mission.attempts(ended.id)[0].worker != attempt.worker
    finally:
        winner.send(signal.SIGCONT)


def test_a_deleted_job_takes_its_running_process_with_it(mission: Mission):
    worker = mission.start_worker()
    with mission.hold():
        run = start_held_run(mission)
        child = mission.child_of(run)
        with mission.work() as session:
            session.execute(sa.delete(Run).where(Run.id == run.id))
        mission.wait_for(lambda: not child.is_running(), what="the process of the deleted run to be ended")
    assert mission.fly().state is RunState.SUCCEEDED
    assert worker.process.poll() is None


def test_a_run_that_cannot_be_decrypted_fails_alone_and_says_why(mission: Mission):
    good = mission.add_job()
    bad_id = mission.start(mission.add_job())
    with mission.work() as session:
        session.execute(sa.text("UPDATE run SET spec = 'no cipher text'"))
    good_id = mission.start(good)
    mission.start_worker()

    bad = mission.wait_until_ended(bad_id)
    assert bad.state is RunState.FAILED
    assert "cannot be decrypted" in bad.error_message
    assert mission.wait_until_ended(good_id).state is RunState.SUCCEEDED


def test_a_schedule_that_cannot_be_handled_does_not_stop_the_runs(mission: Mission):
    job_id = mission.add_job(task(), schedule="@hourly", next_run_at=sa.func.now())
    with mission.work() as session:
        session.execute(sa.text("UPDATE task SET extractor = 'no cipher text'"))
        assert job_id
    worker = mission.start_worker()

    assert mission.fly().state is RunState.SUCCEEDED
    assert worker.process.poll() is None
    assert "the chore 'start due runs' failed" in worker.output()


# --- the database goes away -------------------------------------------------------------------------------------------


@pytest.fixture
def cut_connections(mission: Mission, databases: Databases) -> Callable[[], None]:
    """Ends every connection to the database of the mission, as a restart of PostgreSQL does."""
    if databases.kind != "postgresql":
        pytest.skip("PostgreSQL only: SQLite has no connections that could be cut")

    def cut() -> None:
        with mission.look():
            db.engine.dispose()
        connection = psycopg2.connect(mission.settings.database_url)
        connection.autocommit = True
        with connection.cursor() as cursor:
            cursor.execute(
                "SELECT count(pg_terminate_backend(pid)) FROM pg_stat_activity "
                "WHERE datname = current_database() AND pid <> pg_backend_pid()"
            )
            assert cursor.fetchone()[0] >= 1
        connection.close()

    return cut


def test_a_worker_goes_on_after_its_connections_were_cut(mission: Mission, cut_connections):
    worker = mission.start_worker()
    with mission.hold():
        run = start_held_run(mission)
        cut_connections()
    ended = mission.wait_until_ended(run.id)

    assert (ended.state, ended.attempt) == (RunState.SUCCEEDED, 1), "the run was not disturbed"
    assert mission.fly().state is RunState.SUCCEEDED
    assert worker.process.poll() is None


def test_a_worker_that_was_cut_off_still_hears_at_once_of_new_runs(mission: Mission, cut_connections):
    worker = mission.start_worker()
    mission.fly()
    cut_connections()
    mission.wait_for(lambda: mission.fly(), seconds=20)
    waits = []
    for _ in range(3):
        run = mission.fly()
        waits.append((run.started_at - run.created_at).total_seconds())
    assert min(waits) < 1.0, waits
    assert worker.process.poll() is None


@pytest.fixture
def database_away(mission: Mission, databases: Databases) -> Callable[[], AbstractContextManager[None]]:
    """`with database_away():` nobody reaches the database of the mission."""
    return partial(_postgresql_away if databases.kind == "postgresql" else _sqlite_away, mission)


@contextmanager
def _postgresql_away(mission: Mission) -> Iterator[None]:
    url = sa.make_url(mission.settings.database_url)
    admin = psycopg2.connect(
        url.set(drivername="postgresql", database="postgres").render_as_string(hide_password=False)
    )
    admin.autocommit = True
    cursor = admin.cursor()
    cursor.execute(f'ALTER DATABASE "{url.database}" ALLOW_CONNECTIONS false')
    cursor.execute("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = %s", [url.database])
    try:
        yield
    finally:
        cursor.execute(f'ALTER DATABASE "{url.database}" ALLOW_CONNECTIONS true')
        admin.close()
        with mission.app.app_context():
            db.engine.dispose()


@contextmanager
def _sqlite_away(mission: Mission) -> Iterator[None]:
    """It cannot be opened, as on a disk that is not mounted."""
    with mission.app.app_context():
        db.engine.dispose()  # the last connection takes what is in the write-ahead log into the file
    file = mission.settings.hohmann_home / "hohmann.db"
    aside = file.with_name("aside.db")
    file.rename(aside)
    file.mkdir()
    try:
        yield
    finally:
        file.rmdir()
        aside.rename(file)


def test_a_database_that_takes_no_connections_for_a_while_stops_no_run(
    mission: Mission, databases: Databases, database_away: Callable[[], AbstractContextManager[None]]
) -> None:
    if databases.kind != "postgresql":
        pytest.skip("PostgreSQL only: how SQLite is away is tested below")
    mission.start_worker(), mission.start_worker()
    with mission.hold():
        run = start_held_run(mission)
        with database_away():
            time.sleep(mission.settings.lease_seconds + 1)
    ended = mission.wait_until_ended(run.id)

    assert (ended.state, ended.rows_found) == (RunState.SUCCEEDED, 50)
    assert ended.attempt == 1, "a worker took the run of the other, which was only cut off like itself"
    assert mission.count() == 50


def test_a_worker_that_starts_while_the_database_is_away_waits_for_it(
    mission: Mission, database_away: Callable[[], AbstractContextManager[None]]
) -> None:
    run_id = mission.start(mission.add_job(task(mission.csv(rows=50))))
    with database_away():
        worker = mission.start_worker(wait=False)
        mission.wait_for(lambda: "database does not answer, trying again" in worker.output(), seconds=30)
        time.sleep(3)
        assert worker.process.poll() is None, worker.output()
    ended = mission.wait_until_ended(run_id, seconds=10)

    assert (ended.state, ended.attempt, ended.rows_found) == (RunState.SUCCEEDED, 1, 50)
    assert "Traceback" not in worker.output()
    assert worker.stop() < 10


def test_a_worker_that_is_asked_to_end_while_it_waits_for_the_database_ends(
    mission: Mission, database_away: Callable[[], AbstractContextManager[None]]
) -> None:
    with database_away():
        worker = mission.start_worker(wait=False)
        mission.wait_for(lambda: "database does not answer, trying again" in worker.output(), seconds=30)
        assert worker.stop() < 5


def test_a_locked_sqlite_stops_no_run(mission: Mission, databases: Databases):
    if databases.kind != "sqlite":
        pytest.skip("SQLite only")
    worker = mission.start_worker()
    with mission.hold():
        run = start_held_run(mission)
        other = sqlite3.connect(mission.settings.hohmann_home / "hohmann.db", isolation_level=None)
        other.execute("BEGIN EXCLUSIVE")
        time.sleep(10)
        other.execute("ROLLBACK")
        other.close()
    ended = mission.wait_until_ended(run.id)

    assert (ended.state, ended.attempt, ended.rows_found) == (RunState.SUCCEEDED, 1, 50)
    assert worker.process.poll() is None


def test_a_place_that_cannot_be_written_is_a_clear_reason_on_the_run(mission: Mission):
    """Root may write everywhere, so what is in the way here are files where folders should be."""
    mission.start_worker()
    mission.csv()
    (mission.data / "blocked").write_text("a file")
    by_destination = mission.fly(task(db="blocked/out.duckdb"))
    assert by_destination.state is RunState.FAILED
    assert "blocked/out.duckdb" in by_destination.error_message

    shutil.rmtree(mission.settings.hohmann_home / "tmp", ignore_errors=True)
    (mission.settings.hohmann_home / "tmp").write_text("a file")
    by_home = mission.fly(task())
    assert by_home.state is RunState.FAILED
    assert "temporary folder" in by_home.error_message
    (mission.settings.hohmann_home / "tmp").unlink()
    assert mission.fly(task()).state is RunState.SUCCEEDED, "the next run works"


@pytest.fixture
def small_disk(mission: Mission) -> Iterator[Path]:
    """A disk of one megabyte inside the data folder."""
    with disks.small_disk(mission.data / "small", megabytes=1) as folder:
        yield folder


def test_a_full_disk_is_a_clear_reason_and_leaves_the_old_table(mission: Mission, small_disk: Path):
    mission.start_worker()
    small = task(mission.csv("few.csv", rows=5), db="small/out.duckdb")
    assert mission.fly(small).rows_found == 5
    run = mission.fly(task(mission.csv("many.csv", rows=200_000), db="small/out.duckdb"))

    assert run.state is RunState.FAILED
    assert "space" in run.error_message.lower(), run.error_message
    assert mission.count(db="small/out.duckdb") == 5
    assert mission.fly(small).state is RunState.SUCCEEDED, "the next run works"


def test_no_process_is_left_when_a_worker_is_killed(mission: Mission):
    worker = mission.start_worker()
    children = worker.children()
    assert len(children) == mission.settings.worker_slots
    worker.kill()
    gone, alive = psutil.wait_procs(children, timeout=3)
    assert not alive and len(gone) == len(children)
