"""Whether four times the rows take the same memory: `python -m benchmarks.sync_memory`.

One PostgreSQL table of 5,000,000 rows and, when it has grown, of 20,000,000, once each into DuckDB, Parquet, PostgreSQL
and Iceberg, in fresh processes. The database is as in `sync_postgres`.
"""

import argparse

from benchmarks.common import report
from benchmarks.sync_postgres import COLUMNS, ask, copy, fill, own_database

INTO = ("duckdb", "parquet", "postgres", "iceberg")


def main() -> None:
    """Measure and print the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rows", type=int, default=5_000_000)
    parser.add_argument("--rounds", type=int, default=1, help="the greatest peak of so many copies is told")
    chosen = parser.parse_args()
    rows, many = chosen.rows, 4 * chosen.rows
    with own_database() as url:
        fill(url, rows)
        small = {into: _copies(into, url, rows, chosen.rounds) for into in INTO}
        grown = f"INSERT INTO moved {COLUMNS.format(first=rows + 1, last=many)}"
        ask(url, grown, "VACUUM (ANALYZE) moved", "CHECKPOINT")
        large = {into: _copies(into, url, many, chosen.rounds) for into in INTO}
    headings = ["into", "rows", "peak MB", "seconds", "four times", "peak MB", "seconds"]
    lines = [[into, f"{rows:,}", *small[into], f"{many:,}", *large[into]] for into in INTO]
    report("sync-memory", headings, lines, rounds=chosen.rounds)


def _copies(into: str, url: str, rows: int, rounds: int) -> list[str]:
    done = [copy("ours", "postgres", into, url, rows) for _ in range(rounds)]
    return [str(max(one["peak_mb"] for one in done)), f"{min(one['seconds'] for one in done):.1f}"]


if __name__ == "__main__":
    main()
