"""Full refreshes between two PostgreSQLs: the bytes of COPY go from one to the other, and the receipt stays true."""

import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.connectors.postgres_home import context, destination, source, stream_of, whole
from tests.support.postgres import TcpPostgres
from webapp.engine.connectors.base import Chunk, Column, Load, Relay, Stream, Target, Write
from webapp.engine.sync.plan import StreamPlan, StreamReceipt, StreamStatus, SyncSpec
from webapp.engine.sync.runner import run_sync

MART = Target("mart", "landed")
# As PostgreSQL has them; as text, so that NaN and infinite dates can be compared.
VALUES = {
    "smallint": ["1", "-32768"], "integer": ["7"], "bigint": ["9223372036854775807"], "oid": ["4294967295"],
    "real": ["1.5", "NaN"], "double precision": ["0.1", "-Infinity"], "boolean": ["true", "false"],
    "numeric(12,4)": ["12345678.9012", "NaN"], "numeric": ["1e40", "NaN"], "money": ["12.50"],
    "text": ["", "blank ", "snow \u2603"], "varchar(20)": ["v"], "char(4)": ["ab"], "name": ["n"],
    "bytea": ["\\x00ff"], "uuid": ["00000000-0000-0000-0000-00000000abcd"],
    "json": ['{"b" : 1, "a":2}'], "jsonb": ['{"a": [1, null]}'],
    "date": ["2026-01-01", "infinity"], "time": ["23:59:59.999999"], "interval": ["1 mon 2 days 03:04:05.6"],
    "timestamp": ["2026-01-01 00:00:00.000001", "-infinity"], "timestamptz": ["0044-03-15 12:00:00+00 BC", "infinity"],
    "timetz": ["10:00:00+02"], "inet": ["10.0.0.1/8"], "int4range": ["[1,5)"], "xml": ["<a/>"], "bit(3)": ["101"],
    "integer[]": ["{1,NULL,3}", "{{1,2},{3,4}}"], "text[]": ['{a,"b c"}'], "varchar(5)[]": ["{a,b}"],
    "numeric(5,2)[]": ["{1.25}"], "uuid[]": ["{00000000-0000-0000-0000-00000000abcd}"], "timestamptz[]": ["{infinity}"],
    "mood": ["happy"], "positive": ["5"], "price": ["1.125"], "point3": ["(1,2,x)"],
}  # fmt: skip
SHOWN = {
    "money": "v::numeric(19,2)::text", "point3": "to_json(v)::text", "inet": "abbrev(v)", "char(4)": "rpad(v, 4)"
}  # fmt: skip


@pytest.fixture(scope="module")
def server() -> Iterator[TcpPostgres]:
    one = TcpPostgres()
    one.run(
        "CREATE ROLE encrypted LOGIN PASSWORD 's3cret-word'",
        "CREATE TYPE mood AS ENUM ('happy', 'sad')",
        "CREATE DOMAIN positive AS integer",
        "CREATE DOMAIN price AS numeric(8,3)",
        "CREATE TYPE point3 AS (a integer, b integer, c text)",
        "CREATE VIEW slow AS SELECT i, pg_sleep(CASE WHEN i > 2000 THEN 60 ELSE 0 END)::text AS p,"
        " repeat('x', 900) AS x FROM generate_series(1, 3000) i",
        "CREATE TABLE wide AS SELECT i AS id, repeat('x', 300) AS note FROM generate_series(1, 80000) i",
    )
    yield one
    one.remove()


@pytest.fixture
def empty(server: TcpPostgres) -> TcpPostgres:
    """The server without anything that a load has left."""
    server.run("DROP SCHEMA IF EXISTS mart, _hohmann, _hohmann_parachute CASCADE")
    return server


def sync(server: TcpPostgres, folder: Path, stream: Stream, **around: Any) -> StreamReceipt:
    """A full refresh of the stream within the same server, by a run."""
    settings = around.pop("settings", {})
    plan = StreamPlan(stream.namespace, stream.name, stream.columns, MART, renames=around.pop("renames", {}))
    config = server.config(**settings)
    (receipt,) = run_sync(
        SyncSpec("postgres", config, "postgres", config, [plan]), context(folder, **around), lambda receipt: None
    )
    return receipt


def stream(server: TcpPostgres, folder: Path, label: str) -> Stream:
    return stream_of(source(server, context(folder)), label)


def offered(server: TcpPostgres, folder: Path, label: str, act: Callable[[Relay | None], None]) -> None:
    """Ask the writer of a load whether it knows a short way, and use it while source and load are open."""
    one = source(server, context(folder))
    read = whole(stream_of(one, label))
    with one.open(parallel=1) as session, destination(server, context(folder)).open() as landing:
        writer = landing.begin(Load(MART, Write.REPLACE, read.columns))
        try:
            act(writer.relay(session, read))
        finally:
            writer.abort()


