"""Syncs whose worker, child or server dies, and what people read of each fault: real workers, a real PostgreSQL."""

import html
import json
import re
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.jobs.syncs import VERSION, choice, document, stream
from tests.runs.mission import Mission
from tests.support.databases import Databases
from tests.support.disks import small_disk
from tests.support.postgres import TcpPostgres
from tests.support.stacks import free_port
from webapp.connections import operations as connections
from webapp.connections.models import ConnectionRole
from webapp.connections.operations import ConnectionDraft
from webapp.errors import Invalid
from webapp.jobs.sync import operations as sync
from webapp.jobs.sync.operations import SyncDraft
from webapp.runs import operations as runs
from webapp.runs.models import Run
from webapp.runs.states import RunState

ROWS = 60_000
OLD = [(1, "old1"), (2, "old2"), (3, "old3")]
SECRET = "s3cret-word"


class Ferry:
    """A sync job of a mission, from the PostgreSQL to a DuckDB file of its own."""

    def __init__(self, mission: Mission, server: TcpPostgres, *tables: str, **facts: Any) -> None:
        self.mission, self.server = mission, server
        self.name = f"f{uuid.uuid4().hex[:10]}"
        self.source = server.config(**facts.pop("source", {}))
        place = facts.pop("place", {"path": f"{self.name}.duckdb"})
        attempts, choices = facts.pop("max_attempts", 1), facts.pop("choices", {})
        described = [self._described(table, **facts) for table in tables or ("t",)]
        chosen = [choice(one["stream"]["name"], normalization=False, **choices) for one in described]
        actor = mission.alice.actor
        with mission.work():
            project = actor.default_project_id
            ends = [
                connections.create_connection(
                    actor, role, ConnectionDraft(self.name, kind, VERSION, config), project_id=project
                ).id
                for role, kind, config in (
                    (ConnectionRole.SOURCE, "postgres", self.source),
                    (ConnectionRole.DESTINATION, "duckdb", place),
                )
            ]
            draft = SyncDraft(self.name, ends[0], ends[1], streams=json.dumps(document(*described, public=chosen)))
            made = sync.create_sync(actor, project, draft)
            made.job.max_attempts, made.job.retry_delay_seconds = attempts, 0.1
            self.job_id, self.source_id = made.job_id, ends[0]

    def _described(self, table: str, **facts: Any) -> dict[str, Any]:
        known = {"type_schema": {"properties": {}}, "source_defined_primary_key": [], "available_cursor_fields": ["id"]}
        return stream(table, namespace="public", destination_database="lake:public", **(known | facts))

    def start(self) -> uuid.UUID:
        with self.mission.work():
            return runs.start_run(self.mission.alice.actor, self.job_id).id

    def fly(self) -> Run:
        return self.mission.wait_until_ended(self.start(), seconds=60)

    def rows(self, table: str = "t") -> list[tuple[Any, ...]]:
        return self.mission.query(f"SELECT id, name FROM lake_public.{table} ORDER BY id", f"{self.name}.duckdb")

    def tables(self) -> set[str]:
        found = self.mission.query("SELECT table_name FROM duckdb_tables() WHERE schema_name = 'lake_public'",
                                   f"{self.name}.duckdb")  # fmt: skip
        return {str(name) for (name,) in found}

    def page(self, run: Run) -> str:
        """The text of the run's page, as its reader sees it."""
        answer = self.mission.alice.browser().get(f"/runs/{run.id}")
        assert answer.status_code == 200
        return " ".join(html.unescape(re.sub(r"<[^>]+>", " ", answer.text)).split())


@pytest.fixture(scope="module")
def server() -> Iterator[TcpPostgres]:
    one = TcpPostgres()
    one.run(f"CREATE ROLE visitor LOGIN PASSWORD '{SECRET}'", "GRANT USAGE ON SCHEMA public TO visitor")
    yield one
    one.remove()


@pytest.fixture
def harbour(server: TcpPostgres) -> TcpPostgres:
    """The server with three old rows in `t`, and a gate that a long read waits at."""
    # A server notices only at the end of its sleep that the reader was killed, and holds its tables until then.
    server.run("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE application_name = 'hohmann'")
    server.run(
        "DROP SCHEMA public CASCADE", "CREATE SCHEMA public", "GRANT USAGE ON SCHEMA public TO visitor",
        "CREATE TABLE gate AS SELECT false AS is_open",
        "CREATE VIEW t AS SELECT i AS id, 'old' || i AS name FROM generate_series(1, 3) i",
    )  # fmt: skip
    return server


def grow(server: TcpPostgres) -> None:
    """Now `t` has many rows, in the middle of which a read waits while the gate is shut."""
    server.run(
        "UPDATE gate SET is_open = false",
        "CREATE OR REPLACE VIEW t AS SELECT i AS id, 'new' || CASE WHEN i = 50000 AND NOT (SELECT is_open FROM gate)"
        f" THEN pg_sleep(120)::text ELSE '' END || i AS name FROM generate_series(1, {ROWS}) i",
    )


