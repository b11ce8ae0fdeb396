"""Systems that cannot run beside the tests: their real libraries, and what they say of a port that is closed."""

from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from bson import Decimal128, ObjectId

from tests.engine.conftest import Heard
from tests.support.stacks import free_port
from webapp.engine.connectors.base import Column
from webapp.engine.connectors.mongodb.source import MongoDBSource
from webapp.engine.connectors.mongodb.values import columns_of, row_of
from webapp.engine.connectors.oracle.source import OracleSource, column_of
from webapp.engine.context import Context
from webapp.engine.errors import EngineError, Kind


def context(tmp_path: Path) -> Context:
    return Context(tmp_path, (), tmp_path / "w.duckdb", tmp_path / "t", Heard(), allow_private_addresses=True)


def mongodb(tmp_path: Path, port: int) -> MongoDBSource:
    config = {"hosts": [f"127.0.0.1:{port}"], "database": "shop", "username": "ann", "password": "planted-secret"}
    return MongoDBSource(MongoDBSource.Spec.model_validate(config), context(tmp_path))


def oracle(tmp_path: Path, port: int) -> OracleSource:
    config = {"host": "127.0.0.1", "port": port, "service_name": "FREEPDB1", "username": "ann",
              "password": "planted-secret"}  # fmt: skip
    return OracleSource(OracleSource.Spec.model_validate(config), context(tmp_path))


@pytest.mark.parametrize("make", [mongodb, oracle])
def test_a_closed_port_fails_the_log_in_step_in_the_librarys_own_words(make: Any, tmp_path: Path) -> None:
    steps = list(make(tmp_path, free_port()).check())
    assert [(step.name, step.ok) for step in steps] == [("resolve", True), ("log in", False)]
    assert "refused" in steps[-1].message or "cannot connect" in steps[-1].message.lower()
    assert steps[-1].fix
    assert "planted-secret" not in repr(steps)


@pytest.mark.parametrize("make", [mongodb, oracle])
def test_a_closed_port_is_worth_another_try(make: Any, tmp_path: Path) -> None:
    with pytest.raises(EngineError) as caught:
        list(make(tmp_path, free_port()).discover())
    assert caught.value.kind is Kind.TRANSIENT


def test_fields_of_documents_become_columns_and_what_is_new_is_kept_beside_them() -> None:
    key, at = ObjectId(), datetime(2026, 1, 2, tzinfo=UTC)
    seen = [
        {"_id": key, "n": 1, "x": 1, "at": at, "tags": ["a"]},
        {"_id": key, "n": 2.5, "x": "one", "d": Decimal128("1.50")},
    ]
    columns = columns_of(seen)
    assert {column.name: column.type for column in columns} == {
        "_id": "VARCHAR", "n": "DOUBLE", "x": "VARCHAR", "at": "TIMESTAMP WITH TIME ZONE", "tags": "JSON",
        "d": "VARCHAR", "_rest": "JSON",
    }  # fmt: skip
    known = frozenset(column.name for column in columns)
    row = row_of({**seen[0], "late": {"deep": 1}}, columns, known, "shop.orders")
    assert row == {
        "_id": str(key),
        "n": 1.0,
        "x": "1",
        "at": at,
        "tags": '["a"]',
        "d": None,
        "_rest": '{"late": {"deep": 1}}',
    }


def test_a_value_that_does_not_fit_its_column_is_no_silent_null() -> None:
    with pytest.raises(EngineError, match="discovered as BIGINT"):
        row_of({"n": "text"}, [Column("n", "BIGINT")], frozenset({"n"}), "shop.orders")


@pytest.mark.parametrize(
    ("declared", "becomes"),
    [
        (("NUMBER", 9, 0), "BIGINT"),
        (("NUMBER", 20, 0), "DECIMAL(20,0)"),
        (("NUMBER", 10, 2), "DECIMAL(10,2)"),
        (("NUMBER", None, None), "VARCHAR"),
        (("DATE", None, None), "TIMESTAMP"),
        (("TIMESTAMP(6) WITH TIME ZONE", None, 6), "TIMESTAMP WITH TIME ZONE"),
        (("VARCHAR2", None, None), "VARCHAR"),
        (("BLOB", None, None), "BLOB"),
    ],
)
def test_oracles_types_keep_their_digits(declared: tuple[str, int | None, int | None], becomes: str) -> None:
    assert column_of("c", *declared, "Y").type == becomes
