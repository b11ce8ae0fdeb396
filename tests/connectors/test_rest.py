"""HTTP APIs: streams, every log-in, pages, increments, and what goes wrong, against a real server."""

import base64
import datetime
from pathlib import Path
from typing import Any

import pytest

from tests.connectors.reading import context_in, failed, rows_of, stream_of, types_of, whole
from tests.engine.api_server import Asked, Reply, api_server
from webapp.engine.connectors.rest.source import RestSource
from webapp.engine.connectors.rest.spec import RestSourceSpec
from webapp.engine.errors import EngineError, Kind

ORDERS = [{"id": n, "at": f"2024-01-{n:02}T10:00:00Z", "tags": ["x"], "who": {"name": "Ada"}} for n in range(1, 8)]


def rest(folder: Path, url: str, **config: Any) -> RestSource:
    streams = config.pop("streams", [{"name": "orders", "path": "/orders", "primary_key": "id"}])
    spec = RestSourceSpec(base_url=url, streams=streams, **{"retries": 0, **config})
    return RestSource(spec, context_in(folder))


def paged(asked: Asked) -> Reply:
    start = int(asked.params.get("offset", 0))
    since = asked.params.get("since", "")
    rows = [order for order in ORDERS if str(order["at"]) >= since]
    return Reply({"data": {"items": rows[start : start + 3]}})


PAGES = {"type": "offset", "limit": 3}
LIST = {"name": "orders", "path": "orders", "records": "data.items", "primary_key": ["id"], "cursor_field": "at"}


def test_a_list_of_an_api_is_a_stream(tmp_path: Path) -> None:
    with api_server(paged) as server:
        source = rest(tmp_path, server.url, streams=[LIST], pagination=PAGES)
        assert [(step.name, step.ok) for step in source.check()] == [
            ("resolve", True), ("log in", True), ("read one row", True)]  # fmt: skip
        stream = stream_of(source, "orders")
        assert types_of(stream) == {
            "id": "BIGINT", "at": "TIMESTAMP", "tags": "VARCHAR[]", "who": 'STRUCT("name" VARCHAR)'}  # fmt: skip
        assert (stream.primary_key, stream.cursor_fields) == (("id",), ("at",))
        rows = rows_of(source, whole(stream))
        assert [row["id"] for row in rows] == [1, 2, 3, 4, 5, 6, 7]
        assert rows[0] == {"id": 1, "at": datetime.datetime(2024, 1, 1, 10), "tags": ["x"], "who": {"name": "Ada"}}
        assert not list((tmp_path / "temp").glob("rest-*"))


def test_what_was_counted_is_what_is_read_even_when_the_api_goes_on(tmp_path: Path) -> None:
    rows = [{"id": 1, "n": 5}]
    with api_server(lambda asked: Reply(rows)) as server:
        source = rest(tmp_path, server.url, streams=[{"name": "orders", "cursor_field": "n"}])
        read = whole(stream_of(source, "orders"), cursor="n")
        with source.open(parallel=1) as session:
            assert session.high_water(read) == 5
            rows.append({"id": 2, "n": 6})
            assert session.count(read) == 1
            assert session.read(read, session.chunks(read, parallel=1)[0]).read_all().num_rows == 1


def test_a_state_is_sent_to_the_api_and_holds_for_its_answer(tmp_path: Path) -> None:
    with api_server(paged) as server:
        stream = {**LIST, "incremental_param": "since", "pagination": PAGES}
        source = rest(tmp_path, server.url, streams=[stream])
        found = stream_of(source, "orders")
        with source.open(parallel=1) as session:
            assert session.high_water(whole(found, cursor="at")) == "2024-01-07 10:00:00"
        server.asked.clear()
        rows = rows_of(source, whole(found, cursor="at", since="2024-01-05 10:00:00", until="2024-01-06 10:00:00"))
        assert [row["id"] for row in rows] == [5, 6]
        assert {asked.params["since"] for asked in server.asked} == {"2024-01-05T10:00:00Z"}


def test_an_increment_without_records_is_no_row(tmp_path: Path) -> None:
    with api_server(paged) as server:
        source = rest(tmp_path, server.url, streams=[{**LIST, "incremental_param": "since"}])
        stream = stream_of(source, "orders")
        read = whole(stream, cursor="at", since="2025-01-01 00:00:00")
        assert rows_of(source, read) == []
        with source.open(parallel=1) as session:
            assert session.high_water(read) is None


def test_a_field_that_has_no_value_this_time_keeps_its_type(tmp_path: Path) -> None:
    rows: list[dict[str, Any]] = [{"id": 1, "at": "2024-01-01T10:00:00"}]
    with api_server(lambda asked: Reply(rows)) as server:
        source = rest(tmp_path, server.url)
        stream = stream_of(source, "orders")
        rows[:] = [{"id": 2, "at": None}, {"id": 3}]
        assert rows_of(source, whole(stream)) == [{"id": 2, "at": None}, {"id": 3, "at": None}]


