"""One copy of a table in a process of its own: `python -m benchmarks.syncing <who> <from> <into> <url> <folder>`.

Who: `ours` (run_sync) or `limit` (the libraries alone). From: `postgres` or `mysql`; into: `duckdb`, `parquet`,
`postgres` or `iceberg`, whatever is a file below the folder. Prints seconds and CPU seconds of the work itself
(without imports), rows found and peak memory as JSON. What servers do counts in seconds, not in CPU seconds.
"""

import importlib
import json
import resource
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import adbc_driver_postgresql.dbapi as adbc
import duckdb

HINT = {"adbc.postgresql.batch_size_hint_bytes": str(1 << 20)}
LANDED = "landed"


def main() -> None:
    """Copy once and tell how it went."""
    who, kind, into, url, folder = sys.argv[1:6]
    act: Callable[[], int]
    if who == "ours":
        act = _ours(kind, into, url, Path(folder))
    elif kind == "mysql":
        act = lambda: connectorx_limit(url, Path(folder))  # noqa: E731
        import connectorx  # noqa: F401
    else:
        act = lambda: LIMITS[into](url, Path(folder))  # noqa: E731
    began, worked = time.perf_counter(), _cpu()
    rows = act()
    seconds, cpu = time.perf_counter() - began, _cpu() - worked
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024
    print(json.dumps({"seconds": seconds, "rows": rows, "peak_mb": peak, "cpu": cpu}))


