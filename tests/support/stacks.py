"""The real stack, as `make run` starts it: on a free port, with a home of its own."""

import contextlib
import json
import os
import secrets
import signal
import socket
import sqlite3
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psutil
import psycopg2

CHECKOUT = Path(__file__).resolve().parent.parent.parent
START_SECONDS = 30
STOP_SECONDS = 12
PORTS = range(20_000, 32_000)  # below those that connections are given, which could take one before its user does


def free_port() -> int:
    """A port that nobody listens on at this moment."""
    while True:
        port = secrets.choice(PORTS)
        with socket.socket() as probe, contextlib.suppress(OSError):
            probe.bind(("127.0.0.1", port))
            return port


class Stack:
    """One running instance. `settings` are environment variables."""

    def __init__(self, home: Path, *, database_url: str = "", port: int = 0, **settings: str) -> None:
        self.home = home
        self.port = port or free_port()
        self.url = f"http://127.0.0.1:{self.port}"
        self.log = home / "stack.log"
        self.environment = {
            **{name: value for name, value in os.environ.items() if not name.startswith(("HOHMANN_", "TEST_"))},
            "HOHMANN_HOME": str(home),
            "PORT": str(self.port),
            "DATABASE_URL": database_url,
            "HOHMANN_ALLOW_PRIVATE_ADDRESSES": "1",
            **settings,
        }
        self.process: subprocess.Popen[bytes] | None = None
        self._owner: dict[str, str] = {}

    def start(self, *, wait: bool = True) -> "Stack":
        """Start it; returns when it answers. A stopped stack can be started again on the same home."""
        self.home.mkdir(parents=True, exist_ok=True)
        with self.log.open("ab") as log:
            self.process = subprocess.Popen(
                [sys.executable, "-m", "webapp.stack"],
                cwd=CHECKOUT,
                env=self.environment,
                stdout=log,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
        if wait:
            self.wait_until_up()
        return self

    def wait_until_up(self, seconds: float = START_SECONDS) -> None:
        """Wait until the web server answers and a worker is alive."""
        self.wait_for(lambda: self.health().get("status") == "ready", seconds=seconds, what="the stack to be ready")

    def wait_for(self, is_so: Any, *, seconds: float = 10, what: str = "it") -> Any:
        """Wait until the function returns something true; returns that."""
        end = time.monotonic() + seconds
        while time.monotonic() < end:
            found = is_so()
            if found:
                return found
            if self.process is not None and self.process.poll() is not None:
                raise AssertionError(f"the stack ended with {self.process.returncode}:\n{self.output()[-4000:]}")
            time.sleep(0.02)
        raise AssertionError(f"waited {seconds} s for {what}\n{self.output()[-4000:]}")

    def health(self) -> dict[str, Any]:
        """What /health says, {} while nothing answers."""
        try:
            with urllib.request.urlopen(f"{self.url}/health", timeout=5) as response:
                found: dict[str, Any] = json.load(response)
                return found
        except (OSError, ValueError):
            return {}

    def stop(self) -> int:
        """SIGTERM; returns the exit code. Asserts that no process of the stack is left."""
        process = self._running()
        processes = self.processes()
        process.send_signal(signal.SIGTERM)
        try:
            code = process.wait(STOP_SECONDS)
        finally:
            left = [p for p in processes if p.is_running() and p.status() != psutil.STATUS_ZOMBIE]
            for one in left:
                with contextlib.suppress(psutil.NoSuchProcess):
                    one.kill()
            self.process = None
        assert not left, f"left behind: {left}\n{self.output()[-4000:]}"
        return code

    def kill(self) -> None:
        """kill -9 of everything at once, as when the power fails."""
        processes = self.processes()
        for process in processes:
            with contextlib.suppress(psutil.NoSuchProcess):
                process.kill()
        self._running().wait(STOP_SECONDS)
        psutil.wait_procs(processes, timeout=STOP_SECONDS)
        self.process = None

    def processes(self) -> list[psutil.Process]:
        """The supervisor and all that descend from it."""
        root = psutil.Process(self._running().pid)
        return [root, *root.children(recursive=True)]

    def find(self, title: str) -> list[psutil.Process]:
        """The processes whose command line contains this."""
        return [process for process in self.processes() if title in command_line(process)]

    def workers(self) -> list[psutil.Process]:
        """The worker processes (not their children)."""
        return self.find("hohmann: worker")

    @contextlib.contextmanager
    def workers_standing_still(self) -> Iterator[None]:
        """No worker does anything, and none was stopped in a transaction that everybody else would wait for."""
        workers = self.workers()
        try:
            self.wait_for(lambda: self._stand_still(workers), what="the workers to stand still between transactions")
            yield
        finally:
            for worker in workers:
                worker.resume()

    def _stand_still(self, workers: list[psutil.Process]) -> bool:
        for worker in workers:
            worker.suspend()
        if self._is_nobody_writing():
            return True
        for worker in workers:
            worker.resume()
        return False

    def _is_nobody_writing(self) -> bool:
        if url := self.environment["DATABASE_URL"]:
            with contextlib.closing(psycopg2.connect(url)) as connection, connection.cursor() as cursor:
                busy = "SELECT 1 FROM pg_stat_activity WHERE datname = current_database() AND state LIKE 'idle in%'"
                cursor.execute(busy)
                return cursor.fetchone() is None
        with contextlib.closing(sqlite3.connect(self.home / "hohmann.db", timeout=0.5)) as database:
            try:
                database.execute("BEGIN IMMEDIATE")
            except sqlite3.OperationalError:
                return False
            return True

    def output(self) -> str:
        """All that the stack has printed."""
        return self.log.read_text(errors="replace") if self.log.exists() else ""

    def request(
        self, method: str, path: str, body: Any = None, *, token: str = "", **headers: str
    ) -> tuple[int, Any, dict[str, str]]:
        """One call as a machine makes it: status, decoded JSON (or text), headers."""
        data = None if body is None else json.dumps(body).encode()
        sent = {"Accept": "application/json", **headers}
        if data is not None:
            sent["Content-Type"] = "application/json"
        if token:
            sent["Authorization"] = f"Bearer {token}"
        request = urllib.request.Request(self.url + path, data=data, method=method, headers=sent)
        try:
            with urllib.request.urlopen(request, timeout=30) as response:
                return response.status, _decode(response.read()), dict(response.headers)
        except urllib.error.HTTPError as error:
            with error:
                return error.code, _decode(error.read()), dict(error.headers)

    def owner_token(self) -> str:
        """A JWT of the owner, who is registered at the first call by contract 000's own calls."""
        if not self._owner:
            account = {"username": "alice", "email": "alice@example.org", "password": secrets.token_urlsafe(12)}
            status, body, _ = self.request("POST", "/api/v1/register", account)
            assert status == 201, body
            self._owner = account
        status, body, _ = self.request("POST", "/api/v1/login", self._owner)
        assert status == 200, body
        return str(body["access_token"])

    @property
    def owner(self) -> dict[str, str]:
        """Username and password of the owner."""
        self.owner_token()
        return self._owner

    def _running(self) -> "subprocess.Popen[bytes]":
        assert self.process is not None, "the stack does not run"
        return self.process


def command_line(process: psutil.Process) -> str:
    """The command line as ps shows it, empty for a process that has just ended."""
    try:
        return " ".join(process.cmdline()).strip()
    except psutil.NoSuchProcess:
        return ""


def _decode(data: bytes) -> Any:
    try:
        return json.loads(data)
    except ValueError:
        return data.decode(errors="replace")
