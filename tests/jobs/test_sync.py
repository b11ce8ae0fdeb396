"""Sync jobs beyond contract 002: states, receipts, chosen streams, the parachute and the flight plan."""

import json
import uuid
from datetime import timedelta

import pytest
import sqlalchemy as sa

from tests.jobs.syncs import VERSION, choice, document, job_body, stream
from webapp.dates import utcnow
from webapp.db import db
from webapp.engine.sync.plan import StreamReceipt, StreamStatus
from webapp.jobs.models import Job
from webapp.rockets.models import Rocket
from webapp.runs import claims, parachute, queue
from webapp.runs.models import Run, RunStep
from webapp.runs.queue import Lease, Outcome, Report, Step

INCREMENTAL = stream(sync_mode="incremental", cursor_field="seen")


@pytest.fixture
def make_job(client, alice, look):
    """Create a sync job; returns its id."""

    def make(**facts) -> uuid.UUID:
        answer = client.post("/api/v1/project/123/jobs", json=job_body(**facts), headers=alice.headers)
        assert answer.status_code == 200, answer.json
        with look() as session:
            return session.scalars(sa.select(Job.id).where(Job.number == answer.json["data"]["id"])).one()

    return make


@pytest.fixture
def ask(client, alice):
    """Ask for something of a sync job as Alice; returns the answer."""

    def send(job_id, what: str, body=None, *, person=alice):
        where = f"/api/v1/jobs/{job_id}/{what}"
        return (client.get if body is None else client.post)(where, headers=person.headers, **_json(body))

    return send


def _json(body):
    return {} if body is None else {"json": body}


@pytest.fixture
def fly(work, settings):
    """Claim the job's run as a worker would, and report these receipts of it; returns the lease."""

    def land(*receipts: StreamReceipt) -> Lease:
        with work():
            [lease] = claims.claim_runs("w1", limit=1, settings=settings)
        steps = {
            at: Step(at, 1, one.stream, utcnow(), utcnow(), "succeeded", {"stream": one.to_json()})
            for at, one in enumerate(receipts, start=1)
        }
        with work():
            queue.apply_reports([Report(lease, steps=steps, outcome=Outcome("succeeded"))])
        return lease

    return land


def landed(label: str = "main.probes", **facts) -> StreamReceipt:
    return StreamReceipt(label, StreamStatus.LANDED, rows_read=3, rows_written=3, rows_total=3, seconds=60.0, **facts)


def test_a_duckdb_file_is_not_synced_into_itself(client, alice):
    body = job_body(name="loop")
    ends = {"source": "lake.duckdb", "destination": "./lake.duckdb"}
    body |= {
        end: {"name": f"{end} of a loop", "type": "duckdb", "version": VERSION, "config": json.dumps({"path": path})}
        for end, path in ends.items()
    }
    refused = client.post("/api/v1/project/123/jobs", json=body, headers=alice.headers)
    assert refused.status_code == 400, refused.json
    assert "destination: it is the file that the source reads" in refused.json["message"]
    assert "Choose another file" in refused.json["message"]
    body["destination"]["config"] = json.dumps({"path": "other.duckdb"})
    body["destination"]["name"] = "elsewhere"
    made = client.post("/api/v1/project/123/jobs", json=body, headers=alice.headers)
    assert made.status_code == 200, made.json
    body["destination"]["config"] = json.dumps({"path": "lake.duckdb"})
    body["destination"]["name"] = "the same"
    number = made.json["data"]["id"]
    assert client.put(f"/api/v1/project/123/jobs/{number}", json=body, headers=alice.headers).status_code == 400


@pytest.mark.parametrize("end", ["source", "destination"])
def test_an_edit_of_a_connection_does_not_make_a_file_its_jobs_both_ends(client, alice, end):
    paths = {"source": "loop.duckdb", "destination": "elsewhere.duckdb"}
    body = job_body(name="loop") | {
        side: {"name": f"the {side}", "type": "duckdb", "version": VERSION, "config": json.dumps({"path": path})}
        for side, path in paths.items()
    }
    made = client.post("/api/v1/project/123/jobs", json=body, headers=alice.headers)
    assert made.status_code == 200, made.json
    path = f"/api/v1/project/123/{end}s"
    [connection] = client.get(path, headers=alice.headers).json["data"]
    other = paths["destination" if end == "source" else "source"]
    edited = body[end] | {"config": json.dumps({"path": f"./{other}"})}
    refused = client.put(f"{path}/{connection['id']}", json=edited, headers=alice.headers)
    assert refused.status_code == 400, refused.json
    assert "path: the job loop would sync" in refused.json["message"]
    assert "Choose another file" in refused.json["message"]
    [kept] = client.get(path, headers=alice.headers).json["data"]
    assert json.loads(kept["config"]) == {"path": paths[end]}
    free = body[end] | {"config": json.dumps({"path": "free.duckdb"})}
    assert client.put(f"{path}/{connection['id']}", json=free, headers=alice.headers).status_code == 200


