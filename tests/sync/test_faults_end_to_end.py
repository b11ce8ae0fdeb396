"""Faults between a real PostgreSQL and real destinations: a clear reason, old rows whole, the next run works."""

import shutil
import socket
import sqlite3
import threading
import time
from collections.abc import Iterator
from contextlib import closing
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest

from tests.support.disks import small_disk
from tests.support.postgres import TcpPostgres
from tests.support.stacks import free_port
from tests.sync.conftest import context_at
from webapp.engine.connectors import registry
from webapp.engine.connectors.base import Mode, Stream, Target, Write
from webapp.engine.context import Context
from webapp.engine.errors import EngineError, Kind, Origin
from webapp.engine.sync import stream as stream_module
from webapp.engine.sync.plan import StreamPlan, StreamReceipt, StreamStatus, SyncSpec
from webapp.engine.sync.runner import run_sync

DESTINATIONS = ("duckdb", "s3", "postgres")
SECRET = "s3cret-word"
OLD = "SELECT i AS id, 'old' || i AS name FROM generate_series(1, 3) i"
OLD_ROWS = [(1, "old1"), (2, "old2"), (3, "old3")]


@dataclass
class Yard:
    """One source of PostgreSQL's and one destination, with syncs between them."""

    server: TcpPostgres
    context: Context
    kind: str
    place: dict[str, Any]

    def source(self, **changes: Any) -> Any:
        found = registry.source_class("postgres")
        return found(found.Spec.model_validate(self.server.config(**changes)), self.context)

    def discovered(self, name: str, **config: Any) -> Stream:
        [found] = self.source(**config).discover(pattern=f"public.{name}")
        return found

    def plan(self, name: str, **changes: Any) -> StreamPlan:
        found = self.discovered(name)
        return replace(StreamPlan("public", name, found.columns, Target("landing", name)), **changes)

    def sync(self, *plans: StreamPlan, told: Any = lambda receipt: None, **config: Any) -> list[StreamReceipt]:
        spec = SyncSpec("postgres", self.server.config(**config), self.kind, self.place, plans)
        return run_sync(spec, self.context, told)

    def land(self, *plans: StreamPlan) -> None:
        assert [receipt.status for receipt in self.sync(*plans)] == [StreamStatus.LANDED] * len(plans)

    def rows(self, name: str) -> list[tuple[Any, ...]]:
        found = registry.destination_class(self.kind)
        with found(found.Spec.model_validate(self.place), self.context).open() as session:
            table = session.preview(Target("landing", name), limit=1_000_000)
        return sorted(tuple(row.values()) for row in table.to_pylist())


def place_of(kind: str, server: TcpPostgres, folder: str = "") -> dict[str, Any]:
    """The configuration of a destination, its files in a folder of the data folder."""
    return {
        "duckdb": {"path": f"{folder}lake.duckdb"},
        "s3": {"type": "PARQUET", "writer": {"local_path": f"{folder}lake"}},
        "postgres": server.config(),
    }[kind]


@pytest.fixture(scope="module")
def server() -> Iterator[TcpPostgres]:
    one = TcpPostgres()
    one.run(f"CREATE ROLE visitor LOGIN PASSWORD '{SECRET}'")
    yield one
    one.remove()


