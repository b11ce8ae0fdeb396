"""Contract 002's sources and destinations, as its web client and its text ask for them."""

import json
import sqlite3
import uuid
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

import pytest
from flask import Flask
from flask.testing import FlaskClient

from tests.api.olake.client import (
    LIKE_THE_CLIENT,
    PROJECT,
    data_of,
    duckdb_destination,
    mysql_source,
    refused,
    signed_in,
    sqlite_source,
)
from tests.support.people import Person
from webapp.connections import uses
from webapp.connections.models import Connection
from webapp.connections.uses import JobUse, connection_deleted
from webapp.secrets import MASK

BOTH = [("sources", sqlite_source), ("destinations", duckdb_destination)]


@pytest.fixture
def web(app: Flask, bob: Person) -> FlaskClient:
    """The web client in which Bob is signed in."""
    return signed_in(app, bob)


@pytest.fixture
def shop(home: Path) -> None:
    """A small database to read from."""
    (home / "data").mkdir(parents=True, exist_ok=True)
    with sqlite3.connect(home / "data" / "shop.db") as database:
        database.execute("CREATE TABLE sale (id INTEGER PRIMARY KEY, what TEXT)")
        database.execute("INSERT INTO sale (what) VALUES ('a')")
    database.close()


def call(web: FlaskClient, verb: str, path: str, body: object = None, project: str = PROJECT) -> Any:
    return web.open(f"{project}/{path}", method=verb, json=body, headers=LIKE_THE_CLIENT)


@pytest.mark.parametrize(("path", "body"), BOTH)
def test_what_is_made_comes_back_with_its_config_as_a_string(web: FlaskClient, path: str, body: Any) -> None:
    sent = body()
    made = data_of(call(web, "POST", path, sent))
    assert {key: made[key] for key in ("name", "type", "version")} == {
        key: sent[key] for key in ("name", "type", "version")
    }
    assert isinstance(made["config"], str)
    assert json.loads(made["config"]) == json.loads(sent["config"])


@pytest.mark.parametrize(("path", "body"), BOTH)
def test_a_list_has_every_field_that_clients_read(web: FlaskClient, path: str, body: Any) -> None:
    made = data_of(call(web, "POST", path, body()))
    (item,) = data_of(call(web, "GET", path))
    assert set(item) == {
        "id", "name", "type", "version", "config", "created_at", "updated_at", "created_by", "updated_by", "jobs",
    }  # fmt: skip
    assert item["id"] == made["id"]
    assert isinstance(item["id"], int)
    assert (item["created_by"], item["updated_by"], item["jobs"]) == ("bob", "bob", [])
    assert item["created_at"].endswith("Z")


def test_a_config_may_be_an_object_too(web: FlaskClient) -> None:
    made = data_of(call(web, "POST", "sources", sqlite_source(as_text=False)))
    assert json.loads(made["config"]) == {"path": "shop.db"}


def test_all_names_of_the_project_lead_to_the_same_sources(web: FlaskClient) -> None:
    data_of(call(web, "POST", "sources", sqlite_source(), project="/api/v1/project/123"))
    assert [item["name"] for item in data_of(call(web, "GET", "sources"))] == ["shop"]


@pytest.mark.parametrize(
    ("change", "saying"),
    [
        ({"name": None}, "name"),
        ({"name": ""}, "name"),
        ({"name": " "}, "name"),
        ({"name": "x" * 256}, "name"),
        ({"name": 5}, "name"),
        ({"type": ""}, "type"),
        ({"type": "nosuch"}, "there is no connector 'nosuch'"),
        ({"config": "{broken"}, "config"),
        ({"config": "[]"}, "config"),
        ({"config": 5}, "config"),
        ({"config": None}, "config"),
        ({"config": "{}"}, "path"),
        ({"config": '{"path": 5}'}, "path"),
        ({"version": "x" * 65}, "version"),
    ],
)
def test_what_is_wrong_is_400_and_named(web: FlaskClient, change: dict[str, Any], saying: str) -> None:
    refused(call(web, "POST", "sources", {**sqlite_source(), **change}), 400, saying=saying)
    assert data_of(call(web, "GET", "sources")) == []


@pytest.mark.parametrize(("path", "body"), BOTH)
def test_a_name_is_unique_among_the_living(web: FlaskClient, path: str, body: Any) -> None:
    made = data_of(call(web, "POST", path, body()))
    refused(call(web, "POST", path, body()), 409, saying="already")
    other = data_of(call(web, "POST", path, body("other")))
    refused(call(web, "PUT", f"{path}/{other['id']}", body()), 409, saying="already")
    assert data_of(call(web, "DELETE", f"{path}/{made['id']}")) == {"name": made["name"]}
    data_of(call(web, "POST", path, body()))


