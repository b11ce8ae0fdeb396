import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.sync import memory
from tests.sync.conftest import Lab, context_at, plan_of
from webapp.engine.connectors.base import Landed, Write
from webapp.engine.connectors.duckdb.writer import DuckDBWriter
from webapp.engine.errors import EngineError, Kind, Origin
from webapp.engine.sync.plan import StreamPlan, StreamReceipt, StreamStatus
from webapp.engine.sync.runner import run_sync

Fill = Callable[..., None]
COLUMNS = {"id": "BIGINT", "name": "VARCHAR", "seen": "BIGINT"}


def rows(count: int, text: str = "x") -> list[tuple[Any, ...]]:
    return [(n, f"{text}{n}", n) for n in range(count)]


def log_plan(**facts: Any) -> StreamPlan:
    return plan_of("t", facts.pop("columns", COLUMNS), facts.pop("write", Write.APPEND), "seen", **facts)


def test_new_and_wider_columns_are_applied_and_told(lab: Lab, fill: Fill) -> None:
    narrow = {"id": "INTEGER", "name": "VARCHAR", "seen": "BIGINT"}
    fill("t", narrow, rows(3))
    lab.one(log_plan(columns=narrow))
    wide = {**COLUMNS, "extra": "BOOLEAN"}
    fill("t", wide, [*((n, f"x{n}", n, True) for n in range(3)), (2**40, "x", 3, False)])
    receipt = lab.one(log_plan(columns=wide))
    assert receipt.schema_changes == ["column extra added as BOOLEAN", "column id widened from INTEGER to BIGINT"]
    assert receipt.rows_written == 1
    assert lab.rows("SELECT id, extra FROM t ORDER BY id") == [(0, None), (1, None), (2, None), (2**40, False)]
    assert lab.one(log_plan(columns=wide)).rows_written == 0


def test_a_column_that_is_gone_stays_empty_and_nothing_comes_twice(lab: Lab, fill: Fill) -> None:
    fill("t", COLUMNS, rows(3))
    lab.one(log_plan())
    less = {"id": "BIGINT", "seen": "BIGINT"}
    fill("t", less, [(n, n) for n in range(5)])
    lab.one(log_plan(columns=less))
    assert lab.rows("SELECT id, name FROM t ORDER BY id") == [
        (0, "x0"), (1, "x1"), (2, "x2"), (3, None), (4, None)
    ]  # fmt: skip


def test_a_breaking_change_stops_its_stream_alone(lab: Lab, fill: Fill) -> None:
    fill("t", COLUMNS, rows(3))
    lab.one(log_plan())
    broken = {**COLUMNS, "id": "DATE"}
    fill("t", broken, [])
    fill("other", COLUMNS, rows(3))
    first, second = lab.sync(log_plan(columns=broken), plan_of("other", COLUMNS))
    assert "neither can hold" in (first.error or {})["message"]
    assert first.status is StreamStatus.FAILED
    assert second.status is StreamStatus.LANDED
    assert lab.rows("SELECT count(*) FROM t") == [(3,)]


def test_a_source_that_counts_otherwise_lands_with_doubt_and_is_read_again(lab: Lab, fill: Fill) -> None:
    for write in Write:
        plan = plan_of(write.value, COLUMNS, write, "seen", primary_key=("id",))
        fill(write.value, COLUMNS, rows(10))
        lab.one(plan)
        fill(write.value, COLUMNS, rows(15))
        lab.shelf.count_off = 2
        doubtful = lab.one(plan)
        assert doubtful.status is StreamStatus.DOUBT
        assert "the source counts" in (doubtful.doubt or "")
        assert (doubtful.state_after or {}).get("value") == (doubtful.state_before or {}).get("value")
        lab.shelf.count_off = 0
        assert lab.one(plan).status is StreamStatus.LANDED
        assert lab.rows(f'SELECT count(*), count(DISTINCT id) FROM "{write.value}"') == [(15, 15)]


def test_a_first_load_in_doubt_is_read_again_from_the_start(lab: Lab, fill: Fill) -> None:
    plan = log_plan(write=Write.UPSERT, primary_key=("id",))
    fill("t", COLUMNS, rows(10))
    lab.shelf.count_off = 1
    assert lab.one(plan).status is StreamStatus.DOUBT
    lab.shelf.count_off = 0
    assert lab.one(plan).rows_written == 10


