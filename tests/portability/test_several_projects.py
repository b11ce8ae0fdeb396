"""Whoever belongs to several projects says which one a file leaves, or comes into."""

import io
import re
from collections.abc import Callable

import pytest
import sqlalchemy as sa
from flask import Flask

from tests import factories
from tests.support.people import Person
from webapp.accounts.models import Membership, Project
from webapp.config import Role
from webapp.db import db
from webapp.jobs.models import Job, JobKind
from webapp.webhooks.models import Webhook

ADDRESS = "/api/v1/project-file"
PAGE = "/settings/project"
FILE = b"hohmann_project: 1\njobs:\n- {name: told, kind: external}\nwebhooks:\n- {name: On call, url: 'https://192.0.2.1/', topics: [run.failed]}\n"  # noqa: E501


@pytest.fixture
def mars(work: Callable, bob: Person, rita: Person) -> str:
    """A second project, with a job: bob operates there too, rita does not belong to it."""
    with work() as session:
        project = factories.make_project("mars")
        session.add(Membership(user_id=bob.id, project_id=project.id, role=Role.OPERATOR))
        factories.make_job(name="Only on Mars", project_id=project.id)
        factories.make_job(name="Only on Earth")
    return "mars"


def projects_of(look: Callable, model: type[Job] | type[Webhook], name: str) -> list[str]:
    """The slugs of the projects that have a thing of this name."""
    with look():
        query = sa.select(Project.slug).join(model, model.project_id == Project.id).where(model.name == name)
        return list(db.session.scalars(query))


def test_a_file_holds_the_project_that_was_asked_for(app: Flask, bob: Person, mars: str) -> None:
    client = app.test_client()
    first = client.get(ADDRESS, headers=bob.headers).text
    other = client.get(f"{ADDRESS}?project={mars}", headers=bob.headers).text
    assert ("Only on Earth" in first, "Only on Mars" in first) == (True, False)
    assert ("Only on Earth" in other, "Only on Mars" in other) == (False, True)
    assert bob.browser().get(f"{PAGE}/file?project={mars}").text == other


def test_all_of_a_file_comes_into_the_project_that_was_asked_for(
    app: Flask, bob: Person, mars: str, look: Callable
) -> None:
    plan, do = (f"{ADDRESS}{step}?project={mars}" for step in ("/plan", ""))
    for address in (plan, do):
        answer = app.test_client().post(address, data=FILE, content_type="application/yaml", headers=bob.headers)
        assert (answer.status_code, answer.get_json()["created"]) == (200, 2)
    assert projects_of(look, Job, "told") == [mars]
    assert projects_of(look, Webhook, "On call") == [mars]


def test_the_page_asks_which_project_and_keeps_to_it(bob: Person, mars: str, look: Callable) -> None:
    browser = bob.browser()
    page = browser.get(f"{PAGE}?project={mars}").text
    assert f'<option value="{mars}" selected>' in page
    assert f'href="{PAGE}/file?project={mars}"' in page
    sent = {"file": (io.BytesIO(FILE), "project.yaml"), "project": mars}
    plan = browser.post(f"{PAGE}/import", sent, content_type="multipart/form-data").text
    assert "What the file would do in Mars" in plan
    assert f'name="project" value="{mars}"' in plan
    digest = re.search(r'name="digest" value="(\w+)"', plan)
    assert digest is not None
    browser.post(f"{PAGE}/import", {"digest": digest[1], "text": FILE.decode(), "project": mars})
    assert projects_of(look, Job, "told") == [mars]


def test_who_belongs_to_one_project_is_asked_nothing(rita: Person, mars: str) -> None:
    assert "<select" not in rita.browser().get(PAGE).text


@pytest.mark.parametrize("project", ["mars", "no-such", "999"])
def test_a_project_of_others_is_not_found(app: Flask, rita: Person, mars: str, project: str) -> None:
    client = app.test_client()
    assert client.get(f"{ADDRESS}?project={project}", headers=rita.headers).status_code == 404
    assert rita.browser().get(f"{PAGE}?project={project}").status_code == 404
    assert rita.browser().get(f"{PAGE}/file?project={project}").status_code == 404


def test_jobs_of_other_projects_do_not_count(app: Flask, bob: Person, mars: str, work: Callable) -> None:
    with work():
        factories.make_job(name="told", kind=JobKind.EXTERNAL)
    answer = app.test_client().post(
        f"{ADDRESS}/plan?project={mars}", data=FILE, content_type="application/yaml", headers=bob.headers
    )
    assert answer.get_json()["created"] == 2
