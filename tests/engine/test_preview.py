"""A page can show what was loaded, without being able to harm it."""

import json
import subprocess
import sys
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from tests.engine.conftest import World
from webapp.engine import preview as previews
from webapp.engine.errors import EngineError, Kind, Origin
from webapp.engine.preview import preview_table

LOADER = {"type": "duckdb", "db_path": "out.duckdb", "table_name": "orders"}


def test_a_preview_shows_columns_rows_and_the_total(world: World) -> None:
    world.write("a.csv", "id,name\n" + "".join(f"{n},n{n}\n" for n in range(100)))
    world.load("a.csv")
    preview = preview_table(LOADER, world.context(), limit=3)
    assert preview.columns == [("id", "BIGINT"), ("name", "VARCHAR")]
    assert preview.rows == [[0, "n0"], [1, "n1"], [2, "n2"]]
    assert preview.total == 100


def test_every_value_can_be_told_as_json(world: World, make_parquet: Callable[[str, str], Path]) -> None:
    make_parquet(
        "a.parquet",
        """SELECT TIMESTAMP '2026-01-02 03:04:05' AS a, DATE '2026-01-02' AS b, 1.50::DECIMAL(4,2) AS c,
        'x'::BLOB AS d, 'nan'::DOUBLE AS e, 'inf'::DOUBLE AS f, uuid() AS g, [1, NULL] AS h,
        {'k': DATE '2026-01-02'} AS i, MAP {'m': 1} AS j, INTERVAL 1 DAY AS k, NULL AS l,
        170141183460469231731687303715884105727 AS m,
        TIMESTAMPTZ '2026-01-02 03:04:05+02' AS n, TIME '10:00:00' AS o, 0.5 AS p""",
    )
    world.load("a.parquet")
    (row,) = preview_table(LOADER, world.context()).rows
    text = json.dumps(row, allow_nan=False)
    assert json.loads(text)[:6] == ["2026-01-02T03:04:05", "2026-01-02", "1.50", "eA==", "nan", "inf"]
    assert row[7:10] == [[1, None], {"k": "2026-01-02"}, {"m": 1}]
    assert row[13] == "2026-01-02T01:04:05.000000+00:00"


def test_a_table_that_is_not_there_yet_is_named(world: World) -> None:
    with pytest.raises(EngineError, match="not there yet") as caught:
        preview_table(LOADER, world.context())
    assert caught.value.origin is Origin.DESTINATION
    world.write("a.csv", "id\n1\n")
    world.load("a.csv", table="other")
    with pytest.raises(EngineError, match="no table orders"):
        preview_table(LOADER, world.context())


def test_a_view_that_reads_files_is_refused(world: World) -> None:
    import duckdb

    world.write("a.csv", "id\n1\n")
    with duckdb.connect(str(world.data / "out.duckdb")) as connection:
        connection.execute(f"CREATE VIEW orders AS FROM read_csv('{world.data / 'a.csv'}')")
    with pytest.raises(EngineError, match="disabled"):
        preview_table(LOADER, world.context())


def test_what_a_killed_load_left_behind_does_not_hinder_a_preview(world: World) -> None:
    import os

    import duckdb

    world.write("a.csv", "id\n1\n")
    world.load("a.csv")
    pid = os.fork()
    if pid == 0:
        connection = duckdb.connect(str(world.data / "out.duckdb"))
        connection.execute("INSERT INTO orders VALUES (2)")
        os._exit(0)  # committed to the write-ahead log, and not closed
    os.waitpid(pid, 0)
    assert (world.data / "out.duckdb.wal").exists()
    assert preview_table(LOADER, world.context()).rows == [[1], [2]]


def test_who_asks_for_rows_loads_no_duckdb(world: World) -> None:
    world.write("a.csv", "id\n1\n")
    world.load("a.csv")
    code = (
        "import sys; from pathlib import Path; from webapp.engine.context import Context, Silence; "
        "from webapp.engine.preview import preview_table; data = Path(sys.argv[1]); "
        "context = Context(data, (), data / 'w.duckdb', data.parent / 'temp', Silence()); "
        f"print(preview_table({LOADER!r}, context).rows, [name for name in ('duckdb', 'flask') if name in sys.modules])"
    )
    said = subprocess.run([sys.executable, "-c", code, str(world.data)], capture_output=True, text=True, check=True)
    assert said.stdout.strip() == "[[1]] []"


def test_a_table_that_takes_too_long_is_given_up(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    import duckdb

    with duckdb.connect(str(world.data / "out.duckdb")) as connection:
        connection.execute("CREATE VIEW orders AS SELECT count(*) AS n FROM range(10000000) a, range(10000000) b")
    monkeypatch.setattr(previews, "_SECONDS", 1.0)
    with pytest.raises(EngineError, match="cannot be read: it took longer than 1 s") as caught:
        preview_table(LOADER, world.context(lock_timeout=0.1))
    assert caught.value.kind is Kind.SYSTEM


def test_many_looks_at_once_take_turns_and_a_crowd_is_told_to_wait(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    world.write("a.csv", "id\n1\n")
    world.load("a.csv")
    with ThreadPoolExecutor(8) as crowd:
        found = list(crowd.map(lambda _: preview_table(LOADER, world.context()).rows, range(8)))
    assert found == [[[1]]] * 8

    monkeypatch.setattr(previews, "_SECONDS", 0.05)
    for _ in range(previews._MOST_AT_ONCE):
        previews._places.acquire()
    try:
        with pytest.raises(EngineError, match="many tables are being looked at") as caught:
            preview_table(LOADER, world.context())
    finally:
        for _ in range(previews._MOST_AT_ONCE):
            previews._places.release()
    assert not caught.value.permanent
