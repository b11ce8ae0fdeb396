import dataclasses
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import duckdb
import pytest

from tests.sync import memory
from webapp.engine.connectors import registry
from webapp.engine.connectors.base import Column, Mode, Target, Write
from webapp.engine.context import Context, Silence
from webapp.engine.sync import stream
from webapp.engine.sync.plan import StreamPlan, StreamReceipt, SyncSpec
from webapp.engine.sync.runner import run_sync


@dataclasses.dataclass
class Lab:
    """A data folder with one DuckDB file, and a source in memory."""

    root: Path
    context: Context
    shelf: memory.Shelf
    told: list[StreamReceipt] = dataclasses.field(default_factory=list)

    @property
    def file(self) -> Path:
        return self.root / "lake.duckdb"

    def spec(self, *plans: StreamPlan, **facts: Any) -> SyncSpec:
        return SyncSpec("memory", {}, "duckdb", {"path": "lake.duckdb"}, plans, **facts)

    def sync(self, *plans: StreamPlan, **facts: Any) -> list[StreamReceipt]:
        return run_sync(self.spec(*plans, **facts), self.context, self._tell)

    def one(self, plan: StreamPlan, **facts: Any) -> StreamReceipt:
        [receipt] = self.sync(plan, **facts)
        return receipt

    def _tell(self, receipt: StreamReceipt) -> None:
        self.told.append(dataclasses.replace(receipt))

    def rows(self, sql: str) -> list[tuple[Any, ...]]:
        with duckdb.connect(str(self.file), read_only=True) as connection:
            return connection.execute(sql).fetchall()

    def hidden(self) -> list[str]:
        found = self.rows("SELECT table_name FROM duckdb_tables() WHERE table_name LIKE '_hohmann_stage%'")
        return [row[0] for row in found]


@pytest.fixture
def lab(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Lab]:
    shelf = memory.Shelf()
    monkeypatch.setattr(memory, "SHELF", shelf)
    ours = {"memory": SimpleNamespace(load=lambda: memory.MemorySource)}
    monkeypatch.setattr(registry, "_foreign", lambda group: ours if group == "hohmann.sources" else {})
    monkeypatch.setattr(stream, "GRACE", 0.01)
    yield Lab(tmp_path, context_at(tmp_path), shelf)


def context_at(root: Path, **facts: Any) -> Context:
    known = {"threads": 2, "lock_timeout": 20.0, **facts}
    return Context(root, (), root / "warehouse.duckdb", root / "tmp", Silence(), **known)


def plan_of(
    name: str, columns: dict[str, str], write: Write = Write.REPLACE, cursor: str | None = None, **facts: Any
) -> StreamPlan:
    known: dict[str, Any] = {"target": Target("", name), "mode": Mode.INCREMENTAL if cursor else Mode.FULL_REFRESH}
    return StreamPlan(
        "",
        name,
        tuple(Column(column, kind) for column, kind in columns.items()),
        **{**known, "write": write, "cursor": cursor, **facts},
    )


@pytest.fixture
def fill(lab: Lab) -> Callable[..., None]:
    def put(name: str, columns: dict[str, str], rows: Any) -> None:
        lab.shelf.tables[name] = memory.table(columns, list(rows))

    return put
