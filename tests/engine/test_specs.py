"""A task's configuration is understood completely or refused by name."""

import json
import pickle
import subprocess
import sys
from typing import Any

import pytest
from pydantic import ValidationError

from webapp.engine.column_types import parse_column_type
from webapp.engine.errors import Cancelled, EngineError, Kind, Origin
from webapp.engine.specs import extractor_json_schemas, loader_json_schemas, parse_extractor, parse_loader


@pytest.mark.parametrize(
    ("config", "field"),
    [
        ({"type": "csv"}, "path"),
        ({"type": "csv", "path": ""}, "path"),
        ({"type": "csv", "path": 5}, "path"),
        ({"type": "csv", "path": "a\0b"}, "path"),
        ({"type": "csv", "path": "a", "colour": 1}, "colour"),
        ({"type": "csv", "path": "a", "delimiter": "::"}, "delimiter"),
        ({"type": "csv", "path": "a", "delimiter": "\n"}, "delimiter"),
        ({"type": "csv", "path": "a", "encoding": "klingon"}, "encoding"),
        ({"type": "csv", "path": "a", "encoding": "zip"}, "encoding"),
        ({"type": "csv", "path": "a", "columns": {"a": "INT); DROP"}}, "columns"),
        ({"type": "csv", "path": "a", "columns": {"a": "INT", "A": "INT"}}, "columns"),
        ({"type": "api", "url": "ftp://x/"}, "url"),
        ({"type": "api", "url": "http://u:p@x/"}, "url"),
        ({"type": "api", "url": "http:///x"}, "url"),
        ({"type": "api", "url": "http://x:99999/"}, "url"),
        ({"type": "api", "url": "http://x/ y"}, "url"),
        ({"type": "api", "url": "http://x/", "headers": {"A": "b\r\nC: d"}}, "headers"),
        ({"type": "api", "url": "http://x/", "headers": {"Host": "y"}}, "headers"),
        ({"type": "api", "url": "http://x/", "pagination": {"type": "cursor", "sice": 1}}, "sice"),
        ({"type": "api", "url": "http://x/", "pagination": {"type": "psychic"}}, "pagination"),
        ({"type": "parquet", "path": "a", "header": True}, "header"),
    ],
)
def test_a_wrong_extractor_is_refused_by_its_field(config: dict[str, Any], field: str) -> None:
    with pytest.raises(ValidationError) as caught:
        parse_extractor(config)
    assert any(field in map(str, error["loc"]) for error in caught.value.errors())


@pytest.mark.parametrize(
    ("config", "field"),
    [
        ({"type": "duckdb", "table_name": "t"}, "db_path"),
        ({"type": "duckdb", "db_path": "a", "table_name": ""}, "table_name"),
        ({"type": "duckdb", "db_path": "a", "table_name": "a.b.c"}, "table_name"),
        ({"type": "duckdb", "db_path": "a", "table_name": "a\nb"}, "table_name"),
        ({"type": "duckdb", "db_path": "a", "table_name": "t", "mode": "merge"}, "mode"),
        ({"type": "duckdb", "db_path": "a", "table_name": "t", "mode": "upsert"}, "key"),
        ({"type": "duckdb", "db_path": "a", "table_name": "t", "key": ["id"]}, "key"),
        ({"type": "duckdb", "db_path": "a", "table_name": "t", "mode": "upsert", "key": ["a", "A"]}, "key"),
        ({"type": "warehouse", "table_name": "t", "db_path": "x"}, "db_path"),
    ],
)
def test_a_wrong_loader_is_refused_by_its_field(config: dict[str, Any], field: str) -> None:
    with pytest.raises(ValidationError) as caught:
        parse_loader(config)
    assert any(field in map(str, error["loc"]) for error in caught.value.errors())


@pytest.mark.parametrize("config", [{}, {"type": "xml"}, {"type": None}])
def test_an_unknown_type_is_refused(config: dict[str, Any]) -> None:
    for parse in (parse_extractor, parse_loader):
        with pytest.raises(ValidationError):
            parse(config)


def test_a_delimiter_that_is_the_quote_is_refused() -> None:
    with pytest.raises(ValidationError, match="delimiter"):
        parse_extractor({"type": "csv", "path": "a", "delimiter": '"'})


def test_the_token_is_not_shown() -> None:
    spec = parse_extractor({"type": "api", "url": "https://x/", "bearer_token": "s3cret"})
    assert "s3cret" not in repr(spec) + str(spec)


def test_schemas_describe_every_field_for_a_form() -> None:
    schemas = {**extractor_json_schemas(), **loader_json_schemas()}
    assert set(schemas) == {"api", "csv", "parquet", "duckdb", "warehouse"}
    for schema in schemas.values():
        json.dumps(schema)
        for field in schema["properties"].values():
            assert field["title"], field
            assert field["description"], field


@pytest.mark.parametrize(
    ("given", "meant"),
    [
        ("int", "INTEGER"),
        (" bigint ", "BIGINT"),
        ("decimal( 18 , 3 )", "DECIMAL(18,3)"),
        ("NUMERIC(5)", "DECIMAL(5,0)"),
        ("varchar(20)", "VARCHAR"),
        ("Timestamp  With Time Zone", "TIMESTAMP WITH TIME ZONE"),
        ("timestamptz", "TIMESTAMP WITH TIME ZONE"),
        ("varchar[]", "VARCHAR[]"),
        ("decimal(4,1) [ ][]", "DECIMAL(4,1)[][]"),
    ],
)
def test_column_types_are_spelled_as_duckdb_does(given: str, meant: str) -> None:
    assert parse_column_type(given) == meant


@pytest.mark.parametrize(
    "given", ["", "[]", "INT; DROP", "INT)", "DECIMAL(40,2)", "DECIMAL(3,4)", "ENUM('a')", "INT[3", "my_type", "(1)"]
)
def test_anything_else_is_no_column_type(given: str) -> None:
    with pytest.raises(ValueError, match=r"type|DECIMAL"):
        parse_column_type(given)


def test_errors_cross_process_borders_with_their_facts() -> None:
    error = EngineError("no", origin=Origin.SOURCE, kind=Kind.TRANSIENT, fix="wait", line=3)
    again = pickle.loads(pickle.dumps(error))
    assert (type(again), again.message, again.kind, again.permanent, again.fix, again.facts) == (
        EngineError, "no", Kind.TRANSIENT, False, "wait", {"line": 3})  # fmt: skip
    assert isinstance(pickle.loads(pickle.dumps(Cancelled())), Cancelled)


def test_validation_loads_neither_duckdb_nor_pyarrow() -> None:
    code = (
        "import sys, webapp.engine.specs, webapp.engine.errors, webapp.engine.tasks; "
        "print([m for m in ('duckdb', 'pyarrow', 'urllib3', 'zstandard') if m in sys.modules])"
    )
    said = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert said.stdout.strip() == "[]"


def test_the_engine_starts_no_thread_and_opens_no_database_when_imported() -> None:
    code = "import threading, webapp.engine.flow, webapp.engine.preview; print(threading.active_count())"
    said = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert said.stdout.strip() == "1"
