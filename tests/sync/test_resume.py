"""An interrupted load goes on where it was, and brings what the source holds now, whatever has changed meanwhile."""

import json
import random
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import duckdb
import psycopg2
import pytest

from tests.connectors.postgres_home import context, source, stream_of
from tests.support.postgres import TcpPostgres
from webapp.engine.connectors.base import Mode, Target, Write
from webapp.engine.connectors.postgres.faults import engine_error
from webapp.engine.errors import Origin
from webapp.engine.sync.plan import StreamPlan, StreamReceipt, StreamStatus, SyncSpec
from webapp.engine.sync.runner import run_sync

ROWS = 60_000
TABLE = (
    "CREATE TABLE big AS SELECT i AS id, i % 97 AS seen, repeat('x', 300) || i AS note FROM generate_series(1, 60000) i"
)


@pytest.fixture(scope="module")
def server() -> Iterator[TcpPostgres]:
    one = TcpPostgres()
    yield one
    one.remove()


@dataclass
class Flight:
    """Loads of one table of the server into one destination, the same each time."""

    server: TcpPostgres
    folder: Path
    plan: StreamPlan
    kind: str
    config: dict[str, Any]

    def spec(self) -> SyncSpec:
        return SyncSpec("postgres", self.server.config(), self.kind, self.config, [self.plan])

    def run(
        self, cancelled: Callable[[], bool] = lambda: False, seen: list[StreamReceipt] | None = None
    ) -> StreamReceipt:
        heard = [] if seen is None else seen
        around = context(self.folder, cancelled=cancelled)
        [receipt] = run_sync(self.spec(), around, lambda one: None if heard else heard.append(one))
        return receipt

    def killed_after(self, chunks: int) -> None:
        """A load whose process is killed when so many chunks are done."""
        spec = {**asdict(self.spec()), "streams": [self.plan.to_json()]}
        file = self.folder / "run.json"
        file.write_text(json.dumps({"spec": spec, "folder": str(self.folder), "chunks": chunks}))
        done = subprocess.run([sys.executable, "-m", "tests.sync.cut", str(file)], capture_output=True, timeout=120)
        assert done.returncode == -9, done.stderr.decode()[-2000:]

    def rows(self) -> list[tuple[Any, ...]]:
        """What the destination holds."""
        if self.kind == "postgres":
            return self.server.run("SELECT id, seen, md5(note) FROM mart.big ORDER BY id, seen")
        with duckdb.connect(str(self.folder / "lake.duckdb"), read_only=True) as connection:
            return connection.execute("SELECT id, seen, md5(note) FROM mart.big ORDER BY id, seen").fetchall()

    def aside(self) -> list[Any]:
        """Tables that loads have left aside."""
        if self.kind == "postgres":
            return self.server.run("SELECT relname FROM pg_class WHERE relkind = 'r' AND relname LIKE 'stage\\_%'")
        with duckdb.connect(str(self.folder / "lake.duckdb"), read_only=True) as connection:
            return connection.execute(
                "SELECT table_name FROM duckdb_tables() WHERE starts_with(table_name, '_hohmann_stage')"
            ).fetchall()

    def lands_right(self) -> StreamReceipt:
        """The next load, checked against the source."""
        receipt = self.run()
        there = self.server.run("SELECT id, seen, md5(note) FROM big ORDER BY id, seen")
        assert (receipt.status, receipt.error, receipt.doubt) == (StreamStatus.LANDED, None, None)
        assert self.rows() == there
        assert receipt.rows_read + receipt.rows_resumed == receipt.rows_found == receipt.rows_source == len(there)
        assert self.aside() == []
        return receipt


def flight_to(kind: str, server: TcpPostgres, folder: Path) -> Flight:
    """The table as it is at first, and nothing at the destination."""
    server.run("DROP SCHEMA IF EXISTS mart, _hohmann, _hohmann_parachute CASCADE", "DROP TABLE IF EXISTS big", TABLE)
    stream = stream_of(source(server, context(folder)), "public.big")
    plan = StreamPlan("public", "big", stream.columns, Target("mart", "big"))
    config = {"path": "lake.duckdb"} if kind == "duckdb" else server.config()
    return Flight(server, folder, plan, kind, config)


@pytest.fixture(params=["duckdb", "postgres"])
def flight(request: pytest.FixtureRequest, server: TcpPostgres, tmp_path: Path) -> Flight:
    return flight_to(request.param, server, tmp_path)


@pytest.fixture
def to_duckdb(server: TcpPostgres, tmp_path: Path) -> Flight:
    """Where the source alone decides, one destination is enough."""
    return flight_to("duckdb", server, tmp_path)


def test_a_killed_load_reads_only_what_is_missing(flight: Flight) -> None:
    flight.killed_after(2)
    assert len(flight.aside()) == 1
    receipt = flight.lands_right()
    assert receipt.rows_resumed >= ROWS // 4
    assert 0 < receipt.rows_read < ROWS


def test_a_load_goes_on_after_the_server_has_ended_its_connections(flight: Flight) -> None:
    seen: list[StreamReceipt] = []
    cut: list[bool] = []

    def ended() -> bool:
        if seen and seen[0].chunks_done >= 2 and not cut:
            cut.append(True)
            flight.server.run(
                "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE application_name = 'hohmann'"
            )
        return False

    failed = flight.run(ended, seen)
    assert failed.status is StreamStatus.FAILED
    assert not (failed.error or {})["permanent"], failed.error
    assert flight.lands_right().rows_resumed >= ROWS // 4


