"""What every source is for the loading: a table expression inside DuckDB, and the facts to check the load against."""

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import duckdb

from webapp.engine.errors import EngineError


@dataclass(frozen=True)
class Source:
    """A relation that one statement can read.

    ``relation`` is SQL with ``$1 ...`` for ``parameters``; ``files`` are the paths that DuckDB must be allowed to read.
    ``rows`` is how many records the source says it has, None when only the reading tells; ``count`` is a query that
    asks the files themselves. ``without_columns`` says that there is no row and no column to be known.
    ``rows_estimate`` and ``size`` (bytes) are for progress. ``tables`` are Arrow tables to register by name.
    ``ordered`` asks that the table's rows come in the source's order. ``explain`` turns DuckDB's complaint about this
    source into facts. ``wider`` gives the same source after a look at all of its rows, when an error shows that types
    guessed from the first ones do not fit; ``retyped`` gives the same source with some columns read as other types,
    where the source can do that.
    """

    relation: str
    parameters: list[Any]
    files: tuple[Path, ...] = ()
    rows: int | None = None
    without_columns: bool = False
    count: str | None = None
    rows_estimate: int = 0
    size: int = 0
    ordered: bool = True
    tables: dict[str, Any] = field(default_factory=dict)
    explain: Callable[[duckdb.Error], EngineError | None] = lambda _error: None
    wider: Callable[[duckdb.Error], "Source | None"] = lambda _error: None
    retyped: "Callable[[dict[str, str]], Source] | None" = None
