"""How a rocket follows the job that it carries: every run is a flight of it.

A run is queued: the rocket is turned around (or rebuilt) and made Ready. It starts: launch. It ends: landing or RUD.
Every step on the way goes through the one table of moves, so the history tells a flight that could have happened.
"""

import uuid
from collections import defaultdict, deque
from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime

import sqlalchemy as sa
from flask import Flask

from webapp import db as database
from webapp.dates import utcnow
from webapp.db import db
from webapp.jobs import operations as jobs
from webapp.jobs.models import Job, JobKind
from webapp.jobs.routes import ELSEWHERE, route_of
from webapp.jobs.sync import operations as sync
from webapp.prepared import Prepared, adopt, table_of
from webapp.rockets import operations as rockets
from webapp.rockets.models import Rocket
from webapp.rockets.states import MOVES, Phase, ground, recall
from webapp.runs import operations as runs
from webapp.runs.chores import Chore, add_chore
from webapp.runs.chores import wire as wire_run_chores
from webapp.runs.models import Run
from webapp.runs.operations import RunMoved, RunNews
from webapp.runs.states import RunState
from webapp.runs.statuses import operations as statuses
from webapp.runs.statuses.operations import JobNote
from webapp.wake import CLOCK


def wire(app: Flask) -> None:
    """Let the fleet follow jobs and runs, and let workers fly the plain rockets."""
    jobs.job_created.listen(give_rocket)
    jobs.job_changed.listen(follow_job)
    jobs.job_about_to_go.listen(retire_rocket)
    runs.run_news.listen(follow_runs)
    statuses.job_noted.listen(follow_note)
    if rockets.write_announcements not in database.before_commit:
        # After the runs' news have moved the rockets, before the event log is written.
        database.before_commit.insert(database.before_commit.index(runs.tell_news) + 1, rockets.write_announcements)
    wire_run_chores(app)
    add_chore(app, Chore("fly plain rockets", rockets.fly_plain_rockets, every=30.0, channels=frozenset({CLOCK})))


def give_rocket(job: Job) -> None:
    """A new job gets its rocket: Ready when the job is switched on and has something to do."""
    source, destination = _route_of(job)
    rocket = rockets.build_rocket(
        project_id=job.project_id,
        user_id=job.created_by,
        source=source,
        destination=destination,
        planned_seconds=0,
        job_id=job.id,
    )
    db.session.add(rocket)
    db.session.flush()  # its history needs its id
    rockets.note(rocket, f"built for the job {job.name}")
    if job.is_enabled:
        rockets.enter(rocket, Phase.READY, "fuelled: waits for its first flight")


def follow_job(job: Job) -> None:
    """A job that is switched off keeps its rocket in the workshop; one that is switched on gets it fuelled."""
    rocket = _rockets_of({job.id}).get(job.id)
    if rocket is None:
        return
    rocket.source, rocket.destination = _route_of(job)
    if not job.is_enabled and ground(rocket.phase) is not rocket.phase:
        rockets.enter(rocket, ground(rocket.phase), "the job was switched off")
    elif job.is_enabled and rocket.phase is Phase.PREPARING:
        rockets.enter(rocket, Phase.READY, "the job was switched on: fuelled")
    rocket.updated_at = utcnow()
    rockets.announce([rocket])


def retire_rocket(job: Job) -> None:
    """A job that is deleted takes its rocket with it."""
    rocket = rockets.rocket_of_job(job.id)
    if rocket is not None:
        rockets.record_deletion(rocket)


def _route_of(job: Job) -> tuple[str, str]:
    if job.kind is JobKind.EXTERNAL:
        return ELSEWHERE
    if job.kind is JobKind.SYNC:
        return sync.route_of(job)
    return route_of([(task.extractor, task.loader) for task in job.tasks])


def follow_runs(news: RunNews) -> None:
    """These runs moved or came further: the rockets of their jobs follow, in the same order.

    All of these rockets are locked at once, in one order, so that two who follow never wait for each other in a ring.
    """
    found = _rockets_of({moved.run.job_id for moved in news.moves} | {run.job_id for run in news.progressed})
    aloft = _aloft_before(news.moves, news.to_launch)
    for moved in news.moves:
        rocket = found.get(moved.run.job_id)
        if rocket is not None:
            _follow(rocket, moved, aloft[moved.run.job_id])
    _follow_progress(found, news.progressed)


