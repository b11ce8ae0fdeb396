"""Every destination keeps the same promises: to readers of its tables, to the state, and to whoever loads."""

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import psutil
import pyarrow as pa
import pytest

from tests.connectors.contract.destinations import DESTINATIONS, TABLE, DestinationCase
from tests.connectors.contract.servers import Servers
from tests.connectors.contract.sources import PLANTED
from tests.connectors.lakes import PLAIN, Lake, crew
from tests.sync.memory import wait_until
from webapp.engine.connectors.base import Chunk, Column, Load, Target, Write, first_failure
from webapp.engine.connectors.types import arrow_schema
from webapp.engine.errors import EngineError, Origin

WIDE = (Column("id", "BIGINT", False), Column("name", "VARCHAR"), Column("extra", "DOUBLE"))


@dataclass
class Dock:
    """A destination and its case."""

    case: DestinationCase
    lake: Lake


@pytest.fixture(params=DESTINATIONS, ids=str)
def dock(request: pytest.FixtureRequest, tmp_path: Path, servers: Servers) -> Dock:
    return Dock(request.param, request.param.made(tmp_path, servers))


@pytest.fixture
def lake(dock: Dock) -> Lake:
    return dock.lake


def batches(rows: list[dict[str, Any]]) -> pa.RecordBatchReader:
    return pa.Table.from_pylist(rows, schema=arrow_schema(PLAIN)).to_reader()


def test_a_check_writes_something_small_and_leaves_nothing(lake: Lake) -> None:
    steps = list(lake.destination.check())
    assert first_failure(steps) is None, steps
    assert len({step.name for step in steps}) == len(steps)
    with lake.destination.open() as session:
        assert (session.columns(TABLE), session.state(TABLE), session.generations(TABLE)) == (None, None, [])


def test_a_check_ends_with_the_step_that_failed_and_says_what_would_help(dock: Dock) -> None:
    dock.lake.config = dock.case.spoil(dict(dock.lake.config))
    *before, last = dock.lake.destination.check()
    assert all(step.ok for step in before)
    assert (last.ok, bool(last.message), bool(last.fix)) == (False, True, True), last
    assert PLANTED not in repr([*before, last])
    with pytest.raises(EngineError) as refused:
        dock.lake.load(Write.REPLACE, crew(1))
    assert refused.value.origin in (Origin.DESTINATION, Origin.USER)
    assert PLANTED not in refused.value.message


def test_loopback_is_refused_unless_the_instance_allows_it(dock: Dock) -> None:
    if not dock.case.remote:
        pytest.skip("a folder of this machine has no address")
    dock.lake.context = replace(dock.lake.context, allow_private_addresses=False)
    last = list(dock.lake.destination.check())[-1]
    assert (last.ok, "private" in last.message) == (False, True), last
    with pytest.raises(EngineError, match="private"):
        dock.lake.load(Write.REPLACE, crew(1))


def test_a_replace_is_seen_in_one_step_with_its_state(lake: Lake) -> None:
    first = lake.load(Write.REPLACE, crew(1, 2, 3), state={"cursor": 3, "deep": ["é🚀", None]})
    assert (first.written, first.found, first.total) == (3, 3, 3)
    with lake.destination.open() as session:
        writer = session.begin(Load(TABLE, Write.REPLACE, WIDE, run_id="second"))
        rows = pa.Table.from_pylist([{"id": 9, "name": "z", "extra": 0.5}], schema=arrow_schema(WIDE))
        assert writer.write(rows.to_reader(), Chunk("all")) == 1
        assert sorted(session.preview(TABLE, limit=9)["id"].to_pylist()) == [1, 2, 3]
        assert session.state(TABLE) == {"cursor": 3, "deep": ["é🚀", None]}
        landed = writer.commit({"cursor": 9})
        assert (landed.written, landed.found, landed.total) == (1, 1, 1)
        assert [column.name for column in session.columns(TABLE) or ()] == ["id", "name", "extra"]
    assert lake.rows() == [{"id": 9, "name": "z", "extra": 0.5}]
    assert lake.state() == {"cursor": 9}


def test_an_append_adds_and_an_upsert_takes_the_place_of_what_has_its_key(lake: Lake) -> None:
    lake.load(Write.REPLACE, crew(1, 2), state={"cursor": 2})
    landed = lake.load(Write.APPEND, crew(3, 4), state={"cursor": 4})
    assert (landed.written, landed.found, landed.total) == (2, 2, 4)
    landed = lake.load(Write.UPSERT, crew(4, 5, 6, name="new"), state={"cursor": 6})
    assert (landed.found, landed.total) == (3, 6)
    assert lake.names() == {1: "a1", 2: "a2", 3: "a3", 4: "new4", 5: "new5", 6: "new6"}
    assert lake.state() == {"cursor": 6}


@pytest.mark.parametrize("write", list(Write))
def test_a_first_load_of_each_kind_makes_the_table(lake: Lake, write: Write) -> None:
    landed = lake.load(write, crew(1, 2), state={"cursor": 2})
    assert (landed.found, landed.total) == (2, 2)
    assert lake.names() == {1: "a1", 2: "a2"}


@pytest.mark.parametrize("write", list(Write))
def test_a_load_that_is_given_up_leaves_rows_state_and_no_trace(lake: Lake, write: Write) -> None:
    lake.load(Write.REPLACE, crew(1), state={"cursor": 1})
    key = ("id",) if write is Write.UPSERT else ()
    with lake.destination.open() as session:
        writer = session.begin(Load(TABLE, write, PLAIN, key=key))
        writer.write(batches(crew(1, 7, 8, name="half")), Chunk("a"))
        writer.abort()
        writer.abort()
        assert session.columns(Target("mission", "never")) is None
    assert lake.names() == {1: "a1"}
    assert lake.state() == {"cursor": 1}
    assert lake.load(write, crew(2), state={"cursor": 2}).found == 1


