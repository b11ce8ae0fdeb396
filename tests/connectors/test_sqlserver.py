"""SQL Server, which cannot run beside the tests: the statements, the types, and the real driver's real refusals."""

import datetime as dt
import socket
import threading
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest

from tests.connectors.reading import context_in, failed
from tests.support.stacks import free_port
from webapp.engine.connectors.base import Column, Condition, Filter, Read, Stream
from webapp.engine.connectors.sqlserver import queries
from webapp.engine.connectors.sqlserver.columns import column_of, projection
from webapp.engine.connectors.sqlserver.source import SQLServerSource, batch_of
from webapp.engine.connectors.types import arrow_schema
from webapp.engine.errors import EngineError, Kind

COLUMNS = (
    Column("id", "BIGINT", False, "bigint"),
    Column("odd ]name%", "VARCHAR", True, "nvarchar"),
    Column("at", "TIMESTAMP", True, "datetime2"),
    Column("shape", "VARCHAR", True, "geometry"),
)
STREAM = Stream("dbo", "orders", COLUMNS)


def source(folder: Path, port: int, **changes: Any) -> SQLServerSource:
    config = {"host": "127.0.0.1", "port": port, "database": "shop", "username": "ann", "password": "planted-secret"}
    return SQLServerSource(SQLServerSource.Spec.model_validate({**config, **changes}), context_in(folder))


@contextmanager
def speaking(answer: bytes) -> Iterator[int]:
    """A server that answers every client with these bytes, whatever it asks, and hangs up."""
    with socket.create_server(("127.0.0.1", 0)) as server:

        def serve() -> None:
            while True:
                try:
                    client, _ = server.accept()
                except OSError:
                    return
                with client:
                    client.sendall(answer)
                    client.settimeout(5)
                    client.recv(4096)

        thread = threading.Thread(target=serve, daemon=True)
        thread.start()
        yield server.getsockname()[1]
        server.shutdown(socket.SHUT_RDWR)
    thread.join()


def test_a_closed_port_is_refused_in_the_systems_own_words(tmp_path: Path) -> None:
    port = free_port()
    last = failed(list(source(tmp_path, port).check()))
    assert (last.name, "refused" in last.message) == ("log in", True)
    assert last.fix
    with pytest.raises(EngineError) as caught:
        list(source(tmp_path, port).discover())
    assert caught.value.kind is Kind.TRANSIENT


@pytest.mark.parametrize(
    "answer", [b"HTTP/1.1 400 Bad Request\r\n\r\n", b"\x4a\0\0\0\x0a5.5.5-10.11", b"\x04\x01\x00\x09\0\0\1\0x", b""]
)
@pytest.mark.parametrize("tls", ["disable", "verify-full"])
def test_a_server_that_speaks_something_else_is_an_error_with_a_fix(tmp_path: Path, answer: bytes, tls: str) -> None:
    with speaking(answer) as port:
        last = failed(list(source(tmp_path, port, ssl={"mode": tls}).check()))
    assert last.name == "log in"
    assert last.message.startswith(f"127.0.0.1:{port}: ")
    assert "Check that a SQL Server runs there" in last.fix
    assert "planted-secret" not in last.message


def test_loopback_is_refused_where_it_is_not_allowed(tmp_path: Path) -> None:
    strict = context_in(tmp_path, allow_private_addresses=False)
    last = failed(list(SQLServerSource(source(tmp_path, 1).config, strict).check()))
    assert "HOHMANN_ALLOW_PRIVATE_ADDRESSES" in last.fix


def test_a_read_names_its_columns_and_binds_every_value() -> None:
    chosen = Filter((Condition("odd ]name%", "=", "x' OR 1=1 --"), Condition("id", "!=", None)), "or")
    made = queries.rows(Read(STREAM, COLUMNS[1:], chosen, "id", 5, 9))
    assert made.text == (
        "SELECT [odd ]]name%%] AS [odd ]]name%%], [at] AS [at], [shape].ToString() AS [shape] FROM [dbo].[orders]"
        " WHERE ([odd ]]name%%] = %s OR [id] IS NOT NULL) AND [id] >= %s AND [id] <= %s"
    )
    assert made.values == ("x' OR 1=1 --", 5, 9)


def test_a_percent_sign_in_a_name_stays_where_nothing_is_bound() -> None:
    made = queries.rows(Read(STREAM, COLUMNS[1:2]))
    assert (made.text, made.values) == ("SELECT [odd ]]name%] AS [odd ]]name%] FROM [dbo].[orders]", ())


def test_the_window_takes_rows_whose_seventh_digit_the_last_value_has_lost() -> None:
    made = queries.count(Read(STREAM, COLUMNS, None, "at", "2026-01-01T00:00:00", "2026-01-02T00:00:00.123456"))
    assert made.text == (
        "SELECT COUNT_BIG(*) FROM [dbo].[orders] WHERE [at] >= CAST(%s AS datetime2(7))"
        " AND [at] < DATEADD(microsecond, 1, CAST(%s AS datetime2(7)))"
    )
    assert queries.high_water(Read(STREAM, COLUMNS, cursor="at")).text == "SELECT MAX([at]) FROM [dbo].[orders]"


@pytest.mark.parametrize(
    ("condition", "said"),
    [
        (Condition("nothing", "=", 1), "no column 'nothing'"),
        (Condition("id", "<", None), "is no comparison"),
        (Condition("id", "; DROP", 1), "is no comparison"),
        (Condition("shape", "=", "POINT"), "cannot be compared"),
    ],
)
def test_a_filter_that_cannot_be_is_refused_by_name(condition: Condition, said: str) -> None:
    with pytest.raises(EngineError, match=said) as caught:
        queries.rows(Read(STREAM, COLUMNS, Filter((condition,))))
    assert caught.value.fix


@pytest.mark.parametrize(
    ("declared", "becomes", "read"),
    [
        (("decimal", 38, 10), "DECIMAL(38,10)", "[c]"),
        (("money", 19, 4), "DECIMAL(19,4)", "[c]"),
        (("tinyint", 3, 0), "UTINYINT", "[c]"),
        (("datetimeoffset", 34, 7), "TIMESTAMP WITH TIME ZONE", "[c]"),
        (("timestamp", 0, 0), "BLOB", "[c]"),
        (("uniqueidentifier", 0, 0), "UUID", "[c]"),
        (("xml", 0, 0), "VARCHAR", "CAST([c] AS nvarchar(max))"),
        (("hierarchyid", 0, 0), "VARCHAR", "[c].ToString()"),
        (("nvarchar", 0, 0), "VARCHAR", "[c]"),
    ],
)
def test_types_keep_what_they_hold(declared: tuple[str, int, int], becomes: str, read: str) -> None:
    column = column_of("c", *declared, True)
    assert (column.type, projection(column)) == (becomes, read)


def test_the_drivers_values_become_batches() -> None:
    kinds = {"decimal": Decimal("1.50"), "uniqueidentifier": uuid.UUID(int=7), "varbinary": b"\0\xff", "bit": True,
             "datetimeoffset": dt.datetime(2026, 1, 1, 5, tzinfo=dt.timezone(dt.timedelta(hours=5))),
             "time": dt.time(1, 2, 3, 4), "nvarchar": "é😀"}  # fmt: skip
    columns = [column_of(kind, kind, 10, 2, True) for kind in kinds]
    batch = batch_of([tuple(kinds.values()), (None,) * len(kinds)], arrow_schema(columns))
    full, empty = batch.to_pylist()
    assert full == {**kinds, "uniqueidentifier": str(uuid.UUID(int=7))}
    assert set(empty.values()) == {None}
