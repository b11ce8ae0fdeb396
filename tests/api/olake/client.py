"""A client of contract 002: by cookie, as its web client comes, or by a token."""

import json
from typing import Any

from flask import Flask
from flask.testing import FlaskClient
from werkzeug.test import TestResponse

from tests.support.people import Person

PROJECT = "/api/v1/project/olake"
LIKE_THE_CLIENT = {"Authorization": "Bearer authenticated", "Accept": "application/json, text/plain, */*"}


def signed_in(app: Flask, person: Person) -> FlaskClient:
    """The web client after its log-in: its cookie is all that says who it is."""
    client = app.test_client()
    answer = client.post("/login", json={"username": person.username, "password": person.password})
    data_of(answer)
    return client


def data_of(answer: TestResponse) -> Any:
    """What a successful answer holds in its envelope."""
    assert answer.status_code == 200, answer.text
    body = answer.get_json()
    assert set(body) == {"success", "message", "data"}
    assert body["success"] is True
    assert isinstance(body["message"], str)
    return body["data"]


def refused(answer: TestResponse, status: int, *, saying: str = "") -> str:
    """The message of a refusal in the envelope."""
    assert answer.status_code == status, answer.text
    assert answer.mimetype == "application/json"
    body = answer.get_json()
    assert set(body) == {"success", "message"}
    assert body["success"] is False
    assert saying.lower() in body["message"].lower(), body["message"]
    return str(body["message"])


def sqlite_source(name: str = "shop", *, path: str = "shop.db", as_text: bool = True) -> dict[str, Any]:
    """A body that makes a source."""
    config = {"path": path}
    return {"name": name, "type": "sqlite", "version": "v1.0.0", "config": json.dumps(config) if as_text else config}


def mysql_source(name: str = "crm", **changes: Any) -> dict[str, Any]:
    """A body that makes a source with a secret in it."""
    config = {"host": "127.0.0.1", "port": 3306, "database": "crm", "username": "reader", "password": "hunter2hunter2"}
    return {"name": name, "type": "mysql", "version": "v1.0.0", "config": json.dumps({**config, **changes})}


def duckdb_destination(name: str = "lake") -> dict[str, Any]:
    """A body that makes a destination."""
    return {"name": name, "type": "duckdb", "version": "v1.0.0", "config": json.dumps({"path": "lake.duckdb"})}
