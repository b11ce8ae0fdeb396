"""What moves data can be installed alone: this package and requirements-engine.txt, without Flask or SQLAlchemy."""

import ast
import re
import subprocess
import sys
import sysconfig
from importlib.metadata import packages_distributions
from pathlib import Path

import pytest

from tests.support.stacks import CHECKOUT

NOT_THERE = {"flask", "sqlalchemy", "werkzeug", "jinja2", "alembic", "flask_sqlalchemy", "wtforms", "gunicorn"}
MOVES_DATA = ["webapp/engine", "webapp/runs/worker/execution.py", "webapp/runs/worker/sync.py",
              "webapp/runs/worker/remote.py", "webapp/runs/messages.py", "webapp/redaction.py"]  # fmt: skip

EXECUTE = """
import sys
NOT_THERE = set({not_there!r})
class Blocker:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in NOT_THERE:
            raise ImportError(f"{{name}} is not here")
sys.meta_path.insert(0, Blocker())
sys.path[:0] = [{site!r}, {packages!r}]
import uuid
from pathlib import Path
import webapp
from webapp.config import Settings
from webapp.runs.messages import Lease
from webapp.runs.worker.execution import Telephone, execute
import webapp.runs.worker.remote, webapp.runs.worker.sync
assert webapp.__file__.startswith({site!r}), webapp.__file__
class Pipe:
    def send(self, message):
        print(message)
task = {{"extractor": {{"type": "csv", "path": "a.csv"}},
        "loader": {{"type": "duckdb", "db_path": "a.duckdb", "table_name": "t"}}}}
lease = Lease(uuid.uuid4(), uuid.uuid4(), 1, 1, 1, {{"kind": "etl", "job_name": "a", "tasks": [task]}})
outcome = execute(lease, Telephone(Pipe(), lease), Settings(hohmann_home=Path({home!r})), lambda: False)
print(outcome.name, outcome.rows_written, outcome.message)
"""


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder into which pip has installed the package from its wheel, and nothing else."""
    from flit_core.wheel import make_wheel_in

    folder = tmp_path_factory.mktemp("package")
    wheel = make_wheel_in(CHECKOUT / "pyproject.toml", folder).file
    options = ["-q", "--disable-pip-version-check", "--no-index", "--no-deps", "--target", folder / "site"]
    subprocess.run([sys.executable, "-m", "pip", "install", *options, wheel], check=True, capture_output=True)
    return folder / "site"


def test_the_installed_package_moves_data_where_flask_and_sqlalchemy_are_not(site: Path, tmp_path: Path) -> None:
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "a.csv").write_text("id,name\n1,one\n2,two\n")
    packages = sysconfig.get_paths()["purelib"]
    program = EXECUTE.format(not_there=sorted(NOT_THERE), site=str(site), packages=packages, home=str(tmp_path))
    done = subprocess.run([sys.executable, "-I", "-c", program], capture_output=True, text=True, cwd=tmp_path)
    assert done.returncode == 0, done.stderr[-3000:]
    assert done.stdout.strip().splitlines()[-1] == "succeeded 2 None", done.stdout[-3000:]


def pins(name: str) -> dict[str, str]:
    """The lines of a file of requirements, by the packages that they pin."""
    lines = (CHECKOUT / name).read_text().splitlines()
    found = [re.match(r"([A-Za-z0-9_.-]+)==(\S+)", line) for line in lines]
    return {match[1].lower().replace("_", "-"): match[2] for match in found if match}


def imported() -> set[str]:
    """The top-level modules that the code which moves data imports, wherever in it."""
    paths = [CHECKOUT / name for name in MOVES_DATA]
    files = [file for path in paths for file in (path.rglob("*.py") if path.is_dir() else [path])]
    nodes = [node for file in files for node in ast.walk(ast.parse(file.read_text()))]
    names = [alias.name for node in nodes if isinstance(node, ast.Import) for alias in node.names]
    names += [node.module for node in nodes if isinstance(node, ast.ImportFrom) and node.module]
    return {name.partition(".")[0] for name in names}


def test_what_it_needs_is_in_its_own_file_of_requirements_with_the_versions_of_the_stack() -> None:
    stack, engine = pins("requirements.txt"), pins("requirements-engine.txt")
    assert {name: version for name, version in engine.items() if stack.get(name) != version} == {}
    homes = packages_distributions()
    needed = {home.lower().replace("_", "-") for name in imported() for home in homes.get(name, [])}
    assert needed & set(stack) - set(engine) == set(), "add these lines of requirements.txt"
    assert needed & {"flask", "sqlalchemy"} == set()
