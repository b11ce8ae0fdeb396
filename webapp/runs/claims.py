"""Claiming: who takes a run that waits holds it under a lease, and nobody else does.

A lease is the pair of run id and `lease_token`. Whoever writes names the token; after a take-over it has moved on.
"""

import uuid
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, fields
from datetime import datetime, timedelta
from typing import Any

import orjson
import sqlalchemy as sa
from cryptography.fernet import InvalidToken
from sqlalchemy.orm import Session

from webapp.config import Executor, Settings
from webapp.dates import utcnow
from webapp.db import db, execute_at_commit
from webapp.engine.sync.plan import StreamStatus
from webapp.jobs.models import Job
from webapp.prepared import Prepared, adopt, table_of
from webapp.runs.messages import Lease, Totals
from webapp.runs.models import Run, RunStep
from webapp.runs.operations import RunMoved, announce, announce_later, end_unstarted
from webapp.runs.states import RunState, move

CLAIM_LOCK = 7_203_003
CLAIM_ROUNDS = 32


def claim_runs(worker: str, *, limit: int, settings: Settings) -> list[Lease]:
    """Take up to `limit` runs that are due, oldest first, never more of a job at once than its concurrency limit."""
    if limit <= 0:
        return []
    places: dict[uuid.UUID, Places] = {}
    now = utcnow()
    claimed: list[Lease] = []
    for _ in range(CLAIM_ROUNDS):
        wanted = limit - len(claimed)
        found = _due_runs(now, wanted, places)
        chosen = [run for run in found if _gets_place(run.job_id, places)]
        is_last_look = len(found) < wanted or len(chosen) == wanted
        claimed += _take(chosen, worker, now, settings, looks_again=not is_last_look)
        if is_last_look:
            break
    announce_later(lease.run_id for lease in claimed)
    return claimed


def announce_claims(leases: Sequence[Lease]) -> None:
    """Tell the fleet and the event log that these runs have started.

    A step of its own, so that the work starts as soon as its lease is committed and not after all that follows from it.
    Should the worker die in between, whoever recovers the run announces what becomes of it.
    """
    tokens = {lease.run_id: lease.token for lease in leases}
    if not tokens:
        return
    here = [run for run in locked_runs(tokens) if run.lease_token == tokens[run.id]]
    started = [run for run in here if run.state is RunState.RUNNING]
    announce([RunMoved(run, RunState.QUEUED, RunState.RUNNING) for run in started])


# All but what it shall do, which is large and encrypted: whoever asks for that gets it read.
RUN_COLUMNS = tuple(column for column in table_of(Run).columns if column.key != "spec")
_LOCKED_ONE = Prepared(sa.select(*RUN_COLUMNS).where(table_of(Run).c.id == sa.bindparam("run")).with_for_update())
_LOCKED = sa.select(Run).where(Run.id.in_(sa.bindparam("ids", expanding=True))).order_by(Run.number).with_for_update()


def locked_runs(run_ids: Collection[uuid.UUID]) -> Iterable[Run]:
    """These runs, locked in the order in which everybody locks runs."""
    if len(run_ids) > 1:
        return db.session.scalars(_LOCKED, {"ids": list(run_ids)})
    session = db.session()
    rows = (row for run_id in run_ids for row in _LOCKED_ONE.rows(session, {"run": run_id}))
    return [adopt_run(session, row) for row in rows]


def adopt_run(session: Session, row: Sequence[Any]) -> Run:
    """The session's run of a row of RUN_COLUMNS."""
    return adopt(session, Run, dict(zip(_RUN_KEYS, row, strict=True)))


_RUN_KEYS = tuple(column.key for column in RUN_COLUMNS)


@dataclass
class Places:
    """How many runs a job may have under way at once, and how many it has."""

    limit: int
    taken: int

    @property
    def are_full(self) -> bool:
        """Whether no other run of the job may start."""
        return self.taken >= self.limit


_ONE_CLAIMER = f"SELECT pg_advisory_xact_lock({CLAIM_LOCK})"
"""Two who count the running runs of a job at once would both take its last place."""


