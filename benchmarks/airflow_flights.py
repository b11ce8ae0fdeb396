"""Flights on a real Apache Airflow: `python -m benchmarks.airflow_flights` (after `make airflow`).

1. From `POST /job` to the flight's first callback, beside Airflow's own REST trigger to the first line of its task,
   turn by turn on the same Airflow.
2. Callbacks a second that are taken in order, by two web processes on PostgreSQL, from eight callers that keep their
   connections (wrk): PATCHes of rockets, and reports of runs with a line of log and progress.
3. Airflow is away while flights are asked for; when it is back, all of them fly once and none twice.
"""

import argparse
import statistics
import subprocess
import tempfile
import time
import uuid
from collections import Counter
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import psycopg2
import urllib3

from benchmarks.common import HOME, ROOT, BenchStack, fresh_database, report
from tests.support.airflow import AirflowServer

CALLERS = 8
NOBODY_THERE = "http://127.0.0.1:9"
NOOP = """
import time
from airflow.sdk import dag, get_current_context, task

@dag(dag_id="noop", schedule=None, catchup=False, is_paused_upon_creation=False)
def noop():
    @task
    def line():
        began = time.time()
        with open(get_current_context()["dag_run"].conf["file"], "w") as file:
            file.write(str(began))
    line()

noop()
"""


def main() -> None:
    """Measure all three."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--triggers", type=int, default=10)
    parser.add_argument("--seconds", type=float, default=10.0)
    parser.add_argument("--flights", type=int, default=100)
    parser.add_argument("--away", type=float, default=600.0, help="seconds that Airflow is away")
    parser.add_argument("--only", choices=("start", "callbacks", "away"))
    chosen = parser.parse_args()
    if chosen.only in (None, "callbacks"):
        measure_callbacks(chosen.seconds)
    if chosen.only in (None, "start", "away"):
        with fresh_database("postgresql") as url:
            with_airflow(url, chosen)


def with_airflow(url: str, chosen: argparse.Namespace) -> None:
    """The parts that need a real Airflow."""
    folder = Path(tempfile.mkdtemp(prefix="airflow-", dir=HOME))
    dags = folder / "dags"
    dags.mkdir()
    for file in (ROOT / "dags").glob("*.py"):
        (dags / file.name).write_text(file.read_text())
    (dags / "noop.py").write_text(NOOP)
    server = AirflowServer(folder / "airflow", dags=dags)
    login = {"AIRFLOW_URL": server.url, "AIRFLOW_USERNAME": server.username, "AIRFLOW_PASSWORD": server.password}
    stack = BenchStack(url, **login)
    try:
        server.connect_to(stack.url, service_token(stack))
        server.start()
        if chosen.only in (None, "start"):
            measure_start(stack, server, url, chosen.triggers)
        if chosen.only in (None, "away"):
            measure_away(stack, server, url, chosen)
    finally:
        server.remove()
        stack.stop()


def service_token(stack: BenchStack) -> str:
    """What DAGs show."""
    body = {"name": "airflow", "role": "operator", "scopes": ["read", "rockets:write", "runs:execute"]}
    return str(stack.call("POST", "/api/v1/service-tokens", body)["token"])


def launch(stack: BenchStack, seconds: int = 1) -> dict[str, Any]:
    """A new rocket."""
    body = {"source": "Earth", "destination": "Mars", "estimated_time": seconds}
    return dict(stack.call("POST", "/api/v1/job", body))


# --- 1 ----------------------------------------------------------------------------------------------------------------


def measure_start(stack: BenchStack, server: AirflowServer, url: str, triggers: int) -> None:
    """Turn by turn, one at a time; the first pair warms Airflow up."""
    ours, theirs = [], []
    connection = psycopg2.connect(url)
    connection.autocommit = True
    for at in range(triggers + 1):
        times = own_trigger(server), first_callback(stack, connection)
        if at:
            theirs.append(times[0])
            ours.append(times[1])
    connection.close()
    rows = [_row("Airflow's own trigger to its task's first line", theirs),
            _row("Hohmann: POST /job to the flight's first callback", ours)]  # fmt: skip
    more = statistics.median(ours) - statistics.median(theirs)
    report("airflow start", ["what", "p50 s", "min s", "max s"], rows, difference_of_medians=f"{more:+.3f} s")


def _row(name: str, seconds: list[float]) -> list[str]:
    return [name, *(f"{value:.3f}" for value in (statistics.median(seconds), min(seconds), max(seconds)))]


def own_trigger(server: AirflowServer) -> float:
    """Seconds from Airflow's REST trigger to the first line of the task."""
    file = server.home / f"noop-{uuid.uuid4().hex}"
    before = time.time()
    server.ask("POST", "/api/v2/dags/noop/dagRuns", {"logical_date": None, "conf": {"file": str(file)}})
    began = wait_for(lambda: file.exists() and file.read_text())
    time.sleep(2)  # let the task end, so that the next turn finds Airflow idle
    return float(began) - before


