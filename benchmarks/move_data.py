"""How fast data moves, and in how much memory: `python -m benchmarks.move_data`.

5,000,000 rows x 10 columns (ids, timestamps, doubles, short strings, nulls) from CSV and from Parquet into a DuckDB
table, and 100,000 rows over a paged JSON API. Four contenders take turns: the practical limit (one statement inside
DuckDB; pages read by PyArrow's JSON reader), ours as a library (`run_task`, with its checks, counts and commit), a
whole run of the real stack as a user starts it (from claim to committed, by the run's own times) and dlt with its
fastest documented settings. Each move goes into a fresh database file, in a fresh process but for the run; a ratio is
the median of the ratios within each round. Memory is the peak of ours for the same rows and for four times as many.
"""

import argparse
import atexit
import json
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from typing import Any

import duckdb

from benchmarks.common import HOME, ROOT, BenchStack, free_port, peer_python, report, spread

DLT = ("dlt[duckdb,filesystem]==1.31.0", "duckdb==2.0.0", "pyarrow==26.0.1")
COLUMNS = """
    i AS id, (hash(i) % 100000)::INTEGER AS customer_id,
    TIMESTAMP '2026-01-01' + to_seconds((i * 7) % 31536000) AS created_at,
    CASE WHEN hash(i + 1) % 10 >= 3 THEN TIMESTAMP '2026-01-01' + to_seconds((i * 13) % 31536000) END AS updated_at,
    (hash(i + 2) % 1000000) / 100.0::DOUBLE AS amount,
    CASE WHEN hash(i + 3) % 10 > 0 THEN (hash(i + 4) % 1000000007) / 1e6::DOUBLE END AS score,
    ['new', 'paid', 'sent', 'done'][1 + (hash(i + 5) % 4)::INTEGER] AS status,
    ['DE', 'FR', 'US', 'NO', 'PL', 'IT'][1 + (hash(i + 6) % 6)::INTEGER] AS country,
    'item-' || (hash(i + 7) % 5000) AS item,
    CASE WHEN hash(i + 8) % 10 >= 3 THEN 'note ' || (hash(i + 9) % 1000000) END AS note
"""
Move = dict[str, Any]


def main() -> None:
    """Measure what is chosen and print the tables."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rows", type=int, default=5_000_000)
    parser.add_argument("--api-rows", type=int, default=100_000)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--what", nargs="+", choices=("csv", "parquet", "api"), default=["csv", "parquet", "api"])
    parser.add_argument("--without-dlt", action="store_true")
    parser.add_argument("--without-memory", action="store_true")
    chosen = parser.parse_args()
    who = ["limit", "ours", "run"] if chosen.without_dlt else ["limit", "ours", "run", "dlt"]
    rows = []
    for what in chosen.what:
        count = chosen.api_rows if what == "api" else chosen.rows
        with source_of(what, count) as source:
            rows += table_of(what, rounds(who, what, source, count, chosen.rounds))
    headings = ["path", "who", "seconds, median (min-max)", "rows/s", "peak MB", "of the limit"]
    report("move-data", headings, rows, file_rows=chosen.rows, api_rows=chosen.api_rows, rounds=chosen.rounds)
    if not chosen.without_memory:
        measure_memory(chosen)


def rounds(who: list[str], what: str, source: str, count: int, times: int) -> dict[str, list[Move]]:
    """Let the contenders take turns, each time in another order."""
    moves: dict[str, list[Move]] = {name: [] for name in who}
    for number in range(times):
        turn = number % len(who)
        for name in who[turn:] + who[:turn]:
            moves[name].append(move(name, what, source, count))
    return moves


def move(who: str, what: str, source: str, count: int) -> Move:
    """One move in a fresh process; fails when the rows did not arrive."""
    if who == "run":
        return move_by_run(what, source, count)
    folder = Path(tempfile.mkdtemp(prefix="move-", dir=HOME))
    try:
        database = str(folder / "landed.duckdb")
        if who == "dlt":
            command = [peer_python("dlt", *DLT), ROOT / "benchmarks" / "peers" / "move_dlt.py"]
        else:
            command = [sys.executable, "-m", "benchmarks.moving", who]
        done = subprocess.run([*map(str, command), what, source, database], cwd=ROOT, capture_output=True, text=True)
        if done.returncode:
            raise RuntimeError(f"{who} {what} failed: {done.stderr[-2000:]}")
        result: Move = json.loads(done.stdout.splitlines()[-1])
        assert result["rows"] == count, (who, what, result)
        return result
    finally:
        shutil.rmtree(folder)


@cache
def running_stack() -> BenchStack:
    """One real stack for all runs; its workers are warm, as a user's are."""
    stack = BenchStack(DATA_ROOTS=str(HOME / "data"), HOHMANN_ALLOW_PRIVATE_ADDRESSES="1")
    atexit.register(stack.stop)
    return stack


