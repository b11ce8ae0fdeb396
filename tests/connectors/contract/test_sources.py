"""Every source keeps the same promises: to a check, to discovery, and to whoever reads its rows."""

import json
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import psutil
import pyarrow as pa
import pytest

from tests.connectors.contract.servers import Servers
from tests.connectors.contract.sources import MODIFIED, NAMES, PLANTED, SHIPS, SOURCES, TYPES, Place, SourceCase
from tests.connectors.reading import context_in
from tests.sync.memory import wait_until
from webapp.engine.connectors.base import Column, Condition, Filter, Mode, Read, Source, Stream
from webapp.engine.connectors.registry import source_class
from webapp.engine.connectors.types import arrow_schema
from webapp.engine.context import Context
from webapp.engine.errors import Cancelled, EngineError, Origin

OPERATORS = ("=", "!=", "<", "<=", ">", ">=")


@dataclass
class Harbour:
    """A source with the ships in it."""

    case: SourceCase
    place: Place
    config: dict[str, Any]
    context: Context

    def source(self, **changes: Any) -> Source[Any]:
        found = source_class(self.case.connector)
        return found(found.Spec.model_validate({**self.config, **changes}), self.context)

    @cached_property
    def stream(self) -> Stream:
        [found] = self.source().discover(pattern="*ships")
        return found

    def read(self, *names: str, **window: Any) -> Read:
        stream = self.stream
        return Read(stream, tuple(column for column in stream.columns if column.name in (names or NAMES)), **window)

    def rows(self, read: Read) -> list[dict[str, Any]]:
        """All rows, the chunks side by side as a sync reads them."""
        with self.source().open(parallel=2) as session, ThreadPoolExecutor(2) as pool:

            def one(chunk: Any) -> pa.Table:
                reader = session.read(read, chunk)
                assert reader.schema == arrow_schema(read.columns)
                return reader.read_all()

            rows = pa.concat_tables(pool.map(one, session.chunks(read, parallel=2))).to_pylist()
            assert session.count(read) in (None, len(rows))
        return sorted(rows, key=lambda row: row["id"])

    def ids(self, *conditions: Condition, join: str = "and", **window: Any) -> list[int]:
        chosen = Filter(conditions, join) if conditions else None
        return [row["id"] for row in self.rows(self.read("id", filter=chosen, **window))]


@pytest.fixture(params=SOURCES, ids=str)
def harbour(request: pytest.FixtureRequest, tmp_path: Path, servers: Servers) -> Harbour:
    context = context_in(tmp_path)
    place = Place(context.data_root, servers)
    return Harbour(request.param, place, request.param.lay_down(place), context)


def ships(*names: str) -> Sequence[dict[str, Any]]:
    return [{name: ship[name] for name in names} for ship in SHIPS]


def test_a_check_goes_step_by_step_to_the_first_row(harbour: Harbour) -> None:
    steps = list(harbour.source().check())
    assert all(step.ok for step in steps), steps
    assert len({step.name for step in steps}) == len(steps)
    assert all(step.seconds >= 0 for step in steps)


def test_a_check_ends_with_the_step_that_failed_and_says_what_would_help(harbour: Harbour) -> None:
    if harbour.case.connector in ("postgres",):
        harbour.config["password"] = PLANTED
    *before, last = harbour.source(**harbour.case.spoil).check()
    assert all(step.ok for step in before)
    assert (last.ok, bool(last.message), bool(last.fix)) == (False, True, True), last
    assert PLANTED not in repr([*before, last])


def test_loopback_is_refused_unless_the_instance_allows_it(harbour: Harbour) -> None:
    if not harbour.case.remote:
        pytest.skip("a file of this machine has no address")
    harbour.context = replace(harbour.context, allow_private_addresses=False)
    last = list(harbour.source().check())[-1]
    assert (last.ok, "private" in last.message) == (False, True), last
    with pytest.raises(EngineError, match="private"), harbour.source().open(parallel=1) as session:
        session.read(
            Read(Stream("", "ships", ()), (Column("id", "BIGINT"),)), session.chunks(harbour.read("id"), parallel=1)[0]
        )


def test_discovery_tells_types_key_cursors_and_modes(harbour: Harbour) -> None:
    stream, case = harbour.stream, harbour.case
    types = {column.name: column.type for column in stream.columns if column.name in NAMES}
    assert types == {**TYPES, **case.types}
    assert stream.primary_key == case.key
    assert (case.cursor in stream.cursor_fields) == (case.cursor is not None)
    assert set(stream.cursor_fields) <= {column.name for column in stream.columns}
    assert Mode.FULL_REFRESH in stream.modes
    assert (Mode.INCREMENTAL in stream.modes) == bool(stream.cursor_fields)
    assert stream.rows in (None, len(SHIPS))
    json.dumps([stream.rows, stream.size_bytes])