_CARRIERS = (  # made once: every move of a run asks it
    sa.select(Rocket)
    .where(Rocket.job_id.in_(sa.bindparam("jobs", expanding=True)))
    .order_by(Rocket.number)
    .with_for_update()
    .execution_options(populate_existing=True)
)


_ROCKET = table_of(Rocket)
_CARRIER = Prepared(sa.select(_ROCKET).where(_ROCKET.c.job_id == sa.bindparam("job")).with_for_update())


def _rockets_of(job_ids: set[uuid.UUID]) -> dict[uuid.UUID | None, Rocket]:
    """The rockets of these jobs, locked and as they are now."""
    if len(job_ids) == 1:
        rows = _CARRIER.rows(db.session(), {"job": next(iter(job_ids))})
        carriers = [adopt(db.session(), Rocket, dict(zip(_ROCKET.columns.keys(), row, strict=True))) for row in rows]
    else:
        carriers = list(db.session.scalars(_CARRIERS, {"jobs": list(job_ids)}))
    found = {rocket.job_id: rocket for rocket in carriers}
    for rocket in found.values():
        database.update_at_commit(rocket)
    return found


_UNDER_WAY = sa.select(Run.job_id, Run.id).where(
    Run.job_id.in_(sa.bindparam("jobs", expanding=True)), Run.state == RunState.RUNNING
)


def _aloft_before(moves: Sequence[RunMoved], to_launch: frozenset[uuid.UUID]) -> dict[uuid.UUID, set[uuid.UUID]]:
    """For the jobs of these moves: the runs that were seen to be under way before the first of them."""
    aloft: dict[uuid.UUID, set[uuid.UUID]] = defaultdict(set)
    ended = {moved.run.job_id for moved in moves if moved.was is RunState.RUNNING}
    if ended:
        for job_id, run_id in db.session.execute(_UNDER_WAY, {"jobs": list(ended)}):
            if run_id not in to_launch:
                aloft[job_id].add(run_id)
    for moved in reversed(moves):
        if moved.was is RunState.RUNNING:
            aloft[moved.run.job_id].add(moved.run.id)
        elif moved.to is RunState.RUNNING:
            aloft[moved.run.job_id].discard(moved.run.id)
    return aloft


def _follow(rocket: Rocket, moved: RunMoved, aloft: set[uuid.UUID]) -> None:
    """Follow one move; `aloft` are the runs of the job that are under way, kept up to date here."""
    run = moved.run
    if moved.to is RunState.RUNNING:
        _launch(rocket, moved)
        aloft.add(run.id)
    elif moved.was is RunState.RUNNING:
        aloft.discard(run.id)
        if aloft:
            rockets.note(rocket, f"run {run.number} {_say_end(moved)}; another is still in flight", run_id=run.id)
        else:
            _come_down(rocket, moved)
    elif moved.to is RunState.QUEUED:
        _wait_for_launch(rocket, run)
    else:
        _drop(rocket, moved)
    rocket.updated_at = utcnow()
    rockets.announce([rocket])


def _launch(rocket: Rocket, moved: RunMoved) -> None:
    run = moved.run
    how = f"reported by {moved.reported_by}" if moved.reported_by else f"attempt {run.attempt}"
    message = f"launched: run {run.number}, {how}"
    if rocket.phase is Phase.OUTBOUND:
        rockets.note(rocket, f"{message}, beside the one in flight", run_id=run.id)
    else:
        travel(rocket, Phase.OUTBOUND, message, run)
    rocket.status = RunState.RUNNING
    _count_from(rocket, utcnow())


def _come_down(rocket: Rocket, moved: RunMoved) -> None:
    """The last run under way ended, was given back, or failed and will be tried again."""
    run = moved.run
    if moved.to is RunState.SUCCEEDED:
        travel(rocket, Phase.LANDED, _landing(moved), run)
        rocket.planned_seconds = round(run.seconds or 0)
    elif moved.given_back:
        why = f"set back to pending by {moved.reported_by}" if moved.reported_by else "given back"
        rockets.enter(rocket, recall(rocket.phase), f"recalled: run {run.number} was {why}", run_id=run.id)
    else:
        travel(rocket, Phase.DESTROYED, _say_end(moved), run)
    if moved.to is RunState.QUEUED:
        travel(rocket, Phase.READY, f"fuelled: run {run.number} waits for its next attempt", run)
    rocket.status = RunState.QUEUED if moved.given_back else moved.to
    _stop_counting(rocket)