@pytest.mark.parametrize("kind", VALUES)
def test_values_of_every_type_arrive_as_they_are(empty: TcpPostgres, tmp_path: Path, kind: str) -> None:
    values = ", ".join(f"('{value}')" for value in VALUES[kind])
    empty.run(
        "DROP TABLE IF EXISTS public.kinds",
        f"CREATE TABLE public.kinds (v {kind})",
        f"INSERT INTO public.kinds VALUES {values}, (NULL)",
    )
    receipt = sync(empty, tmp_path, stream(empty, tmp_path, "public.kinds"))
    assert (receipt.status, receipt.error, receipt.doubt) == (StreamStatus.LANDED, None, None)
    assert receipt.rows_found == len(VALUES[kind]) + 1
    shown = SHOWN.get(kind, "v::text")
    assert empty.run("SELECT v::text FROM mart.landed ORDER BY 1") == empty.run(f"SELECT {shown} FROM kinds ORDER BY 1")


def test_a_large_table_goes_in_chunks_and_both_servers_counts_agree(empty: TcpPostgres, tmp_path: Path) -> None:
    receipt = sync(empty, tmp_path, stream(empty, tmp_path, "public.wide"))
    assert (receipt.status, receipt.error) == (StreamStatus.LANDED, None)
    counts = (receipt.rows_source, receipt.rows_read, receipt.rows_written, receipt.rows_found, receipt.rows_total)
    assert counts == (80000,) * 5
    assert (receipt.chunks, receipt.chunks_done) == (4, 4)
    assert receipt.bytes_read == receipt.bytes_written > 80000 * 300
    assert empty.run("SELECT * FROM wide EXCEPT ALL SELECT * FROM mart.landed") == []


def test_the_rows_are_those_of_the_snapshot(empty: TcpPostgres, tmp_path: Path) -> None:
    empty.run("DROP TABLE IF EXISTS moment", "CREATE TABLE moment AS SELECT i FROM generate_series(1, 10) i")

    def act(relay: Relay | None) -> None:
        empty.run("INSERT INTO moment SELECT 11", "DELETE FROM moment WHERE i < 3")
        assert relay is not None
        done = relay.pass_on(Chunk("all"), lambda size: None)
        assert (done.read, done.written) == (10, 10)

    offered(empty, tmp_path, "public.moment", act)


def test_a_filter_a_choice_and_a_new_name_go_along(empty: TcpPostgres, tmp_path: Path) -> None:
    found = stream(empty, tmp_path, "public.wide")
    plan = StreamPlan(
        "public", "wide", found.columns[:1], MART, filter="id > 79990", renames={"id": "the \"number\""}
    )  # fmt: skip
    config = empty.config()
    (receipt,) = run_sync(
        SyncSpec("postgres", config, "postgres", config, [plan]), context(tmp_path), lambda receipt: None
    )
    assert (receipt.status, receipt.rows_read) == (StreamStatus.LANDED, 10)
    assert empty.run('SELECT min("the ""number""") FROM mart.landed') == [(79991,)]


def test_an_empty_table_lands_as_an_empty_table(empty: TcpPostgres, tmp_path: Path) -> None:
    empty.run("DROP TABLE IF EXISTS nobody", "CREATE TABLE nobody (a integer, b text)")
    receipt = sync(empty, tmp_path, stream(empty, tmp_path, "public.nobody"))
    assert (receipt.status, receipt.rows_found) == (StreamStatus.LANDED, 0)


def test_what_no_cast_brings_over_takes_the_long_way(empty: TcpPostgres, tmp_path: Path) -> None:
    empty.run(
        "DROP TABLE IF EXISTS odd", "CREATE TABLE odd (v json[])", "INSERT INTO odd VALUES (ARRAY['{\"a\": 1}'::json])"
    )

    def act(relay: Relay | None) -> None:
        assert relay is None

    offered(empty, tmp_path, "public.odd", act)
    assert sync(empty, tmp_path, stream(empty, tmp_path, "public.odd")).rows_found == 1


def test_a_column_whose_type_has_changed_since_takes_the_long_way(empty: TcpPostgres, tmp_path: Path) -> None:
    empty.run("DROP TABLE IF EXISTS grown", "CREATE TABLE grown (v bigint)", "INSERT INTO grown VALUES (1)")
    old = Stream("public", "grown", (Column("v", "INTEGER"),))
    assert sync(empty, tmp_path, old).rows_found == 1
    assert empty.run("SELECT pg_typeof(v)::text FROM mart.landed") == [("integer",)]


