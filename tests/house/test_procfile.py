"""The Procfile names processes that exist: each is started as a process manager would start it."""

import os
import shlex
import subprocess
import time
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import psutil
import pytest
from honcho.environ import parse_procfile

from tests.support.databases import Databases
from tests.support.stacks import CHECKOUT, free_port


@pytest.fixture
def environment(tmp_path: Path, databases: Databases) -> dict[str, str]:
    """What a process manager passes on."""
    tools = Path(os.sys.executable).parent  # type: ignore[attr-defined]
    return {
        "PATH": f"{tools}:{os.environ['PATH']}",
        "HOHMANN_HOME": str(tmp_path / "home"),
        "DATABASE_URL": databases.separate(),
        "PORT": str(free_port()),
        "WEB_WORKERS": "1",
    }


def commands() -> dict[str, str]:
    found: dict[str, str] = parse_procfile((CHECKOUT / "Procfile").read_text()).processes
    return found


@contextmanager
def running(name: str, environment: dict[str, str]) -> Iterator[subprocess.Popen[bytes]]:
    """A process of the Procfile, ended afterwards."""
    process = subprocess.Popen(["bash", "-c", f"exec {commands()[name]}"], cwd=CHECKOUT, env=environment)
    try:
        yield process
    finally:
        below = psutil.Process(process.pid).children(recursive=True)
        process.terminate()
        assert process.wait(10) in (0, -15)
        _, alive = psutil.wait_procs(below, timeout=5)
        assert alive == []


def wait_for(is_so: Callable[[], bool], seconds: float = 20) -> None:
    end = time.monotonic() + seconds
    while not is_so():
        assert time.monotonic() < end
        time.sleep(0.05)


def fetch(environment: dict[str, str], path: str) -> str:
    try:
        with urllib.request.urlopen(f"http://127.0.0.1:{environment['PORT']}{path}", timeout=5) as response:
            return str(response.read().decode())
    except OSError:
        return ""


def test_it_names_web_worker_and_release() -> None:
    assert set(commands()) == {"web", "worker", "release", "airflow"}
    assert "worker" in commands()["worker"]
    assert "gunicorn wsgi:app" in commands()["web"]


def test_release_web_and_worker_run(environment: dict[str, str]) -> None:
    release = subprocess.run(shlex.split(commands()["release"]), cwd=CHECKOUT, env=environment, check=False)
    assert release.returncode == 0
    with running("web", environment):
        wait_for(lambda: '"database":"ok"' in fetch(environment, "/health"))
        with running("worker", environment):
            wait_for(lambda: '"status":"ready"' in fetch(environment, "/health"))
