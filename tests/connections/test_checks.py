"""Tests of connections and previews: real probes, in processes of their own."""

import json
import os
import subprocess
import sys
import time
from collections.abc import Callable
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

import pytest
from flask import Flask

from tests.connections.mission import SERVER, make_shop, make_source
from tests.support.people import Person
from webapp import db as database
from webapp.connections import checks, discovery, probes
from webapp.connections import operations as connections
from webapp.connections.models import ConnectionRole, ConnectionStatus
from webapp.connections.operations import ConnectionDraft
from webapp.engine import probe
from webapp.engine.connectors import registry
from webapp.engine.errors import EngineError
from webapp.errors import Invalid, NotAllowed, NotFound, Unavailable
from webapp.redaction import OWN_SECRETS

Unit = Callable[[], AbstractContextManager[Any]]


def test_a_test_goes_step_by_step_and_is_kept(work: Unit, home: Path, bob: Person, rita: Person) -> None:
    make_shop(home)
    with work():
        key, edited = (source := make_source(bob)).id, source.updated_at
    with work():
        result = checks.test_connection(bob.actor, key)
        assert result.ok
        assert [step["name"] for step in result.steps][-1] == "read one row"
    with work():
        source = connections.get_connection(rita.actor, key)
        assert (source.status, source.last_test_ok) == (ConnectionStatus.WORKS, True)
        assert source.last_test_steps == result.steps
        assert source.updated_at == edited  # a test is no edit
        with pytest.raises(NotAllowed):
            checks.test_connection(rita.actor, key)


def test_a_failed_test_ends_with_what_failed_and_what_would_help(work: Unit, bob: Person) -> None:
    with work():
        key = make_source(bob, type_="mysql", config=SERVER).id
    with work():
        result = checks.test_connection(bob.actor, key)
    assert not result.ok
    assert result.steps[-1]["ok"] is False
    assert result.steps[-1]["fix"]
    assert all(step["ok"] for step in result.steps[:-1])
    assert "hunter2" not in str(result)
    with work():
        assert connections.get_connection(bob.actor, key).status is ConnectionStatus.FAILS


def test_a_connector_that_is_not_installed_says_so(app: Flask, monkeypatch: pytest.MonkeyPatch) -> None:
    asked = json.loads(question(app).line)

    def missing(_role: str, _type: str) -> Any:
        raise ModuleNotFoundError("No module named 'driver'", name="driver")

    monkeypatch.setattr(registry, "connector_class", missing)
    with pytest.raises(EngineError, match="not installed"):
        probe.make_connector("source", "sqlite", {}, probe.context_of(asked["context"]))


