"""What a web process does not need, it does not load: each megabyte counts twice, and each 100 ms delays the start."""

import subprocess
import sys
from pathlib import Path

import pytest

HEAVY = {"duckdb", "pyarrow", "pandas", "numpy", "alembic", "mako", "flask_migrate", "pytest"}


def loaded_after(code: str, home: Path) -> set[str]:
    """The top-level modules that are loaded after this code has run in a fresh Python."""
    program = f"{code}\nimport sys; print(' '.join(sorted({{name.partition('.')[0] for name in sys.modules}})))"
    result = subprocess.run(
        [sys.executable, "-c", program],
        env={"HOHMANN_HOME": str(home), "PYTHONPATH": "."},
        capture_output=True,
        text=True,
        check=True,
    )
    return set(result.stdout.split())


@pytest.mark.parametrize(
    "code", ["from webapp import create_app; create_app()", "import webapp.stack, webapp.webserver"]
)
def test_the_web_process_loads_no_engine_and_no_migrations(code: str, tmp_path: Path) -> None:
    assert loaded_after(code, tmp_path) & HEAVY == set()


def test_the_engine_knows_neither_flask_nor_sqlalchemy(tmp_path: Path) -> None:
    modules = sorted(Path("webapp/engine").glob("*.py"))
    names = ", ".join(f"webapp.engine.{path.stem}" for path in modules if path.stem != "__init__")
    before = loaded_after("import webapp", tmp_path)
    assert (loaded_after(f"import {names}", tmp_path) - before) & {"flask", "sqlalchemy", "flask_sqlalchemy"} == set()