def test_a_run_carries_the_ends_and_the_plans_sealed(ask, make_job, fly, look):
    job_id = make_job()
    run_id = ask(job_id, "run", {}).json["id"]

    lease = fly(landed())

    sync = lease.spec["sync"]
    assert (sync["source_type"], sync["source_config"]) == ("sqlite", {"path": "probes.db"})
    assert (sync["destination_type"], sync["destination_config"]) == ("duckdb", {"path": "lake.duckdb"})
    assert [plan["name"] for plan in sync["streams"]] == ["probes"]
    with look() as session:
        query = sa.text("SELECT spec FROM run")
        assert "probes.db" not in session.execute(query).scalar()
        assert session.scalars(sa.select(Run.id)).one() == uuid.UUID(run_id)


def test_the_rocket_of_a_sync_flies_from_its_source_to_its_destination(make_job, look):
    job_id = make_job()

    with look() as session:
        rocket = session.scalars(sa.select(Rocket).where(Rocket.job_id == job_id)).one()
        assert (rocket.source, rocket.destination) == ("probes", "lake")


def test_the_state_moves_on_with_a_landing_and_stays_with_a_doubt(ask, make_job, fly):
    job_id = make_job(streams=document(INCREMENTAL))
    ask(job_id, "run", {})
    fly(landed(state_after={"cursor": 3}))
    [shown] = ask(job_id, "streams").json["streams"]
    assert (shown["stream"], shown["state"], shown["epoch"]) == ("main.probes", {"cursor": 3}, 0)
    assert shown["receipt"]["rows_written"] == 3
    assert shown["destination"] == "lake_main.probes"

    ask(job_id, "run", {})
    doubtful = landed(state_after={"cursor": 9}, doubt="a row is missing")
    doubtful.status = StreamStatus.DOUBT
    fly(doubtful)

    [shown] = ask(job_id, "streams").json["streams"]
    assert (shown["state"], shown["receipt"]["doubt"]) == ({"cursor": 3}, "a row is missing")


def test_a_reset_counts_up_and_what_an_older_run_reports_does_not_undo_it(ask, make_job, fly):
    job_id = make_job(streams=document(INCREMENTAL))
    ask(job_id, "run", {})

    assert ask(job_id, "streams/reset", {"stream": "main.probes"}).json["epoch"] == 1
    fly(landed(state_after={"cursor": 3}))

    [shown] = ask(job_id, "streams").json["streams"]
    assert (shown["state"], shown["epoch"]) == (None, 1)
    ask(job_id, "run", {})
    assert fly(landed(epoch=1)).spec["sync"]["streams"][0]["epoch"] == 1


def test_one_stream_is_refreshed_alone_and_chosen_streams_run_alone(ask, make_job, fly):
    job_id = make_job(streams=document(stream(), stream("notes")))

    assert ask(job_id, "streams/refresh", {"stream": "main.notes"}).status_code == 202
    [plan] = fly(landed("main.notes")).spec["sync"]["streams"]
    assert (plan["name"], plan["refresh"]) == ("notes", True)

    assert ask(job_id, "run", {"streams": ["main.probes"]}).status_code == 200
    [plan] = fly(landed()).spec["sync"]["streams"]
    assert (plan["name"], plan["refresh"]) == ("probes", False)


@pytest.mark.parametrize(
    ("what", "body"),
    [
        ("run", {"streams": ["main.gone"]}),
        ("run", {"streams": []}),
        ("run", {"streams": 3}),
        ("streams/reset", {"stream": "main.gone"}),
        ("streams/reset", {}),
        ("streams/refresh", {"stream": "main.gone"}),
        ("parachute", {"stream": "main.gone", "generation": "g"}),
        ("flight-plan", {"streams_config": "{"}),
        ("flight-plan", {"frequency": "61 * * * *"}),
    ],
)
def test_what_the_job_does_not_know_is_refused(ask, make_job, what, body):
    answer = ask(make_job(), what, body)

    assert answer.status_code == 422, answer.json


def test_a_job_without_streams_is_refused_a_run_with_the_reason(ask, make_job):
    answer = ask(make_job(streams=[]), "run", {})

    assert answer.status_code == 409
    assert "Choose at least one stream" in answer.json["error"]


def test_what_a_run_kept_is_listed_and_comes_back_by_a_run_of_its_own(ask, make_job, fly):
    job_id = make_job(streams=document(INCREMENTAL))
    ask(job_id, "run", {})
    fly(landed(generation="g1", state_before={"cursor": 1}, state_after={"cursor": 3}))

    [kept] = ask(job_id, "generations").json["generations"]
    assert (kept["stream"], kept["generation"], kept["state"]) == ("main.probes", "g1", {"cursor": 1})

    assert ask(job_id, "parachute", {"stream": "main.probes", "generation": "g1"}).status_code == 202
    restore = fly(landed(state_after={"cursor": 1})).spec["sync"]["wish"]["restore"]
    assert restore == {"stream": "main.probes", "generation": "g1", "state": {"cursor": 1}}
    assert ask(job_id, "streams").json["streams"][0]["state"] == {"cursor": 1}
    assert ask(job_id, "parachute", {"stream": "main.probes", "generation": "g0"}).status_code == 404