def test_a_source_and_a_destination_may_share_a_name_but_not_an_address(web: FlaskClient) -> None:
    source = data_of(call(web, "POST", "sources", sqlite_source("same")))
    data_of(call(web, "POST", "destinations", duckdb_destination("same")))
    refused(call(web, "PUT", f"destinations/{source['id']}", duckdb_destination()), 404)
    refused(call(web, "DELETE", f"destinations/{source['id']}"), 404)


@pytest.mark.parametrize("number", ["0", "99", "-1", "abc", "²", "9" * 40, "1.5"])
def test_an_unknown_number_is_404(web: FlaskClient, number: str) -> None:
    refused(call(web, "PUT", f"sources/{number}", sqlite_source()), 404)
    refused(call(web, "DELETE", f"sources/{number}"), 404)


def test_a_change_is_kept_and_says_who_made_it(app: Flask, web: FlaskClient, dave: Person) -> None:
    made = data_of(call(web, "POST", "sources", sqlite_source()))
    changed = call(signed_in(app, dave), "PUT", f"sources/{made['id']}", sqlite_source("shop 2", path="b.db"))
    assert json.loads(data_of(changed)["config"]) == {"path": "b.db"}
    (item,) = data_of(call(web, "GET", "sources"))
    assert (item["name"], item["created_by"], item["updated_by"]) == ("shop 2", "bob", "dave")


def test_a_deleted_one_is_gone_for_everybody(web: FlaskClient) -> None:
    made = data_of(call(web, "POST", "sources", sqlite_source()))
    data_of(call(web, "DELETE", f"sources/{made['id']}"))
    assert data_of(call(web, "GET", "sources")) == []
    refused(call(web, "PUT", f"sources/{made['id']}", sqlite_source()), 404)
    refused(call(web, "DELETE", f"sources/{made['id']}"), 404)


def test_a_viewer_reads_but_changes_nothing(app: Flask, web: FlaskClient, rita: Person) -> None:
    made = data_of(call(web, "POST", "sources", sqlite_source()))
    viewer = signed_in(app, rita)
    assert [item["name"] for item in data_of(call(viewer, "GET", "sources"))] == ["shop"]
    refused(call(viewer, "POST", "sources", sqlite_source("x")), 403)
    refused(call(viewer, "PUT", f"sources/{made['id']}", sqlite_source("x")), 403)
    refused(call(viewer, "DELETE", f"sources/{made['id']}"), 403)
    refused(call(viewer, "POST", "sources/test", sqlite_source("x")), 403)


def test_secrets_are_written_but_never_read(web: FlaskClient, look: Callable[[], AbstractContextManager[Any]]) -> None:
    answers = [call(web, "POST", "sources", mysql_source())]
    number = data_of(answers[0])["id"]
    answers += [call(web, "GET", "sources"), call(web, "PUT", f"sources/{number}", mysql_source(username="other"))]
    for answer in answers:
        assert "hunter2" not in answer.text
    assert json.loads(data_of(answers[2])["config"])["password"] == MASK
    with look() as session:
        stored = session.connection().exec_driver_sql("SELECT config FROM connection").scalar_one()
        assert "hunter2" not in stored
        assert "reader" not in stored


def test_a_mask_that_comes_back_keeps_the_secret(
    web: FlaskClient, look: Callable[[], AbstractContextManager[Any]]
) -> None:
    number = data_of(call(web, "POST", "sources", mysql_source()))["id"]
    data_of(call(web, "PUT", f"sources/{number}", mysql_source(password=MASK, username="other")))
    with look() as session:
        (stored,) = session.query(Connection).all()
        assert (stored.config["password"], stored.config["username"]) == ("hunter2hunter2", "other")


def test_a_secret_is_not_sent_to_another_host(web: FlaskClient) -> None:
    number = data_of(call(web, "POST", "sources", mysql_source()))["id"]
    moved = mysql_source(password=MASK, host="elsewhere.example")
    refused(call(web, "PUT", f"sources/{number}", moved), 400, saying="password")
    refused(call(web, "POST", "sources/test", moved), 400, saying="password")
    data_of(call(web, "PUT", f"sources/{number}", mysql_source(password="another one", host="elsewhere.example")))


def test_a_mask_with_nothing_behind_it_is_refused(web: FlaskClient) -> None:
    refused(call(web, "POST", "sources", mysql_source(password=MASK)), 400, saying="password")


# --- jobs that use them -----------------------------------------------------------------------------------------------


@pytest.fixture
def used() -> Iterator[list[JobUse]]:
    """What the room of jobs would say of every connection."""
    before, told = list(uses._answers), []  # type: ignore[var-annotated]
    uses._answers[:] = [lambda connections: {connection.id: told for connection in connections}]
    yield told
    uses._answers[:] = before


