"""The real stack: starts, says what is wrong, restarts what dies, and leaves nothing behind."""

import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import psutil
import pytest
import urllib3

from tests.support.stacks import CHECKOUT, Stack, command_line


def start_and_fail(stack: Stack) -> tuple[int, str]:
    """Start a stack that cannot run; returns its exit code and what it said."""
    process = stack.start(wait=False).process
    assert process is not None
    code = process.wait(20)
    stack.process = None
    return code, stack.output()


def test_processes_are_called_what_conventions_call_them(stack: Stack) -> None:
    assert len(stack.find("gunicorn web")) == 2
    assert [command_line(process) for process in stack.find("worker")] == ["hohmann: worker 1"]


def test_a_long_search_is_read_and_one_that_is_too_long_is_refused_as_the_document_tells(stack: Stack) -> None:
    address = f"{stack.url}/health?search="
    assert urllib3.request("GET", address + "x" * 8000, retries=False).status == 200
    assert urllib3.request("GET", address + "x" * 8200, retries=False).status == 414
    told = urllib3.request("GET", f"{stack.url}/api/openapi.json").json()["paths"]["/api/v1/runs/{run_id}/logs"]
    assert "414" in told["get"]["responses"]


def test_whole_stack_ends_within_ten_seconds_and_starts_again_on_the_same_home(
    make_stack: Callable[..., Stack],
) -> None:
    stack = make_stack()
    started = time.monotonic()
    assert stack.stop() == 0
    assert time.monotonic() - started < 10
    stack.start()
    assert stack.health()["status"] == "ready"


def test_the_owner_link_is_printed_until_there_is_an_owner(make_stack: Callable[..., Stack]) -> None:
    stack = make_stack()
    assert f"{stack.url}/register?token=" in stack.output()
    stack.owner_token()
    stack.stop()
    stack.log.unlink()
    stack.start()
    assert "/register" not in stack.output()


def test_what_is_killed_comes_back(make_stack: Callable[..., Stack]) -> None:
    stack = make_stack()
    for kind in ("hohmann: worker", "gunicorn: master", "gunicorn web 1"):
        victim = stack.find(kind)[0]
        victim.kill()
        victim.wait(5)
        stack.wait_for(
            lambda kind=kind, pid=victim.pid: any(p.pid != pid for p in stack.find(kind.removesuffix(" 1"))),
            what=f"another {kind}",
        )
        stack.wait_for(lambda: stack.health().get("status") == "ready", seconds=15, what="readiness")


def test_when_the_supervisor_is_killed_its_processes_end_and_a_new_one_starts(make_stack: Callable[..., Stack]) -> None:
    stack = make_stack()
    below = stack.processes()[1:]
    assert stack.process is not None
    stack.process.kill()
    stack.process.wait(5)
    stack.start()
    _, alive = psutil.wait_procs(below, timeout=10)
    assert alive == []
    # The old worker may have been counted until it ended: the new one is what has to be ready.
    stack.wait_for(lambda: stack.health().get("status") == "ready", what="the new worker")


def test_after_everything_is_killed_at_once_a_new_start_works(make_stack: Callable[..., Stack]) -> None:
    stack = make_stack()
    stack.kill()
    stack.start()
    assert stack.health()["status"] == "ready"


def test_a_second_stack_on_the_same_home_is_refused(stack: Stack) -> None:
    second = Stack(stack.home, database_url=stack.environment["DATABASE_URL"])
    second.log = stack.home / "second.log"
    code, said = start_and_fail(second)
    assert code == 2
    assert f"Another stack (process {stack.processes()[0].pid}) runs on HOHMANN_HOME" in said
    assert "Traceback" not in said


def test_a_port_that_is_taken_is_named_with_the_way_out(make_stack: Callable[..., Stack]) -> None:
    with socket.socket() as other:
        other.bind(("127.0.0.1", 0))
        other.listen()
        port = other.getsockname()[1]
        code, said = start_and_fail(make_stack(start=False, PORT=str(port)))
    assert code == 2
    assert f"PORT {port} is taken" in said
    assert f"PORT={port + 1} make run" in said


