"""How fast a run starts, and how many no-op runs are done in a second: `python -m benchmarks.dispatch`.

Start: from just before the POST to the first log line that the run's own code writes in its warm child process; runs
are asked for one at a time, 30 to 90 ms apart. Throughput: a backlog of no-op runs, each a durable row with its log,
its attempt and its rocket's history, done by two workers. Peers: procrastinate on PostgreSQL and huey on SQLite with
fsync, two processes each.
"""

import argparse
import json
import random
import statistics
import subprocess
import sys
import tempfile
import time
from datetime import datetime
from pathlib import Path

from benchmarks.common import HOME, ROOT, BenchStack, fresh_database, peer_python, percentile, report

JOBS = 50


def main() -> None:
    """Measure both databases and both peers."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--triggers", type=int, default=200)
    parser.add_argument("--runs", type=int, default=2000)
    parser.add_argument("--rounds", type=int, default=3)
    chosen = parser.parse_args()
    rows = []
    for kind in ("sqlite", "postgresql"):
        starts, rates, idle = [], [], 0.0
        for _ in range(chosen.rounds):
            with fresh_database(kind) as url:
                stack = BenchStack(url, WORKERS="2")
                try:
                    starts += measure_start(stack, chosen.triggers)
                    rates.append(measure_backlog(stack, chosen.runs))
                    idle = idle_cores(stack)
                finally:
                    stack.stop()
        rows.append(_row(f"Hohmann, {kind}, 2 workers x 2 children", starts, rates, f"{idle:.3f}"))
    rows += [measure_procrastinate(chosen), measure_huey(chosen)]
    report("dispatch", ["system", "start p50 ms", "p95 ms", "max ms", "no-op runs/s (median)", "idle cores"], rows)


def _row(name: str, starts: list[float], rates: list[float], idle: str) -> list[str]:
    figures = [statistics.median(starts), percentile(starts, 0.95), max(starts)]
    return [name, *(f"{value * 1000:.1f}" for value in figures), f"{statistics.median(rates):.0f}", idle]


def measure_start(stack: BenchStack, triggers: int) -> list[float]:
    """Seconds from each POST to the first line of its run."""
    job = stack.call(
        "POST", "/api/v1/jobs", {"job_name": "no-op", "schedule": "@manual", "is_active": True, "tasks": []}
    )
    asked = []
    for at in range(triggers + 10):
        before = time.time()
        run = stack.call("POST", f"/api/v1/jobs/{job['job_id']}/run")
        if at >= 10:  # the first ones warm the connections up
            asked.append((before, run["run_id"]))
        time.sleep(random.uniform(0.03, 0.09))
    time.sleep(1)
    return [_first_line(stack, run_id) - before for before, run_id in asked]


def _first_line(stack: BenchStack, run_id: str) -> float:
    lines = stack.call("GET", f"/api/v1/runs/{run_id}/logs?limit=1")
    lines = lines["lines"] if isinstance(lines, dict) else lines
    return datetime.fromisoformat(lines[0]["at"]).timestamp()


def measure_backlog(stack: BenchStack, runs: int) -> float:
    """No-op runs a second, from the first claim to the last end."""
    ids = []
    for number in range(JOBS):
        body = {"job_name": f"backlog {number}", "schedule": "@manual", "is_active": True, "tasks": [],
                "concurrency_limit": 100}  # fmt: skip
        ids.append(stack.call("POST", "/api/v1/jobs", body)["job_id"])
    _fill_queue(stack, ids, runs)
    while (queue := stack.call("GET", "/health"))["queued"] or queue["running"]:
        time.sleep(0.1)
    return runs / _span(stack)


def _fill_queue(stack: BenchStack, job_ids: list[str], runs: int) -> None:
    """Queue all runs in one transaction, so that what is timed is the work and not the asking."""
    _in_app(stack, _FILL, json.dumps(job_ids), str(runs))


def _span(stack: BenchStack) -> float:
    return float(_in_app(stack, _SPAN))


def _in_app(stack: BenchStack, code: str, *arguments: str) -> str:
    env = {**stack.environment, "PYTHONPATH": str(ROOT)}
    done = subprocess.run([sys.executable, "-c", code, *arguments], env=env, check=True, capture_output=True, text=True)
    return done.stdout.strip().splitlines()[-1] if done.stdout.strip() else ""


_FILL = """
import json, sys, uuid
from webapp import create_app
from webapp.db import db, unit_of_work
from webapp.jobs.models import Job
from webapp.runs.models import Trigger
from webapp.runs.operations import new_run
from webapp.db import wake_at_commit
import sqlalchemy as sa
app = create_app()
with app.app_context(), unit_of_work():
    ids = [uuid.UUID(text) for text in json.loads(sys.argv[1])]
    jobs = list(db.session.scalars(sa.select(Job).where(Job.id.in_(ids))))
    for at in range(int(sys.argv[2])):
        db.session.add(new_run(jobs[at % len(jobs)], trigger=Trigger.MANUAL, asked_by="bench"))
    wake_at_commit("runs")
