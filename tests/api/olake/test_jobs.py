"""Contract 002's jobs, as its own web client and as its text ask for them."""

import json

import pytest

from tests.jobs.syncs import choice, document, job_body, stream

JOBS = "/api/v1/project/123/jobs"


@pytest.fixture
def make_job(client, alice):
    """Create a job through the contract; returns what was answered."""

    def make(**facts):
        answer = client.post(JOBS, json=job_body(**facts), headers=alice.headers)
        assert answer.status_code == 200, answer.json
        return answer.json["data"]

    return make


def test_a_job_is_answered_as_it_was_sent_and_listed_with_its_ends(client, alice, make_job):
    made = make_job(frequency="0 1 * * 0")

    sent = job_body(frequency="0 1 * * 0")
    assert made["streams_config"] == sent["streams_config"]
    assert (made["name"], made["frequency"]) == ("copy", "0 1 * * 0")
    [listed] = client.get(JOBS, headers=alice.headers).json["data"]
    assert listed["id"] == made["id"]
    assert isinstance(listed["id"], int)
    assert listed["activate"] is True
    assert (listed["created_by"], listed["updated_by"]) == ("alice", "alice")
    assert json.loads(listed["source"]["config"]) == {"path": "probes.db"}
    assert listed["destination"]["type"] == "duckdb"
    assert "last_run_time" not in listed
    assert "last_run_state" not in listed


def test_both_ends_are_made_once_and_changed_by_the_next_job_that_names_them(client, alice, make_job):
    make_job()
    make_job(name="copy again", file="other.db")

    [source] = client.get("/api/v1/project/123/sources", headers=alice.headers).json["data"]
    assert json.loads(source["config"]) == {"path": "other.db"}
    assert [use["name"] for use in source["jobs"]] == ["copy", "copy again"]
    assert source["jobs"][0]["destination_name"] == "lake"


def test_the_list_is_narrowed_by_source_and_destination_in_every_form_of_the_contract(client, alice, make_job):
    made = make_job()
    source, destination = made["source"]["id"], made["destination"]["id"]

    for there in (
        f"{JOBS}?source_id={source}",
        f"{JOBS}?dest_id={destination}",
        f'{JOBS}/source_id="{source}"',
        f"{JOBS}/dest_id={destination}",
    ):
        assert [job["id"] for job in client.get(there, headers=alice.headers).json["data"]] == [made["id"]], there
    for empty in (f"{JOBS}?source_id=999", f"{JOBS}?dest_id=abc", f'{JOBS}/dest_id="999"'):
        assert client.get(empty, headers=alice.headers).json["data"] == [], empty


def test_a_name_is_unique_among_the_sync_jobs_of_a_project(client, alice, make_job):
    make_job()
    second = make_job(name="second")

    again = client.post(JOBS, json=job_body(), headers=alice.headers)
    assert (again.status_code, again.json["success"]) == (409, False)
    renamed = client.put(f"{JOBS}/{second['id']}", json=job_body(), headers=alice.headers)
    assert renamed.status_code == 409
    for name, free in (("copy", False), ("third", True)):
        asked = client.post(f"{JOBS}/check-unique", json={"job_name": name}, headers=alice.headers)
        assert asked.json["data"] == {"unique": free}


def test_a_change_keeps_what_it_sends_and_says_so(client, alice, make_job):
    made = make_job()
    body = job_body(name="renamed", frequency="*/5 * * * *", streams=document(stream("notes"))) | {"activate": False}

    changed = client.put(f"{JOBS}/{made['id']}", json=body, headers=alice.headers).json["data"]

    assert (changed["name"], changed["frequency"], changed["activate"]) == ("renamed", "*/5 * * * *", False)
    assert json.loads(changed["streams_config"])["selected_streams"] == {"main": [choice("notes")]}
    assert client.get(f"{JOBS}/{made['id']}", headers=alice.headers).json["data"]["frequency"] == "*/5 * * * *"


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"frequency": "61 * * * *"}, "frequency"),
        ({"streams_config": "{"}, "streams_config"),
        ({"name": " "}, "name"),
        ({"source": {"name": "x", "type": "sqlite", "version": "v1.0.0", "config": "no"}}, "config"),
        ({"streams_config": json.dumps(document(stream(sync_mode="cdc")))}, "main.probes: sync_mode"),
        ({"streams_config": json.dumps(document(stream(sync_mode="incremental")))}, "main.probes: cursor_field"),
        ({"streams_config": json.dumps(document(stream(), main=[choice("gone")]))}, "stream_name"),
        ({"streams_config": json.dumps(document(stream(), main=[choice(filter="id >")]))}, "main.probes: filter"),
    ],
)
def test_what_is_wrong_is_named(client, alice, change, said):
    answer = client.post(JOBS, json=job_body() | change, headers=alice.headers)

    assert answer.status_code == 400
    assert said in answer.json["message"]
    assert client.get(JOBS, headers=alice.headers).json["data"] == []


