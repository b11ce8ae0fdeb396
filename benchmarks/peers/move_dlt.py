"""dlt moves the same data with the fastest settings that its documentation offers: `move_dlt.py <what> <source> <db>`.

Prints seconds of the work itself (without imports), rows found and peak memory as JSON.
"""

import json
import resource
import sys
import time
from pathlib import Path

import dlt
import duckdb
import pyarrow.parquet as pq
from dlt.common.libs.pyarrow import py_arrow_to_table_schema_columns
from dlt.sources.filesystem import filesystem, read_csv_duckdb
from dlt.sources.rest_api import rest_api_source

NAME = "moved"


def csv(source):
    folder, name = Path(source).parent, Path(source).name
    files = filesystem(bucket_url=folder.as_uri(), file_glob=name)
    return (files | read_csv_duckdb(chunk_size=100_000, use_pyarrow=True)).with_name(NAME)


def parquet(source):
    metadata = pq.read_metadata(source)

    @dlt.resource(name=NAME, columns=py_arrow_to_table_schema_columns(metadata.schema.to_arrow_schema()))
    def whole_file():
        yield dlt.mark.with_file_import(source, "parquet", metadata.num_rows)

    return whole_file


def api(source):
    return rest_api_source({
        "client": {"base_url": source, "paginator": {"type": "header_link"}},
        "resources": [{"name": NAME, "endpoint": {"path": "/", "data_selector": "$"}}],
    })  # fmt: skip


def main():
    what, source, database = sys.argv[1:4]
    resource_or_source = {"csv": csv, "parquet": parquet, "api": api}[what](source)
    began = time.perf_counter()
    pipeline = dlt.pipeline(
        pipeline_name="bench",
        pipelines_dir=str(Path(database).parent / "dlt"),
        destination=dlt.destinations.duckdb(database),
        dataset_name="peer",
    )
    pipeline.run(resource_or_source, loader_file_format="parquet", write_disposition="replace")
    seconds = time.perf_counter() - began
    with duckdb.connect(database, read_only=True) as connection:
        rows = connection.execute(f"SELECT count(*) FROM peer.{NAME}").fetchone()[0]
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024
    print(json.dumps({"seconds": seconds, "rows": rows, "peak_mb": peak}))


main()
