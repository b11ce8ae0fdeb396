"""A project's file at the terminal: whoever may read the instance's home may export and import."""

from pathlib import Path

import click

from webapp import db as database
from webapp.accounts import operations as accounts
from webapp.accounts.access import SYSTEM, Actor, Via
from webapp.config import Role
from webapp.portability import operations as portability
from webapp.portability.plan import Line, Outcome, Verb
from webapp.portability.yaml_text import LARGEST_FILE


def export_to(file: Path, project: str) -> None:
    """Write the project's file; `-` is standard output. Raises NotFound for a project that is not there."""
    with database.reading():
        data = portability.export_project(_actor(project))
    if str(file) == "-":
        click.echo(data, nl=False)
        return
    file.write_bytes(data)
    click.echo(f"{file}: {len(data)} bytes, without secrets.")


def import_from(file: Path, project: str, *, only_plan: bool) -> None:
    """Import the file, or say what that would do. Raises as `operations.import_project`."""
    with file.open("rb") as stream:
        data = stream.read(LARGEST_FILE + 1)
    with database.unit_of_work():
        actor = _actor(project)
        outcome = portability.plan_import(actor, data) if only_plan else portability.import_project(actor, data)
    _tell(outcome, only_plan=only_plan)


def _actor(project: str) -> Actor:
    accounts.default_project()
    found = accounts.project_called(SYSTEM, project)
    return Actor(name=SYSTEM.name, via=Via.SYSTEM, memberships={found: Role.ADMIN})


def _tell(outcome: Outcome, *, only_plan: bool) -> None:
    for line in outcome.lines:
        if line.verb is not Verb.UNCHANGED or line.needs_secret:
            click.echo(_sentence(line))
    counts = ", ".join(f"{outcome.count(verb)} {verb}" for verb in Verb)
    click.echo(f"{'It would be' if only_plan else 'Imported'}: {counts}.")
    for name, secret in () if only_plan else outcome.new_secrets:
        click.echo(f"The key of the new webhook {name}, shown this once: {secret}")


def _sentence(line: Line) -> str:
    changes = f" ({', '.join(line.changes)})" if line.changes else ""
    needed = f"; needs a secret: {', '.join(line.needs_secret)}" if line.needs_secret else ""
    return f"{line.verb}: {line.kind} {line.name}{changes}{needed}"