def first_callback(stack: BenchStack, connection: Any) -> float:
    """Seconds from the POST until the first thing that the DAG says has been committed."""
    before = time.time()
    rocket = launch(stack)
    query = "SELECT 1 FROM airflow_flight WHERE dag_run_id = %s AND sequence > 0"

    def has_called() -> bool:
        with connection.cursor() as cursor:
            cursor.execute(query, (rocket["airflow_dag_run_id"],))
            return cursor.fetchone() is not None

    wait_for(has_called)
    took = time.time() - before
    wait_for(lambda: stack.call("GET", f"/api/v1/job/{rocket['id']}")["state"] == "Landed_On_Mars", pause=0.2)
    time.sleep(2)
    return took


def wait_for(is_so: Callable[[], Any], *, seconds: float = 300, pause: float = 0.005) -> Any:
    """Wait until the function returns something true; returns that."""
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        if found := is_so():
            return found
        time.sleep(pause)
    raise TimeoutError


# --- 2 ----------------------------------------------------------------------------------------------------------------


def measure_callbacks(seconds: float) -> None:
    """Both kinds of callbacks."""
    rows = []
    for name, prepare in (("PATCHes of rockets", rocket_callers), ("reports of runs", run_callers)):
        with fresh_database("postgresql") as url:
            stack = BenchStack(url, AIRFLOW_URL=NOBODY_THERE, EXECUTOR="airflow", AIRFLOW_LEASE_SECONDS="60")
            try:
                rows.append(_rate(name, stack, prepare(stack, url), seconds))
            finally:
                stack.stop()
    report("airflow callbacks", ["what", "callbacks/s", "taken in order", "p50 ms", "p99 ms"], rows)


@dataclass(frozen=True)
class Caller:
    """One that reports again and again over a connection that it keeps; `%d` in body and answer is the number."""

    method: str
    path: str
    token: str
    body: str
    answer: str


def rocket_callers(stack: BenchStack, _url: str) -> list[Caller]:
    """One flight for each caller, of which it says where it is."""
    token = service_token(stack)
    return [_rocket_caller(launch(stack, 600), token) for _ in range(CALLERS)]


def _rocket_caller(rocket: dict[str, Any], token: str) -> Caller:
    flight = rocket["airflow_dag_run_id"]
    body = f'{{"dag_run_id": "{flight}", "sequence": %d, "location": "waypoint %d"}}'
    return Caller("PATCH", f"/api/v1/job/{rocket['id']}", token, body, '"waypoint %d"')


def run_callers(stack: BenchStack, _url: str) -> list[Caller]:
    """One run for each caller, begun as Airflow's task would begin it."""
    token = service_token(stack)
    runs = []
    for number in range(CALLERS):
        body = {"job_name": f"job {number}", "schedule": "@manual", "is_active": True, "tasks": []}
        job = stack.call("POST", "/api/v1/jobs", body)
        runs.append(stack.call("POST", f"/api/v1/jobs/{job['job_id']}/run")["run_id"])
    return [_run_caller(stack, run_id, token) for run_id in runs]


