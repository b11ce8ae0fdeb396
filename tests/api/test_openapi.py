"""The OpenAPI document is valid, tells of every door, and is true: what it promises is what the doors answer."""

import re
from typing import Any

import pytest
import schemathesis
from flask import Flask
from flask.testing import FlaskClient
from jsonschema_rs import validator_for

from tests.support.fuzz import Fuzzer
from webapp.policy import POLICY

UNTOLD = frozenset({"openapi.docs", "live.machine"})
"""A page, and a websocket, which OpenAPI has no words for."""


@pytest.fixture
def told(client: FlaskClient) -> dict[str, Any]:
    document: dict[str, Any] = client.get("/api/openapi.json").get_json()
    return document


def in_json(app: Flask) -> set[str]:
    """The endpoints of all JSON doors."""
    return {rule.endpoint for rule in app.url_map.iter_rules() if re.match(r"/(api|health|metrics)\b", rule.rule)}


def test_every_json_door_is_told(app: Flask, told: dict[str, Any]):
    operations = [operation for path in told["paths"].values() for operation in path.values()]
    names = {re.sub(r"_\d+$", "", operation["operationId"]) for operation in operations}
    doors = {endpoint for endpoint in in_json(app) - UNTOLD if not endpoint.endswith(".add_slash")}

    assert {endpoint.replace(".", "_") for endpoint in doors} - names == set()
    assert len({operation["operationId"] for operation in operations}) == len(operations)
    assert all(operation["description"] for operation in operations)


def test_what_is_open_to_strangers_is_told_as_open_and_nothing_else(told: dict[str, Any]):
    open_doors = {endpoint.replace(".", "_") for endpoint, access in POLICY.items() if access == "public"}
    for path in told["paths"].values():
        for operation in path.values():
            name = re.sub(r"_\d+$", "", operation["operationId"])
            assert (operation.get("security") == []) == (name in open_doors), name


def test_every_example_is_what_its_schema_allows(told: dict[str, Any]):
    checked = 0
    for path in told["paths"].values():
        for operation in path.values():
            for holder in [operation.get("requestBody", {}), *operation["responses"].values()]:
                for media in holder.get("content", {}).values():
                    if "example" in media:
                        schema = {**media["schema"], "components": told["components"]}
                        validator_for(schema).validate(media["example"])
                        checked += 1
    assert checked > 30


def test_a_post_that_changes_something_is_told_with_its_example(told: dict[str, Any]):
    for path, operations in told["paths"].items():
        for method, operation in operations.items():
            body = operation.get("requestBody")
            if body and body["required"]:
                assert all("example" in media for media in body["content"].values()), f"{method} {path}"


def test_the_page_names_every_call_without_any_other_host(client: FlaskClient, told: dict[str, Any]):
    page = client.get("/api/docs", headers={"Accept": "text/html"})
    html = page.get_data(as_text=True)

    assert page.status_code == 200
    assert all(f'id="{call["operationId"]}"' in html for path in told["paths"].values() for call in path.values())
    addresses = re.findall(r'(?:src|href|action)="([^"]*)"', html)
    assert all(address.startswith(("/", "#")) and not address.startswith("//") for address in addresses)


def test_nothing_breaks_and_nothing_is_untold_under_fuzzing(app: Flask, client: FlaskClient):
    def call(method: str, path: str, body: Any, token: str) -> tuple[int, Any]:
        headers = {"Authorization": f"Bearer {token}"} if token else {}
        more = {"json": body} if body is not None else {}
        answer = app.test_client().open(path, method=method, headers=headers, **more)
        return answer.status_code, answer.get_json()

    schema = schemathesis.openapi.from_wsgi("/api/openapi.json", app)
    findings = Fuzzer(schema, call).run(examples=8)

    assert not findings.failures, "\n\n".join(f"{label}: {why}" for label, why in findings.failures.items())
    assert findings.server_errors == 0
    assert findings.cases > 500