@pytest.mark.parametrize("write", list(Write))
def test_rows_that_are_not_found_afterwards_leave_the_state_behind(
    lab: Lab, fill: Fill, monkeypatch: pytest.MonkeyPatch, write: Write
) -> None:
    plan = log_plan(write=write, primary_key=("id",))
    fill("t", COLUMNS, rows(10))
    lab.one(plan)
    fill("t", COLUMNS, rows(15))
    real = DuckDBWriter.commit

    def lossy(self: DuckDBWriter, state: Any) -> Landed:
        landed = real(self, state)
        return Landed(landed.written, max(0, landed.found - 1), landed.total, generation=landed.generation)

    with monkeypatch.context() as patched:
        patched.setattr(DuckDBWriter, "commit", lossy)
        receipt = lab.one(plan)
    assert receipt.status is StreamStatus.DOUBT
    assert (receipt.state_after or {})["value"] == (None if write is Write.REPLACE else 9)
    assert lab.one(plan).status is StreamStatus.LANDED
    assert lab.rows("SELECT count(*), count(DISTINCT id) FROM t") == [(15, 15)]


def test_a_source_that_breaks_fails_its_stream_with_its_own_words(lab: Lab, fill: Fill) -> None:
    fill("bad", COLUMNS, rows(9000))
    fill("good", COLUMNS, rows(9000))
    lab.sync(plan_of("bad", COLUMNS), plan_of("good", COLUMNS))
    fill("bad", COLUMNS, rows(500_000, "a much longer text " * 3))
    count = iter(range(10**6))

    def trouble(name: str) -> None:
        if name == "bad" and next(count) > 600:
            raise EngineError("the server went away", origin=Origin.SOURCE, kind=Kind.TRANSIENT, fix="wait")

    lab.shelf.on_batch = trouble
    bad, good = lab.sync(plan_of("bad", COLUMNS), plan_of("good", COLUMNS))
    assert bad.error == {
        "message": "the server went away", "origin": "source", "kind": "transient", "fix": "wait", "permanent": False
    }  # fmt: skip
    assert good.status is StreamStatus.LANDED
    assert lab.rows("SELECT count(*) FROM bad") == [(9000,)]
    assert not lab.hidden()
    count, size = iter(range(10**6)), lab.file.stat().st_size
    [bad] = lab.sync(plan_of("bad", COLUMNS))
    assert (bad.status, bad.rows_read > 300_000) == (StreamStatus.FAILED, True)
    assert lab.file.stat().st_size <= size + 2**18


def test_a_first_load_that_fails_leaves_no_file(lab: Lab, fill: Fill) -> None:
    fill("t", COLUMNS, [(1, "a", 1), (1, "b", 1)])
    twice = lab.one(plan_of("t", COLUMNS, Write.UPSERT, primary_key=("id",)))
    assert "the key id = 1 stands in 2 rows" in (twice.error or {})["message"]
    assert not lab.file.exists()


def test_rows_without_a_key_value_are_refused(lab: Lab, fill: Fill) -> None:
    fill("t", COLUMNS, [(None, "a", 1)])
    receipt = lab.one(plan_of("t", COLUMNS, Write.UPSERT, primary_key=("id",)))
    assert "no value in the key" in (receipt.error or {})["message"]


def test_a_driver_that_fails_strangely_gives_nothing_away(lab: Lab, fill: Fill) -> None:
    fill("t", COLUMNS, rows(5))

    def trouble(name: str) -> None:
        raise RuntimeError("password=hunter2")

    lab.shelf.on_batch = trouble
    receipt = lab.one(plan_of("t", COLUMNS))
    assert (receipt.error or {})["message"] == "failed unexpectedly: RuntimeError"


def test_a_cancelled_sync_ends_soon_and_leaves_the_old_table(lab: Lab, fill: Fill) -> None:
    fill("t", COLUMNS, rows(5))
    lab.one(plan_of("t", COLUMNS))
    fill("t", COLUMNS, rows(50_000))
    stop = threading.Event()
    lab.shelf.on_batch = lambda name: (time.sleep(0.05), None)[1]
    context = context_at(lab.root, cancelled=stop.is_set)
    threading.Timer(0.3, stop.set).start()
    began = time.monotonic()
    [receipt] = run_sync(lab.spec(plan_of("t", COLUMNS)), context, lambda receipt: None)
    assert time.monotonic() - began < 3
    assert receipt.status is StreamStatus.CANCELLED
    assert lab.rows("SELECT count(*) FROM t") == [(5,)]
    assert not lab.hidden()


