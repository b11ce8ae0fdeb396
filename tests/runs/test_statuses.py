"""The log of statuses, filled by the migration with what is known of the runs so far."""

from datetime import timedelta

from flask import Flask

from tests import factories
from webapp import db as database
from webapp import schema
from webapp.dates import utcnow
from webapp.db import db
from webapp.runs.states import RunState
from webapp.runs.statuses.log import newest_entries
from webapp.runs.statuses.models import StatusEntry

BEFORE = "0006_airflow"


def test_the_migration_writes_what_became_of_older_runs(app: Flask) -> None:
    begun = utcnow() - timedelta(hours=1)

    def at(minutes: int) -> dict[str, object]:
        return {"created_at": begun + timedelta(minutes=minutes), "available_at": begun + timedelta(minutes=minutes)}

    with app.app_context():
        with database.unit_of_work():
            job, idle = factories.make_job(created_at=begun), factories.make_job(created_at=begun)
            ended = {"started_at": begun + timedelta(minutes=2), "finished_at": begun + timedelta(minutes=3)}
            factories.make_run(job, state=RunState.SUCCEEDED, **ended, **at(1))
            factories.make_run(job, state=RunState.CANCELLED, finished_at=begun + timedelta(minutes=5), **at(4))
            factories.make_run(job, state=RunState.RUNNING, started_at=begun + timedelta(minutes=7), **at(6))
            ids = job.id, idle.id
        schema.downgrade(BEFORE)
        schema.upgrade()
        with database.reading():
            found = newest_entries(ids, count=100)
            words = [row.state.value for row in found[ids[0]]]
            expected = ["queued", "queued", "running", "succeeded", "queued", "cancelled", "queued", "running"]
            assert words == expected
            assert [row.state for row in found[ids[1]]] == [RunState.QUEUED], "a job that never ran is pending"
            numbers = [row.number for row in found[ids[0]]]
            assert numbers == sorted(numbers)
            assert [row.run_id is None for row in found[ids[0]]] == [True] + [False] * 7


def test_numbers_go_on_after_the_migration(app: Flask) -> None:
    with app.app_context():
        with database.unit_of_work():
            job = factories.make_job()
            factories.make_run(job)
        schema.downgrade(BEFORE)
        schema.upgrade()
        with database.unit_of_work():
            new = StatusEntry(project_id=job.project_id, job_id=job.id, state=RunState.RUNNING, at=utcnow(), by="bob")
            db.session.add(new)
            db.session.flush()
            assert new.number == 3
