"""dlt copies a PostgreSQL table with its fastest documented backend: `sync_dlt.py <duckdb | parquet> <url> <folder>`.

Prints seconds and CPU seconds of the work itself (without imports), rows found and peak memory as JSON.
"""

import json
import resource
import sys
import time
from pathlib import Path

import dlt
import duckdb
from dlt.sources.sql_database import sql_table


def main():
    into, url, folder = sys.argv[1], sys.argv[2], Path(sys.argv[3])
    began, worked = time.perf_counter(), time.process_time()
    table = sql_table(url, table="moved", backend="connectorx", reflection_level="full", backend_kwargs={"conn": url})
    if into == "duckdb":
        destination = dlt.destinations.duckdb(str(folder / "target.duckdb"))
    else:
        destination = dlt.destinations.filesystem(bucket_url=(folder / "lake").as_uri())
    pipeline = dlt.pipeline(
        pipeline_name="bench", pipelines_dir=str(folder / "dlt"), destination=destination, dataset_name="peer"
    )
    pipeline.run(table, loader_file_format="parquet", write_disposition="replace")
    seconds, cpu = time.perf_counter() - began, time.process_time() - worked
    where = "peer.moved" if into == "duckdb" else f"'{folder}/lake/peer/moved/*.parquet'"
    with duckdb.connect(str(folder / "target.duckdb")) as connection:
        rows = connection.execute(f"SELECT count(*) FROM {where}").fetchone()[0]
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024
    print(json.dumps({"seconds": seconds, "rows": rows, "peak_mb": peak, "cpu": cpu}))


if __name__ == "__main__":
    main()