@dataclass(frozen=True)
class Due:
    """What a claim has to know of a run. A whole Run costs as much to load as the query that finds it."""

    number: int
    run_id: uuid.UUID
    job_id: uuid.UUID
    token: int
    attempt: int
    first_task: int
    spec: dict[str, Any]


def _select_due(spec: sa.ColumnElement[Any]) -> Prepared:
    """The runs that have been due for the longest, of jobs that have a place left, with their job's places."""
    run, job = table_of(Run).c, table_of(Job).c
    busy = sa.select(run.job_id, sa.func.count().label("runs")).where(run.state == RunState.RUNNING)
    under_way = busy.group_by(run.job_id).subquery("under_way")
    taken = sa.func.coalesce(under_way.c.runs, 0)
    known = (run.number, run.id, run.job_id, run.lease_token, run.attempt, run.first_task, spec)
    query = (
        sa.select(job.concurrency_limit, taken, *known)
        .join_from(table_of(Run), table_of(Job), job.id == run.job_id)
        .outerjoin(under_way, under_way.c.job_id == run.job_id)
        .where(run.state == RunState.QUEUED, run.executor == Executor.LOCAL)
        .where(run.available_at <= sa.bindparam("now"), taken < job.concurrency_limit)
        .order_by(run.available_at, run.number)
        .limit(sa.bindparam("wanted", type_=sa.Integer))
        .with_for_update(of=table_of(Run), skip_locked=True)
    )
    return Prepared(query, led_by=_ONE_CLAIMER)


_DUE = _select_due(table_of(Run).c.spec)
_DUE_BUT_UNREADABLE = _select_due(sa.null())


def _due_runs(now: datetime, limit: int, places: dict[uuid.UUID, Places]) -> list[Due]:
    """The runs to take, oldest first; notes the places of their jobs."""
    asked = {"now": now, "wanted": limit}
    rows: Sequence[Any]
    try:
        rows = _DUE.rows(db.session(), asked)
    except (InvalidToken, orjson.JSONDecodeError):
        rows = _readable(_DUE_BUT_UNREADABLE.rows(db.session(), asked))
    due = []
    for at_once, count, *known in rows:
        due.append(Due(*known))
        places.setdefault(due[-1].job_id, Places(at_once, count))
    return due


def _readable(rows: Sequence[Any]) -> list[tuple[Any, ...]]:
    """Those whose definition can be decrypted; the others end here, or they would stop every worker that meets them."""
    good = []
    for at_once, count, number, *known, _ in rows:
        run = db.session.get_one(Run, number)
        try:
            good.append((at_once, count, number, *known, run.spec))
        except (InvalidToken, orjson.JSONDecodeError):
            run.error_origin, run.error_kind = "platform", "configuration"
            run.error_fix = "Put the key file of this instance back under HOHMANN_HOME/keys, or define the job again."
            end_unstarted(run, RunState.FAILED, "What this run should do cannot be decrypted with the instance's keys.")
    return good


def _gets_place(job_id: uuid.UUID, places: dict[uuid.UUID, Places]) -> bool:
    """Whether another run of the job may start; it has its place from now on."""
    if places[job_id].are_full:
        return False
    places[job_id].taken += 1
    return True


def _begin(this: sa.ColumnElement[bool]) -> sa.Update:
    """The runs that are chosen by this condition are under way from now on, held by `holder`."""
    run = table_of(Run).c
    now = sa.bindparam("now", type_=run.started_at.type)
    return (
        sa.update(table_of(Run))
        .where(this)
        .values(
            state=move(RunState.QUEUED, RunState.RUNNING),
            lease_owner=sa.bindparam("holder"),
            lease_token=run.lease_token + 1,
            lease_until=sa.bindparam("until", type_=run.lease_until.type),
            attempt=run.attempt + 1,
            started_at=sa.func.coalesce(run.started_at, now),
            progress_at=now,
            updated_at=now,
        )
    )


_BEGIN_ONE = Prepared(_begin(table_of(Run).c.number == sa.bindparam("run")))
_BEGIN_SOME = _begin(table_of(Run).c.number.in_(sa.bindparam("runs", expanding=True)))


