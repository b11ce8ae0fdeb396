"""The flight plan: what an edit of a sync job will do, told before it is done."""

import uuid
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass
from enum import StrEnum
from typing import Any

from webapp.accounts.access import Actor
from webapp.connections.models import Connection
from webapp.engine.connectors.base import Mode
from webapp.engine.sync.plan import StreamPlan
from webapp.jobs.models import Job
from webapp.jobs.operations import check_schedule
from webapp.jobs.schedules import MANUAL, describe
from webapp.jobs.sync.catalog import plan_streams, read_catalog
from webapp.jobs.sync.models import StreamState, SyncDefinition
from webapp.jobs.sync.operations import SyncDraft, get_sync, jobs_using
from webapp.jobs.sync.plans import standing_of
from webapp.jobs.sync.states import states_of


class Weight(StrEnum):
    """How much a part of an edit matters: `destroys` is shown in red and asks for the job's name."""

    INFO = "info"
    READS_AGAIN = "reads again"
    DESTROYS = "destroys"


@dataclass(frozen=True)
class Line:
    """One thing that an edit will do. `rows` and `minutes` are those of the stream's last run, where it had one."""

    kind: str
    weight: Weight
    text: str
    stream: str | None = None
    rows: int | None = None
    minutes: float | None = None

    def to_json(self) -> dict[str, Any]:
        """The line for a machine."""
        return asdict(self)


@dataclass(frozen=True)
class _Edit:
    definition: SyncDefinition
    before: Mapping[str, StreamPlan]
    after: Mapping[str, StreamPlan]
    states: Mapping[str, StreamState]


def plan_edit(actor: Actor, job_id: uuid.UUID, draft: SyncDraft) -> list[Line]:
    """What the draft would do to the job, heaviest first; nothing is changed. Raises Invalid, NotFound."""
    definition = get_sync(actor, job_id)
    after = definition.streams if draft.streams is None else draft.streams
    edit = _Edit(definition, _plans(definition, definition.streams), _plans(definition, after), states_of(job_id))
    lines = [
        *_ends(definition, draft),
        *_added(edit),
        *_removed(edit),
        *_changed(edit),
        *_schedule(definition.job, draft),
    ]
    order = list(Weight)
    return sorted(lines, key=lambda line: -order.index(line.weight))


def _plans(definition: SyncDefinition, streams: Any) -> dict[str, StreamPlan]:
    catalog = read_catalog(streams)
    return {plan.label: plan for plan in plan_streams(catalog, standing_of(definition, catalog))}


def _added(edit: _Edit) -> Iterator[Line]:
    for label in edit.after.keys() - edit.before.keys():
        target = edit.after[label].target.label
        yield Line("stream added", Weight.INFO, f"{label} is read from the start into {target}.", label)


def _removed(edit: _Edit) -> Iterator[Line]:
    for label in edit.before.keys() - edit.after.keys():
        text = f"{label} is not read any more; its table {edit.before[label].target.label} stays as it is."
        yield Line("stream removed", Weight.INFO, text, label)


def _changed(edit: _Edit) -> Iterator[Line]:
    for label in edit.before.keys() & edit.after.keys():
        before, after = edit.before[label], edit.after[label]
        if before.target != after.target:
            text = f"{label} goes to {after.target.label}, from the start; {before.target.label} stays as it is."
            yield _again("target moved", text, edit.states.get(label), label)
        elif (before.mode, before.write) != (after.mode, after.write):
            yield _mode_changed(before, after, edit.states.get(label))
        elif before.cursor != after.cursor:
            text = f"{label} follows {after.cursor} instead of {before.cursor}, and is read again."
            yield _again("cursor changed", text, edit.states.get(label), label)
        elif before.filter != after.filter:
            text = f"{label} has another filter: rows that came before it stay until all of it is read again."
            yield Line("filter changed", Weight.INFO, text, label)
        yield from _columns(before, after)
        yield from _layout(before, after)
    yield from _text_cursors(edit)


def _text_cursors(edit: _Edit) -> Iterator[Line]:
    for label, after in edit.after.items():
        before = edit.before.get(label)
        if after.goes_by_text and (before is None or before.cursor != after.cursor):
            text = f"{label}: {after.cursor} is text, and goes on by the order of texts, where 10 is before 9."
            yield Line("text cursor", Weight.INFO, text, label)