def wait_at_the_gate(mission: Mission, server: TcpPostgres) -> None:
    """Wait until rows of the grown table have moved and the read stands; whoever reads next passes."""
    asleep = "SELECT 1 FROM pg_stat_activity WHERE wait_event = 'PgSleep'"
    mission.wait_for(lambda: server.run(asleep), seconds=40, what="the read to reach the gate")
    server.run("UPDATE gate SET is_open = true")


@pytest.mark.parametrize("whom", ["its child", "the worker"])
def test_a_kill_in_the_middle_leaves_the_old_rows_and_the_next_attempt_lands(
    mission: Mission, harbour: TcpPostgres, whom: str
) -> None:
    worker = mission.start_worker()
    ferry = Ferry(mission, harbour, max_attempts=3)
    assert ferry.fly().state is RunState.SUCCEEDED
    grow(harbour)
    run_id = ferry.start()
    run = mission.wait_until_running(run_id)
    wait_at_the_gate(mission, harbour)

    child = mission.child_of(run)
    (child if whom == "its child" else worker).kill()
    if whom == "the worker":
        mission.wait_for(lambda: not child.is_running(), what="the child to end with its worker")
        assert ferry.rows() == OLD
        mission.start_worker()
    ended = mission.wait_until_ended(run_id, seconds=60)

    assert (ended.state, ended.attempt) == (RunState.SUCCEEDED, 2), ended.error_message
    assert (ended.rows_found, ended.doubt) == (ROWS, None)
    rows = ferry.rows()
    assert (len(rows), rows[0], rows[-1]) == (ROWS, (1, "new1"), (ROWS, f"new{ROWS}"))
    assert not [name for name in ferry.tables() if "stage" in name]


def test_a_child_that_is_killed_for_good_leaves_the_old_rows_and_says_so(
    mission: Mission, harbour: TcpPostgres
) -> None:
    mission.start_worker()
    ferry = Ferry(mission, harbour)
    ferry.fly()
    grow(harbour)
    run_id = ferry.start()
    run = mission.wait_until_running(run_id)
    wait_at_the_gate(mission, harbour)
    mission.child_of(run).kill()
    failed = mission.wait_until_ended(run_id)

    assert (failed.state, failed.error_origin) == (RunState.FAILED, "platform"), failed.error_message
    assert failed.error_message and failed.error_message in ferry.page(failed)
    assert ferry.rows() == OLD
    assert ferry.fly().rows_found == ROWS


def test_a_server_that_restarts_during_the_read_costs_one_attempt(mission: Mission, harbour: TcpPostgres) -> None:
    mission.start_worker()
    ferry = Ferry(mission, harbour, max_attempts=4)
    ferry.fly()
    grow(harbour)
    run_id = ferry.start()
    mission.wait_until_running(run_id)
    wait_at_the_gate(mission, harbour)
    harbour.run("CHECKPOINT")  # the server forgets what it has not written: the gate would be shut again
    harbour.stop()
    harbour.start()
    ended = mission.wait_until_ended(run_id, seconds=60)

    assert (ended.state, ended.rows_found) == (RunState.SUCCEEDED, ROWS), ended.error_message
    first = mission.attempts(run_id)[0]
    assert (first.outcome, ended.attempt > 1, bool(first.error_message)) == ("failed", True, True)
    assert len(ferry.rows()) == ROWS


# --- what people read -------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def busy(tmp_path_factory: pytest.TempPathFactory, databases: Databases) -> Iterator[Mission]:
    """An instance with one worker, which the tests below share."""
    made = Mission(tmp_path_factory.mktemp("faults") / "home", databases)
    made.start_worker()
    yield made
    made.close()


def shown(ferry: Ferry, run: Run, origin: str, kind: str, *words: str) -> None:
    """The run failed, and its page says why, whose fault it is, of which kind, and what would help."""
    assert (run.state, run.error_origin, run.error_kind) == (RunState.FAILED, origin, kind), run.error_message
    page = ferry.page(run)
    for text in (str(run.error_message), f"It lies with the {origin}", f"({kind})", *words):
        assert " ".join(text.split()) in page, page[:3000]
    assert run.error_fix and run.error_fix in page
    assert SECRET not in page


@pytest.mark.parametrize(
    ("source", "kind", "words"),
    [
        ({"port": free_port()}, "transient", "refused"),
        ({"username": "visitor", "password": f"not-{SECRET}"}, "configuration", "password authentication"),
        ({"database": "nowhere"}, "configuration", "nowhere"),
        ({"host": "db.invalid"}, "transient", "db.invalid"),
    ],
    ids=["closed port", "wrong password", "no such database", "unknown host"],
)
def test_a_source_that_cannot_be_opened(
    busy: Mission, harbour: TcpPostgres, source: dict[str, Any], kind: str, words: str
) -> None:
    ferry = Ferry(busy, harbour, source=source)
    shown(ferry, ferry.fly(), "source", kind, words)


