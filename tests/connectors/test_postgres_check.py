"""Testing a PostgreSQL connection: each refusal is told at its step, with what would help."""

import socket
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from pydantic import ValidationError

from tests.connectors.postgres_home import context, destination, source
from tests.support.postgres import TcpPostgres
from tests.support.stacks import free_port
from webapp.engine.connectors.base import CheckStep
from webapp.engine.connectors.postgres.spec import PostgresDestinationSpec, PostgresSpec
from webapp.engine.context import Silence
from webapp.engine.errors import EngineError

PLAIN: dict[str, Any] = {"host": "db", "port": 5432, "database": "d", "username": "u", "password": "p"}


@pytest.fixture(scope="module")
def server() -> Iterator[TcpPostgres]:
    one = TcpPostgres()
    one.run(
        "CREATE ROLE visitor LOGIN PASSWORD 's3cret-word'",
        "CREATE ROLE encrypted LOGIN PASSWORD 's3cret-word'",
        "CREATE TABLE t AS SELECT 1 AS a",
        "REVOKE CREATE ON SCHEMA public FROM PUBLIC",
    )
    yield one
    one.remove()


def last(steps: Iterator[CheckStep]) -> CheckStep:
    """The step at which the check ended; those before it went well."""
    found = list(steps)
    assert all(step.ok for step in found[:-1])
    return found[-1]


def failing(steps: Iterator[CheckStep], name: str) -> str:
    step = last(steps)
    assert (step.name, step.ok) == (name, False)
    assert step.fix
    assert "s3cret-word" not in step.message
    return step.message


def test_a_good_source_passes_all_steps(server: TcpPostgres, tmp_path: Path) -> None:
    steps = list(source(server, context(tmp_path)).check())
    assert [step.name for step in steps] == ["resolve", "connect", "log in", "rights", "read one row"]
    assert all(step.ok for step in steps)


def test_a_good_destination_passes_all_steps_and_leaves_nothing(server: TcpPostgres, tmp_path: Path) -> None:
    steps = list(destination(server, context(tmp_path), schema="fresh").check())
    assert [step.name for step in steps] == ["resolve", "connect", "log in", "rights", "write"]
    assert all(step.ok for step in steps)
    assert server.run("SELECT count(*) FROM pg_namespace WHERE nspname = 'fresh'") == [(0,)]


@pytest.mark.parametrize("mode", ["require", "verify-ca", "verify-full"])
def test_tls_is_a_step_of_its_own(server: TcpPostgres, tmp_path: Path, mode: str) -> None:
    ssl = {"mode": mode, "server_ca": server.authority if mode != "require" else ""}
    reader = source(server, context(tmp_path), username="encrypted", password="s3cret-word", ssl=ssl, schemas=["none"])
    steps = list(reader.check())
    assert [step.name for step in steps if step.ok] == [
        "resolve", "connect", "tls", "log in", "rights", "read one row"
    ]  # fmt: skip
    assert list((tmp_path / "temp").glob("tls-*")) == []


def test_a_certificate_of_another_authority_is_refused(server: TcpPostgres, tmp_path: Path) -> None:
    other = TcpPostgres()
    try:
        ssl = {"mode": "verify-full", "server_ca": other.authority}
        assert "certificate" in failing(source(server, context(tmp_path), ssl=ssl).check(), "tls")
    finally:
        other.remove()


def test_a_name_that_the_certificate_does_not_bear_is_refused(server: TcpPostgres, tmp_path: Path) -> None:
    ssl = {"mode": "verify-full", "server_ca": server.authority}
    failing(source(server, context(tmp_path), host="localhost", ssl=ssl).check(), "tls")


def test_a_wrong_password_fails_at_log_in(server: TcpPostgres, tmp_path: Path) -> None:
    message = failing(source(server, context(tmp_path), username="visitor", password="s3cret-word2").check(), "log in")
    assert "password authentication failed" in message


def test_an_unknown_database_fails_at_log_in(server: TcpPostgres, tmp_path: Path) -> None:
    assert "nowhere" in failing(source(server, context(tmp_path), database="nowhere").check(), "log in")