def test_jobs_are_named_with_the_other_end_and_no_run_that_never_was(web: FlaskClient, used: list[JobUse]) -> None:
    used.append(JobUse(uuid.uuid4(), 7, "nightly", True, "other end", "s3"))
    data_of(call(web, "POST", "sources", sqlite_source()))
    data_of(call(web, "POST", "destinations", duckdb_destination()))
    (source,), (destination,) = data_of(call(web, "GET", "sources")), data_of(call(web, "GET", "destinations"))
    assert source["jobs"] == [
        {"id": 7, "name": "nightly", "activate": True, "destination_name": "other end", "destination_type": "s3",
         "dest_name": "other end"}
    ]  # fmt: skip
    assert destination["jobs"] == [
        {"id": 7, "name": "nightly", "activate": True, "source_name": "other end", "source_type": "s3"}
    ]


def test_a_deletion_is_told_to_whoever_switches_the_jobs_off(web: FlaskClient) -> None:
    told: list[str] = []

    def listener(connection: Connection) -> None:
        told.append(connection.name)

    connection_deleted.listen(listener)
    try:
        made = data_of(call(web, "POST", "sources", sqlite_source()))
        data_of(call(web, "DELETE", f"sources/{made['id']}"))
        assert told == ["shop"]
    finally:
        connection_deleted._listeners.remove(listener)


# --- specs, versions, tests -------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("path", "type_"), [("sources", "sqlite"), ("sources", "MySQL"), ("destinations", "duckdb")])
@pytest.mark.parametrize("verb", ["GET", "POST"])
def test_a_spec_is_asked_by_get_with_a_body_or_by_post(web: FlaskClient, verb: str, path: str, type_: str) -> None:
    body = {"type": type_, "version": "v1.0.0", "source_type": "sqlite", "source_version": ""}
    spec = data_of(call(web, verb, f"{path}/spec", body))
    assert (spec["type"], spec["version"]) == (type_.lower(), "v1.0.0")
    assert spec["spec"]["jsonschema"]["type"] == "object"
    assert all(field.get("title") for field in spec["spec"]["jsonschema"]["properties"].values())
    hints = json.loads(spec["spec"]["uischema"])
    assert list(spec["spec"]["jsonschema"]["properties"]) == hints["ui:order"]
    if type_ == "MySQL":
        assert hints["password"] == {"ui:widget": "password"}


def test_a_spec_that_there_is_not_is_refused(web: FlaskClient) -> None:
    refused(call(web, "POST", "sources/spec", {"type": "nosuch"}), 400, saying="nosuch")
    refused(call(web, "POST", "sources/spec", {}), 400, saying="type")
    refused(call(web, "POST", "sources/spec", []), 400)


@pytest.mark.parametrize(
    "path",
    [
        "sources/versions/?type=mysql",
        "sources/versions?type=mysql",
        "destinations/versions/?type=amazon%20s3",
        "destinations/versions/?type=iceberg",
    ],
)
def test_versions_are_those_that_run_here(web: FlaskClient, path: str) -> None:
    assert data_of(call(web, "GET", path)) == {"version": ["v1.0.0"]}


def test_versions_of_nothing_are_refused(web: FlaskClient) -> None:
    refused(call(web, "GET", "sources/versions/?type=nosuch"), 400, saying="nosuch")
    refused(call(web, "GET", "sources/versions/"), 400, saying="type")


def test_a_test_that_succeeds_says_so_in_both_shapes(web: FlaskClient, shop: None) -> None:
    body = {key: value for key, value in sqlite_source().items() if key != "name"}
    data = data_of(call(web, "POST", "sources/test", body))
    assert data["connection_result"] == {"status": "SUCCEEDED", "message": data["message"]}
    assert data["status"] == "SUCCEEDED"
    assert len(data["logs"]) > 1
    assert {log["level"] for log in data["logs"]} == {"info"}
    assert all(set(log) == {"level", "message"} for log in data["logs"])


def test_a_test_that_fails_says_where_and_what_would_help(web: FlaskClient) -> None:
    data = data_of(call(web, "POST", "sources/test", sqlite_source(path="missing.db")))
    assert data["connection_result"]["status"] == data["status"] == "FAILED"
    assert "missing.db" in data["message"]
    assert data["logs"][-1]["level"] == "error"


def test_a_test_with_masks_uses_the_secret_of_the_source_that_is_edited(web: FlaskClient) -> None:
    """The form says neither name nor number of what it edits."""
    data_of(call(web, "POST", "sources", mysql_source(port=1)))
    data = data_of(call(web, "POST", "sources/test", mysql_source(port=1, password=MASK)))
    assert data["status"] == "FAILED"
    assert "hunter2" not in json.dumps(data)


def test_a_test_of_a_wrong_configuration_is_400(web: FlaskClient) -> None:
    refused(call(web, "POST", "sources/test", {"type": "sqlite", "config": "{}"}), 400, saying="path")
