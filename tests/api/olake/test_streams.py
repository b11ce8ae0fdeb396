"""Contract 002's discovery, with a real source: what it holds, and what a job has chosen of it."""

import json

import pytest

from tests.jobs.syncs import job_body, make_source

PROJECT = "/api/v1/project/123"


@pytest.fixture
def source(settings):
    """What clients send of a SQLite file that is there."""
    name = make_source(settings.data_folder / "probes.db")
    return {"name": "probes", "type": "sqlite", "version": "v1.0.0", "config": json.dumps({"path": name})}


def test_both_addresses_and_both_methods_answer_streams_with_a_selection(client, alice, source):
    body = {**source, "job_id": -1, "job_name": "my job"}

    posted = client.post(f"{PROJECT}/sources/streams", json=body, headers=alice.headers).json["data"]
    streams = {item["stream"]["name"]: item["stream"] for item in posted["streams"]}
    assert set(streams) == {"probes", "notes"}
    probes = streams["probes"]
    assert probes["source_defined_primary_key"] == ["id"]
    assert "incremental" in probes["supported_sync_modes"]
    assert probes["type_schema"]["properties"]["id"]["type"][0] in {"integer", "integer_small"}
    assert probes["destination_database"].startswith("my_job")
    assert {item["stream_name"] for items in posted["selected_streams"].values() for item in items} == set(streams)

    got = client.get(f"{PROJECT}/source/streams", json=body, headers=alice.headers).json["data"]
    assert json.loads(got["streams_config"]) == {name: posted[name] for name in ("streams", "selected_streams")}


def test_a_job_s_own_choice_is_merged_in(client, alice, source):
    found = client.post(f"{PROJECT}/sources/streams", json=source, headers=alice.headers).json["data"]
    [namespace] = found["selected_streams"]
    found["selected_streams"] = {namespace: [{"stream_name": "notes", "partition_regex": "", "normalization": False}]}
    made = client.post(f"{PROJECT}/jobs", json=job_body(streams=found), headers=alice.headers).json["data"]

    again = client.post(f"{PROJECT}/sources/streams", json={**source, "job_id": made["id"]}, headers=alice.headers)

    chosen = again.json["data"]["selected_streams"]
    assert [item["stream_name"] for item in chosen[namespace]] == ["notes"]
    assert len(again.json["data"]["streams"]) == 2


def test_a_source_that_does_not_answer_says_why(client, alice, source):
    body = {**source, "config": json.dumps({"path": "absent.db"})}

    answer = client.post(f"{PROJECT}/sources/streams", json=body, headers=alice.headers)

    assert answer.status_code == 400
    assert "absent.db" in answer.json["message"]


@pytest.mark.parametrize("change", [{"type": "nosuch"}, {"config": "{"}, {"job_id": 999}, {"job_name": 3}])
def test_wrong_questions_are_refused(client, alice, source, change):
    answer = client.post(f"{PROJECT}/sources/streams", json={**source, **change}, headers=alice.headers)

    assert answer.status_code in {400, 404}
    assert answer.json["success"] is False


def test_viewers_and_strangers_discover_nothing(client, rita, charlie, source):
    assert client.post(f"{PROJECT}/sources/streams", json=source, headers=rita.headers).status_code == 403
    assert client.post(f"{PROJECT}/sources/streams", json=source, headers=charlie.headers).status_code == 404