@pytest.mark.parametrize("mode", ["require", "verify-full"])
def test_it_goes_over_tls_with_a_password_too(empty: TcpPostgres, tmp_path: Path, mode: str) -> None:
    empty.run(
        "GRANT CREATE ON DATABASE postgres TO encrypted", "GRANT SELECT ON wide TO encrypted",
    )  # fmt: skip
    tls = {"mode": mode, "server_ca": empty.authority if mode == "verify-full" else ""}
    settings = {"username": "encrypted", "password": "s3cret-word", "ssl": tls}
    receipt = sync(empty, tmp_path, stream(empty, tmp_path, "public.wide"), settings=settings)
    assert (receipt.status, receipt.error, receipt.rows_found) == (StreamStatus.LANDED, None, 80000)
    assert empty.run("SELECT count(*) FROM pg_stat_activity WHERE usename = 'encrypted'") == [(0,)]


def test_a_certificate_without_the_name_is_refused(server: TcpPostgres, tmp_path: Path) -> None:
    import socket
    import ssl

    from webapp.engine.connectors.postgres.connection import tls_context

    authority = tmp_path / "ca.pem"
    authority.write_text(server.authority)
    for host, good in (("127.0.0.1", True), ("example.org", False)):
        made = tls_context("verify-full", host, {"sslrootcert": str(authority)})
        assert isinstance(made, ssl.SSLContext)
        with socket.create_connection(("127.0.0.1", server.port)) as plain:
            plain.sendall(b"\0\0\0\x08\x04\xd2\x16\x2f")
            assert plain.recv(1) == b"S"
            incoming, outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
            tls = made.wrap_bio(incoming, outgoing, server_side=False, server_hostname="127.0.0.1")
            assert shaken(tls, plain, incoming, outgoing) is good


def shaken(tls: Any, plain: Any, incoming: Any, outgoing: Any) -> bool:
    """Whether both sides agreed."""
    import ssl

    while True:
        try:
            tls.do_handshake()
            return True
        except ssl.SSLWantReadError:
            plain.sendall(outgoing.read())
            incoming.write(plain.recv(65536))
        except ssl.SSLCertVerificationError:
            return False


def copying(server: TcpPostgres, direction: str) -> list[tuple[int]]:
    """The server's processes that are copying now."""
    return server.run(
        f"SELECT pid FROM pg_stat_progress_copy WHERE command = 'COPY {direction}' AND bytes_processed > 0"
    )


def until_copying(server: TcpPostgres, direction: str) -> list[tuple[int]]:
    end = time.monotonic() + 30
    while not (found := copying(server, direction)):
        assert time.monotonic() < end, "no COPY was seen"
        time.sleep(0.02)
    return found


def interrupted(server: TcpPostgres, folder: Path, act: Callable[[], None], **around: Any) -> StreamReceipt:
    """A run during which something happens, over a table that was there before."""
    server.run("CREATE SCHEMA mart", "CREATE TABLE mart.landed AS SELECT 'old' AS x")
    found = stream(server, folder, "public.slow")
    other = threading.Thread(target=act)
    other.start()
    receipt = sync(server, folder, found, **around)
    other.join()
    assert server.run("SELECT x FROM mart.landed") == [("old",)]
    assert server.run("SELECT relname FROM pg_class WHERE relname LIKE 'stage\\_%' AND relkind = 'r'") == []
    end = time.monotonic() + 30
    while copying(server, "TO") or copying(server, "FROM"):
        assert time.monotonic() < end, "a COPY was left behind"
        time.sleep(0.05)
    return receipt


def test_cancelling_ends_it_on_both_sides(empty: TcpPostgres, tmp_path: Path) -> None:
    cancelled = threading.Event()

    def act() -> None:
        until_copying(empty, "TO")
        cancelled.set()

    receipt = interrupted(empty, tmp_path, act, cancelled=cancelled.is_set)
    assert receipt.status is StreamStatus.CANCELLED


@pytest.mark.parametrize(("direction", "origin"), [("TO", "source"), ("FROM", "destination")])
def test_a_connection_that_dies_is_told_by_its_side_and_worth_another_try(
    empty: TcpPostgres, tmp_path: Path, direction: str, origin: str
) -> None:
    def act() -> None:
        for (pid,) in until_copying(empty, direction):
            empty.run(f"SELECT pg_terminate_backend({pid})")

    receipt = interrupted(empty, tmp_path, act)
    assert receipt.status is StreamStatus.FAILED
    assert receipt.error is not None
    assert (receipt.error["origin"], receipt.error["kind"], receipt.error["permanent"]) == (origin, "transient", False)
    assert "s3cret" not in receipt.error["message"]


def test_a_value_that_fails_at_the_source_is_told_in_the_servers_words(empty: TcpPostgres, tmp_path: Path) -> None:
    empty.run(
        "DROP VIEW IF EXISTS broken", "CREATE VIEW broken AS SELECT 1 / (i - 500) AS q FROM generate_series(1, 900) i"
    )
    receipt = sync(empty, tmp_path, stream(empty, tmp_path, "public.broken"))
    assert receipt.error is not None
    assert (receipt.error["origin"], receipt.error["permanent"]) == ("source", True)
    assert "division by zero" in receipt.error["message"]
