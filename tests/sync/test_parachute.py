import hashlib
import shutil
from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import Any

import duckdb
import pytest

from tests.support import disks
from tests.sync.conftest import Lab, plan_of
from webapp.engine.connectors.base import Generation, Landed, Target, Write
from webapp.engine.connectors.duckdb.destination import DuckDBDestination
from webapp.engine.connectors.duckdb.spec import DuckDBDestinationSpec
from webapp.engine.errors import EngineError
from webapp.engine.sync.plan import StreamPlan, StreamStatus

Fill = Callable[..., None]
COLUMNS = {"id": "BIGINT", "name": "VARCHAR", "seen": "BIGINT"}
TABLE = Target("", "t")


def destination(lab: Lab) -> DuckDBDestination:
    return DuckDBDestination(DuckDBDestinationSpec(path="lake.duckdb"), lab.context)


def kept(lab: Lab) -> list[Generation]:
    with destination(lab).open() as session:
        return session.generations(TABLE)


def restore(lab: Lab, name: str, state: dict[str, Any] | None = None) -> Landed:
    with destination(lab).open() as session:
        return session.restore(TABLE, name, state)


def upsert_plan() -> StreamPlan:
    return plan_of("t", COLUMNS, Write.UPSERT, "seen", primary_key=("id",))


def test_a_replaced_table_comes_back_and_the_other_is_kept_in_turn(lab: Lab, fill: Fill) -> None:
    fill("t", COLUMNS, [(1, "old", 1)])
    assert lab.one(plan_of("t", COLUMNS)).generation == ""
    fill("t", COLUMNS, [(2, "new", 2), (3, "new", 3)])
    name = lab.one(plan_of("t", COLUMNS)).generation
    assert [(one.name, one.rows) for one in kept(lab)] == [(name, 1)]
    assert restore(lab, name).total == 1
    assert lab.rows("FROM t") == [(1, "old", 1)]
    [back] = kept(lab)
    restore(lab, back.name)
    assert lab.rows("SELECT count(*) FROM t") == [(2,)]


def test_only_the_last_replaced_table_is_kept(lab: Lab, fill: Fill) -> None:
    for number in range(4):
        fill("t", COLUMNS, [(number, "x", 1)])
        lab.one(plan_of("t", COLUMNS))
    assert len(kept(lab)) == 1
    assert lab.rows("SELECT count(*) FROM duckdb_tables() WHERE table_name LIKE '_hohmann_parachute%'") == [(1,)]


def test_upserts_are_undone_back_to_any_of_them(lab: Lab, fill: Fill) -> None:
    contents, names = [], []
    for number in range(4):
        fill("t", COLUMNS, [(n, f"v{number}", number) for n in range(number, 5 + number)])
        receipt = lab.one(upsert_plan())
        names.append(receipt.generation)
        contents.append(sorted(lab.rows("FROM t")))
    restore(lab, names[3])
    assert sorted(lab.rows("FROM t")) == contents[2]
    restore(lab, names[1], {"epoch": 0, "cursor": "seen", "value": 0})
    assert sorted(lab.rows("FROM t")) == contents[0]
    assert kept(lab) == []
    with destination(lab).open() as session:
        assert (session.state(TABLE) or {})["value"] == 0
    with pytest.raises(EngineError, match="no longer kept"):
        restore(lab, names[1])


def test_an_append_is_undone_though_equal_rows_were_there_before(lab: Lab, fill: Fill) -> None:
    plan = plan_of("t", COLUMNS, Write.APPEND)
    for _ in range(3):
        fill("t", COLUMNS, [(1, "same", 1), (2, None, 2)])
        receipt = lab.one(plan)
    wider = {**COLUMNS, "id": "HUGEINT", "more": "DOUBLE"}
    fill("t", wider, [(5, "wide", 1, 0.5)])
    last = lab.one(plan_of("t", wider, Write.APPEND))
    assert last.rows_total == 7
    restore(lab, receipt.generation)
    assert sorted(lab.rows("SELECT id::BIGINT, seen FROM t")) == [(1, 1), (1, 1), (2, 2), (2, 2)]


def test_after_going_back_an_append_takes_what_was_undone_once(lab: Lab, fill: Fill) -> None:
    plan = plan_of("t", COLUMNS, Write.APPEND, "seen")
    have = [(n, "x", 5) for n in range(10)]
    fill("t", COLUMNS, have)
    lab.one(plan)
    have += [(10, "x", 5), (11, "x", 6)]
    fill("t", COLUMNS, have)
    receipt = lab.one(plan)
    restore(lab, receipt.generation, receipt.state_before)
    assert lab.rows("SELECT count(*) FROM t") == [(10,)]
    assert lab.one(plan).rows_written == 2
    assert sorted(lab.rows("FROM t")) == have