"""

_SPAN = """
from webapp import create_app
from webapp.db import db
from webapp.runs.models import Run
import sqlalchemy as sa
app = create_app()
with app.app_context():
    backlog = Run.triggered_by_name == "bench"
    span = sa.select(sa.func.min(Run.started_at), sa.func.max(Run.finished_at)).where(backlog)
    first, last = db.session.execute(span).one()
    print((last - first).total_seconds())
"""


def idle_cores(stack: BenchStack, seconds: float = 10.0) -> float:
    """CPU seconds a second that the whole stack uses while nothing happens."""
    import psutil

    time.sleep(20)  # until the children that worked have been replaced: their processor time goes with them

    def used() -> float:
        root = psutil.Process(stack.process.pid)
        times = [process.cpu_times() for process in [root, *root.children(recursive=True)]]
        return sum(one.user + one.system for one in times)

    before = used()
    time.sleep(seconds)
    return (used() - before) / seconds


def measure_procrastinate(chosen: argparse.Namespace) -> list[str]:
    """procrastinate with LISTEN/NOTIFY, two worker processes."""
    python = peer_python("procrastinate", "procrastinate==3.10.0", "psycopg[binary]==3.3.9")
    with fresh_database("postgresql") as url:
        return _peer(python, "procrastinate, PostgreSQL, 2 processes", _PROCRASTINATE, chosen, url)


def measure_huey(chosen: argparse.Namespace) -> list[str]:
    """huey on SQLite with fsync, two consumer processes that poll every 10 to 50 ms."""
    python = peer_python("huey", "huey==3.5.4")
    return _peer(python, "huey, SQLite fsync, 2 processes", _HUEY, chosen, "")


def _peer(python: Path, name: str, code: str, chosen: argparse.Namespace, url: str) -> list[str]:
    folder = Path(tempfile.mkdtemp(prefix="peer-", dir=HOME))
    (folder / "peer_jobs.py").write_text(code)
    workers = [
        subprocess.Popen([python, "peer_jobs.py", "work", url], cwd=folder, stderr=subprocess.DEVNULL) for _ in range(2)
    ]
    try:
        time.sleep(3)
        command = [python, "peer_jobs.py", "ask", url, str(chosen.triggers), str(chosen.runs)]
        done = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=True, timeout=300)
    finally:
        for worker in workers:
            worker.terminate()
    figures = json.loads(done.stdout.strip().splitlines()[-1])
    return _row(name, figures["starts"], [figures["rate"]], "-")


_ASK = """
def wait_for(count):
    while sum(1 for _ in open("done.txt")) < count:
        time.sleep(0.05)

def ask(triggers, runs):
    open("done.txt", "w").close()
    for at in range(triggers):
        enqueue(time.time())
        time.sleep(random.uniform(0.03, 0.09))
    wait_for(triggers)
    starts = [float(line.split()[1]) - float(line.split()[0]) for line in open("done.txt")]
    open("done.txt", "w").close()
    fill(runs)
    wait_for(runs)
    times = [float(line.split()[1]) for line in open("done.txt")]
    print(json.dumps({"starts": starts, "rate": runs / (max(times) - min(times))}))

def note(asked):
    with open("done.txt", "a") as file:
        file.write(f"{asked} {time.time()}\\n")
"""

_PROCRASTINATE = (
    """
import json, random, sys, time
import procrastinate
url = sys.argv[2]
app = procrastinate.App(connector=procrastinate.PsycopgConnector(conninfo=url))
"""
    + _ASK
    + """
@app.task(name="noop")
def noop(asked):
    note(asked)

if sys.argv[1] == "work":
    for _ in range(50):
        try:
            with app.open():
                app.run_worker(concurrency=1, delete_jobs="never", install_signal_handlers=True)
            break
        except Exception:
            time.sleep(0.2)
else:
    sync = procrastinate.App(connector=procrastinate.SyncPsycopgConnector(conninfo=url))
    with sync.open():
        sync.schema_manager.apply_schema()
        time.sleep(3)
        later = sync.configure_task("noop")
        enqueue = lambda asked: later.defer(asked=asked)
        fill = lambda count: later.batch_defer(*[{"asked": 0.0} for _ in range(count)])
        ask(int(sys.argv[3]), int(sys.argv[4]))
"""
)

_HUEY = (
    """
import json, random, sys, time
from huey import SqliteHuey
huey = SqliteHuey(filename="huey.db", fsync=True, results=False)
"""
    + _ASK
    + """
@huey.task()
def noop(asked):
    note(asked)

if sys.argv[1] == "work":
    huey.create_consumer(workers=1, worker_type="process", initial_delay=0.01, max_delay=0.05, backoff=1.15).run()
else:
    enqueue = noop
    fill = lambda count: [noop(0.0) for _ in range(count)]
    ask(int(sys.argv[3]), int(sys.argv[4]))
"""
)

if __name__ == "__main__":
    main()
