"""Things for tests, made in one line each. They need an application context and a unit of work."""

import csv
import itertools
import uuid
from datetime import timedelta
from functools import cache
from pathlib import Path
from typing import Any

from webapp.accounts import operations as accounts
from webapp.accounts.models import Membership, Project, User
from webapp.accounts.passwords import hash_password
from webapp.config import Role
from webapp.dates import utcnow
from webapp.db import db
from webapp.jobs.models import Job, Task
from webapp.rockets.models import Rocket
from webapp.runs.models import Run

PASSWORD = "correct horse battery staple"
_numbers = itertools.count(1)


@cache
def password_hash() -> str:
    """The hash of PASSWORD; made once, because it is slow on purpose."""
    return hash_password(PASSWORD)


def make_user(
    username: str = "",
    *,
    role: Role = Role.OPERATOR,
    is_owner: bool = False,
    is_active: bool = True,
    project: Project | None = None,
    stranger: bool = False,
) -> User:
    """A user with the password PASSWORD, member of `project` (default: the default project; a stranger of none)."""
    name = username or f"user{next(_numbers)}"
    user = User(
        username=name,
        username_key=name.casefold(),
        email=f"{name.casefold()}@example.org",
        email_key=f"{name.casefold()}@example.org",
        password_hash=password_hash(),
        role=role,
        is_owner=is_owner,
        is_active=is_active,
    )
    db.session.add(user)
    db.session.flush()
    if not stranger:
        home = project or accounts.default_project()
        db.session.add(Membership(user_id=user.id, project_id=home.id, role=role))
        db.session.flush()
    return user


def make_project(slug: str = "") -> Project:
    """A project that nobody belongs to yet."""
    name = slug or f"project{next(_numbers)}"
    project = Project(slug=name, name=name.title())
    db.session.add(project)
    db.session.flush()
    return project


def make_rocket(**facts: Any) -> Rocket:
    """A rocket that prepares on its pad, in the default project unless told otherwise."""
    facts.setdefault("project_id", accounts.default_project().id)
    rocket = Rocket(
        **{
            "source": "Earth",
            "destination": "Mars",
            "location": "Earth",
            "planned_seconds": 60,
            "estimated_time": 60,
            "phase_started_at": utcnow(),
        }
        | facts
    )
    db.session.add(rocket)
    db.session.flush()
    return rocket


def make_job(*, tasks: list[dict[str, Any]] | None = None, **facts: Any) -> Job:
    """A job row with these tasks (default: one from a CSV file that is not there), in the default project."""
    facts.setdefault("project_id", accounts.default_project().id)
    job = Job(**{"name": f"Job {next(_numbers)}"} | facts)
    for position, task in enumerate(tasks or [make_task_facts()], start=1):
        job.tasks.append(Task(position=position, **task))
    db.session.add(job)
    db.session.flush()
    return job


def make_task_facts(*, source: str = "absent.csv", target: str = "out.duckdb", table: str = "rows") -> dict[str, Any]:
    """Extractor and loader of one task, CSV to DuckDB."""
    return {
        "extractor": {"type": "csv", "path": source},
        "loader": {"type": "duckdb", "db_path": target, "table_name": table},
    }


def make_run(job: Job, **facts: Any) -> Run:
    """A queued run of this job."""
    run = Run(
        **{"project_id": job.project_id, "job_id": job.id, "spec": {"tasks": []}, "available_at": utcnow()} | facts
    )
    db.session.add(run)
    db.session.flush()
    return run


def make_finished_run(job: Job, *, seconds: float = 1.5, **facts: Any) -> Run:
    """A run that ended `seconds` after it was started, just now."""
    now = utcnow()
    return make_run(job, **{"started_at": now - timedelta(seconds=seconds), "finished_at": now, "attempt": 1} | facts)


def write_csv(path: Path, *, rows: int = 100) -> Path:
    """A CSV file of probe readings: id, name, distance, seen_at."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["id", "name", "distance_km", "seen_at"])
        for number in range(1, rows + 1):
            writer.writerow([number, f"probe {number}", number * 1.5, f"2026-01-01T00:00:{number % 60:02d}"])
    return path


def unknown_id() -> uuid.UUID:
    """An id that nothing has."""
    return uuid.uuid4()
