"""How fast a MariaDB table lands in DuckDB: `python -m benchmarks.sync_mariadb`.

The same 5,000,000 rows x 10 columns as in `sync_postgres`. ConnectorX's own stream of batches inserted into DuckDB, and
ours (`run_sync`, with its counts and commit), in turn, each in a fresh process. The table is in a database of its own
on BENCH_MYSQL_URL's server (mysql://root@127.0.0.1:3306), else on one that is started on loopback; dropped at the end.
"""

import argparse
import os
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from urllib.parse import urlsplit

import pymysql

from benchmarks.sync_postgres import copy, in_turns, report_copies

COLUMNS = """SELECT
    seq AS id, crc32(seq) % 100000 AS customer_id,
    cast('2026-01-01' AS datetime(6)) + INTERVAL (seq * 7) % 31536000 SECOND AS created_at,
    CASE WHEN crc32(seq + 1) % 10 >= 3
         THEN cast('2026-01-01' AS datetime(6)) + INTERVAL (seq * 13) % 31536000 SECOND END AS updated_at,
    cast((crc32(seq + 2) % 1000000) / 100 AS double) AS amount,
    CASE WHEN crc32(seq + 3) % 10 > 0 THEN cast(crc32(seq + 4) / 1e6 AS double) END AS score,
    elt(1 + crc32(seq + 5) % 4, 'new', 'paid', 'sent', 'done') AS status,
    elt(1 + crc32(seq + 6) % 6, 'DE', 'FR', 'US', 'NO', 'PL', 'IT') AS country,
    concat('item-', crc32(seq + 7) % 5000) AS item,
    CASE WHEN crc32(seq + 8) % 10 >= 3 THEN concat('note ', crc32(seq + 9) % 1000000) END AS note
FROM seq_1_to_{rows}"""


def main() -> None:
    """Measure and print the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rows", type=int, default=5_000_000)
    parser.add_argument("--rounds", type=int, default=3)
    chosen = parser.parse_args()
    with filled(chosen.rows) as url:
        copies = in_turns(
            ("limit", "ours"), chosen.rounds, lambda name: copy(name, "mysql", "duckdb", url, chosen.rows)
        )
    named = {"connectorx": copies["limit"], "ours": copies["ours"]}
    report_copies("sync-mariadb-duckdb", named, table_rows=chosen.rows, rounds=chosen.rounds)


@contextmanager
def filled(rows: int) -> Iterator[str]:
    """The URL of a database that holds the table."""
    given = os.environ.get("BENCH_MYSQL_URL")
    if given:
        with _table(given.rstrip("/"), rows) as url:
            yield url
        return
    from tests.support.mariadb import MariaServer

    server = MariaServer()
    try:
        with _table(f"mysql://root@127.0.0.1:{server.port}", rows) as url:
            yield url
    finally:
        server.stop()


@contextmanager
def _table(server: str, rows: int) -> Iterator[str]:
    parts, name = urlsplit(server), f"bench_{uuid.uuid4().hex[:12]}"
    connection = pymysql.connect(
        host=parts.hostname, port=parts.port or 3306, user=parts.username, password=parts.password or "",
        autocommit=True,
    )  # fmt: skip
    try:
        with connection.cursor() as cursor:
            cursor.execute(f"CREATE DATABASE {name}")
            cursor.execute(f"USE {name}")
            cursor.execute(f"CREATE TABLE moved (PRIMARY KEY (id)) {COLUMNS.format(rows=rows)}")
            cursor.execute("ANALYZE TABLE moved")
        yield f"{server}/{name}"
    finally:
        connection.ping(reconnect=True)
        with connection.cursor() as cursor:
            cursor.execute(f"DROP DATABASE IF EXISTS {name}")
        connection.close()


if __name__ == "__main__":
    main()