@pytest.mark.parametrize(
    ("variable", "value", "says"),
    [
        ("PORT", "eighty", "PORT: 'eighty' cannot be used"),
        ("SECRET_KEY", "changeme", "SECRET_KEY: too weak"),
        ("REGISTRATION", "maybe", "use one of open, invite, closed"),
        ("DATABASE_URL", "mysql://x", "DATABASE_URL: must start with postgresql://"),
        ("DATABASE_URL", "postgresql://nobody@127.0.0.1:1/none", "DATABASE_URL: the database does not answer"),
        ("BIND", "0.0.0.0", "without an owner"),
        ("BIND", "192.0.2.1", "BIND 192.0.2.1"),
        ("HOHMANN_HOME", "/proc/nowhere", "HOHMANN_HOME"),
    ],
)
def test_a_setting_that_cannot_be_used_is_one_clear_line(
    make_stack: Callable[..., Stack], variable: str, value: str, says: str
) -> None:
    code, said = start_and_fail(make_stack(start=False, **{variable: value}))
    assert code == 2
    assert says in said
    assert "Traceback" not in said
    assert len(said.strip().splitlines()) == 1


def test_unknown_environment_variables_are_passed_on(make_stack: Callable[..., Stack]) -> None:
    stack = make_stack(A_STRANGERS_VARIABLE="42")
    for process in stack.processes():
        assert process.environ().get("A_STRANGERS_VARIABLE") == "42"


def test_answers_do_not_name_the_server_software(stack: Stack) -> None:
    _, _, headers = stack.request("GET", "/health")
    assert "gunicorn" not in str(headers).lower()
    assert "python" not in str(headers).lower()


def test_make_run_ends_everything_when_make_is_asked_to_end(tmp_path: Path, make_stack: Callable[..., Stack]) -> None:
    stack = make_stack(start=False)
    environment = {k: v for k, v in stack.environment.items() if not k.startswith(("MAKE", "MFLAGS"))}
    with (tmp_path / "make.log").open("wb") as log:
        make = subprocess.Popen(["make", "run"], cwd=CHECKOUT, env=environment, stdout=log, stderr=log)
    try:
        stack.wait_until_up()
        below = psutil.Process(make.pid).children(recursive=True)
        assert any("gunicorn" in command_line(process) for process in below)
        make.send_signal(signal.SIGTERM)
        _, alive = psutil.wait_procs(below, timeout=10)
        assert alive == []
    finally:
        make.kill()
        make.wait(5)


def test_nothing_is_written_into_the_checkout(stack: Stack) -> None:
    """Beside what git ignores (the virtual environment, built assets, bytecode), the stack's files are in its home."""
    listed = subprocess.run(
        ["git", "status", "--porcelain", "--ignored"], cwd=CHECKOUT, capture_output=True, text=True, check=True
    )
    strange = [line for line in listed.stdout.splitlines() if line.startswith("!!") and "hohmann" in line.lower()]
    assert strange == []
    assert (stack.home / "run" / "stack.lock").read_text() == str(stack.processes()[0].pid)


def test_keys_are_readable_by_their_owner_only(stack: Stack) -> None:
    for file in (stack.home / "keys").iterdir():
        assert file.stat().st_mode & 0o077 == 0, file


def test_the_stack_is_light_before_its_first_run(make_stack: Callable[..., Stack]) -> None:
    """The figure itself is measured by benchmarks/start_up.py; this catches a room that imports half the world."""
    stack = make_stack()
    total = 0
    for process in stack.processes():
        for line in Path(f"/proc/{process.pid}/smaps_rollup").read_text().splitlines():
            if line.startswith("Pss:"):
                total += int(line.split()[1])
    assert total < 300_000, f"{total} kB"


def test_a_stack_needs_no_terminal_and_no_home_of_a_user(make_stack: Callable[..., Stack]) -> None:
    stack = make_stack(start=False)
    stack.environment = {
        "PATH": os.environ["PATH"],
        "PORT": str(stack.port),
        "HOHMANN_HOME": str(stack.home),
        "DATABASE_URL": stack.environment["DATABASE_URL"],
    }
    stack.start()
    assert stack.health()["status"] == "ready"
    assert sys.executable in command_line(stack.processes()[0])
