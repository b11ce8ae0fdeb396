"""Incremental syncs against a model: whatever arrives, in whatever order, is there once."""

import tempfile
from pathlib import Path
from types import SimpleNamespace

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.sync import memory
from tests.sync.conftest import Lab, context_at, plan_of
from webapp.engine.connectors import registry
from webapp.engine.connectors.base import Write
from webapp.engine.sync import window
from webapp.engine.sync.plan import StreamStatus

COLUMNS = {"id": "BIGINT", "name": "VARCHAR", "at": "BIGINT"}
ARRIVALS = st.lists(
    st.lists(st.tuples(st.integers(0, 9), st.sampled_from(["a", "b"]), st.integers(0, 5)), max_size=6), max_size=4
)


@pytest.fixture
def in_memory(monkeypatch: pytest.MonkeyPatch) -> pytest.MonkeyPatch:
    ours = {"memory": SimpleNamespace(load=lambda: memory.MemorySource)}
    monkeypatch.setattr(registry, "_foreign", lambda group: ours if group == "hohmann.sources" else {})
    return monkeypatch


@given(ARRIVALS)
@settings(max_examples=12, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_appends_take_every_row_once(in_memory: pytest.MonkeyPatch, arrivals: list[list[tuple[int, str, int]]]) -> None:
    plan = plan_of("t", COLUMNS, Write.APPEND, "at")
    have: list[tuple[int, str, int]] = []
    with tempfile.TemporaryDirectory() as folder:
        lab = Lab(Path(folder), context_at(Path(folder)), memory.SHELF)
        for rows in arrivals:
            have += rows
            memory.SHELF.tables["t"] = memory.table(COLUMNS, have)
            assert lab.one(plan).status is StreamStatus.LANDED
            assert sorted(lab.rows("FROM t")) == sorted(have)


@given(ARRIVALS)
@settings(max_examples=12, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_upserts_follow_every_change(in_memory: pytest.MonkeyPatch, arrivals: list[list[tuple[int, str, int]]]) -> None:
    plan = plan_of("t", COLUMNS, Write.UPSERT, "at", primary_key=("id",))
    have: dict[int, tuple[int, str, int]] = {}
    with tempfile.TemporaryDirectory() as folder:
        lab = Lab(Path(folder), context_at(Path(folder)), memory.SHELF)
        for rows in arrivals:
            have |= {row[0]: row for row in rows}
            memory.SHELF.tables["t"] = memory.table(COLUMNS, list(have.values()))
            assert lab.one(plan).status is StreamStatus.LANDED
            assert sorted(lab.rows("FROM t")) == sorted(have.values())


@given(st.lists(st.lists(st.integers(0, 40), max_size=30), min_size=1, max_size=5), st.integers(1, 8))
@settings(deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_the_tail_keeps_whole_groups_of_the_greatest_values(
    monkeypatch: pytest.MonkeyPatch, batches: list[list[int]], limit: int
) -> None:
    tail = window.Tail("at", 1)
    tail.rows = limit
    monkeypatch.setattr(window, "MOST", 4 * limit)
    for batch in batches:
        for part in memory.table({"at": "BIGINT"}, [(value,) for value in batch]).to_batches():
            tail.add(part)
    values = [value for batch in batches for value in batch]
    edge = tail.edge()
    if not values:
        assert edge is None
        return
    assert edge is not None
    assert edge.value.as_py() == max(values)
    least = min(values) if edge.since is None else edge.since.as_py()
    wanted = sorted(value for value in values if value >= least)
    if edge.hashes is None:
        assert least == max(values)
        assert len(wanted) > 4 * limit
    else:
        rows = memory.table({"at": "BIGINT"}, [(value,) for value in wanted])
        assert sorted(edge.hashes) == sorted(window.row_hashes(rows))