def _take(due: Sequence[Due], worker: str, now: datetime, settings: Settings, *, looks_again: bool) -> list[Lease]:
    """Give these runs, which are locked, to the worker."""
    if not due:
        return []
    if len(due) == 1 and due[0].attempt == 0 and not looks_again:  # nearly always, and somebody waits for it
        facts = _facts_of_begin(worker, now, settings.lease_seconds)
        execute_at_commit(_BEGIN_ONE, {"run": due[0].number, **facts})
    else:
        _begin_attempts([run.number for run in due], worker, now, settings.lease_seconds)
    return [_first_lease(run) if run.attempt == 0 else _later_lease(run) for run in due]


def _begin_attempts(numbers: list[int], holder: str, now: datetime, lease_seconds: float) -> None:
    values = {"runs": numbers, **_facts_of_begin(holder, now, lease_seconds)}
    db.session.execute(_BEGIN_SOME, values, execution_options={"synchronize_session": False})


def _facts_of_begin(holder: str, now: datetime, lease_seconds: float) -> dict[str, Any]:
    return {"holder": holder, "now": now, "until": now + timedelta(seconds=lease_seconds)}


def _first_lease(run: Due) -> Lease:
    return Lease(run.run_id, run.job_id, run.token + 1, 1, run.first_task, run.spec)


def _later_lease(run: Due) -> Lease:
    return lease_of(db.session.get_one(Run, run.number, populate_existing=True))


def claim_elsewhere(run: Run, holder: str, *, lease_seconds: float) -> Lease | None:
    """Give this queued run, which the caller has locked, to a holder that is no worker of ours, and announce it.

    None when as many runs of its job are under way as may be.
    """
    if _places_of(run.job_id).are_full:
        return None
    _begin_attempts([run.number], holder, utcnow(), lease_seconds)
    db.session.refresh(run)
    announce([RunMoved(run, RunState.QUEUED, RunState.RUNNING)])
    return lease_of(run)


def _places_of(job_id: uuid.UUID) -> Places:
    """How many runs of this job may be under way and are, which nobody else counts until the unit of work ends."""
    running = sa.and_(Run.job_id == Job.id, Run.state == RunState.RUNNING)
    query = sa.select(Job.concurrency_limit, sa.func.count(Run.number)).outerjoin(Run, running).where(Job.id == job_id)
    query = query.group_by(Job.concurrency_limit).execution_options(led_by=_ONE_CLAIMER)
    return Places(*db.session.execute(query).one())


def lease_of(run: Run) -> Lease:
    """The lease under which this run is executed now."""
    done = _totals_before(run) if run.attempt > 1 and run.first_task > 1 else Totals()
    landed = _landed_before(run) if run.attempt > 1 and "sync" in run.spec else ()
    return Lease(run.id, run.job_id, run.lease_token, run.attempt, run.first_task, run.spec, done, landed)


def _landed_before(run: Run) -> list[Mapping[str, Any]]:
    """The receipts of the streams that landed in earlier attempts: what is committed is not moved again."""
    query = sa.select(RunStep.facts).where(RunStep.run_id == run.id, RunStep.outcome == "succeeded")
    receipts = [facts["stream"] for facts in db.session.scalars(query) if "stream" in facts]
    landed = {receipt["stream"]: receipt for receipt in receipts if receipt["status"] == StreamStatus.LANDED}
    return list(landed.values())


def _totals_before(run: Run) -> Totals:
    """What the tasks before `first_task` came to, in the attempts that did them."""
    query = sa.select(RunStep.facts).where(RunStep.run_id == run.id, RunStep.task < run.first_task)
    receipts = [facts for facts in db.session.scalars(query) if "rows_read" in facts]
    return Totals(**{item.name: sum(receipt[item.name] for receipt in receipts) for item in fields(Totals)})


def _select_next() -> sa.Select[datetime | None, datetime | None]:
    first = sa.func.min(Run.available_at)
    query = sa.select(first, first.filter(Run.available_at > sa.bindparam("now")))
    return query.where(Run.state == RunState.QUEUED, Run.executor == Executor.LOCAL)


_NEXT = _select_next()


def look_ahead() -> tuple[bool, datetime | None]:
    """Whether a queued run is due, and when the next one that still waits for its time will be."""
    now = utcnow()
    earliest, later = db.session.execute(_NEXT, {"now": now}).one()
    return earliest is not None and earliest <= now, later
