"""Runs whose worker is gone, or gives them back: they return to the queue, and what the former holder says is void."""

import os
import socket
import uuid
from collections.abc import Sequence
from datetime import datetime, timedelta
from functools import cache
from hashlib import blake2b
from pathlib import Path

import sqlalchemy as sa

from webapp.dates import utcnow
from webapp.db import db, wake_at_commit
from webapp.runs.messages import Lease, Outcome
from webapp.runs.models import Run, RunSample, RunStep, Worker, is_reported
from webapp.runs.operations import RunMoved, announce, end_unstarted
from webapp.runs.queue import Report, end_attempt, write_lines
from webapp.runs.states import RunState, move
from webapp.wake import RUNS

FORGET_WORKER_AFTER = timedelta(minutes=5)


def worker_name() -> str:
    """A name that says on which host and in which process a worker lives: `host:process:machine-random`."""
    return f"{socket.gethostname()}:{os.getpid()}:{_machine()}-{uuid.uuid4().hex[:8]}"


def recover_lost_runs() -> None:
    """Take back the runs of workers that are gone: silent for longer than a lease, or dead on this host."""
    now = utcnow()
    suspects = sa.select(Run.number, Run.lease_owner, Run.lease_until).where(Run.state == RunState.RUNNING)
    lost = [number for number, owner, until in db.session.execute(suspects) if _is_lost(owner, until, now)]
    if lost:
        _take_back_all(lost, now)
    db.session.execute(sa.delete(Worker).where(Worker.seen_at < now - FORGET_WORKER_AFTER))


def _take_back_all(numbers: Sequence[int], now: datetime) -> None:
    query = sa.select(Run).where(Run.number.in_(numbers), Run.state == RunState.RUNNING).order_by(Run.number)
    query = query.with_for_update(skip_locked=True)
    moves = []
    for run in db.session.scalars(query):
        if _is_lost(run.lease_owner, run.lease_until, now):  # its worker may have been heard between look and lock
            take_back(run, "The worker that executed this run was lost; what this attempt had not committed is gone.")
            moves.append(RunMoved(run, RunState.RUNNING, run.state))
    db.session.flush()
    announce(moves)
    wake_at_commit(RUNS)


def _is_lost(owner: str | None, until: datetime | None, now: datetime) -> bool:
    if is_reported(owner):
        return False
    return until is None or until < now or is_dead_here(owner or "")


def is_dead_here(worker: str) -> bool:
    """Whether this worker lived on this machine, since it was started, and its process is gone."""
    host, _, rest = worker.partition(":")
    pid, _, tail = rest.partition(":")
    if host != socket.gethostname() or not pid.isdigit() or tail.partition("-")[0] != _machine():
        return False
    try:
        os.kill(int(pid), 0)
    except ProcessLookupError:
        return True
    except PermissionError:
        return False
    return False


@cache
def _machine() -> str:
    """Tells apart machines and containers that call themselves by the same name, where numbers of processes differ."""
    try:
        boot = Path("/proc/sys/kernel/random/boot_id").read_text()
        space = str(Path("/proc/self/ns/pid").readlink())
    except OSError:  # not Linux
        boot, space = str(uuid.getnode()), ""
    return blake2b(f"{boot}{space}".encode(), digest_size=4).hexdigest()


def take_back(run: Run, why: str) -> None:
    """Void the lease of a run, which the caller has locked and announces: it is tried again, if it may be."""
    report = Report(Lease(run.id, run.job_id, run.lease_token, run.attempt, run.first_task, {}))
    report.lines.append((utcnow().isoformat(), "warning", "", why))
    write_lines(run, report)
    run.lease_token += 1  # what the lost worker may still send is void
    end_attempt(run, Outcome("lost", message="its worker was lost", origin="platform", kind="transient"))


def release_runs(leases: Sequence[Lease], *, reason: str) -> None:
    """Give runs back to the queue that this worker cannot finish; they keep their place, and the attempt is not
    counted. One that somebody wants stopped ends here."""
    held = {lease.run_id: lease for lease in leases}
    query = sa.select(Run).where(Run.id.in_(held)).order_by(Run.number).with_for_update()
    moves = []
    for run in db.session.scalars(query):
        lease = held[run.id]
        if run.lease_token != lease.token or run.state is not RunState.RUNNING:
            continue
        write_lines(run, Report(lease, lines=[(utcnow().isoformat(), "info", "", reason)]))
        is_wanted = run.cancel_requested_at is None
        if is_wanted:
            _put_back(run)
        else:
            end_attempt(run, Outcome("cancelled"))
        moves.append(RunMoved(run, RunState.RUNNING, run.state, given_back=is_wanted))
    db.session.flush()
    if moves:
        announce(moves)
        wake_at_commit(RUNS)


def _put_back(run: Run) -> None:
    for table in (RunStep, RunSample):  # the attempt begins anew
        db.session.execute(sa.delete(table).where(table.run_id == run.id, table.attempt == run.attempt))
    run.state, run.lease_owner, run.lease_until = move(run.state, RunState.QUEUED), None, None
    run.attempt -= 1
    run.fraction = None


def replace_runs_of(job_id: uuid.UUID, *, by: str) -> None:
    """Cancel what waits of a job, and ask what is under way to stop. `by` says who wants it."""
    active = (
        sa.select(Run)
        .where(Run.job_id == job_id, Run.state.in_([RunState.QUEUED, RunState.RUNNING]))
        .order_by(Run.number)
        .with_for_update()
    )
    for run in db.session.scalars(active.execution_options(populate_existing=True)):
        if run.cancel_requested_at is None:
            run.cancel_requested_at, run.cancel_requested_by = utcnow(), by
        if run.state is RunState.QUEUED:
            end_unstarted(run, RunState.CANCELLED, f"cancelled by {by}")
    wake_at_commit(RUNS)
