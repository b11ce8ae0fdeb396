"""Jobs and statuses as this contract shows them."""

import uuid
from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any, Protocol

from webapp.api.words import STATUS_WORDS, Contract
from webapp.runs.states import RunState
from webapp.runs.statuses.log import newest_entries

STATUS = STATUS_WORDS[Contract.LISTER]
STATUSES_IN_LISTS = 100
STATUSES_OF_ONE = 1000
"""A job that runs every minute has half a million statuses a year: `/api/jobstatuses/?job=` has them all, in pages."""


class JobFacts(Protocol):
    """What is shown of a job, whether it was read as a whole or as a line of a list."""

    @property
    def id(self) -> uuid.UUID: ...
    @property
    def number(self) -> int: ...
    @property
    def name(self) -> str: ...
    @property
    def created_at(self) -> datetime: ...
    @property
    def updated_at(self) -> datetime: ...


def show_jobs(jobs: Sequence[Any], *, statuses: int = STATUSES_IN_LISTS) -> list[dict[str, Any]]:
    """These jobs in their order, each with its newest statuses, oldest of them first."""
    entries = newest_entries([job.id for job in jobs], count=statuses)
    return [_show_job(job, entries.get(job.id, ())) for job in jobs]


def show_job(job: JobFacts) -> dict[str, Any]:
    """One job."""
    return show_jobs([job], statuses=STATUSES_OF_ONE)[0]


def _show_job(job: JobFacts, entries: Sequence[Any]) -> dict[str, Any]:
    shown = [{"id": one.number, "status_type": STATUS[one.state], "timestamp": instant(one.at)} for one in entries]
    newest: Mapping[str, Any] | None = shown[-1] if shown else None
    current = {key: newest[key] for key in ("status_type", "timestamp")} if newest else None
    return {
        "id": job.number,
        "name": job.name,
        "created_at": instant(job.created_at),
        "updated_at": instant(job.updated_at),
        "current_status": current,
        "statuses": shown,
    }


def show_status(*, number: int, job: int, state: RunState, at: datetime) -> dict[str, Any]:
    """One status, with the number of its job."""
    return {"id": number, "job": job, "status_type": STATUS[state], "timestamp": instant(at)}


def instant(value: datetime) -> str:
    """UTC with six digits and a Z."""
    return f"{value:%Y-%m-%dT%H:%M:%S.%f}Z"
