"""Tests of connections, step by step, and the first rows of their streams."""

import time
import uuid
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import sqlalchemy as sa

from webapp import events
from webapp.accounts.access import Actor, Scope
from webapp.config import Role
from webapp.connections import probes
from webapp.connections.discovery import stream_document
from webapp.connections.models import Connection, ConnectionRole, ConnectionStatus
from webapp.connections.operations import check_word, draft_config, get_connection
from webapp.connections.probes import Question, question
from webapp.dates import utcnow
from webapp.db import db, let_go
from webapp.engine.errors import EngineError
from webapp.errors import Invalid


@dataclass(frozen=True)
class CheckResult:
    """How a test went: its steps as JSON (name, ok, message, fix, seconds), the last one being the one that failed."""

    ok: bool
    steps: list[dict[str, Any]]
    seconds: float

    @property
    def message(self) -> str:
        """One sentence for people: what failed and what would help."""
        if self.ok:
            return "The connection works."
        failed: dict[str, Any] = next((step for step in self.steps if not step["ok"]), {})
        said = f"{failed.get('name', 'test')}: {failed.get('message') or 'failed'}"
        return f"{said}. {failed['fix']}" if failed.get("fix") else said


def test_draft(
    actor: Actor, role: ConnectionRole, type_: str, config: Mapping[str, Any], *, project_id: uuid.UUID
) -> CheckResult:
    """Test a configuration that is not stored. Raises Invalid when it is wrong by itself."""
    restored = draft_config(actor, role, type_, config, project_id=project_id)
    asked = question("check", role, check_word(type_, field="type").lower(), restored)
    let_go()
    return _run(asked)


def test_connection(actor: Actor, connection_id: uuid.UUID) -> CheckResult:
    """Test a stored connection, and keep how it went beside it."""
    connection = get_connection(actor, connection_id)
    actor.require(Role.OPERATOR, connection.project_id, Scope.JOBS_WRITE, what="Connection")
    asked = question("check", connection.role, connection.type, connection.config)
    project_id, name, version = connection.project_id, connection.name, connection.updated_at
    let_go()
    result = _run(asked)
    values = {
        "status": ConnectionStatus.WORKS if result.ok else ConnectionStatus.FAILS,
        "last_test_at": utcnow(),
        "last_test_ok": result.ok,
        "last_test_steps": result.steps,
        "updated_at": Connection.updated_at,  # a test is no edit
    }
    # One that was edited meanwhile stays untested: this result says nothing about it.
    same = sa.and_(Connection.id == connection_id, Connection.updated_at == version)
    db.session.execute(sa.update(Connection).where(same).values(**values))
    events.record(
        "connection.tested", project_id=project_id, subject_id=connection_id, payload={"name": name, "ok": result.ok}
    )
    return result


def _run(asked: Question) -> CheckResult:
    started, steps, ok = time.monotonic(), [], True
    try:
        for said in probes.ask(asked, seconds=probes.CHECK_SECONDS):
            if step := said.get("step"):
                steps.append(step)
                ok = ok and bool(step["ok"])
    except EngineError as error:
        ok = False
        steps.append({"name": "test", "ok": False, "message": error.message, "fix": error.fix or "", "seconds": 0.0})
    return CheckResult(ok, steps, round(time.monotonic() - started, 3))


def preview_rows(
    actor: Actor, connection_id: uuid.UUID, *, namespace: str, name: str, limit: int = 50
) -> dict[str, Any]:
    """The first rows of a stream of a source, or of a table of a destination: `columns` and `rows`.

    Raises NotFound for a stream that was not discovered, Invalid with the reason when the system does not give them.
    """
    connection = get_connection(actor, connection_id)
    actor.require(Role.OPERATOR, connection.project_id, Scope.JOBS_WRITE, what="Connection")
    if connection.role is ConnectionRole.SOURCE:
        what: dict[str, Any] = {"stream": stream_document(connection.id, namespace=namespace, name=name)}
    else:
        what = {"target": {"database": namespace, "table": name}}
    asked = question("preview", connection.role, connection.type, connection.config, limit=limit, **what)
    let_go()
    rows: dict[str, Any] = {"columns": [], "rows": []}
    try:
        for said in probes.ask(asked, seconds=probes.PREVIEW_SECONDS):
            rows = said.get("rows", rows)
    except EngineError as error:
        raise Invalid(f"{error.message}. {error.fix}" if error.fix else error.message, code="NO_PREVIEW") from error
    return rows
