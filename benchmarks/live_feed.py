"""How fast and at what cost an event reaches a thousand listeners: `python -m benchmarks.live_feed`.

1,000 websocket clients, 50 events a second of 300 bytes, for 20 s; latency is from the instant at which an event is due
to its bytes being read by a client, so that a system which falls behind cannot hide it by making its events late. Ours
is the real stack, and its way is the longer one: another process commits each event to the event log of the database,
the web process is woken, reads it and publishes it to the clients, which have shown a token. The peer, FastAPI on
uvicorn, makes the event in its own memory and sends it. Both are listened to by the same clients, in a process of their
own. CPU and memory are those of the serving processes.
"""

import argparse
import json
import math
import os
import selectors
import signal
import socket
import statistics
import subprocess
import sys
import time
import urllib.request
import uuid
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import psutil

from benchmarks.common import ROOT, BenchStack, free_port, fresh_database, peer_python, percentile, report

PEER_PACKAGES = ("fastapi==0.165.0", "uvicorn[standard]==0.54.0", "websockets==17.4")
SETTLE = 2.0
MARK = b'"location":"'


@dataclass
class Load:
    """What is asked of each system."""

    clients: int
    rate: float
    seconds: float
    size: int

    @property
    def events(self) -> int:
        return int(self.rate * self.seconds)


@dataclass
class Outcome:
    """What came of one round."""

    delivered: float
    p50: float
    p99: float
    longest: float
    cores: float
    rss_mb: float


def main() -> None:
    """Measure ours on both databases and the peer, in turns."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--clients", type=int, default=1000)
    parser.add_argument("--rate", type=float, default=50)
    parser.add_argument("--seconds", type=float, default=20)
    parser.add_argument("--size", type=int, default=300)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--listen", nargs=3, metavar=("PORT", "PATH", "TOKEN"), help=argparse.SUPPRESS)
    parser.add_argument("--pump", metavar="PROJECT", help=argparse.SUPPRESS)
    chosen = parser.parse_args()
    load = Load(chosen.clients, chosen.rate, chosen.seconds, chosen.size)
    if chosen.listen:
        listen(load, int(chosen.listen[0]), chosen.listen[1], chosen.listen[2])
    elif chosen.pump:
        pump(load, uuid.UUID(chosen.pump))
    else:
        compare(load, chosen.rounds)


def compare(load: Load, rounds: int) -> None:
    """Every system once a round, so that all meet the same machine."""
    systems = {
        "Hohmann, SQLite, 1 web process": lambda: measure_ours("sqlite", load, 1),
        "Hohmann, PostgreSQL, 1 web process": lambda: measure_ours("postgresql", load, 1),
        "Hohmann, SQLite, 2 web processes": lambda: measure_ours("sqlite", load, 2),
        "FastAPI, uvicorn, websockets-sansio": lambda: measure_fastapi(load),
    }
    found: dict[str, list[Outcome]] = {name: [] for name in systems}
    for _ in range(rounds):
        for name, measure in systems.items():
            found[name].append(measure())
            print(name, found[name][-1], file=sys.stderr)
    rows = [[name, *_medians(outcomes)] for name, outcomes in found.items()]
    headings = ["system", "delivered", "p50 ms", "p99 ms", "max ms", "CPU cores", "RSS MB"]
    report("live feed", headings, rows, load=asdict(load), rounds=rounds)


def _medians(outcomes: list[Outcome]) -> list[str]:
    def middle(name: str) -> float:
        return statistics.median(getattr(outcome, name) for outcome in outcomes)

    delivered = min(outcome.delivered for outcome in outcomes)
    times = [f"{middle(name):.1f}" for name in ("p50", "p99", "longest")]
    return [f"{delivered:.4f}", *times, f"{middle('cores'):.2f}", f"{middle('rss_mb'):.0f}"]


# --- the systems ------------------------------------------------------------------------------------------------------


def measure_ours(database: str, load: Load, web_processes: int) -> Outcome:
    """The real stack; a further process commits the events."""
    with fresh_database(database) as url:
        stack = BenchStack(url, WEB_WORKERS=str(web_processes), WORKERS="1")
        try:
            project = _project_of_owner(stack)
            command = [sys.executable, "-m", "benchmarks.live_feed", "--pump", project, *_arguments(load)]
            processes = _web_processes(stack.process.pid)
            listeners = Listeners(load, stack.port, "/api/v1/ws/jobs", stack.token)
            with subprocess.Popen(command, cwd=ROOT, env=stack.environment):
                return listeners.measure(processes)
        finally:
            stack.stop()


def _web_processes(pid: int) -> list[psutil.Process]:
    """The processes that serve: children of gunicorn's master."""
    children = psutil.Process(pid).children(recursive=True)
    masters = [child for child in children if "master" in " ".join(child.cmdline()) or "gunicorn" in child.name()]
    served = [child for child in children if any(child.ppid() == master.pid for master in masters)]
    assert served, [child.cmdline() for child in children]
    return served