def test_a_job_needs_the_same_version_at_both_ends(client, alice):
    body = job_body()
    body["source"]["version"] = "v0.9.0"

    answer = client.post(JOBS, json=body, headers=alice.headers)

    assert answer.status_code == 400
    assert "same version" in answer.json["message"]


def test_switching_off_and_on(client, alice, make_job):
    number = make_job(frequency="0 1 * * *")["id"]

    for wanted in (False, True):
        answer = client.post(f"{JOBS}/{number}/activate", json={"activate": wanted}, headers=alice.headers)
        assert answer.json["data"] == {"activate": wanted}
        assert client.get(f"{JOBS}/{number}", headers=alice.headers).json["data"]["activate"] is wanted


def test_a_deleted_source_switches_its_jobs_off_and_they_stay(client, alice, make_job):
    made = make_job()
    client.delete(f"/api/v1/project/123/sources/{made['source']['id']}", headers=alice.headers)

    [job] = client.get(JOBS, headers=alice.headers).json["data"]
    assert (job["activate"], job["source"]["name"]) == (False, "probes")
    refused = client.post(f"{JOBS}/{made['id']}/activate", json={"activate": True}, headers=alice.headers)
    assert refused.status_code == 409
    assert client.post(f"{JOBS}/{made['id']}/sync", headers=alice.headers).status_code == 409


def test_a_job_is_deleted_with_its_name(client, alice, make_job):
    number = make_job()["id"]

    assert client.delete(f"{JOBS}/{number}", headers=alice.headers).json["data"] == {"name": "copy"}
    assert client.delete(f"{JOBS}/{number}", headers=alice.headers).status_code == 404


def test_viewers_look_and_strangers_see_nothing(client, alice, bob, rita, charlie, make_job):
    made = make_job()

    assert [job["id"] for job in client.get(JOBS, headers=rita.headers).json["data"]] == [made["id"]]
    assert client.post(f"{JOBS}/{made['id']}/sync", headers=rita.headers).status_code == 403
    assert client.delete(f"{JOBS}/{made['id']}", headers=rita.headers).status_code == 403
    assert client.get(JOBS, headers=charlie.headers).status_code == 404
    assert client.post(f"{JOBS}/{made['id']}/sync", headers=bob.headers).status_code == 200
    assert client.get(JOBS).status_code == 401


def test_a_sync_is_queued_shown_as_a_task_and_cancelled(client, alice, make_job):
    number = make_job()["id"]
    started = client.post(f"{JOBS}/{number}/sync", headers=alice.headers).json
    assert (started["success"], started["data"]) == (True, None)

    [task] = client.get(f"{JOBS}/{number}/tasks", headers=alice.headers).json["data"]
    assert (task["status"], task["runtime"]) == ("scheduled", "0s")
    assert task["file_path"]
    assert client.get(JOBS, headers=alice.headers).json["data"][0]["last_run_state"] == "scheduled"

    stopped = client.get(f"{JOBS}/{number}/cancel", headers=alice.headers)
    assert stopped.json["data"]["message"]
    [task] = client.get(f"{JOBS}/{number}/tasks", headers=alice.headers).json["data"]
    assert task["status"] == "cancelled"
    assert client.get(f"{JOBS}/{number}/cancel", headers=alice.headers).status_code == 409


def test_logs_are_an_array_by_post_and_task_logs_by_get(client, alice, make_job):
    number = make_job()["id"]
    client.post(f"{JOBS}/{number}/sync", headers=alice.headers)
    [task] = client.get(f"{JOBS}/{number}/tasks", headers=alice.headers).json["data"]

    posted = client.post(f"{JOBS}/{number}/tasks/1/logs", json={"file_path": task["file_path"]}, headers=alice.headers)
    assert posted.json["data"] == []
    got = client.get(f"{JOBS}/{number}/task/{task['id']}/logs", headers=alice.headers)
    assert got.json["data"] == {"task_logs": []}
    unknown = client.post(f"{JOBS}/{number}/tasks/1/logs", json={"file_path": "x"}, headers=alice.headers)
    assert unknown.status_code == 404
