"""How fast a PostgreSQL table lands: `python -m benchmarks.sync_postgres --into duckdb | parquet | postgres | iceberg`.

5,000,000 rows x 10 columns (ids, timestamps, doubles, short strings, nulls). The contenders take turns, each in a fresh
process with a fresh destination: the practical limit, ours (`run_sync`, with its snapshot, counts and commit) and dlt
with connectorx, its fastest backend, where it goes there. A ratio is the median of the ratios within each round.

The limits: two ADBC connections with two threads that insert (DuckDB) or write a file each (Parquet; the same beside
Iceberg, whose files are zstd); one psql COPY piped into another, both binary (PostgreSQL). The table is in a database
of its own on BENCH_POSTGRES_URL's server, else on one that is started on loopback; dropped at the end.
"""

import argparse
import json
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import psycopg2

from benchmarks.common import HOME, ROOT, fresh_database, peer_python, report, spread
from benchmarks.syncing import LANDED

DLT = ("dlt[duckdb,filesystem,sql_database]==1.31.0", "duckdb==2.0.0", "pyarrow==26.0.1", "connectorx==0.4.6",
       "psycopg[binary]==3.3.9", "sqlalchemy==2.1.9", "numpy==2.4.0", "pandas==2.3.3")  # fmt: skip
# Who goes where; the first is what the others are held against.
CONTENDERS = {
    "duckdb": ("limit", "ours", "dlt"),
    "parquet": ("limit", "ours", "dlt"),
    "postgres": ("limit", "ours"),
    "iceberg": ("limit", "ours"),
}
COLUMNS = """SELECT
    i::bigint AS id, (hashint8(i) & 2147483647) % 100000 AS customer_id,
    timestamp '2026-01-01' + ((i * 7) % 31536000) * interval '1 second' AS created_at,
    CASE WHEN (hashint8(i + 1) & 2147483647) % 10 >= 3
         THEN timestamp '2026-01-01' + ((i * 13) % 31536000) * interval '1 second' END AS updated_at,
    ((hashint8(i + 2) & 2147483647) % 1000000) / 100.0::float8 AS amount,
    CASE WHEN (hashint8(i + 3) & 2147483647) % 10 > 0 THEN (hashint8(i + 4) & 2147483647) / 1e6::float8 END AS score,
    (ARRAY['new', 'paid', 'sent', 'done'])[1 + (hashint8(i + 5) & 3)] AS status,
    (ARRAY['DE', 'FR', 'US', 'NO', 'PL', 'IT'])[1 + (hashint8(i + 6) & 2147483647) % 6] AS country,
    'item-' || (hashint8(i + 7) & 2147483647) % 5000 AS item,
    CASE WHEN (hashint8(i + 8) & 2147483647) % 10 >= 3
         THEN 'note ' || (hashint8(i + 9) & 2147483647) % 1000000 END AS note
FROM generate_series({first}::bigint, {last}) i"""
Copy = dict[str, Any]


