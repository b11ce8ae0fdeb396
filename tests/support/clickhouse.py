"""A ClickHouse for tests: its engine as a library, behind a small HTTP server of ours, in a process of its own.

It is installed by `make clickhouse` outside the checkout. See chdb/server.py for what is the engine's own.
"""

import os
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import urllib3

from tests.support.azure import wait_for
from tests.support.missing import missing
from tests.support.stacks import free_port

USER, PASSWORD = "ann", "open sesame"
_PYTHON = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "hohmann" / "clickhouse" / "bin" / "python"
_PROGRAM = Path(__file__).parent / "chdb" / "server.py"


@dataclass(frozen=True)
class ClickHouseServer:
    """Where it is."""

    port: int

    def config(self) -> dict[str, Any]:
        """How the destination reaches it."""
        return {"host": "127.0.0.1", "port": self.port, "username": USER, "password": PASSWORD}

    def ask(self, statement: str) -> list[str]:
        """Carry a statement out without the destination's library; returns the lines of the answer."""
        login = urllib3.make_headers(basic_auth=f"{USER}:{PASSWORD}")
        answer = urllib3.request("POST", f"http://127.0.0.1:{self.port}/", body=statement.encode(), headers=login)
        if answer.status != 200:
            raise RuntimeError(answer.data.decode())
        return answer.data.decode().splitlines()


@contextmanager
def clickhouse_server() -> Iterator[ClickHouseServer]:
    """Run a server until the block ends; without the engine a loud skip, with CI=true a failure."""
    if not _PYTHON.exists():
        missing("ClickHouse's engine: make clickhouse")
    port = free_port()
    with tempfile.TemporaryDirectory(prefix="hohmann-clickhouse-", ignore_cleanup_errors=True) as folder:
        command = [str(_PYTHON), str(_PROGRAM), str(port), folder, USER, PASSWORD]
        process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        try:
            wait_for(port, process)
            yield ClickHouseServer(port)
        finally:
            process.kill()
            process.wait()
