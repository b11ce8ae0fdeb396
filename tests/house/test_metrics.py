"""What a real stack tells Prometheus, and how it writes its logs when a machine collects them."""

import json
import re
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import pytest
from prometheus_client.parser import text_string_to_metric_families

from tests.support.databases import Databases
from tests.support.stacks import Stack

JOB = {
    "job_name": "absent",
    "schedule": "@manual",
    "is_active": True,
    "tasks": [
        {
            "extractor_config": {"type": "csv", "path": "absent.csv"},
            "loader_config": {"type": "warehouse", "table_name": "t"},
        }
    ],
}


@pytest.fixture
def stack(tmp_path: Path, databases: Databases) -> Iterator[Stack]:
    home = tmp_path / "home"
    stack = Stack(home, database_url=databases.separate(), LOG_FORMAT="json", LOG_LEVEL="DEBUG").start()
    yield stack
    stack.stop()


def scrape(stack: Stack) -> dict[tuple[str, tuple[tuple[str, str], ...]], float]:
    """Every sample, by its name and labels, as Prometheus' own parser reads them."""
    with urllib.request.urlopen(f"{stack.url}/metrics", timeout=10) as answer:
        families = text_string_to_metric_families(answer.read().decode())
        return {
            (sample.name, tuple(sorted(sample.labels.items()))): sample.value
            for family in families
            for sample in family.samples
        }


def test_runs_requests_queue_and_pulses_are_counted_over_all_processes(stack: Stack):
    token = stack.owner_token()
    job = stack.request("POST", "/api/v1/jobs", JOB, token=token)[1]["id"]
    for _ in range(3):
        stack.request("POST", f"/api/v1/jobs/{job}/run", token=token)
    failed = ("hohmann_runs_total", (("executor", "local"), ("state", "failed")))
    stack.wait_for(lambda: scrape(stack).get(failed) == 3, seconds=30, what="three failed runs to be counted")
    seen = scrape(stack)

    assert seen["hohmann_run_seconds_count", (("state", "failed"),)] == 3
    assert seen["hohmann_run_wait_seconds_count", ()] == 3
    starts = ("hohmann_http_seconds_count", (("door", "etl_api"), ("method", "POST"), ("status", "2xx")))
    assert seen[starts] == 4
    assert (seen["hohmann_database_up", ()], seen["hohmann_workers_alive", ()]) == (1, 1)
    assert (seen["hohmann_queue_depth", ()], seen["hohmann_runs_in_flight", ()]) == (0, 0)
    assert 0 <= seen["hohmann_worker_pulse_seconds", ()] < 10
    assert seen["hohmann_scheduler_late_seconds", ()] == 0


def test_counts_begin_at_zero_when_the_stack_starts_anew(stack: Stack):
    stack.owner_token()
    stack.stop()
    stack.start()
    assert not [
        name
        for name, labels in scrape(stack)
        if name == "hohmann_http_seconds_count" and ("door", "users_api") in labels
    ]


def test_a_visitor_from_elsewhere_needs_a_token(stack: Stack):
    token = stack.owner_token()
    narrow = {"name": "narrow", "role": "operator", "scopes": ["runs:execute"]}
    other = stack.request("POST", "/api/v1/service-tokens", narrow, token=token)[1]["token"]
    statuses = []
    for headers in ({}, {"Authorization": f"Bearer {other}"}, {"Authorization": f"Bearer {token}"}):
        request = urllib.request.Request(f"{stack.url}/metrics", headers={"X-Forwarded-For": "203.0.113.5", **headers})
        try:
            statuses.append(urllib.request.urlopen(request, timeout=10).status)
        except urllib.error.HTTPError as error:
            statuses.append(error.code)
    assert statuses == [401, 401, 200]


def test_every_line_of_the_log_is_one_json_object_with_the_request_it_belongs_to(stack: Stack):
    request = urllib.request.Request(f"{stack.url}/api/v1/job", headers={"X-Request-ID": "look-for-me"})
    with pytest.raises(urllib.error.HTTPError):
        urllib.request.urlopen(request, timeout=10)
    lines = [line for line in stack.output().splitlines() if line.startswith("{")]
    records = [json.loads(line) for line in lines]

    found = [record for record in records if record.get("request_id") == "look-for-me"]
    assert found
    assert {"at", "level", "logger", "message", "process"} <= found[0].keys()
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT[\d:.]+Z", found[0]["at"])