def test_a_listener_that_is_gone_ends_the_sync(lab: Lab, fill: Fill) -> None:
    fill("t", COLUMNS, rows(5))

    def gone(receipt: StreamReceipt) -> None:
        raise BrokenPipeError

    with pytest.raises(BrokenPipeError):
        run_sync(lab.spec(plan_of("t", COLUMNS)), lab.context, gone)
    assert not lab.file.exists()


def test_two_syncs_on_one_file_wait_for_each_other(lab: Lab, fill: Fill) -> None:
    fill("a", COLUMNS, rows(20_000))
    fill("b", COLUMNS, rows(20_000))
    found: list[StreamReceipt] = []
    threads = [
        threading.Thread(target=lambda name=name: found.extend(lab.sync(plan_of(name, COLUMNS)))) for name in "ab"
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert [receipt.status for receipt in found] == [StreamStatus.LANDED] * 2
    assert lab.rows("SELECT (SELECT count(*) FROM a), (SELECT count(*) FROM b)") == [(20_000, 20_000)]


CHILD = """
import json, sys, time
from pathlib import Path
from types import SimpleNamespace
from tests.sync import memory
from tests.sync.conftest import context_at, plan_of
from webapp.engine.connectors import registry
from webapp.engine.sync.plan import SyncSpec
from webapp.engine.sync.runner import run_sync
columns = json.loads(sys.argv[2])
registry._foreign = lambda group: {"memory": SimpleNamespace(load=lambda: memory.MemorySource)}
memory.SHELF.tables["t"] = memory.table(columns, [(n, "new", n) for n in range(400_000)])
def slow(name):
    print("batch", flush=True)
    time.sleep(0.005)
memory.SHELF.on_batch = slow
spec = SyncSpec("memory", {}, "duckdb", {"path": "lake.duckdb"}, [plan_of("t", columns)])
run_sync(spec, context_at(Path(sys.argv[1])), lambda receipt: None)
"""


def test_a_killed_sync_leaves_the_old_table_and_the_next_one_cleans_up(lab: Lab, fill: Fill) -> None:
    fill("t", COLUMNS, rows(5, "old"))
    lab.one(plan_of("t", COLUMNS))
    repository = Path(memory.__file__).parents[2]
    child = subprocess.Popen(
        [sys.executable, "-c", CHILD, str(lab.root), json.dumps(COLUMNS)], cwd=repository, stdout=subprocess.PIPE
    )
    assert child.stdout is not None
    with child.stdout:
        for _ in range(60):
            assert child.stdout.readline()
        os.kill(child.pid, signal.SIGKILL)
    child.wait()
    assert lab.one(plan_of("t", COLUMNS)).status is StreamStatus.LANDED
    assert lab.rows("FROM t LIMIT 1")[0][1].startswith("old")
    assert not lab.hidden()


def test_progress_is_told_while_a_stream_runs(lab: Lab, fill: Fill, monkeypatch: pytest.MonkeyPatch) -> None:
    fill("t", COLUMNS, rows(20_000))
    lab.shelf.on_batch = lambda name: time.sleep(0.05)
    lab.one(plan_of("t", COLUMNS), parallel=1)
    told = [(receipt.status, receipt.rows_read) for receipt in lab.told]
    assert told[0] == (StreamStatus.RUNNING, 0)
    assert told[-1] == (StreamStatus.LANDED, 20_000)
    assert any(0 < read < 20_000 for _, read in told)
    assert len(told) < 12


def test_a_view_and_a_hidden_name_are_no_targets(lab: Lab, fill: Fill) -> None:
    import duckdb

    from webapp.engine.connectors.base import Target

    with duckdb.connect(str(lab.file)) as connection:
        connection.execute("CREATE VIEW t AS SELECT 1 AS one")
    fill("t", COLUMNS, rows(5))
    first, second = lab.sync(plan_of("t", COLUMNS), plan_of("t", COLUMNS, target=Target("_hohmann", "state")))
    assert "is a view" in (first.error or {})["message"]
    assert "cannot be a name" in (second.error or {})["message"]
