"""Commands of the flask program for whoever runs an instance: `flask owner-link`, `flask settings-doc`."""

import click
from flask import Flask, current_app

from webapp.accounts import operations as accounts
from webapp.config import Settings, document_settings


def wire(app: Flask) -> None:
    """Attach the commands."""
    app.cli.add_command(owner_link)
    app.cli.add_command(settings_doc)


@click.command("owner-link")
def owner_link() -> None:
    """Print the address at which the first user takes possession of this instance."""
    settings: Settings = current_app.extensions["settings"]
    if accounts.owner_exists():
        click.echo("This instance has its owner already.")
        return
    click.echo(f"{settings.base_url}/register?token={accounts.make_owner_token()}")


@click.command("settings-doc")
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