def _say_end(moved: RunMoved) -> str:
    run = moved.run
    if moved.to is RunState.SUCCEEDED:
        return _landing(moved)
    if moved.given_back:
        return "was given back"
    why = run.error_message or moved.to.value
    return f"attempt {run.attempt} of {run.max_attempts} ended: {why}" if moved.to is RunState.QUEUED else why


def _wait_for_launch(rocket: Rocket, run: Run) -> None:
    if rocket.phase in rockets.IN_THE_AIR:
        return  # another run of the job is in flight; this one waits behind it
    travel(rocket, Phase.READY, f"fuelled: run {run.number} waits for a worker", run)
    rocket.status = RunState.QUEUED
    _stop_counting(rocket)


def _drop(rocket: Rocket, moved: RunMoved) -> None:
    """A run ended that had never started."""
    if rocket.phase not in rockets.IN_THE_AIR:
        rockets.note(rocket, moved.run.error_message or moved.to.value, run_id=moved.run.id)
        rocket.status = moved.to


def _landing(moved: RunMoved) -> str:
    run = moved.run
    if moved.reported_by:
        return f"landed: reported by {moved.reported_by}"
    rows = f"{run.rows_written:,} rows"
    return f"landed with doubt, {rows}: {run.doubt}" if run.doubt else f"landed: {rows}"


def _count_from(rocket: Rocket, now: datetime) -> None:
    """Until there is real progress, the last flight's length is the best guess."""
    rocket.estimated_time = rocket.planned_seconds
    rocket.counting_since = now if rocket.planned_seconds else None


def _stop_counting(rocket: Rocket) -> None:
    rocket.estimated_time, rocket.counting_since = 0, None


def _follow_progress(found: Mapping[uuid.UUID | None, Rocket], progressed: Sequence[Run]) -> None:
    """The runs say how far they are: location and estimated time follow."""
    now = utcnow()
    for run in progressed:
        rocket = found.get(run.job_id)
        if rocket is None or rocket.phase is not Phase.OUTBOUND:
            continue
        if run.fraction:
            elapsed = (now - rocket.phase_started_at).total_seconds()
            rocket.estimated_time = round(elapsed / run.fraction - elapsed)
            rocket.counting_since = now
            rocket.location = f"{run.fraction:.0%} of the way to {rocket.destination}"[:255]
        elif run.rows_written:
            rocket.location = f"{run.rows_written:,} rows on the way to {rocket.destination}"[:255]
        rocket.updated_at = now
        rockets.announce([rocket])


def follow_note(noted: JobNote) -> None:
    """Something was said of a job that belongs into its rocket's history; a job that waits has its rocket fuelled."""
    rocket = _rockets_of({noted.job_id}).get(noted.job_id)
    if rocket is None:
        return
    if noted.waits and rocket.phase is not Phase.READY:
        travel(rocket, Phase.READY, noted.text)
    else:
        rockets.note(rocket, noted.text)
    if noted.waits:
        rocket.status = RunState.QUEUED
        _stop_counting(rocket)
    rocket.updated_at = utcnow()
    rockets.announce([rocket])


def travel(rocket: Rocket, target: Phase, message: str, run: Run | None = None) -> None:
    """Bring the rocket to this phase by the shortest way in the table; the message belongs to the last step."""
    way = list(_shortest_way(rocket.phase, target))
    for phase in way:
        text = message if phase is target else _ON_THE_WAY[phase]
        rockets.enter(rocket, phase, text, run_id=run.id if run else None)


_ON_THE_WAY = {
    Phase.PREPARING: "turned around for the next flight",
    Phase.READY: "fuelled",
    Phase.OUTBOUND: "launched",
    Phase.LANDED: "landed",
    Phase.RETURNING: "on the way home",
    Phase.DESTROYED: "lost",
}


def _shortest_way(start: Phase, target: Phase) -> Iterable[Phase]:
    came_from: dict[Phase, Phase | None] = {start: None}
    waiting = deque([start])
    while waiting and target not in came_from:
        phase = waiting.popleft()
        for following in MOVES[phase]:
            if following not in came_from:
                came_from[following] = phase
                waiting.append(following)
    way: list[Phase] = []
    step: Phase | None = target
    while step is not None and step is not start:
        way.append(step)
        step = came_from[step]
    return reversed(way)