def test_a_server_that_wants_encryption_says_so(server: TcpPostgres, tmp_path: Path) -> None:
    reader = source(server, context(tmp_path), username="encrypted", password="s3cret-word")
    failing(reader.check(), "log in")


def test_a_closed_port_fails_at_connect(server: TcpPostgres, tmp_path: Path) -> None:
    failing(source(server, context(tmp_path), port=free_port()).check(), "connect")


def test_a_name_without_address_fails_at_resolve(
    server: TcpPostgres, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def unknown(*_: Any, **__: Any) -> Any:
        raise socket.gaierror(-2, "Name or service not known")

    monkeypatch.setattr(socket, "getaddrinfo", unknown)
    failing(source(server, context(tmp_path), host="db.invalid").check(), "resolve")


def test_private_addresses_need_the_operators_leave(server: TcpPostgres, tmp_path: Path) -> None:
    from dataclasses import replace

    message = failing(source(server, replace(context(tmp_path), allow_private_addresses=False)).check(), "resolve")
    assert "private address" in message


def test_missing_rights_fail_at_rights(server: TcpPostgres, tmp_path: Path) -> None:
    visitor = {"username": "visitor", "password": "s3cret-word"}
    assert "may not read" in failing(source(server, context(tmp_path), **visitor).check(), "rights")
    assert "may not create" in failing(destination(server, context(tmp_path), **visitor).check(), "rights")


def test_the_configuration_is_read_as_contract_002s_form_sends_it() -> None:
    spec = PostgresSpec.model_validate(
        {
            **PLAIN,
            "port": "5433",
            "ssl": {"mode": "disable"},
            "jdbc_url_params": {},
            "max_threads": 8,
            "retry_count": 2,
            "update_method": {"type": "CDC", "replication_slot": "s"},
            "ssh_config": {"type": "no_tunnel"},
            "unknown": 1,
        }
    )
    assert (spec.port, spec.max_threads, spec.update_method.type, spec.ssh_config.type) == (5433, 8, "cdc", "none")
    assert PostgresSpec.model_validate({**PLAIN, "ssl": None, "schemas": "a, b"}).schemas == ["a", "b"]
    assert PostgresDestinationSpec.model_validate({**PLAIN, "schema": "mart"}).schema_name == "mart"


@pytest.mark.parametrize(
    ("change", "field"),
    [
        ({"host": " "}, "host"),
        ({"port": 0}, "port"),
        ({"port": "many"}, "port"),
        ({"ssl": {"mode": "maybe"}}, "mode"),
        ({"ssl": {"mode": "verify-ca"}}, "server_ca"),
        ({"ssl": {"mode": "verify-full", "server_ca": "/etc/passwd"}}, "server_ca"),
        ({"ssh_config": {"type": "ssh_key_authentication"}}, "ssh_config"),
        ({"update_method": {"type": "other"}}, "update_method"),
    ],
)
def test_a_bad_setting_is_named(change: dict[str, Any], field: str) -> None:
    with pytest.raises(ValidationError, match=field):
        PostgresSpec.model_validate({**PLAIN, **change})


def test_every_field_has_a_title_and_help() -> None:
    for name, field in PostgresDestinationSpec.model_fields.items():
        assert field.title and field.description, name


def test_a_server_that_starts_late_is_waited_for_as_often_as_configured(tmp_path: Path) -> None:
    one = TcpPostgres()
    said: list[str] = []

    class Listener(Silence):
        def log(self, level: str, message: str) -> None:
            said.append(message)
            if len(said) == 1:
                one.start()

    try:
        one.stop()
        around = context(tmp_path, reporter=Listener())
        with pytest.raises(EngineError), source(one, around, retry_count=0).open(parallel=1):
            pass
        assert said == []
        with source(one, around, retry_count=2).open(parallel=1):
            pass
        assert len(said) == 1
        assert said[0].endswith("trying again")
    finally:
        one.remove()
