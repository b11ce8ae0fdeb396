"""Migrations: up, down, up again; and afterwards the tables are what the models say."""

from pathlib import Path

import sqlalchemy as sa
from flask import Flask

from webapp import schema
from webapp.db import db


def tables() -> set[str]:
    return set(sa.inspect(db.engine).get_table_names()) - {"alembic_version"}


def test_models_and_migrations_agree(app: Flask) -> None:
    with app.app_context():
        assert schema.differences() == []


def test_all_migrations_go_down_and_up_again(app: Flask) -> None:
    with app.app_context():
        before = tables()
        schema.downgrade("base")
        assert tables() == set()
        assert schema.present_version() is None
        schema.upgrade()
        assert tables() == before
        assert schema.is_current()
        assert schema.differences() == []


def test_upgrading_twice_changes_nothing(app: Flask) -> None:
    with app.app_context():
        schema.upgrade()
        assert schema.is_current()


def test_file_names_are_revisions_in_one_growing_line() -> None:
    from alembic.script import ScriptDirectory

    scripts = ScriptDirectory(str(schema.FOLDER))
    revisions = [script.revision for script in scripts.walk_revisions()]
    assert revisions == sorted(revisions, reverse=True)
    assert scripts.get_heads() == [schema.newest_version()]
    assert {Path(script.path).stem for script in scripts.walk_revisions()} == set(revisions)


def test_sqlite_keeps_rows_that_refer_to_a_table_which_a_migration_copies(app: Flask) -> None:
    """Batch mode drops the old copy of a table; with foreign keys on, that would delete everything below it."""
    with app.app_context(), db.engine.connect() as connection:
        schema.upgrade()
        if db.engine.dialect.name == "sqlite":
            assert connection.exec_driver_sql("PRAGMA foreign_keys").scalar() == 1
