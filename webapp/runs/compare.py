"""What is different from the last good run: configuration, schema, rows, bytes, time."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import sqlalchemy as sa

from webapp.db import db
from webapp.runs.models import Run, RunStep
from webapp.runs.operations import shown_spec
from webapp.runs.states import RunState

NOTABLE = 0.2  # figures that moved by less than this part of what they were are not worth a line


@dataclass(frozen=True)
class Difference:
    """One thing that is not as it was; values are texts, numbers or None for absent. `kind` says what it is about."""

    kind: str
    what: str
    before: Any
    now: Any


def last_good_run(run: Run) -> Run | None:
    """The last run of the same job before this one that succeeded without doubt."""
    query = sa.select(Run).where(
        Run.job_id == run.job_id, Run.state == RunState.SUCCEEDED, Run.number < run.number, Run.doubt.is_(None)
    )
    return db.session.scalar(query.order_by(Run.number.desc()).limit(1))


def differences(run: Run, good: Run) -> list[Difference]:
    """What is different, configuration first; figures only where the run has ended well enough to have them."""
    found = [*_of_configuration(run, good)]
    if run.state is RunState.SUCCEEDED:
        found += [*_of_schema(run, good), *_of_figures(run, good)]
    return found


def _of_configuration(run: Run, good: Run) -> Iterator[Difference]:
    now, before = dict(flatten(shown_spec(run))), dict(flatten(shown_spec(good)))
    for name in dict.fromkeys([*before, *now]):
        if name != "job_version" and before.get(name) != now.get(name):
            yield Difference("configuration", name, before.get(name), now.get(name))


def flatten(value: Any, name: str = "") -> Iterator[tuple[str, Any]]:
    """The leaves of a configuration with dotted names; tasks are counted from 1, streams go by their names."""
    if isinstance(value, Mapping):
        for key, item in value.items():
            yield from flatten(item, f"{name}.{key}" if name else str(key))
    elif isinstance(value, list) and value and all(_is_stream(item) for item in value):
        for item in value:
            yield from _of_stream(item)
    elif isinstance(value, list):
        for at, item in enumerate(value, start=1):
            yield from flatten(item, f"{name}.{at}")
    else:
        # A length of time is 21600 seconds, not 21600.0; larger ones would lose their exponent.
        yield name, int(value) if isinstance(value, float) and value.is_integer() and abs(value) < 1e15 else value


def _is_stream(item: Any) -> bool:
    return isinstance(item, Mapping) and {"namespace", "name", "columns", "target", "mode", "write"} <= item.keys()


def _of_stream(plan: Mapping[str, Any]) -> Iterator[tuple[str, Any]]:
    """A stream of a sync in two lines: how it is moved, and its columns."""
    label = f"{plan['namespace']}.{plan['name']}" if plan["namespace"] else plan["name"]
    target = ".".join(part for part in plan["target"].values() if part)
    how = f"{plan['mode']} ({plan['write']})".replace("_", " ")
    settings = (f"{key.replace('_', ' ')} {plan[key]}" for key in _SETTINGS if plan.get(key))
    yield f"stream {label}", ", ".join([f"{how} to {target}", *settings])
    yield f"columns of {label}", ", ".join(f"{column['name']} {column['type']}" for column in plan["columns"])


_SETTINGS = ("cursor", "filter", "partition_regex", "renames", "refresh", "epoch")


def _of_schema(run: Run, good: Run) -> Iterator[Difference]:
    now, before = _columns(run), _columns(good)
    if not now or not before:
        return
    for name in dict.fromkeys([*before, *now]):
        if before.get(name) != now.get(name):
            yield Difference("schema", name, before.get(name), now.get(name))


def _columns(run: Run) -> dict[str, str]:
    """Types of all columns that the run left behind, by task and name."""
    query = sa.select(RunStep.task, RunStep.facts).where(RunStep.run_id == run.id, RunStep.attempt == run.attempt)
    return {
        f"task {task}, column {column}": kind
        for task, facts in db.session.execute(query)
        for column, kind in facts.get("schema", [])
    }


def _of_figures(run: Run, good: Run) -> Iterator[Difference]:
    for name, before, now in (
        ("rows", good.rows_written, run.rows_written),
        ("bytes", good.bytes_read, run.bytes_read),
        ("seconds", good.seconds, run.seconds),
    ):
        if before is not None and now is not None and abs(now - before) > NOTABLE * max(before, 1):
            yield Difference("figure", name, before, now)