def test_a_server_that_has_no_tls(busy: Mission, harbour: TcpPostgres) -> None:
    harbour.run("ALTER SYSTEM SET ssl = off", "SELECT pg_reload_conf()")
    busy.wait_for(lambda: harbour.run("SHOW ssl") == [("off",)])
    try:
        ferry = Ferry(busy, harbour, source={"ssl": {"mode": "require"}})
        shown(ferry, ferry.fly(), "source", "configuration", "SSL")
    finally:
        harbour.run("ALTER SYSTEM RESET ssl", "SELECT pg_reload_conf()")


def test_one_table_of_many_without_rights(busy: Mission, harbour: TcpPostgres) -> None:
    harbour.run("GRANT SELECT ON t TO visitor", "CREATE TABLE shut AS SELECT 1 AS id, 'x' AS name")
    ferry = Ferry(busy, harbour, "t", "shut", source={"username": "visitor", "password": SECRET})
    shown(ferry, ferry.fly(), "source", "configuration", "public.shut", "GRANT")
    assert ferry.rows() == OLD
    harbour.run("GRANT SELECT ON shut TO visitor")
    assert ferry.fly().state is RunState.SUCCEEDED


TYPED = {
    "properties": {
        name: {"type": ["integer"], "destination_column_name": name, "data_type": kind}
        for name, kind in (("id", "SMALLINT"), ("name", "VARCHAR"))
    }
}


def test_a_value_that_does_not_fit(busy: Mission, harbour: TcpPostgres) -> None:
    harbour.run(
        "DROP VIEW t", "CREATE TABLE t AS SELECT i::smallint AS id, 'old' || i AS name FROM generate_series(1, 3) i"
    )
    ferry = Ferry(busy, harbour, type_schema=TYPED)
    assert ferry.fly().state is RunState.SUCCEEDED
    harbour.run("ALTER TABLE t ALTER COLUMN id TYPE bigint", "INSERT INTO t VALUES (5000000000, 'big')")
    shown(ferry, ferry.fly(), "source", "configuration", "does not fit its column: id")
    assert ferry.rows() == OLD


def test_a_table_that_is_dropped_or_altered_between_discovery_and_run(busy: Mission, harbour: TcpPostgres) -> None:
    ferry = Ferry(busy, harbour, type_schema=TYPED)
    harbour.run("DROP VIEW t", "CREATE TABLE t AS SELECT 'x' AS name")
    shown(ferry, ferry.fly(), "source", "configuration", "no column id")
    harbour.run("DROP TABLE t")
    shown(ferry, ferry.fly(), "source", "configuration", "no table public.t")


def test_an_empty_table_and_one_of_fifteen_hundred_columns_land(busy: Mission, harbour: TcpPostgres) -> None:
    wide = ", ".join(f"c{number} integer" for number in range(1500))
    harbour.run("CREATE TABLE empty (id integer, name text)", f"CREATE TABLE wide (id integer, name text, {wide})",
                "INSERT INTO wide (id, name, c1499) VALUES (1, 'x', 7)")  # fmt: skip
    ferry = Ferry(busy, harbour, "empty", "wide")
    run = ferry.fly()
    assert (run.state, run.rows_found) == (RunState.SUCCEEDED, 1), run.error_message
    assert (ferry.rows("empty"), ferry.rows("wide")) == ([], [(1, "x")])
    assert "public.wide" in ferry.page(run)


@pytest.fixture
def small(busy: Mission) -> Iterator[Path]:
    """A folder of the data folder on a disk of eight megabytes."""
    with small_disk(busy.data / "small", megabytes=8) as disk:
        yield disk


def test_a_destination_whose_disk_is_full(busy: Mission, harbour: TcpPostgres, small: Path) -> None:
    ferry = Ferry(busy, harbour, place={"path": "small/lake.duckdb"})
    assert ferry.fly().state is RunState.SUCCEEDED
    harbour.run(
        "CREATE OR REPLACE VIEW t AS SELECT i AS id, md5(i::text) || md5((-i)::text) AS name"
        " FROM generate_series(1, 400000) i"
    )
    shown(ferry, ferry.fly(), "destination", "system", "full")
    found = busy.query("SELECT id, name FROM lake_public.t ORDER BY id", "small/lake.duckdb")
    assert found == OLD


def test_two_jobs_that_write_one_table_leave_it_whole(busy: Mission, harbour: TcpPostgres) -> None:
    place = {"path": f"shared{uuid.uuid4().hex[:8]}.duckdb"}
    first, second = (Ferry(busy, harbour, place=place) for _ in range(2))
    started = [first.start(), second.start()]
    ended = [busy.wait_until_ended(run_id, seconds=60) for run_id in started]
    assert [run.state for run in ended] == [RunState.SUCCEEDED] * 2, [run.error_message for run in ended]
    assert busy.query("SELECT id, name FROM lake_public.t ORDER BY id", place["path"]) == OLD


def test_an_upsert_by_a_key_that_is_not_there_is_refused_before_there_is_a_run(
    busy: Mission, harbour: TcpPostgres
) -> None:
    keyed = {"sync_mode": "incremental", "cursor_field": "id", "source_defined_primary_key": ["nowhere"]}
    with pytest.raises(Invalid, match="source_defined_primary_key: there is no column 'nowhere'"):
        Ferry(busy, harbour, type_schema=TYPED, **keyed)
