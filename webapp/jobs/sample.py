"""The sample mission: a real file of Mars weather, and a job that carries it into a real DuckDB table.

It is there from the moment the owner registers, and goes without a trace when somebody removes it.
"""

import contextlib
import math
import random
import subprocess
import sys
import uuid
from collections.abc import Iterator
from datetime import datetime, timedelta
from pathlib import Path

from webapp.accounts import operations as accounts
from webapp.accounts.access import Actor, Scope, Via
from webapp.accounts.models import User
from webapp.config import Role
from webapp.db import db, let_go
from webapp.errors import Conflict, NotFound
from webapp.jobs import operations as jobs
from webapp.jobs.models import Job
from webapp.redaction import environment_for_others

NAME = "Sample mission: Mars weather"
DESCRIPTION = (
    "Fifty thousand readings of five weather stations on Mars, from a CSV file into a DuckDB table. "
    "Made up, but real files: launch it, watch it land, look at the rows, remove it."
)
FILE = "sample/mars_weather.csv"
DATABASE = "sample.duckdb"
TABLE = "mars_weather"
ROWS = 50_000
HEADER = "reading_id,measured_at,sol,station,air_temp_c,ground_temp_c,pressure_pa,wind_m_s,sky,remark\n"
DROP_SECONDS = 20

FIRST_READING = datetime(2025, 1, 1)  # noqa: DTZ001 - only ever written into the file, where instants are in UTC
READINGS_A_SOL = 40
BETWEEN_READINGS = timedelta(seconds=88_775.244 / READINGS_A_SOL)
#: Name, mean air temperature in degrees Celsius, mean pressure in pascal.
STATIONS = (
    ("Jezero", -61.0, 735.0),
    ("Gale", -54.0, 845.0),
    ("Elysium", -66.0, 720.0),
    ("Arcadia", -78.0, 690.0),
    ("Meridiani", -58.0, 655.0),
)
_SKIES = ("clear",) * 7 + ("hazy",) * 3 + ("dusty",) * 2 + ("cloudy",)
_REMARKS = ("dust devil", "sensor heated", "frost on the lens", "calibrated")
#: Wind speeds in metres a second as they are written; calm days are the rule, and now and then nothing was heard.
_WINDS = (*(f"{(step / 30) ** 2:.1f}" for step in range(122)), *[""] * 6)


def write_mars_weather(path: Path, *, rows: int = ROWS) -> Path:
    """Write this many readings as CSV, the same ones every time; the file appears complete or not at all."""
    path.parent.mkdir(parents=True, exist_ok=True)
    draft = path.with_name(f".{path.name}.{uuid.uuid4().hex}")
    try:
        with draft.open("w", encoding="ascii", newline="") as file:
            file.write(HEADER)
            file.writelines(_readings(rows))
        draft.replace(path)
    finally:
        draft.unlink(missing_ok=True)
    return path


def _readings(rows: int) -> Iterator[str]:
    """The lines of CSV, those of one instant together; where a sensor was silent, its field is empty."""
    draw = random.Random(4).random  # noqa: S311 - weather, not a secret
    for at in range(math.ceil(rows / len(STATIONS))):
        sol, slot = divmod(at, READINGS_A_SOL)
        sun = math.sin(2 * math.pi * (slot / READINGS_A_SOL - 0.25))
        season = math.sin(2 * math.pi * sol / 668.6)
        instant = (FIRST_READING + at * BETWEEN_READINGS).isoformat(" ", "seconds")
        number = at * len(STATIONS)
        lines = []
        for station, temperature, pressure in STATIONS[: rows - number]:
            number += 1
            noise = draw()
            air = temperature + 31 * sun + 9 * season + 5 * noise
            rest = f"{_WINDS[int(noise * 5003) % 128]},{_SKIES[int(noise * 1009) % 13] if sun > -0.6 else ''}"
            begin = f"{number},{instant},{sol},{station},{air:.2f},"
            ground = f"{air + 8 * sun:.2f}" if noise > 0.01 else ""
            remark = _REMARKS[number % 4] if noise > 0.993 else ""
            lines.append(f"{begin}{ground},{pressure + 55 * season:.1f},{rest},{remark}\n")
        yield "".join(lines)


def prepare_sample(owner: User) -> None:
    """Put the sample mission on the pad for the new owner."""
    project = accounts.default_project()
    write_mars_weather(accounts.settings().data_folder / FILE)
    actor = Actor(name=owner.username, via=Via.SYSTEM, user_id=owner.id, memberships={project.id: Role.ADMIN})
    task = jobs.TaskDraft(
        extractor={"type": "csv", "path": FILE},
        loader={"type": "duckdb", "db_path": DATABASE, "table_name": TABLE},
    )
    jobs.create_job(actor, jobs.JobDraft(name=NAME, description=DESCRIPTION, tasks=(task,)), is_sample=True)


accounts.owner_registered.listen(prepare_sample)


def find_sample(actor: Actor) -> Job | None:
    """The sample mission among the jobs that the actor may see, None when it was removed."""
    query = jobs.jobs_visible_to(actor).where(Job.is_sample).order_by(Job.number).limit(1)
    return db.session.scalar(query)


def remove_sample(actor: Actor) -> None:
    """Remove the sample's job with its runs, its file and its table.

    Raises NotFound when it is not there, Conflict while it flies or while something else has its database open.
    """
    sample = find_sample(actor)
    if sample is None:
        raise NotFound("The sample mission has been removed already.")
    actor.require(Role.OPERATOR, sample.project_id, Scope.JOBS_WRITE, what="Job")
    sample_id = sample.id
    jobs.job_may_go.tell(sample)  # not while it flies: asked before anything is thrown away
    let_go()
    _drop_table()
    jobs.delete_job(actor, sample_id)
    file = accounts.settings().data_folder / FILE
    file.unlink(missing_ok=True)
    with contextlib.suppress(OSError):  # somebody keeps files of their own there
        file.parent.rmdir()


def _drop_table() -> None:
    """Drop the sample's table, and its database when that holds nothing else.

    In a process of its own: DuckDB would stay in the memory of the web server for good.
    """
    settings = accounts.settings()
    database = settings.data_folder / DATABASE
    if not database.exists():
        return
    command = [
        sys.executable,
        "-m",
        "webapp.jobs.drop_sample",
        str(database),
        TABLE,
        str(settings.hohmann_home / "tmp"),
    ]
    try:
        done = subprocess.run(
            command, capture_output=True, timeout=DROP_SECONDS, check=False, text=True, env=environment_for_others()
        )
    except subprocess.TimeoutExpired as error:
        raise Conflict(f"{DATABASE} has been in use for {DROP_SECONDS} s. Try again later.", file=DATABASE) from error
    if done.returncode:
        reason = done.stderr.strip().splitlines()[-1:] or ["its table cannot be dropped"]
        raise Conflict(f"{DATABASE}: {reason[0]}", file=DATABASE)