def _layout(before: StreamPlan, after: StreamPlan) -> Iterator[Line]:
    if before.partition_regex != after.partition_regex:
        how = f"laid out by {after.partition_regex}" if after.partition_regex else "not partitioned any more"
        text = f"{after.label}: what is written from now on is {how}; files that are there stay as they are."
        yield Line("partitions changed", Weight.INFO, text, after.label)
    if before.normalization is not after.normalization:
        word = "normalized" if after.normalization else "as the source has them"
        text = (
            f"{after.label}: names of columns are {word} from now on; a column that is called otherwise is a new one."
        )
        yield Line("normalization changed", Weight.INFO, text, after.label)


def _mode_changed(before: StreamPlan, after: StreamPlan, state: StreamState | None) -> Line:
    words = f"{before.mode} ({before.write}) becomes {after.mode} ({after.write})"
    if after.mode is Mode.FULL_REFRESH:
        text = f"{after.label}: {words}: each run replaces all of {after.target.label}."
        return Line("table replaced", Weight.DESTROYS, text, after.label, *_history(state))
    return _again("mode changed", f"{after.label}: {words}, and is read again.", state, after.label)


def _columns(before: StreamPlan, after: StreamPlan) -> Iterator[Line]:
    was, now = ({column.name for column in plan.columns} for plan in (before, after))
    if gone := sorted(was - now):
        text = f"{after.label}: {', '.join(gone)} is not read any more."
        yield Line("columns removed", Weight.INFO, text, after.label)
    if new := sorted(now - was):
        text = f"{after.label}: {', '.join(new)} is read from now on; rows that are there already have no value for it."
        yield Line("columns added", Weight.INFO, text, after.label)


def _again(kind: str, text: str, state: StreamState | None, label: str) -> Line:
    return Line(kind, Weight.READS_AGAIN, text, label, *_history(state))


def _history(state: StreamState | None) -> tuple[int | None, float | None]:
    """Rows in the table and minutes of the stream's last run."""
    receipt = (state.receipt if state else None) or {}
    rows = receipt.get("rows_total") if receipt.get("rows_total") is not None else receipt.get("rows_written")
    seconds = receipt.get("seconds")
    return rows, round(seconds / 60, 2) if seconds else None


def _ends(definition: SyncDefinition, draft: SyncDraft) -> Iterator[Line]:
    for end, new_id in ((definition.source, draft.source_id), (definition.destination, draft.destination_id)):
        if new_id is not None and new_id != end.id:
            text = f"The job gets another {end.role.value}: every stream is read from the start."
            yield Line(f"{end.role.value} changed", Weight.READS_AGAIN, text)
        yield from _neighbours(definition.job, end)


def _neighbours(job: Job, end: Connection) -> Iterator[Line]:
    others = [found.job.name for found in jobs_using(end.id) if found.job_id != job.id]
    if others:
        text = f"The {end.role.value} {end.name} is also used by {', '.join(others)}."
        yield Line("connection shared", Weight.INFO, text)


def _schedule(job: Job, draft: SyncDraft) -> Iterator[Line]:
    zone = (draft.policy.timezone if draft.policy else None) or job.timezone
    if draft.frequency is not None or zone != job.timezone:
        text = job.schedule if draft.frequency is None else draft.frequency.strip() or MANUAL
        schedule = check_schedule(text, zone)
        after, before = describe(schedule), describe(check_schedule(job.schedule, job.timezone))
        if after != before:
            yield Line("schedule moved", Weight.INFO, f"Starts {after} instead of {before}.")
        elif schedule.timezone != job.timezone and schedule.text != MANUAL:
            text = f"The time zone is {schedule.timezone} instead of {job.timezone}."
            yield Line("schedule moved", Weight.INFO, text)
    if draft.is_enabled is not None and draft.is_enabled is not job.is_enabled:
        text = "The schedule is switched on." if draft.is_enabled else "The schedule is switched off."
        yield Line("schedule switched", Weight.INFO, text)
    yield from _policy(job, draft)


_POLICIES = {
    "max_attempts": "Attempts",
    "retry_delay_seconds": "Seconds before the second attempt",
    "timeout_seconds": "Seconds that a run may take",
    "no_progress_seconds": "Seconds without progress",
    "concurrency_limit": "Runs at once",
    "overlap": "When a run is due while another is under way",
    "missed": "Starts that were missed",
}


def _policy(job: Job, draft: SyncDraft) -> Iterator[Line]:
    for name, words in _POLICIES.items():
        before, after = getattr(job, name), getattr(draft.policy, name, None)
        if after is not None and after != before:
            values = (f"{value:g}" if isinstance(value, float) else f"{value}" for value in (after, before))
            yield Line("policy changed", Weight.INFO, f"{words}: {' instead of '.join(values)}.")