def test_a_snapshot_that_is_gone_is_worth_another_try(server: TcpPostgres) -> None:
    with server.connect() as connection, connection.cursor() as cursor:
        cursor.execute("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ")
        with pytest.raises(psycopg2.Error) as gone:
            cursor.execute("SET TRANSACTION SNAPSHOT '00000003-00000002-1'")
        connection.rollback()
    assert not engine_error(gone.value, Origin.SOURCE, "reading failed").permanent


def test_a_cancelled_load_goes_on_when_it_is_started_again(flight: Flight) -> None:
    seen: list[StreamReceipt] = []
    receipt = flight.run(lambda: bool(seen) and seen[0].chunks_done >= 2, seen)
    assert receipt.status is StreamStatus.CANCELLED
    assert flight.lands_right().rows_resumed >= ROWS // 4


def test_changes_between_many_attempts_are_all_seen(flight: Flight) -> None:
    chance = random.Random(flight.kind)  # the same changes in each run of the tests
    flight.killed_after(2)
    for attempt in range(4):
        first = chance.randrange(1, ROWS)
        flight.server.run(
            *chance.sample(
                [
                    f"UPDATE big SET seen = seen + 1 WHERE id BETWEEN {first} AND {first + 5}",
                    f"DELETE FROM big WHERE id BETWEEN {first} AND {first + 700}",
                    f"INSERT INTO big SELECT i, 0, 'new' FROM generate_series({-first}, {-first + 700}) i",
                    f"DELETE FROM big WHERE id = (SELECT max(id) FROM big WHERE id < {first})",
                    f"INSERT INTO big SELECT max(id) + 1, {attempt}, repeat('y', 2000) FROM big",
                    "VACUUM big",
                ],
                3,
            )
        )
        seen: list[StreamReceipt] = []
        flight.run(lambda: bool(seen) and seen[0].chunks_done >= 1, seen)  # noqa: B023  used up at once
    flight.lands_right()


@pytest.mark.parametrize(
    "change",
    [
        ["CREATE TABLE other AS TABLE big", "TRUNCATE big", "INSERT INTO big SELECT id, seen, note || '!' FROM other",
         "DROP TABLE other"],
        ["ALTER TABLE big DROP COLUMN seen", "ALTER TABLE big ADD COLUMN seen integer DEFAULT 5"],
        ["ALTER TABLE big RENAME seen TO old", "ALTER TABLE big RENAME id TO seen", "ALTER TABLE big RENAME old TO id"],
        ["DELETE FROM big WHERE id = 1", "INSERT INTO big VALUES (1, 1, 'in its place')"],
        ["UPDATE big SET note = note || '!'"],
        ["DELETE FROM big"],
        ["INSERT INTO big SELECT i, 1, repeat('z', 300) || i FROM generate_series(60001, 130000) i"],
    ],
)  # fmt: skip
def test_what_has_changed_is_read_again(to_duckdb: Flight, change: list[str]) -> None:
    to_duckdb.killed_after(2)
    to_duckdb.server.run(*change)
    to_duckdb.lands_right()


def test_rows_behind_the_old_end_are_read_in_chunks(to_duckdb: Flight) -> None:
    to_duckdb.killed_after(4)
    to_duckdb.server.run("INSERT INTO big SELECT i, 1, repeat('z', 300) || i FROM generate_series(60001, 160000) i")
    receipt = to_duckdb.lands_right()
    assert receipt.rows_resumed >= ROWS // 2
    assert receipt.chunks > 1


@pytest.mark.parametrize("write", [Write.APPEND, Write.UPSERT])
def test_a_first_load_by_a_cursor_goes_on_and_knows_its_last_rows(flight: Flight, write: Write) -> None:
    flight.plan = replace(flight.plan, mode=Mode.INCREMENTAL, write=write, cursor="id", primary_key=("id",))
    flight.killed_after(2)
    assert flight.lands_right().rows_resumed >= ROWS // 4
    flight.server.run("INSERT INTO big VALUES (59500, 1, 'late'), (60001, 1, 'new')")
    if write is Write.UPSERT:
        flight.server.run("DELETE FROM big WHERE id = 59500 AND note <> 'late'")
    receipt = flight.run()
    assert (receipt.status, receipt.rows_read) == (StreamStatus.LANDED, 2)
    assert flight.rows() == flight.server.run("SELECT id, seen, md5(note) FROM big ORDER BY id, seen")


def test_another_plan_does_not_take_the_rows_over(flight: Flight) -> None:
    flight.killed_after(2)
    flight.plan = replace(flight.plan, epoch=1)
    assert flight.lands_right().rows_resumed == 0


def test_what_was_left_aside_for_too_long_is_dropped(flight: Flight) -> None:
    flight.killed_after(2)
    other = replace(flight.plan, name="small", target=Target("mart", "small"))
    flight.server.run("DROP TABLE IF EXISTS small", "CREATE TABLE small AS SELECT * FROM big LIMIT 5")
    flight.plan, mine = other, flight.plan
    flight.run()
    assert len(flight.aside()) == 1
    if flight.kind == "postgres":
        flight.server.run("UPDATE _hohmann.aside SET used_at = now() - interval '25 hours'")
    else:
        with duckdb.connect(str(flight.folder / "lake.duckdb")) as connection:
            connection.execute("UPDATE _hohmann.stages SET used_at = now() - INTERVAL 25 HOUR")
    flight.run()
    assert flight.aside() == []
    flight.plan = mine
    assert flight.lands_right().rows_resumed == 0
