"""Whatever is sent to sources and destinations, the answer is an envelope, and never a fault of the server."""

import json
from typing import Any
from urllib.parse import quote

import pytest
from flask.testing import FlaskClient
from hypothesis import given
from hypothesis import strategies as st

from tests.api.olake.client import PROJECT, duckdb_destination, mysql_source, sqlite_source
from tests.api.test_any_input import ANY_JSON, ANY_TEXT, many, places, with_part
from tests.support.people import Person

WELL_BEHAVED = frozenset({200, 400, 401, 403, 404, 409, 429})
#: With their configurations as objects, so that any value gets to any place in them too.
GOOD: list[tuple[str, str, dict[str, Any]]] = [
    ("POST", "/login", {"username": "u", "password": "p"}),
    ("POST", "/signup", {"username": "u", "password": "long enough", "email": "a@b.co"}),
    ("POST", f"{PROJECT}/sources", {**mysql_source(), "config": json.loads(mysql_source()["config"])}),
    ("PUT", f"{PROJECT}/sources/{{source}}", {**sqlite_source(), "config": {"path": "shop.db"}}),
    ("POST", f"{PROJECT}/destinations", duckdb_destination()),
    ("POST", f"{PROJECT}/sources/spec", {"type": "mysql", "version": "v1.0.0"}),
    ("GET", f"{PROJECT}/destinations/spec", {"type": "duckdb", "version": "v1.0.0"}),
]  # fmt: skip


@pytest.mark.parametrize(("method", "path", "body"), GOOD, ids=[f"{method} {path}" for method, path, _ in GOOD])
def test_any_value_at_any_place_of_a_body_is_answered_in_the_envelope(
    client: FlaskClient, bob: Person, method: str, path: str, body: dict[str, Any]
) -> None:
    made = client.post(f"{PROJECT}/sources", json=sqlite_source("first"), headers=bob.headers)
    address = path.format(source=made.get_json()["data"]["id"])

    @many
    @given(place=st.sampled_from(places(body)), value=ANY_JSON)
    def check(place: tuple[Any, ...], value: Any) -> None:
        sent = json.dumps(with_part(body, place, value))
        kind = {"content_type": "application/json"}
        answer = client.open(address, method=method, data=sent, headers=bob.headers, **kind)
        assert answer.status_code in WELL_BEHAVED, (answer.status_code, sent)
        keys = {"success", "message"} | ({"data"} if answer.status_code == 200 else set())
        assert set(answer.get_json()) == keys

    check()


@pytest.mark.parametrize("path", ["sources/{}", "destinations/{}"])
def test_any_number_is_no_fault_of_the_server(client: FlaskClient, bob: Person, path: str) -> None:
    @many
    @given(text=ANY_TEXT)
    def check(text: str) -> None:
        address = f"{PROJECT}/{path.format(quote(text, safe=''))}"
        assert client.delete(address, headers=bob.headers).status_code in {308, 404, 405}

    check()


@many
@given(name=ANY_TEXT, type_=ANY_TEXT)
def test_any_project_and_any_query_is_no_fault_of_the_server(
    client: FlaskClient, bob: Person, name: str, type_: str
) -> None:
    project = client.get(f"/api/v1/project/{quote(name, safe='')}/sources", headers=bob.headers)
    assert project.status_code in {200, 404}
    query = {"type": type_}
    versions = client.get(f"{PROJECT}/sources/versions/", query_string=query, headers=bob.headers)
    assert versions.status_code in {200, 400}
