"""A project's file through the page, the JSON doors and the terminal."""

import io
import re
from collections.abc import Callable
from pathlib import Path

import pytest
from flask import Flask

from tests.portability.mission import PASSWORD, build
from tests.support.people import Person
from webapp.connections.models import Connection
from webapp.db import db
from webapp.jobs.models import Job

ADDRESS = "/api/v1/project-file"
NEW = b"hohmann_project: 1\njobs:\n- {name: told, kind: external}\nwebhooks:\n- {name: On call, url: 'https://192.0.2.1/', topics: [run.failed]}\n"  # noqa: E501


def send(app: Flask, person: Person, data: bytes, path: str = ADDRESS) -> tuple[int, dict]:
    answer = app.test_client().post(path, data=data, content_type="application/yaml", headers=person.headers)
    return answer.status_code, answer.get_json()


def upload(person: Person, data: bytes):  # type: ignore[no-untyped-def]
    file = {"file": (io.BytesIO(data), "project.yaml")}
    return person.browser().post("/settings/project/import", file, content_type="multipart/form-data")


def count_jobs(look: Callable) -> int:
    with look():
        return int(db.session.query(Job).count())


def test_a_plan_changes_nothing_and_an_import_does_what_the_plan_said(app: Flask, bob: Person, look: Callable) -> None:
    status, plan = send(app, bob, NEW, ADDRESS + "/plan")
    assert (status, plan["created"], count_jobs(look)) == (200, 2, 0)
    status, done = send(app, bob, NEW)
    assert (status, done["lines"], count_jobs(look)) == (200, plan["lines"], 1)
    assert done["new_secrets"][0]["secret"].startswith("whsec_")
    assert send(app, bob, NEW)[1]["unchanged"] == 2


def test_viewers_export_but_do_not_import_and_strangers_do_neither(app: Flask, rita: Person, charlie: Person) -> None:
    client = app.test_client()
    assert client.get(ADDRESS, headers=rita.headers).data.startswith(b"# A project of Hohmann")
    assert client.get(ADDRESS, headers=charlie.headers).status_code == 403
    assert [send(app, person, NEW)[0] for person in (rita, charlie)] == [403, 403]


def test_what_is_no_yaml_by_its_type_is_refused(app: Flask, bob: Person) -> None:
    assert app.test_client().post(ADDRESS, json={}, headers=bob.headers).status_code == 415


def test_the_page_shows_the_plan_first_and_then_imports_what_it_showed(app: Flask, bob: Person, look: Callable) -> None:
    plan = upload(bob, NEW)
    assert (plan.status_code, count_jobs(look)) == (200, 0)
    assert "2 created, 0 changed, 0 unchanged" in plan.text
    digest = re.search(r'name="digest" value="(\w+)"', plan.text)
    assert digest is not None
    confirmed = {"digest": digest[1], "text": NEW.decode().replace("\n", "\r\n")}
    done = bob.browser().post("/settings/project/import", confirmed)
    assert (done.status_code, count_jobs(look)) == (200, 1)
    assert "whsec_" in done.text
    again = bob.browser().post("/settings/project/import", confirmed)
    assert "Something changed here since you looked" in again.text


@pytest.mark.parametrize("data", [b"", b"\xff", b"a: [", NEW + b"sauces: []\n"])
def test_the_page_says_what_is_wrong_with_a_file(bob: Person, data: bytes) -> None:
    answer = upload(bob, data)
    assert answer.status_code == 422
    assert 'id="problems"' in answer.text


def test_a_viewer_sees_the_download_and_no_form(rita: Person) -> None:
    page = rita.browser().get("/settings/project").text
    assert "/settings/project/file" in page
    assert 'type="file"' not in page


def test_the_terminal_writes_and_reads_the_same_file(
    app: Flask, alice: Person, work: Callable, look: Callable, tmp_path: Path
) -> None:
    with work() as session:
        build(alice.actor, session)
    file = tmp_path / "project.yaml"
    run = app.test_cli_runner().invoke
    assert run(args=["export-project", str(file)]).exit_code == 0
    assert run(args=["export-project"]).output.encode() == file.read_bytes()
    assert "0 created, 0 changed, 9 unchanged" in run(args=["import-project", str(file)]).output
    edited = file.read_text().replace("max_attempts: 5", "max_attempts: 7").replace("path: a.csv", "path: b.csv")
    file.write_text(edited)
    assert "changed: sync job copy (max_attempts)" in run(args=["import-project", str(file), "--plan"]).output
    assert "0 created, 3 changed" in run(args=["import-project", str(file)]).output
    with look():
        assert db.session.query(Job).filter_by(name="copy").one().max_attempts == 7
        assert db.session.query(Connection).filter_by(type="postgres").one().config["password"] == PASSWORD
    file.write_text("hohmann_project: 2\n")
    refused = run(args=["import-project", str(file)])
    assert (refused.exit_code, "reads format 1, not 2" in refused.output) == (1, True)