def _cpu() -> float:
    """CPU seconds of this process and of those that it has waited for."""
    used = [resource.getrusage(whose) for whose in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
    return sum(one.ru_utime + one.ru_stime for one in used)


# --- the limits ------------------------------------------------------------------------------------------------------


def duckdb_limit(url: str, folder: Path) -> int:
    """Two ADBC connections over halves of the table, each inserting into one table, without a common snapshot."""
    with duckdb.connect(str(folder / "target.duckdb")) as target:
        target.execute("SET preserve_insertion_order = false")
        with adbc.connect(url) as connection, connection.cursor() as cursor:
            cursor.execute("SELECT * FROM moved LIMIT 0")
            empty = cursor.fetch_arrow_table()
            assert empty.num_rows == 0
            target.execute("CREATE TABLE moved AS SELECT * FROM empty")
        _halves(url, target, lambda _: "INSERT INTO moved SELECT * FROM reader")
        return int(target.execute("SELECT count(*) FROM moved").fetchone()[0])


def parquet_limit(url: str, folder: Path) -> int:
    """Two ADBC connections over halves of the table, each written to a file by DuckDB."""
    with duckdb.connect() as target:
        target.execute("SET preserve_insertion_order = false")
        _halves(url, target, lambda half: f"COPY (FROM reader) TO '{folder}/{half}.parquet' (COMPRESSION snappy)")
        return int(target.execute(f"SELECT count(*) FROM '{folder}/*.parquet'").fetchone()[0])


def _halves(url: str, target: duckdb.DuckDBPyConnection, statement: Callable[[int], str]) -> None:
    with adbc.connect(url) as connection, connection.cursor() as cursor:
        cursor.execute("SELECT (pg_relation_size('moved') / 16384)::bigint")
        middle = cursor.fetchone()[0]

    def copy(half: int) -> None:
        with adbc.connect(url) as connection, connection.cursor() as cursor, target.cursor() as own:
            cursor.adbc_statement.set_options(**HINT)
            cursor.execute(f"SELECT * FROM moved WHERE ctid {('<', '>=')[half]} '({middle},0)'::tid")
            reader = cursor.fetch_record_batch()
            own.execute(statement(half))
            del reader

    threads = [threading.Thread(target=copy, args=(half,)) for half in (0, 1)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()


def postgres_limit(url: str, folder: Path) -> int:
    """psql's binary COPY piped into psql's binary COPY, into a new table."""
    table = f"limit_{folder.name.replace('-', '_')}"
    psql = ["psql", "--no-psqlrc", url, "--command"]
    subprocess.run([*psql, f'CREATE TABLE "{table}" (LIKE moved)'], check=True, capture_output=True)
    out = subprocess.Popen([*psql, "COPY moved TO STDOUT (FORMAT binary)"], stdout=subprocess.PIPE)
    take = [*psql, f'COPY "{table}" FROM STDIN (FORMAT binary)']
    said = subprocess.run(take, stdin=out.stdout, check=True, capture_output=True, text=True).stdout
    assert out.wait() == 0
    return int(said.removeprefix("COPY "))


def connectorx_limit(url: str, folder: Path) -> int:
    """ConnectorX's stream of batches, inserted into DuckDB."""
    import connectorx

    with duckdb.connect(str(folder / "target.duckdb")) as target:
        target.execute("SET preserve_insertion_order = false")
        reader = connectorx.read_sql(
            url, "SELECT * FROM moved", return_type="arrow_stream", batch_size=65_536, protocol="binary"
        )
        target.execute("CREATE TABLE moved AS SELECT * FROM reader")
        del reader
        return int(target.execute("SELECT count(*) FROM moved").fetchone()[0])


LIMITS = {
    "duckdb": duckdb_limit,
    "parquet": parquet_limit,
    "postgres": postgres_limit,
    "iceberg": parquet_limit,
}


# --- ours ------------------------------------------------------------------------------------------------------------


def config_of(url: str) -> dict[str, Any]:
    """A source's (or PostgreSQL destination's) configuration for the database of a URL."""
    parts = urlsplit(url)
    return {
        "host": parts.hostname, "port": parts.port, "database": parts.path[1:], "username": parts.username,
        "password": parts.password or "",
    }  # fmt: skip


def destination_of(into: str, url: str, folder: Path) -> tuple[str, dict[str, Any]]:
    """The type and the configuration of a destination."""
    if into == "duckdb":
        return "duckdb", {"path": str(folder / "target.duckdb")}
    if into == "postgres":
        return "postgres", config_of(url)
    if into == "parquet":
        return "s3", {"type": "PARQUET", "writer": {"local_path": str(folder / "lake")}}
    writer = {
        "catalog_type": "jdbc", "catalog_name": "bench", "iceberg_db": "bench",
        "jdbc_url": f"jdbc:sqlite:{folder / 'catalog.db'}", "iceberg_s3_path": str(folder / "lake"),
    }  # fmt: skip
    return "iceberg", {"type": "ICEBERG", "writer": writer}


LOADED = {
    "mysql": ("connectorx", "pymysql", "webapp.engine.connectors.mysql.source"),
    "postgres": ("asyncpg", "webapp.engine.connectors.postgres.session", "webapp.engine.connectors.postgres.loading"),
    "duckdb": ("webapp.engine.connectors.duckdb.writer",),
    "parquet": ("pyarrow.parquet", "webapp.engine.connectors.parquet.writer"),
    "iceberg": ("pyiceberg.catalog.sql", "pyiceberg.io.pyarrow", "webapp.engine.connectors.iceberg.writer"),
}


def _ours(kind: str, into: str, url: str, folder: Path) -> Callable[[], int]:
    """A sync run as a warm child of the worker makes it: what it needs is loaded."""
    for name in ("webapp.engine.sync.runner", *LOADED[kind], *LOADED[into]):
        importlib.import_module(name)
    from webapp.engine.connectors.base import Target
    from webapp.engine.connectors.registry import source_class
    from webapp.engine.context import Context, Silence
    from webapp.engine.sync.plan import StreamPlan, SyncSpec
    from webapp.engine.sync.runner import run_sync

    context = Context(
        folder, (folder,), folder / "warehouse.duckdb", folder / "temp", Silence(), allow_private_addresses=True
    )
    source = source_class(kind)
    given = source.Spec.model_validate(config_of(url))

    def act() -> int:
        (stream,) = source(given, context).discover(pattern="*.moved")
        plan = StreamPlan(stream.namespace, "moved", stream.columns, Target(LANDED, "moved"))
        spec = SyncSpec(kind, config_of(url), *destination_of(into, url, folder), [plan])
        (receipt,) = run_sync(spec, context, lambda receipt: None)
        assert receipt.status == "landed", (receipt.error, receipt.doubt)
        return int(receipt.rows_found or 0)

    return act


if __name__ == "__main__":
    main()