def test_a_source_that_fails_in_the_middle_keeps_its_own_words_and_leaves_no_table(lake: Lake) -> None:
    def broken() -> Iterator[pa.RecordBatch]:
        yield pa.RecordBatch.from_pylist(crew(1), schema=arrow_schema(PLAIN))
        raise EngineError("the server hung up", origin=Origin.SOURCE)

    with lake.destination.open() as session:
        writer = session.begin(Load(TABLE, Write.REPLACE, PLAIN))
        with pytest.raises(EngineError, match="the server hung up"):
            writer.write(pa.RecordBatchReader.from_batches(arrow_schema(PLAIN), broken()), Chunk("a"))
        writer.abort()
        assert session.columns(TABLE) is None
        assert session.state(TABLE) is None


def test_chunks_that_are_written_side_by_side_all_land(lake: Lake) -> None:
    one = lake.destination
    with one.open() as session, ThreadPoolExecutor(4 if one.parallel_writes else 1) as pool:
        writer = session.begin(Load(TABLE, Write.REPLACE, PLAIN))
        parts = [crew(*range(part * 500, part * 500 + 500)) for part in range(6)]
        written = pool.map(lambda pair: writer.write(batches(pair[1]), Chunk(str(pair[0]))), enumerate(parts))
        assert sum(written) == 3000
        assert writer.commit({}).found == 3000
    assert list(lake.names()) == list(range(3000))


def test_new_columns_and_wider_types_are_taken_and_empty_loads_keep_the_state(lake: Lake) -> None:
    narrow = (Column("id", "INTEGER"), Column("name", "VARCHAR"))
    lake.load(Write.REPLACE, crew(1), columns=narrow)
    lake.load(Write.APPEND, [{"id": 2**40, "name": None, "extra": 1.5}], columns=WIDE)
    lake.load(Write.UPSERT, [{"id": 1, "name": "b", "extra": -1.0}], columns=WIDE)
    assert lake.rows() == [{"id": 1, "name": "b", "extra": -1.0}, {"id": 2**40, "name": None, "extra": 1.5}]
    lake.load(Write.APPEND, [], columns=WIDE, state={"cursor": 5})
    assert (lake.state(), len(lake.rows())) == ({"cursor": 5}, 2)
    assert lake.load(Write.REPLACE, [], columns=WIDE, state={"cursor": None}).total == 0
    assert (lake.rows(), lake.state()) == ([], {"cursor": None})


def test_a_type_that_cannot_hold_both_is_refused_by_its_column_and_the_table_stays(lake: Lake) -> None:
    lake.load(Write.REPLACE, crew(1), state={"cursor": 1})
    broken = (Column("id", "BLOB"), Column("name", "VARCHAR"))
    with pytest.raises(EngineError, match="id") as refused:
        lake.load(Write.APPEND, [{"id": b"x", "name": "b"}], columns=broken)
    assert refused.value.fix
    assert (lake.names(), lake.state()) == ({1: "a1"}, {"cursor": 1})


@pytest.mark.parametrize("key", [(), ("nowhere",), ("name",)], ids=["none", "unknown", "with a null"])
def test_an_upsert_without_a_key_that_tells_rows_apart_is_refused(lake: Lake, key: tuple[str, ...]) -> None:
    lake.load(Write.REPLACE, crew(1), state={"cursor": 1})
    with pytest.raises(EngineError) as refused:
        lake.load(Write.UPSERT, [{"id": 1, "name": None}], key=key)
    assert refused.value.fix
    assert (lake.names(), lake.state()) == ({1: "a1"}, {"cursor": 1})


@pytest.mark.parametrize("write", [Write.REPLACE, Write.UPSERT])
def test_the_parachute_brings_rows_columns_and_state_back(lake: Lake, write: Write) -> None:
    lake.load(Write.REPLACE, crew(1, 2), state={"cursor": 2})
    landed = lake.load(write, [{"id": 2, "name": "new", "extra": 1.0}], columns=WIDE, state={"cursor": 3})
    with lake.destination.open() as session:
        assert landed.generation in [kept.name for kept in session.generations(TABLE)]
        assert session.restore(TABLE, landed.generation, {"cursor": 2}).total == 2
        assert session.state(TABLE) == {"cursor": 2}
    assert lake.names() == {1: "a1", 2: "a2"}
    with lake.destination.open() as session, pytest.raises(EngineError):
        session.restore(TABLE, "no-such-generation", None)
    assert lake.names() == {1: "a1", 2: "a2"}


def test_tables_of_one_name_in_two_databases_are_two(lake: Lake) -> None:
    lake.load(Write.REPLACE, crew(1), state={"cursor": 1})
    other = Target("mission2", TABLE.table)
    with lake.destination.open() as session:
        writer = session.begin(Load(other, Write.REPLACE, PLAIN))
        writer.write(batches(crew(2, 3)), Chunk("a"))
        writer.commit({"cursor": 3})
        assert (session.state(TABLE), session.state(other)) == ({"cursor": 1}, {"cursor": 3})
        assert session.preview(other, limit=1).num_rows == 1
    assert lake.names() == {1: "a1"}


def test_a_closed_destination_leaves_no_file_open_and_nothing_temporary(lake: Lake) -> None:
    lake.load(Write.REPLACE, crew(1, 2))
    lake.load(Write.UPSERT, crew(2, 3))
    wait_until(lambda: not open_below(lake.root))
    assert [path for path in lake.context.temp.rglob("*") if path.is_file()] == []


def open_below(folder: Path) -> list[str]:
    return [file.path for file in psutil.Process().open_files() if file.path.startswith(str(folder))]
