"""Run as a process by `sample.py`: drop one table from a DuckDB file, and the file when it holds nothing else."""

import sys
from pathlib import Path

from webapp.engine.context import Context, Silence
from webapp.engine.database import writing
from webapp.engine.errors import EngineError
from webapp.engine.names import TableName


def main(file: str, table: str, temp: str) -> int:
    """Returns 0 when the table is gone; otherwise says on standard error why not."""
    database = Path(file)
    context = Context(
        data_root=database.parent,
        allowed_roots=(),
        warehouse=database,
        temp=Path(temp),
        reporter=Silence(),
        lock_timeout=15.0,
    )
    try:
        with writing(database, context, shown=database.name, may_read=()) as connection:
            connection.execute(f"DROP TABLE IF EXISTS {TableName.parse(table).sql}")
            left = connection.execute("SELECT count(*) FROM duckdb_tables() WHERE NOT internal").fetchone()
            if left == (0,):
                connection.close()
                database.unlink()  # still under the lock, so nobody's fresh load is lost
    except EngineError as error:
        sys.stderr.write(error.message + "\n")
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
