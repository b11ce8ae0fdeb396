"""From the command to the first 200, and what the stack costs while it idles: `python -m benchmarks.start_up`.

First start: an empty home, the database is made. Second start: the same home again. Each round starts every system once
each way, one after the other. Idle: PSS of all processes 20 s after the start, CPU time over the 15 s that follow.
Peer: Prefect's server on SQLite (a server alone: no worker). Practical limit: gunicorn with two processes and an
application of one line.
"""

import argparse
import os
import shutil
import signal
import statistics
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import psutil

from benchmarks.common import HOME, ROOT, free_port, fresh_database, peer_python, report

START_SECONDS = 120
SETTLE_SECONDS = 20
IDLE_SECONDS = 15
ONE_LINE = "def app(e, s):\n    s('200 OK', [('Content-Length', '2')])\n    return [b'ok']\n"


@dataclass
class System:
    """A system under measurement: how it is started in a home on a port, and where it answers."""

    name: str
    command: Callable[[Path, int], list[str]]
    environment: Callable[[Path, int], dict[str, str]]
    path: str
    folder: Path = ROOT
    database: str = "sqlite"
    firsts: list[float] = field(default_factory=list)
    seconds: list[float] = field(default_factory=list)
    idle: tuple[int, float, float] = (0, 0.0, 0.0)

    def measure(self, *, idle: bool) -> None:
        """One first and one second start."""
        home = Path(tempfile.mkdtemp(prefix="start-", dir=HOME))
        try:
            with fresh_database(self.database) as url:
                self.firsts.append(self._start(home, url, idle=False))
                self.seconds.append(self._start(home, url, idle=idle))
        finally:
            shutil.rmtree(home, ignore_errors=True)

    def _start(self, home: Path, database_url: str, *, idle: bool) -> float:
        port = free_port()
        environment = {**os.environ, "DATABASE_URL": database_url, **self.environment(home, port)}
        with (HOME / "start_up.log").open("ab") as log:
            began = time.perf_counter()
            process = subprocess.Popen(
                self.command(home, port), cwd=self.folder, env=environment, stdout=log, stderr=log
            )
        try:
            taken = wait_for_200(f"http://127.0.0.1:{port}{self.path}", began)
            if idle:
                self.idle = cost_of_idling(process.pid)
        finally:
            stop(process)
        return taken


def wait_for_200(url: str, began: float) -> float:
    """Seconds from `began` to the first 200."""
    while time.perf_counter() - began < START_SECONDS:
        try:
            with urllib.request.urlopen(url, timeout=5) as answer:
                if answer.status == 200:
                    return time.perf_counter() - began
        except OSError:
            time.sleep(0.005)
    raise RuntimeError(f"{url} did not answer; see {HOME / 'start_up.log'}")


def cost_of_idling(pid: int) -> tuple[int, float, float]:
    """Processes, their PSS in MB, and the cores that they use."""
    time.sleep(SETTLE_SECONDS)
    processes = [psutil.Process(pid), *psutil.Process(pid).children(recursive=True)]
    before = cpu_seconds(processes)
    time.sleep(IDLE_SECONDS)
    cores = (cpu_seconds(processes) - before) / IDLE_SECONDS
    return len(processes), sum(pss_mb(process.pid) for process in processes), cores


def cpu_seconds(processes: list[psutil.Process]) -> float:
    """The time that these processes have computed so far."""
    return sum(sum(process.cpu_times()[:2]) for process in processes if process.is_running())


def pss_mb(pid: int) -> float:
    """A process's share of memory."""
    for line in Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines():
        if line.startswith("Pss:"):
            return int(line.split()[1]) / 1000
    return 0.0


def stop(process: "subprocess.Popen[bytes]") -> None:
    """End it and all that it has started."""
    below = psutil.Process(process.pid).children(recursive=True)
    process.send_signal(signal.SIGTERM)
    try:
        process.wait(20)
    except subprocess.TimeoutExpired:
        process.kill()
    _, left = psutil.wait_procs(below, timeout=10)
    for one in left:
        one.kill()


def hohmann(name: str, database: str = "sqlite", **settings: str) -> System:
    """Our stack, started as a person starts it."""
    return System(
        name,
        lambda home, port: ["make", "run"],
        lambda home, port: {
            "PORT": str(port),
            "HOHMANN_HOME": str(home),
            **settings,
        },
        "/health",
        database=database,
    )


def prefect() -> System:
    """Prefect's server, in an environment of its own."""
    # Prefect 3.8.8 does not start with the newest FastAPI.
    python = peer_python("prefect", "prefect==3.8.8", "fastapi==0.140.0")
    return System(
        "Prefect 3.8.8 server (no worker), SQLite",
        lambda home, port: [
            str(python.parent / "prefect"), "server", "start", "--host", "127.0.0.1", "--port", str(port)
        ],
        lambda home, port: {
            "PREFECT_HOME": str(home),
            "PREFECT_SERVER_ANALYTICS_ENABLED": "false",
            "PREFECT_API_URL": "",
        },
        "/api/health",
        HOME,
    )  # fmt: skip


def limit() -> System:
    """gunicorn and one line: no start on this machine can be much quicker."""
    folder = HOME / "limit"
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "line.py").write_text(ONE_LINE)
    return System(
        "gunicorn, 2 processes, one-line application (limit)",
        lambda home, port: [
            sys.executable, "-m", "gunicorn", "line:app", "-k", "gthread", "-w", "2", "-b", f"127.0.0.1:{port}",
            "--no-control-socket",
        ],
        lambda home, port: {},
        "/",
        folder,
    )  # fmt: skip


def main() -> None:
    """Measure all systems in interleaved rounds."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--without-peers", action="store_true")
    chosen = parser.parse_args()
    HOME.mkdir(parents=True, exist_ok=True)
    subprocess.run(["make", "setup"], cwd=ROOT, check=True)
    systems = [
        limit(),
        hohmann("Hohmann, SQLite"),
        hohmann("Hohmann, SQLite, 2 workers", WORKERS="2"),
        hohmann("Hohmann, PostgreSQL (its server aside)", "postgresql"),
        *([] if chosen.without_peers else [prefect()]),
    ]
    for at in range(chosen.rounds):
        for system in systems:
            system.measure(idle=at == 0)
    rows = [row(system) for system in systems]
    headings = ["system", "first start s", "second start s", "processes", "idle PSS MB", "idle cores"]
    report("start-up and idle", headings, rows, rounds=chosen.rounds)


def row(system: System) -> list[str]:
    """Medians, with the smallest and the largest."""
    processes, memory, cores = system.idle
    starts = [
        f"{statistics.median(values):.2f} ({min(values):.2f}-{max(values):.2f})"
        for values in (system.firsts, system.seconds)
    ]
    return [system.name, *starts, str(processes), f"{memory:.0f}", f"{cores:.4f}"]


if __name__ == "__main__":
    main()
