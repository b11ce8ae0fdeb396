"""What a sync costs when little is new: `python -m benchmarks.sync_again`.

The real stack keeps a copy of a PostgreSQL table of 5,000,000 rows in DuckDB, by a cursor. Measured are the first load;
runs with nothing new; runs after 1 % new rows, appended and (in a job of its own) upserted by the key. Seconds are from
just before the call that starts the run until its answer says that it has landed, asked for every 10 ms. The database
is as in `sync_postgres`.
"""

import argparse
import json
import statistics
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

from benchmarks.common import BenchStack, report, spread
from benchmarks.sync_postgres import COLUMNS, ask, fill, own_database
from benchmarks.syncing import config_of

OLAKE = "/api/v1/project/olake"
SHARE = 100  # one row of so many is new


def main() -> None:
    """Measure and print the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rows", type=int, default=5_000_000)
    parser.add_argument("--rounds", type=int, default=5, help="runs with nothing new, and as many with 1 % new rows")
    chosen = parser.parse_args()
    lines: list[list[str]] = []
    with own_database() as url, stack_of_its_own() as stack:
        fill(url, chosen.rows)
        ask(url, "ALTER TABLE moved ADD PRIMARY KEY (id)")
        have = chosen.rows
        for write in ("append", "upsert"):
            job = Job(stack, url, write)
            first = job.run(have)
            idle = [job.run(0) for _ in range(chosen.rounds)]
            new = max(1, chosen.rows // SHARE)
            fresh = []
            for _ in range(chosen.rounds):
                ask(url, f"INSERT INTO moved {COLUMNS.format(first=have + 1, last=have + new)}")
                have += new
                fresh.append(job.run(new))
            lines += _lines(write, first, idle, fresh, chosen.rows, new)
    report(
        "sync-again", ["what", "rows", "seconds, median (min-max)", "of the first load"], lines, rounds=chosen.rounds
    )


def _lines(
    write: str, first: float, idle: Sequence[float], fresh: Sequence[float], rows: int, new: int
) -> Iterator[list[str]]:
    yield [f"{write}: first load", f"{rows:,}", f"{first:.2f}", "1.00"]
    for what, count, seconds in (("nothing new", 0, idle), ("1 % new", new, fresh)):
        share = statistics.median(seconds) / first
        yield [f"{write}: {what}", f"{count:,}", spread(seconds), f"{share:.3f}"]


@contextmanager
def stack_of_its_own() -> Iterator[BenchStack]:
    """The stack, allowed to reach servers on loopback."""
    stack = BenchStack(HOHMANN_ALLOW_PRIVATE_ADDRESSES="1")
    try:
        yield stack
    finally:
        stack.stop()


class Job:
    """A sync job of the table, made over contract 002's calls."""

    def __init__(self, stack: BenchStack, url: str, write: str) -> None:
        self.stack = stack
        name = f"moved-{write}"
        source = {"name": "bench", "type": "postgres", "version": "v1.0.0", "config": json.dumps(config_of(url))}
        found = stack.call("POST", f"{OLAKE}/sources/streams", {**source, "job_id": -1, "job_name": name})["data"]
        document = {**found, "selected_streams": {"public": [chosen_stream(write)]}}
        for one in document["streams"]:
            if one["stream"]["name"] == "moved":
                one["stream"] |= {"sync_mode": "incremental", "cursor_field": "id"}
        body = {
            "name": name,
            "source": source,
            "destination": {
                "name": "lake", "type": "duckdb", "version": "v1.0.0", "config": json.dumps({"path": "lake.duckdb"}),
            },
            "frequency": "",
            "streams_config": json.dumps(document),
        }  # fmt: skip
        stack.call("POST", f"{OLAKE}/jobs", body)
        jobs = stack.call("GET", "/api/v1/jobs")
        listed = jobs if isinstance(jobs, list) else jobs.get("jobs") or jobs.get("items")
        self.id = next(one["id"] for one in listed if one["name"] == name)

    def run(self, rows: int) -> float:
        """Seconds of one run that brings so many rows."""
        began = time.perf_counter()
        run = self.stack.call("POST", f"/api/v1/jobs/{self.id}/run", {})["run_id"]
        while (found := self.stack.call("GET", f"/api/v1/runs/{run}"))["status"] in ("queued", "running"):
            time.sleep(0.01)
        seconds = time.perf_counter() - began
        assert found["status"] == "success", found
        assert found["rows_read"] == rows, found
        return seconds


def chosen_stream(write: str) -> dict[str, Any]:
    """The choice of the stream in contract 002's words."""
    return {
        "stream_name": "moved", "partition_regex": "", "normalization": False, "filter": "",
        "append_mode": write == "append",
    }  # fmt: skip


if __name__ == "__main__":
    main()
