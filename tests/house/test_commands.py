"""The commands of the flask program, as whoever runs an instance types them."""

from collections.abc import Callable
from dataclasses import replace

import pytest
from flask import Flask

from tests.support.people import Cast
from webapp import doctor, schema
from webapp.accounts import operations as accounts
from webapp.accounts.access import Via
from webapp.config import Settings


def run(app: Flask, *arguments: str, typed: str | None = None) -> tuple[int, str]:
    result = app.test_cli_runner().invoke(args=list(arguments), input=typed)
    return result.exit_code, result.output


def test_the_owner_link_is_the_same_until_it_is_used(app: Flask) -> None:
    first = run(app, "owner-link")
    assert "http://127.0.0.1:8000/register?token=" in first[1]
    assert run(app, "owner-link") == first


def test_there_is_no_link_when_there_is_an_owner(app: Flask, people: Cast) -> None:
    assert "already" in run(app, "owner-link")[1]
    assert not (app.extensions["settings"].hohmann_home / "keys" / "owner_token").exists()


def test_the_owner_can_be_made_at_the_terminal(app: Flask, look: Callable) -> None:
    code, said = run(app, "create-owner", "--username", "zoe", typed="\na good password\na good password\n")
    assert (code, said.splitlines()[-1]) == (0, "zoe owns this instance.")
    assert "a good password" not in said
    with look():
        user = accounts.authenticate("zoe", "a good password", address="127.0.0.1")
        actor = accounts.actor_for_user(user.id, session_version=1, via=Via.COOKIE)
        assert actor is not None
        assert actor.is_instance_admin


def test_a_second_owner_cannot_be_made(app: Flask, people: Cast, look: Callable) -> None:
    code, said = run(app, "create-owner", "--username", "zoe", typed="\na good password\na good password\n")
    assert code == 1
    assert "already" in said


def test_a_bad_password_is_refused_at_the_terminal_too(app: Flask) -> None:
    code, said = run(app, "create-owner", "--username", "zoe", typed="\nshort\nshort\n")
    assert code == 1
    assert "8 to 1024" in said


# --- the doctor -------------------------------------------------------------------------------------------------------


def faults(app: Flask) -> dict[str, str]:
    """What the doctor finds wrong: the text by subject."""
    with app.app_context():
        found = list(doctor.examine(app.extensions["settings"]))
    assert all(finding.text for finding in found)
    return {finding.subject: finding.text for finding in found if not finding.is_well}


def test_the_doctor_says_what_to_do_about_a_stack_that_does_not_run(app: Flask) -> None:
    code, said = run(app, "doctor")
    assert code == 1
    assert "FAULT worker" in said
    assert "-> Start" in said
    assert {"worker", "owner", "port"} == set(faults(app))


def test_the_doctor_names_a_key_that_others_can_read(app: Flask) -> None:
    key = app.extensions["settings"].hohmann_home / "keys" / "secret_key"
    key.chmod(0o644)
    assert str(key) in faults(app)["permission"]


def test_the_doctor_names_a_full_disk(app: Flask, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("shutil.disk_usage", lambda path: type("Usage", (), {"free": 5_000_000}))
    assert "0.0 GB free" in faults(app)["disk"]


def test_the_doctor_names_a_port_that_is_taken(settings: Settings, make_app: Callable[[Settings], Flask]) -> None:
    import socket

    with socket.socket() as other:
        other.bind(("127.0.0.1", 0))
        other.listen()
        port = other.getsockname()[1]
        assert f"127.0.0.1:{port} cannot be used" in faults(make_app(replace(settings, port=port)))["port"]


def test_the_doctor_names_a_database_that_is_behind(app: Flask) -> None:
    with app.app_context():
        schema.downgrade("base")
    found = faults(app)
    assert f"at version none, the code needs {schema.newest_version()}" in found["database"]
    with app.app_context():
        schema.upgrade()


def test_the_doctor_names_a_database_that_does_not_answer(settings: Settings, make_app: Callable) -> None:
    app = make_app(replace(settings, database_url="postgresql://nobody@127.0.0.1:1/none"))
    assert "does not answer" in faults(app)["database"]


def test_the_doctor_is_content_with_a_stack_that_runs(stack) -> None:  # type: ignore[no-untyped-def]
    import subprocess
    import sys

    stack.owner_token()
    command = [sys.executable, "-m", "flask", "doctor"]
    result = subprocess.run(command, env=stack.environment, capture_output=True, text=True, check=False)
    assert result.returncode == 0, result.stdout + result.stderr
    assert "FAULT" not in result.stdout
    assert "1 alive" in result.stdout