def test_a_field_whose_values_do_not_fit_any_more_is_named(tmp_path: Path) -> None:
    rows: list[dict[str, Any]] = [{"id": 1}]
    with api_server(lambda asked: Reply(rows)) as server:
        source = rest(tmp_path, server.url)
        stream = stream_of(source, "orders")
        rows[:] = [{"id": 1.5}]
        with pytest.raises(EngineError, match="column id of orders was BIGINT and is DOUBLE now"):
            rows_of(source, whole(stream))


LOG_INS: list[tuple[dict[str, Any], str, str]] = [
    ({"type": "bearer", "token": "hush hush"}, "Authorization", "Bearer hush hush"),
    ({"type": "basic", "username": "ada", "password": "hush"}, "Authorization",
     "Basic " + base64.b64encode(b"ada:hush").decode()),
    ({"type": "api_key", "name": "X-Key", "api_key": "hush hush"}, "X-Key", "hush hush"),
]  # fmt: skip


@pytest.mark.parametrize(("auth", "header", "value"), LOG_INS, ids=["bearer", "basic", "key"])
def test_a_log_in_goes_with_each_request(tmp_path: Path, auth: dict[str, Any], header: str, value: str) -> None:
    with api_server(lambda asked: Reply([{"id": 1}], 200 if asked.headers.get(header) == value else 401)) as server:
        source = rest(tmp_path, server.url, auth=auth)
        assert rows_of(source, whole(stream_of(source, "orders"))) == [{"id": 1}]
        step = failed(list(rest(tmp_path, server.url).check()))
        assert (step.name, "answered 401" in step.message) == ("read one row", True)


def test_a_key_in_the_query_is_sent_and_not_told(tmp_path: Path) -> None:
    def answer(asked: Asked) -> Reply:
        return Reply([{"id": 1}]) if asked.params.get("key") == "hush hush" else Reply({"you sent": asked.params}, 403)

    with api_server(answer) as server:
        auth = {"type": "api_key", "name": "key", "api_key": "hush hush", "place": "query"}
        assert stream_of(rest(tmp_path, server.url, auth=auth), "orders").primary_key == ("id",)
        wrong = failed(list(rest(tmp_path, server.url, auth={**auth, "api_key": "wrong and secret"}).check()))
        assert "answered 403" in wrong.message
        assert "secret" not in wrong.message


def test_a_token_is_fetched_with_client_credentials(tmp_path: Path) -> None:
    def answer(asked: Asked) -> Reply:
        if asked.path == "/token":
            known = asked.headers["Authorization"] == "Basic " + base64.b64encode(b"us:hush").decode()
            assert asked.body == b"grant_type=client_credentials&scope=read"
            return Reply({"access_token": "of today"}) if known else Reply({"error": "invalid_client"}, 401)
        return Reply([{"id": 1}], 200 if asked.headers.get("Authorization") == "Bearer of today" else 401)

    with api_server(answer) as server:
        auth = {"type": "oauth2", "token_url": f"{server.url}/token", "client_id": "us", "client_secret": "hush",
                "scope": "read"}  # fmt: skip
        assert all(step.ok for step in rest(tmp_path, server.url, auth=auth).check())
        wrong = failed(list(rest(tmp_path, server.url, auth={**auth, "client_secret": "other"}).check()))
        assert (wrong.name, "/token answered 401" in wrong.message) == ("log in", True)


def test_what_is_wrong_with_an_api_is_said(tmp_path: Path) -> None:
    with api_server(lambda asked: Reply(b"<html>")) as server:
        assert "HTML" in failed(list(rest(tmp_path, server.url).check())).message
        url = server.url
    closed = failed(list(rest(tmp_path, url).check()))
    assert "cannot be reached" in closed.message
    with pytest.raises(EngineError) as gone:
        list(rest(tmp_path, url).discover())
    assert gone.value.kind is Kind.TRANSIENT


def test_private_addresses_are_refused_unless_the_instance_allows_them(tmp_path: Path) -> None:
    spec = RestSourceSpec(base_url="http://127.0.0.1:9", streams=[{"name": "a"}])
    source = RestSource(spec, context_in(tmp_path, allow_private_addresses=False))
    assert "loopback or private" in failed(list(source.check())).message


@pytest.mark.parametrize(
    ("config", "message"),
    [
        ({"base_url": "ftp://x", "streams": [{"name": "a"}]}, "http:// or https://"),
        ({"base_url": "http://x", "streams": []}, "at least 1"),
        ({"base_url": "http://x", "streams": [{"name": "a"}, {"name": "A"}]}, "two streams have the same name"),
        ({"base_url": "http://x", "streams": [{"name": "a", "path": "//evil/x"}]}, "behind the base address"),
        ({"base_url": "http://x", "streams": [{"name": "a", "incremental_param": "s"}]}, "name the cursor_field"),
    ],
)
def test_a_wrong_configuration_is_refused_by_its_field(config: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        RestSourceSpec.model_validate(config)


def test_a_field_that_the_records_do_not_have_cannot_be_the_key(tmp_path: Path) -> None:
    with api_server(lambda asked: Reply([{"id": 1}])) as server:
        source = rest(tmp_path, server.url, streams=[{"name": "a", "primary_key": ["key"]}])
        with pytest.raises(EngineError, match="have no field 'key'"):
            list(source.discover())