def test_a_pattern_narrows_the_discovery(harbour: Harbour) -> None:
    assert list(harbour.source().discover(pattern="*.nothing-like-it")) == []


def test_all_rows_are_read_once_with_their_values(harbour: Harbour) -> None:
    wanted = [
        {**ship, "built": ship["built"].isoformat()} if harbour.case.types.get("built") == "VARCHAR" else ship
        for ship in SHIPS
    ]
    assert harbour.rows(harbour.read()) == wanted


def test_columns_come_in_the_order_that_was_asked_for_and_no_others(harbour: Harbour) -> None:
    read = harbour.read("id", "mass")
    swapped = replace(read, columns=read.columns[::-1])
    assert harbour.rows(swapped) == ships("mass", "id")
    assert list(harbour.rows(swapped)[0]) == ["mass", "id"]


def test_each_comparison_chooses_its_rows(harbour: Harbour) -> None:
    found = {op: harbour.ids(Condition("id", op, 4)) for op in OPERATORS}
    assert found == {"=": [4], "!=": [1, 2, 3, 5, 6], "<": [1, 2, 3], "<=": [1, 2, 3, 4], ">": [5, 6], ">=": [4, 5, 6]}
    assert harbour.ids(Condition("name", "=", None)) == [5]
    assert harbour.ids(Condition("name", "!=", None), Condition("id", ">", 3)) == [4, 6]
    assert harbour.ids(Condition("id", "=", 1), Condition("name", "=", "émoji 🚀"), join="or") == [1, 2]
    assert harbour.ids(Condition("name", "=", "x' OR 1=1 --")) == [6]


def test_the_cursors_window_is_closed_at_both_ends(harbour: Harbour) -> None:
    cursor = harbour.case.cursor
    if cursor is None:
        pytest.skip("this source offers no cursor")
    read = harbour.read("id", cursor=cursor)
    with harbour.source().open(parallel=1) as session:
        high = session.high_water(read)
        low = session.high_water(replace(read, filter=Filter((Condition("id", "<=", 3),))))
        none = session.high_water(replace(read, filter=Filter((Condition("id", ">", 99),))))
    assert json.loads(json.dumps([high, low, none])) == [high, low, none]
    if cursor == MODIFIED:  # which goes by whole files
        later = harbour.ids(cursor=cursor, since=high)
        assert later in ([4, 5, 6], [1, 2, 3, 4, 5, 6])
        assert harbour.ids(cursor=cursor, until=low) in ([1, 2, 3], [1, 2, 3, 4, 5, 6])
    else:
        assert (low, high, none) == (3, 6, None)
        assert harbour.ids(cursor=cursor, since=low, until=5) == [3, 4, 5]
        assert harbour.ids(cursor=cursor, since=7) == []


@pytest.mark.parametrize(
    ("condition", "words"),
    [(Condition("nowhere", "=", 1), "nowhere"), (Condition("id", "~", 1), "~"), (Condition("id", "=", "many"), "many")],
    ids=["column", "comparison", "value"],
)
def test_a_filter_that_cannot_be_is_refused_by_name(harbour: Harbour, condition: Condition, words: str) -> None:
    with pytest.raises(EngineError, match=words) as refused:
        harbour.ids(condition)
    assert refused.value.origin in (Origin.USER, Origin.SOURCE)
    assert refused.value.fix


def test_a_closed_session_leaves_no_connection_no_file_and_no_temporary_file(harbour: Harbour) -> None:
    read = harbour.read()
    with harbour.source().open(parallel=2) as session:
        reader = session.read(read, session.chunks(read, parallel=2)[0])
        with closing(reader):
            reader.read_next_batch()
        del reader
    del session
    wait_until(lambda: not left_open(harbour))
    temp = harbour.context.temp
    assert [path for path in temp.rglob("*") if path.is_file()] == []


def left_open(harbour: Harbour) -> list[Any]:
    """Connections to the source's server and open files below its folder."""
    here = psutil.Process()
    connections = [
        one for one in here.net_connections("tcp") if one.raddr and one.raddr.port == harbour.place.port
        and one.status == psutil.CONN_ESTABLISHED
    ]  # fmt: skip
    return connections + [file for file in here.open_files() if file.path.startswith(str(harbour.place.data))]


def test_a_run_that_is_cancelled_stops_reading(harbour: Harbour) -> None:
    read = harbour.read()
    harbour.context = replace(harbour.context, cancelled=lambda: True)
    with pytest.raises(Cancelled):
        harbour.rows(read)
