"""Lists come in pages by number, with the absolute addresses of their neighbours."""

from collections.abc import Callable
from typing import Any

import pytest
import sqlalchemy as sa
from flask import Flask

from tests import factories
from tests.api.lister.client import JOBS, STATUSES, Caller
from webapp.db import db

HERE = "http://localhost/api/jobs/"


@pytest.fixture
def thirteen(operator: Caller) -> list[dict[str, Any]]:
    return [operator.make_job(f"job {number}") for number in range(13)]


@pytest.mark.parametrize(
    ("query", "following", "previous", "count"),
    [
        ("", f"{HERE}?page=2", None, 10),
        ("page=1", f"{HERE}?page=2", None, 10),
        ("page=", f"{HERE}?page=2", None, 10),
        ("page=2", None, HERE, 3),
        ("page=%202", None, HERE, 3),
        ("page=last", None, HERE, 3),
        ("page=1&page=2", None, HERE, 3),
        ("page=2&x=a%20b&y=", None, f"{HERE}?x=a+b&y=", 3),
        ("page_size=5&page=2", f"{HERE}?page=3&page_size=5", f"{HERE}?page_size=5", 5),
        ("page_size=100", None, None, 13),
        ("page_size=x", f"{HERE}?page=2&page_size=x", None, 10),
        ("page_size=0", f"{HERE}?page=2&page_size=0", None, 10),
    ],
)
def test_a_page_and_its_neighbours(
    operator: Caller,
    thirteen: list[dict[str, Any]],
    query: str,
    following: str | None,
    previous: str | None,
    count: int,
) -> None:
    page = operator.get(f"{JOBS}?{query}")
    assert list(page) == ["count", "next", "previous", "results"]
    assert (page["count"], page["next"], page["previous"]) == (13, following, previous)
    assert len(page["results"]) == count


@pytest.mark.parametrize("number", ["0", "-1", "3", "x", "1.0", "first", "9" * 40])
def test_a_page_that_is_not_there(operator: Caller, thirteen: list[dict[str, Any]], number: str) -> None:
    assert operator.get(f"{JOBS}?page={number}", 404) == {"detail": "Invalid page."}


def test_an_empty_list_has_one_page(operator: Caller) -> None:
    assert operator.get(JOBS) == {"count": 0, "next": None, "previous": None, "results": []}
    assert operator.get(f"{STATUSES}?page=last")["results"] == []


def test_jobs_come_newest_first_and_following_next_meets_each_once(
    operator: Caller, thirteen: list[dict[str, Any]]
) -> None:
    found, address = [], f"{JOBS}?page_size=4"
    while address:
        page = operator.get(address.removeprefix("http://localhost"))
        found += page["results"]
        address = page["next"]
    assert found == thirteen[::-1]


def test_statuses_come_oldest_first_and_of_one_job_if_asked(operator: Caller) -> None:
    one, other = operator.make_job("one"), operator.make_job("other")
    operator.report(one, "RUNNING")
    operator.report(other, "RUNNING", "COMPLETED")
    operator.report(one, "FAILED")
    every = operator.get(STATUSES)
    assert [entry["job"] for entry in every["results"]] == [
        one["id"],
        other["id"],
        one["id"],
        *[other["id"]] * 2,
        one["id"],
    ]
    times = [entry["timestamp"] for entry in every["results"]]
    assert times == sorted(times)
    its = operator.get(f"{STATUSES}?job={one['id']}")
    assert (its["count"], [entry["status_type"] for entry in its["results"]]) == (3, ["PENDING", "RUNNING", "FAILED"])
    assert operator.get(f"{STATUSES}?job=")["count"] == 6
    assert operator.get(f"{STATUSES}?job=999999")["count"] == 0, "of a job that is not there (any more) there are none"
    choice = "Select a valid choice. That choice is not one of the available choices."
    assert operator.get(f"{STATUSES}?job=abc", 400) == {"job": [choice]}


def test_only_the_newest_statuses_of_a_job_are_shown_with_it(operator: Caller) -> None:
    job = operator.make_job()
    made = operator.report(job, *["RUNNING"] * 105)
    listed = operator.get(JOBS)["results"][0]
    assert [one["id"] for one in listed["statuses"]] == [one["id"] for one in made[-100:]]
    assert len(operator.get(f"{JOBS}{job['id']}/")["statuses"]) == 106
    assert operator.get(f"{STATUSES}?job={job['id']}")["count"] == 106


def test_a_page_takes_as_few_queries_whatever_its_size(app: Flask, operator: Caller, work: Callable[[], Any]) -> None:
    with work():
        for _ in range(30):
            factories.make_run(factories.make_job())
    asked: list[str] = []
    with app.app_context():
        sa.event.listen(db.engine, "before_cursor_execute", lambda *told: asked.append(told[2]))
    operator.get(JOBS)  # its token is looked up once
    lengths = []
    for size in (2, 30):
        asked.clear()
        assert len(operator.get(f"{JOBS}?page_size={size}")["results"]) == size
        lengths.append(len(asked))
    assert lengths[0] == lengths[1] <= 5, asked