def _run_caller(stack: BenchStack, run_id: str, token: str) -> Caller:
    found = wait_for(lambda: stack.call("GET", f"/api/v1/runs/{run_id}")["airflow_dag_run_id"], pause=0.05)
    path = f"/api/v1/airflow/runs/{run_id}"
    begin = {"dag_run_id": found, "key": "benchmark"}
    bearer = {"Authorization": f"Bearer {token}"}
    begun = urllib3.request("POST", f"{stack.url}{path}/begin", json=begin, headers=bearer)
    line = '{"at": "2026-01-01T00:00:00+00:00", "level": "info", "message": "line %d"}'
    progress = '{"rows_read": %d, "rows_written": %d, "bytes_read": %d, "fraction": null}'
    body = f'{{"sequence": %d, "lines": [{line}], "progress": {progress}}}'
    return Caller("POST", f"{path}/reports", begun.json()["token"], body, '"sequence":%d,"taken":true')


WRK = """
local callers = {%s}
local started = {}
function setup(thread)
  table.insert(started, thread)
  local mine = callers[#started]
  for name, value in pairs(mine) do thread:set(name, value) end
  thread:set("number", 1)
  thread:set("wrong", 0)
end
local function numbered(text) return (text:gsub("%%%%d", tostring(number))) end
function request()
  local headers = {["Authorization"] = "Bearer " .. token, ["Content-Type"] = "application/json"}
  return wrk.format(method, path, headers, numbered(body))
end
function response(status, headers, said)
  if status ~= 200 or not said:find(numbered(answer), 1, true) then wrong = wrong + 1 end
  number = number + 1
end
function done(summary, latency, requests)
  local refused = 0
  for _, thread in ipairs(started) do refused = refused + thread:get("wrong") end
  print(string.format("RESULT %%d %%f %%d %%f %%f", summary.requests, summary.duration / 1e6, refused,
    latency:percentile(50) / 1000, latency:percentile(99) / 1000))
end
"""


def _rate(name: str, stack: BenchStack, callers: list[Caller], seconds: float) -> list[str]:
    """wrk with a thread for each caller: no answer, no next callback."""
    tables = ", ".join("{" + ", ".join(f"{key} = [[{value}]]" for key, value in asdict(caller).items()) + "}"
                       for caller in callers)  # fmt: skip
    script = stack.home / "callbacks.lua"
    script.write_text(WRK % tables)
    count = str(len(callers))
    command = ["wrk", "-t", count, "-c", count, f"-d{seconds:g}s", "-s", str(script), stack.url]
    text = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True).stdout
    taken, took, refused, p50, p99 = text.partition("RESULT ")[2].split()
    in_order = "all" if int(refused) == 0 else f"{refused} refused"
    return [name, f"{int(taken) / float(took):,.0f}", in_order, f"{float(p50):.1f}", f"{float(p99):.1f}"]


# --- 3 ----------------------------------------------------------------------------------------------------------------


def measure_away(stack: BenchStack, server: AirflowServer, url: str, chosen: argparse.Namespace) -> None:
    """Flights are asked for while nothing answers where Airflow was."""
    server.kill()
    asked = [launch(stack) for _ in range(chosen.flights)]
    time.sleep(chosen.away)
    server.start()
    back = time.monotonic()
    wanted = {rocket["id"] for rocket in asked}
    count = "SELECT count(*) FROM dag_run WHERE dag_id = 'rocket_flight_dag' AND conf->>'job_id' = ANY(%s)"
    wait_for(lambda: server.query(count, list(wanted))[0][0] >= len(wanted), seconds=3600, pause=0.2)
    handed = time.monotonic() - back
    wait_for(lambda: wanted <= landed(stack), seconds=3600, pause=1.0)
    took = time.monotonic() - back
    runs = Counter(
        run_id for (run_id,) in server.query("SELECT conf->>'job_id' FROM dag_run WHERE dag_id = 'rocket_flight_dag'")
    )
    never = sum(runs[rocket_id] == 0 for rocket_id in wanted)
    twice = sum(runs[rocket_id] > 1 for rocket_id in wanted)
    rows = [[len(asked), f"{chosen.away:g}", len(wanted) - never - twice, never, twice, f"{handed:.0f}", f"{took:.0f}"]]
    headings = ["asked for", "away s", "flew once", "never", "twice", "all handed over after s", "all landed after s"]
    report("airflow away", headings, rows)


def landed(stack: BenchStack) -> set[str]:
    """The rockets that have arrived."""
    return {rocket["id"] for rocket in stack.call("GET", "/api/v1/job?state=Landed_On_Mars")}


if __name__ == "__main__":
    main()