def move_by_run(what: str, source: str, count: int) -> Move:
    """One run of a job, asked for over the API; seconds from its claim to its end, after the commit."""
    stack = running_stack()
    extractor = {"type": "api", "url": source, "pagination": {"type": "link"}} if what == "api" else {
        "type": what, "path": source}  # fmt: skip
    loader = {"type": "duckdb", "db_path": f"{uuid.uuid4().hex}.duckdb", "table_name": "moved"}
    task = {"extractor_config": extractor, "loader_config": loader}
    body = {"job_name": f"move {what}", "schedule": "@manual", "is_active": True, "tasks": [task]}
    job = stack.call("POST", "/api/v1/jobs", body)
    run = stack.call("POST", f"/api/v1/jobs/{job['job_id']}/run")
    while (run := stack.call("GET", f"/api/v1/runs/{run['run_id']}"))["status"] not in {"success", "failed"}:
        time.sleep(0.1)
    (stack.home / "data" / loader["db_path"]).unlink()
    assert run["status"] == "success" and run["doubt"] is None, run
    assert run["rows_found"] == count, run
    return {"seconds": run["duration_seconds"], "rows": count, "peak_mb": round(run["peak_memory_mb"])}


@contextmanager
def source_of(what: str, count: int) -> Iterator[str]:
    """A file of so many rows, kept under the bench home, or the address of a running API."""
    if what != "api":
        yield str(data_file(what, count))
        return
    port = free_port()
    command = [sys.executable, "-m", "benchmarks.paged_api", str(port), str(count)]
    with subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, text=True) as server:
        try:
            assert server.stdout is not None
            server.stdout.readline()
            yield f"http://127.0.0.1:{port}/"
        finally:
            server.kill()


def data_file(kind: str, count: int) -> Path:
    """The file, made once."""
    path = HOME / "data" / f"orders-{count}.{kind}"
    if not path.exists():
        path.parent.mkdir(parents=True, exist_ok=True)
        half = path.with_suffix(".half")
        options = "FORMAT csv, HEADER" if kind == "csv" else "FORMAT parquet, COMPRESSION snappy"
        duckdb.execute(f"COPY (SELECT {COLUMNS} FROM range({count}) AS r(i)) TO '{half}' ({options})")
        half.rename(path)
    return path


def table_of(what: str, moves: dict[str, list[Move]]) -> list[list[str]]:
    """One line for each contender."""
    limit = [one["seconds"] for one in moves["limit"]]
    lines = []
    for who, done in moves.items():
        seconds = [one["seconds"] for one in done]
        ratio = statistics.median(best / own for best, own in zip(limit, seconds, strict=True))
        peak = max(one["peak_mb"] for one in done)
        rate = done[0]["rows"] / statistics.median(seconds)
        lines.append([what, who, spread(seconds), f"{rate:,.0f}", str(peak), f"{ratio:.2f}"])
    return lines


def measure_memory(chosen: argparse.Namespace) -> None:
    """Peak memory of ours, for the rows asked for and four times as many."""
    rows = []
    for what in chosen.what:
        count = chosen.api_rows if what == "api" else chosen.rows
        peaks = []
        for factor in (1, 4):
            with source_of(what, count * factor) as source:
                peaks.append(move("run", what, source, count * factor)["peak_mb"])
        rows.append([what, f"{count:,}", peaks[0], f"{4 * count:,}", peaks[1]])
    report("move-data-memory", ["path", "rows", "peak MB", "four times", "peak MB there"], rows)


if __name__ == "__main__":
    main()