def _project_of_owner(stack: BenchStack) -> str:
    """Where the owner's rockets are: the project in which events have to be for the clients to see them."""
    from webapp import create_app
    from webapp.accounts import operations as accounts
    from webapp.config import Settings
    from webapp.db import reading

    app = create_app(Settings.from_environment(stack.environment))
    with app.app_context(), reading():
        return str(accounts.default_project().id)


def measure_fastapi(load: Load) -> Outcome:
    """FastAPI's own way, one process, without access log."""
    python = peer_python("fastapi-live", *PEER_PACKAGES)
    port = free_port()
    command = [str(python), "-m", "uvicorn", "live_feed_fastapi:app", "--app-dir", str(Path(__file__).parent),
               "--port", str(port), "--no-access-log", "--log-level", "warning", "--backlog", "4096",
               "--ws", "websockets-sansio", "--ws-per-message-deflate", "false"]  # fmt: skip
    server = subprocess.Popen(command)
    try:
        _wait_for(port)
        listeners = Listeners(load, port, "/feed", "")
        query = f"events={load.events}&rate={load.rate}&size={load.size}"
        urllib.request.urlopen(f"http://127.0.0.1:{port}/start?{query}", timeout=10).close()
        return listeners.measure([psutil.Process(server.pid)])
    finally:
        server.send_signal(signal.SIGTERM)
        try:
            server.wait(5)
        except subprocess.TimeoutExpired:
            server.kill()
            server.wait()


def _wait_for(port: int) -> None:
    end = time.monotonic() + 30
    while time.monotonic() < end:
        try:
            socket.create_connection(("127.0.0.1", port)).close()
            return
        except OSError:
            time.sleep(0.05)
    raise RuntimeError("the peer did not start")


# --- the events of ours -----------------------------------------------------------------------------------------------


def pump(load: Load, project_id: uuid.UUID) -> None:
    """Commit the events, each in a unit of work of its own, as operations do."""
    from webapp import create_app, events
    from webapp.db import unit_of_work

    app = create_app()
    rocket = uuid.uuid4()
    time.sleep(SETTLE)
    began = time.monotonic()
    for number in range(load.events):
        due = began + number / load.rate
        time.sleep(max(0.0, due - time.monotonic()))
        with app.app_context(), unit_of_work():
            payload = _rocket(rocket, load.size, due)
            events.record("rocket.moved", project_id=project_id, subject_id=rocket, payload=payload)


def _rocket(rocket: uuid.UUID, size: int, due: float) -> dict[str, Any]:
    """Facts that make a message of `size` bytes; the place carries the instant at which the event was due."""
    facts = {"id": str(rocket), "state": "InFlight", "source": "Earth", "destination": "Mars", "status": "running",
             "estimated_time": 60, "updated_at": "2026-01-01T00:00:00.000000Z"}  # fmt: skip
    frame = {"type": "job_update", "event_id": 1000, "job": {**facts, "location": ""}}
    bare = len(json.dumps(frame, separators=(",", ":")))
    stamp = f"{int(due * 1e9):020d}"
    return {**facts, "location": stamp + "x" * (size - bare - len(stamp))}