def test_no_transaction_is_open_while_a_system_is_asked(
    app: Flask, work: Unit, home: Path, bob: Person, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Somebody else writes while the probe runs: on SQLite this waits for any writer that is under way."""
    make_shop(home)
    with work():
        key = make_source(bob).id
    original = probes.ask

    def ask(*arguments: Any, **more: Any) -> Any:
        with app.app_context(), database.unit_of_work():
            connections.create_connection(
                bob.actor, ConnectionRole.SOURCE, ConnectionDraft("meanwhile", "sqlite", None, {"path": "b.db"})
            )
        return original(*arguments, **more)

    monkeypatch.setattr(probes, "ask", ask)
    started = time.monotonic()
    with work():
        assert checks.test_connection(bob.actor, key).ok
    assert time.monotonic() - started < 10


def test_a_result_says_nothing_about_a_configuration_that_was_changed_meanwhile(
    app: Flask, work: Unit, home: Path, bob: Person, monkeypatch: pytest.MonkeyPatch
) -> None:
    make_shop(home)
    with work():
        key = make_source(bob).id
    original = probes.ask

    def ask(*arguments: Any, **more: Any) -> Any:
        with app.app_context(), database.unit_of_work():
            connections.update_connection(bob.actor, key, ConnectionDraft(config={"path": "other.db"}))
        return original(*arguments, **more)

    monkeypatch.setattr(probes, "ask", ask)
    with work():
        assert checks.test_connection(bob.actor, key).ok
    with work():
        assert connections.get_connection(bob.actor, key).status is ConnectionStatus.UNTESTED


def test_rows_of_a_stream_are_shown(work: Unit, home: Path, bob: Person) -> None:
    make_shop(home, rows=100)
    with work():
        key = make_source(bob).id
    with work():
        discovery.discover_now(
            bob.actor, type_="sqlite", config={"path": "shop.db"}, project_id=bob.actor.default_project_id,
            connection_id=key,
        )  # fmt: skip
    with work():
        shown = checks.preview_rows(bob.actor, key, namespace="main", name="sale_00000", limit=5)
        columns = [(column["name"], column["type"]) for column in shown["columns"]]
        assert columns == [("id", "BIGINT"), ("what", "VARCHAR")], "in the words of every other page"
        assert shown["rows"] == [[n + 1, f"thing {n}"] for n in range(5)]
        with pytest.raises(NotFound, match="discover"):
            checks.preview_rows(bob.actor, key, namespace="main", name="nosuch")


def test_a_preview_that_cannot_be_had_says_why(work: Unit, home: Path, bob: Person) -> None:
    path = make_shop(home)
    with work():
        key = make_source(bob).id
    with work():
        project = bob.actor.default_project_id
        discovery.discover_now(bob.actor, type_="sqlite", config={"path": path}, project_id=project, connection_id=key)
    (home / "data" / path).unlink()
    with work(), pytest.raises(Invalid, match=r"shop\.db"):
        checks.preview_rows(bob.actor, key, namespace="main", name="sale_00000")


# --- the process ------------------------------------------------------------------------------------------------------


def question(app: Flask, **changes: Any) -> probes.Question:
    with app.app_context():
        facts = {"verb": "check", "role": ConnectionRole.SOURCE, "type_": "sqlite", "config": {"path": "shop.db"}}
        return probes.question(**{**facts, **changes})


def test_a_system_that_does_not_answer_is_given_up(app: Flask) -> None:
    started = time.monotonic()
    with pytest.raises(EngineError, match="in time"):
        list(probes.ask(question(app), seconds=0.01))
    assert time.monotonic() - started < 3


def test_a_probe_ends_when_nobody_listens_any_more(app: Flask) -> None:
    asked = question(app)
    command = [sys.executable, "-m", "webapp.engine.probe"]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.DEVNULL) as process:
        assert process.stdin is not None
        process.stdin.write(asked.line[:10])  # a request that never becomes whole
        process.stdin.close()
        assert process.wait(10) != 0


def test_only_so_many_probes_run_at_once(app: Flask, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(probes, "WAIT_SECONDS", 0.1)
    held = [probes._places.acquire(timeout=1) for _ in range(probes.MOST_AT_ONCE)]
    try:
        with pytest.raises(Unavailable, match="Try again"):
            list(probes.ask(question(app), seconds=5))
    finally:
        for _ in held:
            probes._places.release()


def test_a_probe_is_told_secrets_on_its_standard_input_only(app: Flask, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in OWN_SECRETS:
        monkeypatch.setenv(name, "a signing key of this instance")
    asked = question(app, type_="mysql", config=SERVER)
    with probes._probe(asked) as process:
        folder = Path(f"/proc/{process.pid}")
        assert b"hunter2" not in (folder / "cmdline").read_bytes()
        assert b"signing key" not in (folder / "environ").read_bytes()
    assert process.returncode is not None
    assert os.environ["SECRET_KEY"]


def test_what_a_probe_says_holds_no_secret_that_a_driver_quotes() -> None:
    facts = {"message": "GET https://bob:hunter22@api/x?a=s3cret-header: Authorization: Bearer abcdefgh", "ok": False}
    told = probe.cleaned(facts, {"s3cret-header"})
    struck = "GET https://bob:[struck out]@api/x?a=[struck out]: Authorization: Bearer [struck out]"
    assert told == {"message": struck, "ok": False}


def test_a_destination_has_no_streams(app: Flask) -> None:
    asked = question(app, verb="discover", role=ConnectionRole.DESTINATION, type_="duckdb", config={"path": "a.duckdb"})
    with pytest.raises(EngineError, match="no streams"):
        list(probes.ask(asked, seconds=20))
