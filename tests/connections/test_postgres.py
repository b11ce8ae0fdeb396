"""The room with a real PostgreSQL: test, discovery, rows; and what it says when the server refuses."""

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from typing import Any

import pytest

from tests.connections.mission import make_source
from tests.connections.test_discovery import wait
from tests.support.people import Person
from tests.support.postgres import TcpPostgres
from webapp.connections import checks, discovery
from webapp.connections import operations as connections
from webapp.connections.models import ConnectionStatus
from webapp.connections.operations import ConnectionDraft

Unit = Callable[[], AbstractContextManager[Any]]
TABLES = 50


@pytest.fixture(scope="module")
def shop() -> Iterator[dict[str, Any]]:
    """The configuration of a source: a PostgreSQL with some tables, read by somebody with a password."""
    server = TcpPostgres()
    try:
        server.run(
            "CREATE ROLE visitor LOGIN PASSWORD 'a-planted-secret'; CREATE SCHEMA shop",
            ";".join(f"CREATE TABLE shop.sale_{n:03} (id int PRIMARY KEY, price numeric(10,2))" for n in range(TABLES)),
            "INSERT INTO shop.sale_000 SELECT n, n / 4.0 FROM generate_series(1, 100) n",
            "GRANT USAGE ON SCHEMA shop TO visitor; GRANT SELECT ON ALL TABLES IN SCHEMA shop TO visitor",
        )
        yield server.config(username="visitor", password="a-planted-secret")
    finally:
        server.remove()


def test_a_postgresql_is_tested_discovered_and_shown(work: Unit, look: Unit, bob: Person, shop: dict[str, Any]) -> None:
    with work():
        key = make_source(bob, type_="postgres", config=shop).id
    with work():
        result = checks.test_connection(bob.actor, key)
        assert result.ok, result.steps
        discovery.start_discovery(bob.actor, key)
    ended = wait(look, bob, key)
    assert (ended.error, ended.found >= TABLES) == (None, True)
    with work():
        page = discovery.page_of_streams(bob.actor, key, namespace="shop", search="sale_000")
        assert [stream.label for stream in page.streams] == ["shop.sale_000"]
        assert page.streams[0].primary_key == ("id",)
        shown = checks.preview_rows(bob.actor, key, namespace="shop", name="sale_000", limit=2)
        assert [column["name"] for column in shown["columns"]] == ["id", "price"]
        assert len(shown["rows"]) == 2


def test_a_closed_port_is_said_with_the_step_and_without_the_secret(
    work: Unit, bob: Person, shop: dict[str, Any]
) -> None:
    with work():
        key = make_source(bob, type_="postgres", config={**shop, "port": 1}).id
    with work():
        result = checks.test_connection(bob.actor, key)
        assert not result.ok
        assert result.steps[-1]["name"] == "connect"
        assert "a-planted-secret" not in str(result)
    with work():
        assert connections.get_connection(bob.actor, key).status is ConnectionStatus.FAILS
        connections.update_connection(bob.actor, key, ConnectionDraft(config=shop))
    with work():
        assert checks.test_connection(bob.actor, key).ok
