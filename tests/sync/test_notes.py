"""What a receipt remarks: fields that nobody discovered, cursors whose order may surprise."""

import dataclasses
import json
import sqlite3
from contextlib import closing
from pathlib import Path
from typing import Any

from tests.engine.api_server import Reply, api_server
from tests.sync.conftest import context_at
from webapp.engine.connectors import registry
from webapp.engine.connectors.base import Mode, Target, Write
from webapp.engine.sync.plan import StreamPlan, StreamReceipt, StreamStatus, SyncSpec
from webapp.engine.sync.runner import run_sync


def discovered(root: Path, source: str, config: dict[str, Any], **more: Any) -> StreamPlan:
    """The source's only stream as a plan, as a job makes it."""
    found = registry.source_class(source)
    around = dataclasses.replace(context_at(root), allow_private_addresses=True)
    (stream,) = found(found.Spec.model_validate(config), around).discover()
    known = tuple(column.name for column in stream.columns)
    return StreamPlan(stream.namespace, stream.name, stream.columns, Target("", "landed"), known=known, **more)


def run(root: Path, source: str, config: dict[str, Any], plan: StreamPlan) -> StreamReceipt:
    spec = SyncSpec(source, config, "duckdb", {"path": "lake.duckdb"}, [plan])
    around = dataclasses.replace(context_at(root), allow_private_addresses=True)
    (receipt,) = run_sync(spec, around, lambda told: None)
    assert receipt.status is StreamStatus.LANDED, receipt.error
    return receipt


def test_fields_that_files_have_got_since_the_discovery_are_told(tmp_path: Path) -> None:
    config = {"streams": [{"name": "orders", "path": "orders/*"}]}
    (tmp_path / "orders").mkdir()
    (tmp_path / "orders" / "1.jsonl").write_text('{"id": 1, "note": "a"}\n')
    plan = discovered(tmp_path, "files", config)
    chosen = dataclasses.replace(plan, columns=plan.columns[:1])  # a column that somebody left out is no news
    assert run(tmp_path, "files", config, chosen).notes == []
    (tmp_path / "orders" / "2.csv").write_text("id,note,colour,Size\n2,b,red,L\n")
    assert run(tmp_path, "files", config, chosen).notes == [
        "fields not in the catalog: Size, colour; discover again to take them"
    ]


def test_fields_that_an_api_answers_since_the_discovery_are_told(tmp_path: Path) -> None:
    records = [{"id": 1}]
    with api_server(lambda asked: Reply(json.dumps(records).encode())) as server:
        config = {"base_url": server.url, "streams": [{"name": "orders", "path": "/orders"}]}
        plan = discovered(tmp_path, "rest", config)
        records[0]["late"] = 2
        receipt = run(tmp_path, "rest", config, plan)
    assert receipt.notes == ["fields not in the catalog: late; discover again to take them"]
    assert receipt.to_json()["notes"] == receipt.notes


def test_a_cursor_of_text_is_told_once_at_the_first_load(tmp_path: Path) -> None:
    with closing(sqlite3.connect(tmp_path / "shop.db")) as connection:
        connection.execute("CREATE TABLE orders (id INTEGER PRIMARY KEY, code TEXT)")
        connection.execute("INSERT INTO orders VALUES (1, '9'), (2, '10')")
        connection.commit()
    config = {"path": "shop.db"}
    plan = discovered(tmp_path, "sqlite", config, mode=Mode.INCREMENTAL, write=Write.APPEND, cursor="code")
    first, second = run(tmp_path, "sqlite", config, plan), run(tmp_path, "sqlite", config, plan)
    assert first.notes == ["the cursor code is text: rows go by the order of texts, where 10 is before 9"]
    assert (second.notes, second.rows_read) == ([], 0)


def test_a_plan_of_before_that_names_no_catalog_still_runs() -> None:
    plan = StreamPlan("", "orders", (), Target("", "landed"))
    old = {key: value for key, value in plan.to_json().items() if key != "known"}
    assert StreamPlan.from_json(old) == plan
