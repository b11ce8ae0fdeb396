"""Whatever is sent, the doors answer with a refusal that has the one shape, never with a fault of their own."""

import copy
import json
from typing import Any

import pytest
from flask.testing import FlaskClient
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.support.people import Cast, Person

ANY_NUMBER = (
    st.integers(-(2**70), 2**70) | st.floats(allow_nan=False) | st.sampled_from([0, -1, 2**31, 2**53, 2**63, 1e308])
)
ANY_TEXT = st.text(max_size=40) | st.sampled_from(
    [
        "",
        " ",
        "\x00",
        "\ufffe",
        "x" * 5000,
        "'; DROP TABLE job; --",
        "../../etc/passwd",
        "%s%n",
        "{{7*7}}",
        "@daily",
        "Ready",
    ]
)
ANY_JSON = st.recursive(
    st.none() | st.booleans() | ANY_NUMBER | ANY_TEXT,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(ANY_TEXT, inner, max_size=4),
    max_leaves=12,
)
TASK = {
    "extractor_config": {"type": "csv", "path": "a.csv", "delimiter": ",", "columns": {"a": "INTEGER"}},
    "loader_config": {"type": "duckdb", "db_path": "a.duckdb", "table_name": "t", "mode": "upsert", "key": ["a"]},
}
API_TASK = {
    "extractor_config": {
        "type": "api",
        "url": "https://api.example.com/",
        "method": "POST",
        "headers": {"A": "b"},
        "params": {"q": "1"},
        "body": {},
        "pagination": {"type": "page", "parameter": "page", "size": 10},
        "bearer_token": "secret",
    },
    "loader_config": {"type": "warehouse", "table_name": "t"},
}
JOB = {
    "job_name": "j",
    "description": "d",
    "schedule": "0 9 * * *",
    "timezone": "UTC",
    "is_active": True,
    "overlap": "queue",
    "missed": "one",
    "concurrency_limit": 1,
    "max_attempts": 1,
    "retry_delay_seconds": 1,
    "timeout_seconds": 60,
    "no_progress_seconds": 60,
    "tasks": [TASK, API_TASK],
}
GOOD: list[tuple[str, str, dict[str, Any]]] = [
    ("POST", "/api/v1/register", {"username": "u", "password": "long enough", "email": "a@b.co", "full_name": "n"}),
    ("POST", "/api/v1/login", {"username": "u", "password": "p"}),
    ("POST", "/api/v1/auth/register", {"username": "u", "password": "long enough", "token": "t"}),
    ("POST", "/api/v1/auth/login", {"username": "u", "password": "p"}),
    ("POST", "/api/v1/auth/signup", {"email": "a@b.co", "password": "long enough", "username": "x"}),
    ("POST", "/api/v1/auth/signin", {"email": "a@b.co", "password": "p"}),
    ("POST", "/api/v1/auth/password", {"old_password": "p", "new_password": "long enough"}),
    ("PATCH", "/api/v1/users/{user}", {"role": "viewer", "is_active": True}),
    ("POST", "/api/v1/invitations", {"role": "viewer", "days": 1}),
    ("POST", "/api/v1/service-tokens",
     {"name": "n", "role": "viewer", "scopes": ["read"], "expires_at": "2040-01-01T00:00:00Z"}),
    ("POST", "/api/v1/job", {"source": "Earth", "destination": "Mars", "estimated_time": 60}),
    ("PATCH", "/api/v1/job/{rocket}", {"state": "Ready", "status": "running", "location": "x", "estimated_time": 1}),
    ("POST", "/api/v1/jobs", JOB),
    ("PATCH", "/api/v1/jobs/{job}", JOB),
    ("PUT", "/api/v1/jobs/{job}", {"name": "j", "enabled": True, "tasks": [TASK]}),
    ("POST", "/api/v1/schedules/preview", {"schedule": "@daily", "timezone": "UTC", "count": 1}),
]  # fmt: skip
QUERIES = [
    ("/api/v1/job", ["state", "status", "user_id", "owner", "source", "destination", "limit", "cursor"]),
    ("/api/v1/runs", ["status", "job_id", "limit", "cursor"]),
    ("/api/v1/jobs/{job}/runs", ["status", "limit", "cursor"]),
]
#: 409: the move was well-formed and forbidden; 429: many failed log-ins.
WELL_BEHAVED = frozenset({200, 201, 400, 401, 403, 404, 409, 422, 429})

many = settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])


def places(value: Any, at: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    """The way to every part of a JSON value, itself included."""
    inner = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    return [at, *(place for key, part in inner for place in places(part, (*at, key)))]


def with_part(value: Any, place: tuple[Any, ...], part: Any) -> Any:
    """A copy of the value with another part at this place."""
    if not place:
        return part
    whole = copy.deepcopy(value)
    here = whole
    for key in place[:-1]:
        here = here[key]
    here[place[-1]] = part
    return whole


@pytest.fixture
def ids(client: FlaskClient, people: Cast) -> dict[str, str]:
    """Something of each kind that addresses name."""
    rocket = {"source": "Earth", "destination": "Mars", "estimated_time": 60}
    job = {"job_name": "j", "schedule": "@manual", "is_active": True, "tasks": []}
    return {
        "user": str(people.rita.id),
        "rocket": client.post("/api/v1/job", json=rocket, headers=people.alice.headers).get_json()["id"],
        "job": client.post("/api/v1/jobs", json=job, headers=people.alice.headers).get_json()["id"],
    }


@pytest.mark.parametrize(("method", "path", "body"), GOOD, ids=[f"{method} {path}" for method, path, _ in GOOD])
def test_any_value_at_any_place_of_a_body_is_no_fault_of_the_server(
    client: FlaskClient, alice: Person, ids: dict[str, str], method: str, path: str, body: dict[str, Any]
):
    @many
    @given(place=st.sampled_from(places(body)), value=ANY_JSON)
    def check(place: tuple[Any, ...], value: Any) -> None:
        sent = with_part(body, place, value)
        answer = client.open(
            path.format(**ids),
            method=method,
            data=json.dumps(sent),
            content_type="application/json",
            headers=alice.headers,
        )
        assert answer.status_code in WELL_BEHAVED, (answer.status_code, sent)
        if answer.status_code >= 400:
            assert set(answer.get_json()) == {"error", "code", "details", "detail"}

    check()


@pytest.mark.parametrize(("path", "names"), QUERIES)
def test_any_query_is_no_fault_of_the_server(
    client: FlaskClient, alice: Person, ids: dict[str, str], path: str, names: list[str]
):
    @many
    @given(query=st.dictionaries(st.sampled_from(names), ANY_TEXT | ANY_NUMBER.map(str), max_size=3))
    def check(query: dict[str, str]) -> None:
        answer = client.get(path.format(**ids), query_string=query, headers=alice.headers)
        assert answer.status_code in {200, 422}, query

    check()


@pytest.mark.parametrize("path", ["/api/v1/job/{}", "/api/v1/jobs/{}", "/api/v1/runs/{}", "/api/v1/runs/{}/logs"])
def test_any_id_is_no_fault_of_the_server(client: FlaskClient, alice: Person, path: str):
    @many
    @given(text=ANY_TEXT)
    def check(text: str) -> None:
        from urllib.parse import quote

        answer = client.get(path.format(quote(text, safe="")), headers=alice.headers)
        assert answer.status_code in {200, 308, 400, 404}, text

    check()


@many
@given(
    data=st.binary(max_size=200),
    kind=st.sampled_from(["application/json", "application/problem+json", "text/json", "x", ""]),
)
def test_any_bytes_are_no_fault_of_the_server(client: FlaskClient, data: bytes, kind: str):
    answer = client.post("/api/v1/login", data=data, content_type=kind)
    assert answer.status_code in {400, 401, 415, 422, 429}