def main() -> None:
    """Measure what is chosen and print the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--into", choices=CONTENDERS, default="duckdb")
    parser.add_argument("--rows", type=int, default=5_000_000)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--without-dlt", action="store_true")
    chosen = parser.parse_args()
    who = [name for name in CONTENDERS[chosen.into] if name != "dlt" or not chosen.without_dlt]
    if "dlt" in who:
        peer_python("dlt-postgres", *DLT)
    with own_database() as url:
        fill(url, chosen.rows)
        copies = in_turns(who, chosen.rounds, lambda name: copy(name, "postgres", chosen.into, url, chosen.rows))
    report_copies(f"sync-postgres-{chosen.into}", copies, table_rows=chosen.rows, rounds=chosen.rounds)


@contextmanager
def own_database() -> Iterator[str]:
    """The URL of an empty database that is reached over TCP, as syncs reach it."""
    if os.environ.get("BENCH_POSTGRES_URL"):
        with fresh_database("postgresql") as url:
            yield url
        return
    from tests.support.postgres import TcpPostgres

    server = TcpPostgres()
    try:
        yield f"postgresql://postgres@127.0.0.1:{server.port}/postgres"
    finally:
        server.remove()


def fill(url: str, rows: int) -> None:
    """Make the table, settled: nothing is left for the first reader to do."""
    ask(url, f"CREATE TABLE moved AS {COLUMNS.format(first=1, last=rows)}", "VACUUM (ANALYZE) moved", "CHECKPOINT")


def ask(url: str, *statements: str) -> None:
    """Execute statements, each a transaction of its own."""
    connection = psycopg2.connect(url)
    connection.autocommit = True
    with connection.cursor() as cursor:
        for statement in statements:
            cursor.execute(statement)
    connection.close()


def in_turns(who: Sequence[str], rounds: int, act: Any) -> dict[str, list[Copy]]:
    """What each contender did in each round; who begins changes from round to round."""
    copies: dict[str, list[Copy]] = {name: [] for name in who}
    for number in range(rounds):
        turn = number % len(who)
        for name in (*who[turn:], *who[:turn]):
            copies[name].append(act(name))
    return copies


def copy(who: str, kind: str, into: str, url: str, rows: int) -> Copy:
    """One copy in a fresh process; fails when the rows did not arrive."""
    HOME.mkdir(parents=True, exist_ok=True)
    folder = Path(tempfile.mkdtemp(prefix="sync-", dir=HOME))
    try:
        if who == "dlt":
            script = ROOT / "benchmarks" / "peers" / "sync_dlt.py"
            command = [peer_python("dlt-postgres", *DLT), script, into, url, folder]
        else:
            command = [sys.executable, "-m", "benchmarks.syncing", who, kind, into, url, folder]
        done = subprocess.run(list(map(str, command)), cwd=ROOT, capture_output=True, text=True)
        if done.returncode:
            raise RuntimeError(f"{who}: {done.stderr[-2000:]}")
        found: Copy = json.loads(done.stdout.splitlines()[-1])
        assert found["rows"] == rows, (who, found)
        return found
    finally:
        shutil.rmtree(folder, ignore_errors=True)
        if kind == "postgres" and into == "postgres":
            clear(url)


def clear(url: str) -> None:
    """Drop the copies, and let the server write what it still has to, so that the next one does not pay for it."""
    connection = psycopg2.connect(url)
    connection.autocommit = True
    with connection.cursor() as cursor:
        cursor.execute("SELECT relname FROM pg_class WHERE starts_with(relname, 'limit_') AND relkind = 'r'")
        for (name,) in cursor.fetchall():
            cursor.execute(f'DROP TABLE "{name}"')
        cursor.execute(f"DROP SCHEMA IF EXISTS {LANDED}, _hohmann, _hohmann_parachute CASCADE")
        cursor.execute("CHECKPOINT")
    connection.close()


def report_copies(name: str, copies: dict[str, list[Copy]], **facts: Any) -> None:
    """One line for each contender, held against the first."""
    headings = ["who", "seconds, median (min-max)", "rows/s", "peak MB", "CPU s", "rows/CPU s", "of the first"]
    report(name, headings, list(lines(copies)), **facts)


def lines(copies: dict[str, list[Copy]]) -> Iterable[list[str]]:
    """The figures of the table."""
    first = [one["seconds"] for one in next(iter(copies.values()))]
    for who, done in copies.items():
        seconds, cpu = [one["seconds"] for one in done], statistics.median(one["cpu"] for one in done)
        ratio = statistics.median(best / own for best, own in zip(first, seconds, strict=True))
        rows = done[0]["rows"]
        yield [
            who, spread(seconds), f"{rows / statistics.median(seconds):,.0f}",
            str(max(one["peak_mb"] for one in done)), f"{cpu:.2f}", f"{rows / cpu:,.0f}", f"{ratio:.2f}",
        ]  # fmt: skip


if __name__ == "__main__":
    main()