def test_who_wants_the_newest_generations_does_not_read_all(make_job, ask, fly, alice, work, look):
    job_id = make_job(streams=document(INCREMENTAL))
    ask(job_id, "run", {})
    lease = fly(landed(generation="first"))
    now = utcnow()
    with work() as session:
        for at in range(500):
            facts = {"stream": landed(generation=f"g{at}").to_json()}
            times = {"started_at": now, "finished_at": now + timedelta(seconds=at + 60)}
            step = RunStep(run_id=lease.run_id, attempt=1, position=at + 100, task=1, name="x", facts=facts, **times)
            session.add(step)
    loaded = []
    with look():
        sa.event.listen(RunStep, "load", lambda *_: loaded.append(1))
        found = [kept.generation for kept in parachute.generations_of(alice.actor, job_id, limit=20)]
    assert found == [f"g{at}" for at in range(499, 479, -1)]
    assert len(loaded) <= parachute.BATCH
    with look():
        assert len(parachute.generations_of(alice.actor, job_id)) == 501


def test_a_retry_of_the_failed_part_moves_only_the_streams_that_did_not_land(ask, make_job, fly, client, alice, work):
    job_id = make_job(streams=document(stream(), stream("notes")))
    ask(job_id, "run", {})
    failed = StreamReceipt("main.notes", StreamStatus.FAILED, error={"message": "no such table"})
    lease = fly(landed(), failed)

    retried = client.post(f"/api/v1/runs/{lease.run_id}/retry", json={"from_failed_step": True}, headers=alice.headers)

    assert retried.status_code == 200
    with work():
        run = db.session.scalars(sa.select(Run).where(Run.id == uuid.UUID(retried.json["id"]))).one()
        assert [plan["name"] for plan in run.spec["sync"]["streams"]] == ["notes"]


def test_the_flight_plan_tells_what_an_edit_will_do_and_changes_nothing(ask, make_job, fly):
    job_id = make_job(streams=document(INCREMENTAL, stream("old")), frequency="0 1 * * *")
    make_job(name="neighbour", streams=document(stream(destination_table="elsewhere")))
    ask(job_id, "run", {})
    fly(landed(state_after={"cursor": 3}))
    edit = document(stream(), stream("fresh"), main=[choice(), choice("fresh")])

    plan = ask(job_id, "flight-plan", {"streams_config": edit, "frequency": "0 2 * * *", "activate": False}).json[
        "plan"
    ]

    said = {line["kind"]: line for line in plan}
    assert said["table replaced"]["weight"] == "destroys"
    assert (said["table replaced"]["rows"], said["table replaced"]["minutes"]) == (3, 1.0)
    assert said["stream added"]["stream"] == "main.fresh"
    assert said["stream removed"]["stream"] == "main.old"
    assert "neighbour" in said["connection shared"]["text"]
    assert {"schedule moved", "schedule switched"} <= said.keys()
    assert plan[0]["weight"] == "destroys"
    assert ask(job_id, "streams").json["streams"][0]["sync_mode"] == "incremental"


def test_the_flight_plan_warns_of_a_cursor_of_text(ask, make_job):
    job_id = make_job(streams=document(INCREMENTAL))
    edit = document(stream(sync_mode="incremental", cursor_field="name"))

    plan = ask(job_id, "flight-plan", {"streams_config": edit}).json["plan"]

    [line] = [line for line in plan if line["kind"] == "text cursor"]
    assert "name is text, and goes on by the order of texts" in line["text"]
    assert "text cursor" not in {one["kind"] for one in ask(job_id, "flight-plan", {}).json["plan"]}


def test_a_frequency_that_is_changed_through_another_contract_is_seen_in_this_one(client, alice, make_job):
    job_id = make_job(frequency="0 1 * * *")

    client.patch(f"/api/v1/jobs/{job_id}", json={"schedule": "0 5 * * *"}, headers=alice.headers)

    [job] = client.get("/api/v1/project/123/jobs", headers=alice.headers).json["data"]
    assert job["frequency"] == "0 5 * * *"
    assert json.loads(job["streams_config"])["selected_streams"]


def test_a_sync_job_takes_no_tasks(client, alice, make_job):
    task = {
        "extractor_config": {"type": "csv", "path": "a.csv"},
        "loader_config": {"type": "duckdb", "table_name": "t"},
    }

    answer = client.patch(f"/api/v1/jobs/{make_job()}", json={"tasks": [task]}, headers=alice.headers)

    assert answer.status_code == 422


def test_viewers_look_and_do_not_touch_and_strangers_find_nothing(ask, make_job, rita, charlie):
    job_id = make_job()

    assert ask(job_id, "streams", person=rita).status_code == 200
    assert ask(job_id, "flight-plan", {}, person=rita).status_code == 200
    for what, body in (("streams/reset", {"stream": "main.probes"}), ("streams/refresh", {"stream": "main.probes"})):
        assert ask(job_id, what, body, person=rita).status_code == 403
        assert ask(job_id, what, body, person=charlie).status_code == 404
    assert ask(job_id, "streams", person=charlie).status_code == 404