# --- the clients ------------------------------------------------------------------------------------------------------


class Listeners:
    """The clients' process: it says when all are connected, and in the end what it saw."""

    def __init__(self, load: Load, port: int, path: str, token: str) -> None:
        command = [
            sys.executable,
            "-m",
            "benchmarks.live_feed",
            "--listen",
            str(port),
            path,
            token or "-",
            *_arguments(load),
        ]
        self.load = load
        self.process = subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, text=True)
        assert self.process.stdout is not None
        self.lines = self.process.stdout
        assert self.lines.readline() == "connected\n"

    def measure(self, servers: list[psutil.Process]) -> Outcome:
        """Wait for the end; CPU is counted from the first event to the last."""
        assert self.lines.readline() == "first\n"
        before = _cpu(servers)
        assert self.lines.readline() == "last\n"
        cores = (_cpu(servers) - before) / self.load.seconds
        rss = sum(server.memory_info().rss for server in servers) / 1e6
        seen = json.loads(self.lines.readline())
        self.process.wait()
        return Outcome(**seen, cores=cores, rss_mb=rss)


def _cpu(processes: list[psutil.Process]) -> float:
    return sum(sum(process.cpu_times()[:2]) for process in processes)


def _arguments(load: Load) -> list[str]:
    named = {"--clients": load.clients, "--rate": load.rate, "--seconds": load.seconds, "--size": load.size}
    return [text for name, value in named.items() for text in (name, str(value))]


def listen(load: Load, port: int, path: str, token: str) -> None:
    """Connect all clients, read until everything or nothing more has come, print what was seen."""
    selector = selectors.DefaultSelector()
    for _ in range(load.clients):
        selector.register(_connect(port, path, token), selectors.EVENT_READ, Reader())
    print("connected", flush=True)
    wanted = load.clients * load.events
    latencies: list[int] = []
    end = math.inf
    while len(latencies) < wanted and time.monotonic() < end:
        for key, _ in selector.select(0.5):
            key.data.read(key.fileobj, latencies)
        if latencies and end == math.inf:
            end = time.monotonic() + load.seconds + 5
            print("first", flush=True)
    print("last", flush=True)
    milliseconds = [latency / 1e6 for latency in latencies]
    seen = {"delivered": len(latencies) / wanted, "p50": percentile(milliseconds, 0.5),
            "p99": percentile(milliseconds, 0.99), "longest": max(milliseconds)}  # fmt: skip
    print(json.dumps(seen), flush=True)
    os._exit(0)  # the sockets end with the process; closing each would only take time


def _connect(port: int, path: str, token: str) -> socket.socket:
    header = "" if token == "-" else f"Authorization: Bearer {token}\r\n"
    made = socket.create_connection(("127.0.0.1", port))
    made.sendall(
        f"GET {path} HTTP/1.1\r\nHost: 127.0.0.1:{port}\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
        f"Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n{header}\r\n".encode()
    )
    answer = b""
    while not answer.endswith(b"\r\n\r\n"):
        answer += made.recv(1)
    assert answer.startswith(b"HTTP/1.1 101"), answer
    made.setblocking(False)
    return made


class Reader:
    """Takes the frames apart that one client gets; it answers no pings, for which a round is too short."""

    __slots__ = ("rest",)

    def __init__(self) -> None:
        self.rest = b""

    def read(self, sock: socket.socket, latencies: list[int]) -> None:
        """Note how old each event is that has arrived."""
        data = self.rest + sock.recv(65536)
        now = time.monotonic_ns()
        at = 0
        while len(data) - at >= 4:
            length, header = data[at + 1], 2
            if length == 126:
                length, header = data[at + 2] << 8 | data[at + 3], 4
            if len(data) - at < header + length:
                break
            place = data.find(MARK, at, at + header + length)
            if place >= 0:
                latencies.append(now - int(data[place + len(MARK) : place + len(MARK) + 20]))
            at += header + length
        self.rest = data[at:]


if __name__ == "__main__":
    main()
