"""Change data capture, as far as it goes: servers that are ready are told from those that are not."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.connectors.postgres_home import context, source
from tests.support.mariadb import MariaServer, start_or_skip
from tests.support.postgres import TcpPostgres
from webapp.engine.connectors.base import CheckStep, Mode
from webapp.engine.connectors.capture import STEP
from webapp.engine.connectors.mysql.source import MySQLSource
from webapp.jobs.sync.catalog import describe

CDC = {"update_method": {"type": "CDC"}}


@pytest.fixture(scope="module")
def postgres() -> Iterator[TcpPostgres]:
    server = TcpPostgres()
    server.run(
        "CREATE TABLE keyed (id integer PRIMARY KEY)",
        "CREATE TABLE bare (id integer)",
        "CREATE TABLE whole (id integer)",
        "ALTER TABLE whole REPLICA IDENTITY FULL",
        "CREATE VIEW seen AS SELECT id FROM keyed",
    )
    yield server
    server.remove()


def said(steps: list[CheckStep]) -> str:
    """What the test of a connection says of it; everything went well."""
    assert all(step.ok for step in steps), steps
    return next((step.message for step in steps if step.name == STEP), "")


def offering(server: TcpPostgres, folder: Path) -> set[str]:
    streams = source(server, context(folder), **CDC).discover()
    return {stream.name for stream in streams if Mode.CDC in stream.modes}


def test_a_postgresql_offers_it_once_its_log_is_logical(postgres: TcpPostgres, tmp_path: Path) -> None:
    assert "wal_level is replica and must be logical" in said(list(source(postgres, context(tmp_path), **CDC).check()))
    assert offering(postgres, tmp_path) == set()
    postgres.run("ALTER SYSTEM SET wal_level = 'logical'")
    postgres.stop()
    postgres.start()
    assert said(list(source(postgres, context(tmp_path), **CDC).check())).startswith("the server is ready")
    assert offering(postgres, tmp_path) == {"keyed", "whole"}
    keyed = next(source(postgres, context(tmp_path), **CDC).discover(pattern="public.keyed"))
    assert describe(keyed, prefix="shop")["supported_sync_modes"] == ["full_refresh", "incremental", "cdc"]


def test_a_role_that_may_not_replicate_is_told_the_right_that_it_needs(postgres: TcpPostgres, tmp_path: Path) -> None:
    postgres.run("CREATE ROLE reader LOGIN PASSWORD 'reads'", "GRANT SELECT ON keyed TO reader")
    steps = list(source(postgres, context(tmp_path), username="reader", password="reads", **CDC).check())
    assert "ALTER ROLE reader REPLICATION" in said(steps)


def test_nobody_is_asked_who_did_not_choose_it(postgres: TcpPostgres, tmp_path: Path) -> None:
    plain = source(postgres, context(tmp_path))
    assert said(list(plain.check())) == ""
    assert all(Mode.CDC not in stream.modes for stream in plain.discover())


def test_a_mariadb_says_what_its_binlog_lacks_and_offers_it_by_key(tmp_path: Path) -> None:
    server = start_or_skip()
    try:
        with server.connect() as connection, connection.cursor() as cursor:
            for statement in ("CREATE DATABASE shop", "CREATE TABLE shop.keyed (id INT PRIMARY KEY)",
                              "CREATE TABLE shop.bare (id INT)", "CREATE USER reader",
                              "GRANT SELECT ON shop.* TO reader"):  # fmt: skip
                cursor.execute(statement)
        missing = said(list(maria(server, tmp_path, "reader").check()))
        assert "log_bin is OFF and must be ON" in missing
        assert "binlog_format is MIXED and must be ROW" in missing
        assert "GRANT REPLICATION SLAVE ON *.*" in missing
        assert all(Mode.CDC not in stream.modes for stream in maria(server, tmp_path, "root").discover())
        server.restart("--log-bin=log", "--binlog-format=ROW")
        assert said(list(maria(server, tmp_path, "root").check())).startswith("the server is ready")
        offered = [stream.name for stream in maria(server, tmp_path, "root").discover() if Mode.CDC in stream.modes]
        assert offered == ["keyed"]
    finally:
        server.stop()


def maria(server: MariaServer, folder: Path, user: str) -> MySQLSource:
    config = {"host": "127.0.0.1", "port": server.port, "username": user, "database": "shop", **CDC}
    return MySQLSource(MySQLSource.Spec.model_validate(config), context(folder))
