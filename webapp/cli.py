"""Commands of the flask program for whoever runs an instance: `flask doctor`, `flask owner-link`, ..."""

import sys
from pathlib import Path

import click
from flask import Flask, current_app
from flask.cli import with_appcontext

from webapp import db as database
from webapp.accounts import operations as accounts
from webapp.accounts.operations import Newcomer
from webapp.config import Settings, document_settings
from webapp.errors import HohmannError
from webapp.secrets import Vault


def wire(app: Flask) -> None:
    """Attach the commands."""
    projects = (export_project, import_project)
    for command in (doctor, owner_link, create_owner, rotate_keys, backup, restore, *projects, settings_doc):
        app.cli.add_command(command)


@click.command("doctor")
@with_appcontext
def doctor() -> None:
    """Look at version, permission, disk, port, pages, database, owner and workers; says what to do."""
    from webapp.doctor import report

    settings: Settings = current_app.extensions["settings"]
    if not report(settings, click.echo):
        sys.exit(1)


@click.command("owner-link")
@with_appcontext
def owner_link() -> None:
    """Print the address at which the first user takes possession of this instance."""
    settings: Settings = current_app.extensions["settings"]
    with database.reading():
        if accounts.owner_exists():
            click.echo("This instance has its owner already.")
            return
    click.echo(f"{settings.base_url}/register?token={accounts.make_owner_token()}")


@click.command("create-owner")
@click.option("--username", prompt=True)
@click.option("--email", default="", prompt="Email (may be empty)")
@click.password_option()
@with_appcontext
def create_owner(username: str, email: str, password: str) -> None:
    """Make the owner at the terminal, for an instance that is not on loopback."""
    token = accounts.make_owner_token()
    try:
        with database.unit_of_work():
            if accounts.owner_exists():
                raise click.ClickException("This instance has its owner already.")
            accounts.register_user(Newcomer(username, password, email or None, token=token))
    except HohmannError as error:
        raise click.ClickException(error.message) from error
    click.echo(f"{username} owns this instance.")


@click.command("rotate-keys")
@click.option("--drop-old", is_flag=True, help="Make no new key, and forget all but the newest.")
@with_appcontext
def rotate_keys(drop_old: bool) -> None:
    """Make a new key for stored secrets, and encrypt all of them with it; the stack may run."""
    vault: Vault = current_app.extensions["vault"]
    try:
        with vault.changing():
            _rotate(vault, drop_old=drop_old)
    except BlockingIOError as error:
        raise click.ClickException("Another rotation of the keys is under way.") from error


def _rotate(vault: Vault, *, drop_old: bool) -> None:
    from webapp.key_rotation import renew_all

    if not drop_old:
        vault.add_key()
    done = renew_all(vault)
    click.echo(f"{done.renewed} stored secrets were encrypted with the newest key.")
    if done.unreadable:
        where = ", ".join(f"{count} of {column}" for column, count in done.unreadable.items())
        raise click.ClickException(
            f"No key of keys/data_keys can read {where}. "
            "Put the missing key back as a line of that file, or delete those rows."
        )
    if drop_old:
        click.echo(f"{vault.drop_old_keys()} older keys were dropped.")


@click.command("backup")
@click.argument("file", type=click.Path(path_type=Path, dir_okay=False))
@click.option("--no-data", is_flag=True, help="Leave out the files of data/ and warehouse/.")
@with_appcontext
def backup(file: Path, no_data: bool) -> None:
    """Write the whole instance into FILE: database, keys, data. The stack may run meanwhile."""
    from webapp.backup.archive import back_up

    settings: Settings = current_app.extensions["settings"]
    try:
        made = back_up(settings, file.absolute(), with_data=not no_data)
    except HohmannError as error:
        raise click.ClickException(error.message) from error
    click.echo(f"{file}: {sum(made.rows.values())} rows, {len(made.entries)} entries. It holds the keys: guard it.")


@click.command("restore")
@click.argument("file", type=click.Path(path_type=Path, exists=True, dir_okay=False))
@with_appcontext
def restore(file: Path) -> None:
    """Bring the backup FILE back into an empty instance, of SQLite or PostgreSQL."""
    from webapp.backup.archive import restore as bring_back

    settings: Settings = current_app.extensions["settings"]
    try:
        made = bring_back(settings, file.absolute())
    except HohmannError as error:
        raise click.ClickException(error.message) from error
    click.echo(f"Restored {sum(made.rows.values())} rows as of {made.made_at}. Start the stack: make run")


@click.command("export-project")
@click.argument("file", type=click.Path(path_type=Path, dir_okay=False, allow_dash=True), default="-")
@click.option("--project", default="default", help="The project's short name or number.")
@with_appcontext
def export_project(file: Path, project: str) -> None:
    """Write a project without its secrets into the YAML file FILE, or to standard output."""
    from webapp.portability.terminal import export_to

    try:
        export_to(file, project)
    except HohmannError as error:
        raise click.ClickException(error.message) from error


@click.command("import-project")
@click.argument("file", type=click.Path(path_type=Path, exists=True, dir_okay=False))
@click.option("--project", default="default", help="The project's short name or number.")
@click.option("--plan", "only_plan", is_flag=True, help="Say what it would do, and do nothing.")
@with_appcontext
def import_project(file: Path, project: str, only_plan: bool) -> None:
    """Bring the YAML file FILE into a project, all of it or nothing."""
    from webapp.portability.terminal import import_from

    try:
        import_from(file, project, only_plan=only_plan)
    except HohmannError as error:
        listed = [item["msg"] for item in error.details.get("errors", ())] or [error.message]
        raise click.ClickException("\n".join(listed)) from error


@click.command("settings-doc")
@with_appcontext
def settings_doc() -> None:
    """Print docs/configuration.md as the code has it."""
    click.echo(configuration_page(), nl=False)


def configuration_page() -> str:
    """The page of all settings, in Markdown."""
    rows = [f"| `{name}` | {_code(default)} | {meaning} |" for name, default, meaning in document_settings()]
    return "\n".join([_INTRODUCTION, "| variable | default | meaning |", "|---|---|---|", *rows, ""])


def _code(default: str) -> str:
    return f"`{default}`" if default else ""


_INTRODUCTION = """# Configuration

Every setting is an environment variable. An empty variable counts as not set. A value that cannot be used stops the
start with one line that names the variable and says what it may be.

This page is written by `flask settings-doc > docs/configuration.md` from `webapp/config.py`; a test compares the two.
"""