def test_a_state_without_what_tells_rows_apart_repeats_none(lab: Lab, fill: Fill) -> None:
    plan = plan_of("t", COLUMNS, Write.APPEND, "seen")
    fill("t", COLUMNS, [(1, "x", 5)])
    lab.one(plan)
    fill("t", COLUMNS, [(1, "x", 5), (2, "x", 6)])
    receipt = lab.one(plan)
    restore(lab, receipt.generation, {**(receipt.state_before or {}), "note": "by hand"})
    lab.one(plan)
    assert lab.rows("SELECT id FROM t ORDER BY id") == [(1,), (2,)]


def test_old_generations_go(lab: Lab, fill: Fill) -> None:
    for number in range(3):
        fill("t", COLUMNS, [(number, "x", number)])
        lab.one(upsert_plan())
    with duckdb.connect(str(lab.file)) as connection:
        connection.execute("UPDATE _hohmann.generations SET kept_at = kept_at - INTERVAL 4 DAY")
    fill("t", COLUMNS, [(9, "x", 9)])
    assert [one.name for one in kept(lab)] != []
    name = lab.one(upsert_plan()).generation
    assert [one.name for one in kept(lab)] == [name]


def test_nothing_is_kept_when_nobody_wants_it(lab: Lab, fill: Fill) -> None:
    for number in range(3):
        fill("t", COLUMNS, [(1, "x", number)])
        assert lab.one(upsert_plan(), keep_days=0).generation == ""
        assert lab.one(plan_of("t", COLUMNS), keep_days=0).generation == ""
    assert kept(lab) == []
    assert lab.rows("SELECT count(*) FROM duckdb_tables() WHERE starts_with(table_name, '_hohmann_')") == [(0,)]


def test_a_destination_is_tested_without_a_trace(lab: Lab) -> None:
    steps = list(destination(lab).check())
    assert [(step.name, step.ok) for step in steps] == [("resolve", True), ("connect", True), ("write", True)]
    assert not lab.file.exists()
    lab.file.write_text("this is no database, but it is long enough to be looked at " * 100)
    failed = list(destination(lab).check())[-1]
    assert (failed.name, failed.ok) == ("connect", False)
    assert "not a DuckDB database" in failed.message
    outside = DuckDBDestination(DuckDBDestinationSpec(path="/etc/x.duckdb"), lab.context)
    assert [(step.name, step.ok) for step in outside.check()] == [("resolve", False)]


def test_the_warehouse_is_a_destination(lab: Lab, fill: Fill) -> None:
    warehouse = DuckDBDestination(DuckDBDestinationSpec.model_validate({"path": "warehouse"}), lab.context)
    assert all(step.ok for step in warehouse.check())
    with warehouse.open() as session:
        assert session.columns(TABLE) is None


def test_rows_are_previewed(lab: Lab, fill: Fill) -> None:
    fill("t", COLUMNS, [(n, "x", n) for n in range(9)])
    lab.one(plan_of("t", COLUMNS))
    with destination(lab).open() as session:
        assert session.preview(TABLE, limit=4).num_rows == 4


@pytest.fixture
def small_disk(lab: Lab) -> Iterator[Lab]:
    """The lake on a disk of 24 megabytes."""
    with disks.small_disk(lab.root / "small", megabytes=24) as disk:
        lab.root = disk
        lab.context = replace(lab.context, data_root=disk, keep_free_percent=60.0)
        yield lab


def test_kept_contents_are_let_go_oldest_first_when_the_disk_fills(small_disk: Lab, fill: Fill) -> None:
    names = []
    for number in range(4):
        table = f"t{number}"
        for attempt in range(2):
            fill(
                table,
                COLUMNS,
                [(n, hashlib.sha256(b"%d %d %d" % (n, number, attempt)).hexdigest(), n) for n in range(24_000)],
            )
            receipt = small_disk.one(plan_of(table, COLUMNS))
            assert receipt.error is None
        names.append(receipt.generation)
    with destination(small_disk).open() as session:
        left = [bool(session.generations(Target("", f"t{number}"))) for number in range(4)]
    used = shutil.disk_usage(small_disk.root)
    assert left == sorted(left), f"the newest stay: {used}"
    assert not left[0], used
    assert left[-1]
    assert names[-1]
    assert small_disk.rows("SELECT (SELECT count(*) FROM t0) + (SELECT count(*) FROM t3)") == [(48_000,)]


def test_a_receipt_names_no_content_that_had_to_go(lab: Lab, fill: Fill) -> None:
    lab.context = replace(lab.context, keep_free_percent=100.0)
    for number in range(2):
        fill("t", COLUMNS, [(number, "x", 1)])
        receipt = lab.one(plan_of("t", COLUMNS))
    assert (receipt.status, receipt.generation) == (StreamStatus.LANDED, "")
    assert kept(lab) == []
    assert lab.rows("FROM t") == [(1, "x", 1)]
