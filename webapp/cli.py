"""Commands of the flask program for whoever runs an instance: `flask doctor`, `flask owner-link`, ..."""

import sys

import click
from flask import Flask, current_app
from flask.cli import with_appcontext

from webapp import db as database
from webapp.accounts import operations as accounts
from webapp.accounts.operations import Newcomer
from webapp.config import Settings, document_settings
from webapp.errors import HohmannError


def wire(app: Flask) -> None:
    """Attach the commands."""
    for command in (doctor, owner_link, create_owner, settings_doc):
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
