"""A small world for loads: a data folder, a warehouse, and a reporter that remembers what it heard."""

import csv
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import duckdb
import pytest

from webapp.engine.context import Context
from webapp.engine.tasks import Receipt, run_task


@dataclass
class Heard:
    """A reporter that remembers."""

    logs: list[tuple[str, str]] = field(default_factory=list)
    started: list[str] = field(default_factory=list)
    ended: list[str] = field(default_factory=list)
    moved: list[tuple[int, int, int, float | None]] = field(default_factory=list)

    def log(self, level: str, message: str) -> None:
        self.logs.append((level, message))

    def step_started(self, name: str) -> None:
        self.started.append(name)

    def step_ended(self, name: str) -> None:
        self.ended.append(name)

    def progress(self, rows_read: int, rows_written: int, bytes_read: int, fraction: float | None) -> None:
        self.moved.append((rows_read, rows_written, bytes_read, fraction))


class World:
    """A data folder with what a test needs to load and to look at the result."""

    def __init__(self, root: Path) -> None:
        self.data = root / "data"
        self.data.mkdir()
        self.temp = root / "temp"
        self.heard = Heard()
        self.outside = root / "outside"
        self.outside.mkdir()
        self.warehouse = root / "warehouse.duckdb"

    def context(self, **changes: Any) -> Context:
        given: dict[str, Any] = {
            "data_root": self.data,
            "allowed_roots": (),
            "warehouse": self.warehouse,
            "temp": self.temp,
            "reporter": self.heard,
            "lock_timeout": 5.0,
            "threads": 2,
        }
        return Context(**{**given, **changes})

    def write(self, name: str, content: str | bytes) -> Path:
        path = self.data / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content if isinstance(content, bytes) else content.encode())
        return path

    def write_csv(self, name: str, rows: Iterable[Sequence[Any]]) -> Path:
        path = self.data / name
        path.parent.mkdir(parents=True, exist_ok=True)
        with path.open("w", newline="") as out:
            csv.writer(out).writerows(rows)
        return path

    def load(
        self,
        path: str,
        *,
        table: str = "orders",
        db: str = "out.duckdb",
        mode: str = "replace",
        key: Sequence[str] = (),
        context: Context | None = None,
        **options: Any,
    ) -> Receipt:
        kind = "parquet" if ".parquet" in path or ".pq" in path else "csv"
        extractor = {"type": kind, "path": path, **options}
        loader = {"type": "duckdb", "db_path": db, "table_name": table, "mode": mode, "key": list(key)}
        return run_task(extractor, loader, context or self.context())

    def query(self, sql: str, db: str = "out.duckdb") -> list[tuple[Any, ...]]:
        with duckdb.connect(str(self.data / db), read_only=True) as connection:
            return connection.execute(sql).fetchall()


@pytest.fixture
def world(tmp_path: Path) -> World:
    return World(tmp_path)


@pytest.fixture
def make_parquet(world: World) -> Callable[[str, str], Path]:
    def make(name: str, query: str) -> Path:
        path = world.data / name
        path.parent.mkdir(parents=True, exist_ok=True)
        duckdb.execute(f"COPY ({query}) TO '{path}' (FORMAT parquet)")
        return path

    return make
