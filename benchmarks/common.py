"""What all benchmarks share: a home for their files, peers in environments of their own, a real stack, tables."""

import json
import os
import platform
import signal
import socket
import statistics
import subprocess
import sys
import tempfile
import time
import urllib.request
import uuid
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import urllib3

ROOT = Path(__file__).parent.parent
HOME = Path(os.environ.get("BENCH_HOME", Path(tempfile.gettempdir()) / "hohmann-bench"))


def peer_python(name: str, *packages: str) -> Path:
    """The Python of an environment that has these packages; made at first use under the bench home."""
    folder = HOME / "peers" / name
    python = folder / "bin" / "python"
    stamp = folder / "packages.txt"
    wanted = "\n".join(packages)
    if not stamp.exists() or stamp.read_text() != wanted:
        subprocess.run([sys.executable, "-m", "venv", folder], check=True)
        subprocess.run([python, "-m", "pip", "install", "-q", *packages], check=True)
        stamp.write_text(wanted)
    return python


def free_port() -> int:
    """A port on loopback that nobody uses now."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@contextmanager
def fresh_database(kind: str) -> Iterator[str]:
    """The URL of an empty PostgreSQL database (BENCH_POSTGRES_URL's server, else one of our own), or "" for SQLite."""
    if kind == "sqlite":
        yield ""
        return
    import psycopg2
    from sqlalchemy.engine import make_url

    with _server() as server:
        name = "bench_" + uuid.uuid4().hex[:12]
        _execute(server, f"CREATE DATABASE {name}")
        try:
            yield make_url(server).set(database=name).render_as_string(hide_password=False)
        finally:
            try:
                _execute(server, f"DROP DATABASE {name} WITH (FORCE)")
            except psycopg2.Error as error:
                print(f"could not drop {name}: {error}")


@contextmanager
def _server() -> Iterator[str]:
    given = os.environ.get("BENCH_POSTGRES_URL")
    if given:
        yield given
        return
    from tests.support.databases import PostgresServer

    server = PostgresServer()
    try:
        yield server.url
    finally:
        server.stop()


def _execute(url: str, statement: str) -> None:
    import psycopg2

    connection = psycopg2.connect(url)
    connection.autocommit = True
    with connection.cursor() as cursor:
        cursor.execute(statement)
    connection.close()


class BenchStack:
    """The real stack on a free port with a home of its own, and an owner who may do everything."""

    def __init__(self, database_url: str = "", **settings: str) -> None:
        self.home = Path(tempfile.mkdtemp(prefix="stack-", dir=_made(HOME)))
        self.port = free_port()
        self.url = f"http://127.0.0.1:{self.port}"
        self.environment = {
            **os.environ,
            "PORT": str(self.port),
            "HOHMANN_HOME": str(self.home),
            "DATABASE_URL": database_url,
            **settings,
        }
        self.log = (self.home / "stack.log").open("wb")
        began = time.perf_counter()
        command = [sys.executable, "-m", "webapp.stack"]
        self.process = subprocess.Popen(command, cwd=ROOT, env=self.environment, stdout=self.log, stderr=self.log)
        self.start_seconds = self._wait(began)
        self.http = urllib3.PoolManager(maxsize=1, retries=False)  # one connection, kept open, as the peers keep theirs
        person = {"username": "owner", "password": "bench-password"}
        self.call("POST", "/api/v1/register", person)
        self.token = self.call("POST", "/api/v1/login", person)["access_token"]

    def _wait(self, began: float) -> float:
        while time.perf_counter() - began < 60:
            try:
                with urllib.request.urlopen(self.url + "/health", timeout=1):
                    return time.perf_counter() - began
            except OSError:
                time.sleep(0.01)
        raise RuntimeError(f"the stack did not start; see {self.log.name}")

    token = ""

    def call(self, method: str, path: str, body: Any = None) -> Any:
        """One JSON call as the owner."""
        headers = {"Content-Type": "application/json", "Accept": "application/json"}
        if self.token:
            headers["Authorization"] = f"Bearer {self.token}"
        data = json.dumps(body).encode() if body is not None else None
        answer = self.http.request(method, self.url + path, body=data, headers=headers, timeout=60)
        if answer.status >= 400:
            raise RuntimeError(f"{method} {path}: {answer.status} {answer.data[:500]!r}")
        return json.loads(answer.data) if answer.data else None

    def stop(self) -> None:
        """End it as a person would."""
        self.process.send_signal(signal.SIGTERM)
        self.process.wait(timeout=20)
        self.log.close()


def _made(folder: Path) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    return folder


def percentile(values: Sequence[float], share: float) -> float:
    """The value below which this share of the values lies."""
    ordered = sorted(values)
    return ordered[min(len(ordered) - 1, int(share * len(ordered)))]


def spread(values: Sequence[float]) -> str:
    """Median (smallest-largest)."""
    return f"{statistics.median(values):.3g} ({min(values):.3g}-{max(values):.3g})"


def report(name: str, headings: Sequence[str], rows: Sequence[Sequence[Any]], **facts: Any) -> None:
    """Print the results as a table, and keep them as JSON under the bench home."""
    print(f"\n### {name}\n")
    print("| " + " | ".join(headings) + " |")
    print("|" + "---|" * len(headings))
    for row in rows:
        print("| " + " | ".join(str(value) for value in row) + " |")
    machine = f"{os.cpu_count()} cores, {platform.machine()}, Python {platform.python_version()}"
    for key, value in {**facts, "machine": machine}.items():
        print(f"\n{key}: {value}")
    kept = {
        "name": name,
        "headings": list(headings),
        "rows": [list(row) for row in rows],
        "facts": facts,
        "machine": machine,
    }
    (_made(HOME / "results") / f"{name.replace(' ', '-')}.json").write_text(json.dumps(kept, indent=1, default=str))