@pytest.fixture(params=DESTINATIONS)
def yard(request: pytest.FixtureRequest, server: TcpPostgres, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Yard:
    monkeypatch.setattr(stream_module, "GRACE", 0.01)
    server.run(
        "DROP SCHEMA public CASCADE",
        "CREATE SCHEMA public",
        "GRANT USAGE ON SCHEMA public TO visitor",
        "DROP SCHEMA IF EXISTS landing, _hohmann, _hohmann_parachute CASCADE",
        "CREATE SCHEMA landing",
        *(f"CREATE TABLE {name} AS {OLD}" for name in ("t", "other")),
        "GRANT SELECT ON t, other TO visitor",
    )
    around = context_at(tmp_path, allow_private_addresses=True)
    return Yard(server, around, request.param, place_of(request.param, server))


def refusal(act: Any) -> EngineError:
    with pytest.raises(EngineError) as caught:
        act()
    assert caught.value.fix
    assert SECRET not in repr(caught.value.message) + repr(caught.value.facts)
    return caught.value


def failure(receipt: StreamReceipt, origin: Origin, kind: Kind) -> str:
    """The reason that a stream failed for, which is this side's and of this kind, and comes with a fix."""
    assert receipt.status is StreamStatus.FAILED, receipt
    assert receipt.error is not None
    assert (receipt.error["origin"], receipt.error["kind"]) == (origin.value, kind.value), receipt.error
    assert receipt.error["fix"], receipt.error
    assert receipt.state_after == receipt.state_before
    return str(receipt.error["message"])


@pytest.fixture
def no_name(monkeypatch: pytest.MonkeyPatch) -> None:
    """The name db.invalid has no address, without asking anybody."""
    real = socket.getaddrinfo

    def known(host: Any, *rest: Any, **more: Any) -> Any:
        if host == "db.invalid":
            raise socket.gaierror(-2, "Name or service not known")
        return real(host, *rest, **more)

    monkeypatch.setattr(socket, "getaddrinfo", known)


@pytest.mark.usefixtures("no_name")
@pytest.mark.parametrize(
    ("yard", "changes", "kind", "words"),
    [
        ("duckdb", {"username": "visitor", "password": f"not-{SECRET}"}, Kind.CONFIGURATION, "password authentication"),
        ("s3", {"port": "closed"}, Kind.TRANSIENT, "refused"),
        ("postgres", {"host": "db.invalid"}, Kind.TRANSIENT, "db.invalid"),
    ],
    indirect=["yard"],
    ids=["password", "port", "host"],
)
def test_a_source_that_cannot_be_opened_says_why(yard: Yard, changes: dict[str, Any], kind: Kind, words: str) -> None:
    plan = yard.plan("t")
    yard.land(plan)
    wrong = {**changes, "port": free_port()} if "port" in changes else changes
    error = refusal(lambda: yard.sync(plan, **wrong))
    assert (error.origin, error.kind) == (Origin.SOURCE, kind), error.message
    assert words in error.message
    assert yard.rows("t") == OLD_ROWS
    yard.land(plan)


@pytest.fixture
def plain_text(server: TcpPostgres) -> Iterator[None]:
    """The server offers no TLS."""
    server.run("ALTER SYSTEM SET ssl = off", "SELECT pg_reload_conf()")
    while server.run("SHOW ssl") != [("off",)]:
        time.sleep(0.02)
    yield
    server.run("ALTER SYSTEM RESET ssl", "SELECT pg_reload_conf()")


@pytest.mark.usefixtures("plain_text")
@pytest.mark.parametrize("yard", ["duckdb"], indirect=True)
def test_a_server_that_refuses_tls_is_not_read_in_plain_text(yard: Yard) -> None:
    plan = yard.plan("t")
    error = refusal(lambda: yard.sync(plan, ssl={"mode": "require"}))
    assert (error.origin, error.kind) == (Origin.SOURCE, Kind.CONFIGURATION)
    assert "SSL" in error.message
    yard.land(plan)


@pytest.mark.parametrize("yard", ["postgres"], indirect=True)
@pytest.mark.parametrize("changes", [{"username": "visitor", "password": f"not-{SECRET}"}, {"port": "closed"}])
def test_a_destination_that_cannot_be_opened_says_why(yard: Yard, changes: dict[str, Any]) -> None:
    plan = yard.plan("t")
    yard.land(plan)
    wrong = {**changes, "port": free_port()} if "port" in changes else changes
    error = refusal(lambda: replace(yard, place={**yard.place, **wrong}).sync(plan))
    assert error.origin is Origin.DESTINATION
    assert error.kind is (Kind.TRANSIENT if "port" in changes else Kind.CONFIGURATION)
    assert yard.rows("t") == OLD_ROWS


def test_a_table_without_rights_fails_alone(yard: Yard) -> None:
    plans = [yard.plan(name) for name in ("t", "other")]
    yard.server.run("CREATE TABLE shut AS SELECT 1 AS id")
    shut = yard.plan("shut")
    first, bad, last = yard.sync(plans[0], shut, plans[1], username="visitor", password=SECRET)
    assert [first.status, last.status] == [StreamStatus.LANDED] * 2
    assert "shut" in failure(bad, Origin.SOURCE, Kind.CONFIGURATION)
    assert "GRANT" in (bad.error or {})["fix"]
    yard.server.run("GRANT SELECT ON shut TO visitor")
    assert yard.sync(shut, username="visitor", password=SECRET)[0].status is StreamStatus.LANDED


@pytest.mark.parametrize(
    ("yard", "statement", "words"),
    [
        ("duckdb", "DROP TABLE t", "no table public.t"),
        ("s3", "ALTER TABLE t DROP COLUMN name", "no column name"),
        ("postgres", "ALTER TABLE t ALTER COLUMN id TYPE bigint USING id + (2 ^ 40)::bigint", "its column: id: "),
        ("duckdb", "ALTER TABLE t ALTER COLUMN id TYPE text USING name", "its column: id: "),
    ],
    indirect=["yard"],
    ids=["table", "column", "wider type", "other type"],
)
def test_what_changed_since_the_discovery_is_named_and_fails_alone(yard: Yard, statement: str, words: str) -> None:
    plans = [yard.plan("t"), yard.plan("other")]
    yard.land(*plans)
    yard.server.run(statement)
    bad, good = yard.sync(*plans)
    assert words in failure(bad, Origin.SOURCE, Kind.CONFIGURATION)
    assert "iscover" in (bad.error or {})["fix"]
    assert good.status is StreamStatus.LANDED
    assert yard.rows("t") == OLD_ROWS
    yard.server.run("DROP TABLE IF EXISTS t", f"CREATE TABLE t AS {OLD}")
    yard.land(*plans)


def test_a_value_that_does_not_fit_is_named_and_the_old_rows_stay(yard: Yard) -> None:
    yard.server.run("CREATE TABLE price (id integer, cost numeric(5,2))", "INSERT INTO price VALUES (1, 9.99)")
    plan = yard.plan("price")
    yard.land(plan)
    before = yard.rows("price")
    yard.server.run(
        "ALTER TABLE price ALTER COLUMN cost TYPE numeric(30,2)", "INSERT INTO price VALUES (2, 12345678901.5)"
    )
    [bad] = yard.sync(plan)
    message = failure(bad, Origin.SOURCE, Kind.CONFIGURATION)
    assert "public.price holds a value that does not fit its column: cost" in message
    assert yard.rows("price") == before
    yard.land(yard.plan("price"))
    assert len(yard.rows("price")) == 2


@pytest.mark.parametrize("whom", ["the reader", "everyone"])
def test_connections_that_are_killed_during_the_read_are_worth_another_try(yard: Yard, whom: str) -> None:
    plan, other = yard.plan("t"), yard.plan("other")
    yard.land(plan)
    yard.server.run(
        "DROP TABLE t",
        "CREATE VIEW t AS SELECT i AS id, 'new' || CASE WHEN i = 90000 THEN pg_sleep(30)::text ELSE '' END AS name"
        " FROM generate_series(1, 100000) i",
    )
    killed: list[int] = []
    thread = threading.Thread(target=lambda: killed.append(kill(yard.server, whom)))
    thread.start()
    first, second = yard.sync(plan, other)
    thread.join()
    assert killed[0]
    # On one server everyone is both ends, and either may notice first.
    is_either = whom == "everyone" and first.error is not None and first.error["origin"] == Origin.DESTINATION
    failure(first, Origin.DESTINATION if is_either else Origin.SOURCE, Kind.TRANSIENT)
    if whom == "the reader":
        assert second.status is StreamStatus.LANDED
    assert yard.rows("t") == OLD_ROWS
    yard.server.run("DROP VIEW t", f"CREATE TABLE t AS {OLD}")
    yard.land(plan, other)


def kill(server: TcpPostgres, whom: str) -> int:
    """End the session that sleeps in the middle of its rows, or all of ours; returns how many."""
    end = time.monotonic() + 20
    while time.monotonic() < end:
        if server.run("SELECT 1 FROM pg_stat_activity WHERE wait_event = 'PgSleep'"):
            chosen = "wait_event = 'PgSleep'" if whom == "the reader" else "application_name = 'hohmann'"
            time.sleep(0.3)
            return len(server.run(f"SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE {chosen}"))
        time.sleep(0.02)
    return 0


def test_two_syncs_to_one_table_at_once_leave_one_of_them_whole(yard: Yard) -> None:
    yard.server.run("INSERT INTO other SELECT i, 'other' FROM generate_series(4, 30000) i")
    plans = [yard.plan("t"), yard.plan("other", target=Target("landing", "t"))]
    found: list[StreamReceipt] = []
    threads = [threading.Thread(target=lambda plan=plan: found.extend(yard.sync(plan))) for plan in plans]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(found) == 2
    for receipt in found:
        if receipt.status is not StreamStatus.LANDED:
            failure(receipt, Origin.DESTINATION, Kind.TRANSIENT)
    assert len(yard.rows("t")) in (3, 30000)
    yard.land(plans[0])
    assert yard.rows("t") == OLD_ROWS


@pytest.mark.parametrize("yard", ["s3"], indirect=True)
def test_two_streams_of_one_sync_may_not_share_a_table(yard: Yard) -> None:
    plan = yard.plan("t")
    yard.land(plan)
    for receipt in yard.sync(plan, yard.plan("other", target=plan.target)):
        assert "landing.t" in failure(receipt, Origin.USER, Kind.CONFIGURATION)
    assert yard.rows("t") == OLD_ROWS


def test_an_empty_table_lands_empty_with_its_columns(yard: Yard) -> None:
    plan = yard.plan("t")
    yard.land(plan)
    yard.server.run("DELETE FROM t")
    [receipt] = yard.sync(plan)
    assert (receipt.status, receipt.rows_source, receipt.rows_found) == (StreamStatus.LANDED, 0, 0)
    assert yard.rows("t") == []
    yard.server.run("CREATE TABLE never (id integer, name text)")
    yard.land(yard.plan("never"))
    assert yard.rows("never") == []


@pytest.mark.parametrize("yard", ["duckdb"], indirect=True)
def test_an_upsert_without_a_key_is_refused_before_anything_is_read(yard: Yard) -> None:
    plan = yard.plan("t")
    yard.land(plan)
    wrong = replace(plan, mode=Mode.INCREMENTAL, write=Write.UPSERT, cursor="id")
    [receipt] = yard.sync(wrong)
    assert "no key" in failure(receipt, Origin.USER, Kind.CONFIGURATION)
    assert receipt.rows_read == 0
    assert yard.rows("t") == OLD_ROWS
    yard.land(replace(wrong, primary_key=("id",)))


def test_two_thousand_columns_land_or_are_refused_with_the_limit(yard: Yard, tmp_path: Path) -> None:
    with closing(sqlite3.connect(tmp_path / "wide.db")) as database, database:
        database.execute(f"CREATE TABLE wide ({', '.join(f'c{n} INTEGER' for n in range(2000))})")
        database.execute(f"INSERT INTO wide VALUES ({', '.join(map(str, range(2000)))})")
    found = registry.source_class("sqlite")
    [wide] = found(found.Spec(path="wide.db"), yard.context).discover()
    plan = StreamPlan(wide.namespace, "wide", wide.columns, Target("landing", "wide"))
    spec = SyncSpec("sqlite", {"path": "wide.db"}, yard.kind, yard.place, [plan])
    [receipt] = run_sync(spec, yard.context, lambda told: None)
    if yard.kind == "postgres":
        assert "1600" in failure(receipt, Origin.DESTINATION, Kind.CONFIGURATION)
        spec = replace(spec, streams=[replace(plan, columns=plan.columns[:900])])
        [receipt] = run_sync(spec, yard.context, lambda told: None)
    assert receipt.status is StreamStatus.LANDED, receipt.error
    assert yard.rows("wide") == [tuple(range(900 if yard.kind == "postgres" else 2000))]


@pytest.fixture
def small(yard: Yard, tmp_path: Path) -> Iterator[Yard]:
    """The destination on a disk of eight megabytes."""
    on_server = yard.kind == "postgres"
    with small_disk((yard.server.folder if on_server else tmp_path) / "small", megabytes=8) as disk:
        if on_server:
            yield from on_tablespace(yard, disk)
        else:
            yield replace(yard, place=place_of(yard.kind, yard.server, "small/"))


def on_tablespace(yard: Yard, disk: Path) -> Iterator[Yard]:
    space = disk / "space"
    space.mkdir()
    shutil.chown(space, yard.server.user)
    yard.server.run(
        f"CREATE TABLESPACE small LOCATION '{space}'",
        f"CREATE ROLE lander SUPERUSER LOGIN PASSWORD '{SECRET}'",
        "ALTER ROLE lander SET default_tablespace = small",
    )
    try:
        yield replace(yard, place={**yard.place, "username": "lander", "password": SECRET})
    finally:
        yard.server.run(
            "DROP SCHEMA IF EXISTS landing, _hohmann, _hohmann_parachute CASCADE",
            "DROP TABLESPACE small",
            "DROP OWNED BY lander",
            "DROP ROLE lander",
        )


def test_a_full_disk_is_named_and_the_old_rows_stay(small: Yard) -> None:
    plan = small.plan("t")
    small.land(plan)
    small.server.run("INSERT INTO t SELECT i, md5(i::text) || md5((-i)::text) FROM generate_series(4, 400000) i")
    [receipt] = small.sync(plan)
    message = failure(receipt, Origin.DESTINATION, Kind.SYSTEM)
    assert "full" in message or "No space left" in message
    assert (receipt.error or {})["permanent"] is False
    assert small.rows("t") == OLD_ROWS
    small.server.run("DELETE FROM t WHERE id > 3")
    small.land(plan)


@pytest.mark.parametrize("yard", ["postgres"], indirect=True)
def test_streams_that_the_destination_refuses_give_their_connections_back(yard: Yard) -> None:
    refused = [yard.plan("t", target=Target("landing", f"{n}{'x' * 63}")) for n in range(4)]
    *bad, good = yard.sync(*refused, yard.plan("other"))
    for receipt in bad:
        assert "63 bytes" in failure(receipt, Origin.DESTINATION, Kind.CONFIGURATION)
    assert good.status is StreamStatus.LANDED
