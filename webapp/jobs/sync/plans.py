"""What a run of a sync job executes, worked out when the run is asked for."""

from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, replace
from typing import Any

import sqlalchemy as sa

from webapp.connections.discovery import streams_of
from webapp.db import db
from webapp.engine.sync.plan import StreamPlan
from webapp.errors import Invalid
from webapp.jobs.models import Job
from webapp.jobs.sync.catalog import Catalog, Standing, plan_streams, read_catalog
from webapp.jobs.sync.models import StreamState, SyncDefinition

KEEP_DAYS = 3


@dataclass(frozen=True)
class Restore:
    """An earlier content of a stream's table that shall come back, with the state that it had."""

    stream: str
    generation: str
    state: Mapping[str, Any] | None = None


@dataclass(frozen=True)
class Wish:
    """What is special about one run: only these streams (by label), everything read again, or a restoration."""

    streams: tuple[str, ...] = ()
    refresh: bool = False
    restore: Restore | None = None

    def to_json(self) -> dict[str, Any]:
        """The wish as a run's specification keeps it, for a retry."""
        return asdict(self)

    @classmethod
    def from_json(cls, value: Mapping[str, Any]) -> "Wish":
        """The wish that `to_json` wrote."""
        restore = value.get("restore")
        return cls(tuple(value.get("streams", ())), bool(value.get("refresh")), Restore(**restore) if restore else None)


def check_wish(definition: SyncDefinition, wish: Wish) -> None:
    """Raise Invalid for a stream that the job does not move."""
    known = read_catalog(definition.streams).labels
    wanted = [*wish.streams, *([wish.restore.stream] if wish.restore else [])]
    for label in wanted:
        if label not in known:
            raise Invalid(f"streams: the job does not move {label!r}.", field="streams", value=label)


def sync_of(job: Job, wish: Wish | None = None) -> dict[str, Any]:
    """The part of a run's specification that the engine executes.

    What cannot be executed becomes `problem`, which the run says when it fails: a schedule has nobody to refuse to.
    """
    definition = db.session.get(SyncDefinition, job.id)
    if definition is None:
        return {"problem": {"message": "The job has no source and no destination yet.", "fix": "Edit the job."}}
    try:
        plans = plans_of(definition, wish or Wish())
    except Invalid as error:
        return {"problem": {"message": error.message, "fix": "Correct the streams of the job."}}
    return _with_ends(definition, plans) | {"wish": (wish or Wish()).to_json()} | _problem(definition, plans)


def plans_of(definition: SyncDefinition, wish: Wish) -> list[StreamPlan]:
    """What the run does with each stream. Raises Invalid."""
    catalog = read_catalog(definition.streams)
    plans = plan_streams(catalog, standing_of(definition, catalog))
    wanted = {*wish.streams, *([wish.restore.stream] if wish.restore else [])}
    return [replace(plan, refresh=wish.refresh) for plan in plans if not wanted or plan.label in wanted]


def _with_ends(definition: SyncDefinition, plans: Iterable[StreamPlan]) -> dict[str, Any]:
    return {
        "source_type": definition.source.type,
        "source_config": definition.source.config,
        "destination_type": definition.destination.type,
        "destination_config": definition.destination.config,
        "streams": [plan.to_json() for plan in plans],
        "keep_days": KEEP_DAYS,
    }


def _problem(definition: SyncDefinition, plans: list[StreamPlan]) -> dict[str, Any]:
    for end in (definition.source, definition.destination):
        if end.deleted_at is not None:
            message = f"The {end.role.value} {end.name} was deleted."
            return {"problem": {"message": message, "fix": f"Choose another {end.role.value}."}}
    if not plans:
        return {"problem": {"message": "No stream of this job is selected.", "fix": "Choose at least one stream."}}
    return {}


def standing_of(definition: SyncDefinition, catalog: Catalog) -> Standing:
    """What is known of the catalog's streams: as discovered last, and how often each was reset."""
    places = {(document.namespace, document.name) for document, _ in catalog.selected}
    found = streams_of(definition.source_id, places)
    states = db.session.scalars(sa.select(StreamState).where(StreamState.job_id == definition.job_id))
    return Standing(found, {(row.namespace, row.name): row.epoch for row in states})
