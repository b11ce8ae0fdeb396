"""One move in a process of its own: `python -m benchmarks.moving <who> <what> <source> <database>`.

Who: `ours` (run_task) or `limit` (what DuckDB and PyArrow do when nothing stands around them). What: csv, parquet, api.
Prints seconds of the work itself (without imports), rows found and peak memory as JSON.
"""

import json
import resource
import sys
import time
from pathlib import Path

import duckdb
import pyarrow as pa
import pyarrow.json as pj
import urllib3

PAGES_A_BATCH = 20


def limit_file(reader: str, source: str, database: str) -> int:
    """One statement inside DuckDB with its own defaults."""
    with duckdb.connect(database) as connection:
        connection.execute(f"CREATE OR REPLACE TABLE moved AS SELECT * FROM {reader}('{source}')")
        row = connection.execute("SELECT count(*) FROM moved").fetchone()
    return int(row[0]) if row else 0


def limit_api(source: str, database: str) -> int:
    """Pages over a kept connection, each read by PyArrow, twenty inserted at a time."""
    found = 0
    with duckdb.connect(database) as connection:
        for number, batch in enumerate(_batches(source)):
            connection.register("batch", pa.concat_tables(batch, promote_options="permissive"))
            into = "INSERT INTO moved BY NAME" if number else "CREATE TABLE moved AS"
            found += connection.execute(f"{into} SELECT * FROM batch").fetchone()[0]
    return found


def _batches(source: str):
    pool = urllib3.connection_from_url(source, maxsize=1)
    batch, path = [], "/"
    while path:
        answer = pool.request("GET", path)
        wrapped = b'{"page":' + answer.data + b"}"
        options = pj.ReadOptions(block_size=len(wrapped) + 16)
        page = pj.read_json(pa.BufferReader(wrapped), read_options=options)
        batch.append(pa.Table.from_struct_array(page.column(0).chunk(0).values))
        path = answer.headers.get("Link", "").partition("<")[2].partition(">")[0]
        if len(batch) == PAGES_A_BATCH or not path:
            yield batch
            batch = []


def ours(what: str, source: str, database: str) -> int:
    """The engine as the worker's child calls it."""
    from webapp.engine.context import Context, Silence
    from webapp.engine.tasks import run_task

    folder = Path(database).parent
    context = Context(
        data_root=folder,
        allowed_roots=(Path(source).parent,) if what != "api" else (),
        warehouse=folder / "warehouse.duckdb",
        temp=folder / "temp",
        reporter=Silence(),
        allow_private_addresses=True,
    )
    extractor = {"type": what, "url": source, "pagination": {"type": "link"}} if what == "api" else {
        "type": what, "path": source}  # fmt: skip
    receipt = run_task(extractor, {"type": "duckdb", "db_path": database, "table_name": "moved"}, context)
    assert receipt.doubt is None, receipt.doubt
    return receipt.rows_found


def main() -> None:
    """Move once and tell how it went."""
    who, what, source, database = sys.argv[1:5]
    if who == "ours":
        import webapp.engine.flow  # noqa: F401  the worker's children are forked with this loaded
    began = time.perf_counter()
    if who == "ours":
        rows = ours(what, source, database)
    elif what == "api":
        rows = limit_api(source, database)
    else:
        rows = limit_file(f"read_{what}", source, database)
    seconds = time.perf_counter() - began
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024
    print(json.dumps({"seconds": seconds, "rows": rows, "peak_mb": peak}))


if __name__ == "__main__":
    main()
