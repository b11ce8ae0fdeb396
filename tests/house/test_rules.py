"""Rules of the house that reviews forget: read from the source, so that each new file is under them."""

import ast
import re
import subprocess
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import pytest
from flask import Flask
from jinja2 import nodes

from webapp.ui import wire_ui

ROOT = Path(__file__).resolve().parent.parent.parent
WEBAPP = ROOT / "webapp"
TEMPLATES = ROOT / "templates"
LONGEST_FILE = 500
LONGEST_FUNCTION = 60
COMMITS_ITSELF = (WEBAPP / "db.py", WEBAPP / "engine")  # the engine commits to the databases that it loads into
PROMISES = re.compile(
    r"\b(TODO|FIXME|XXX|HACK|(?<!\w )for now(?! in)|placeholder|not implemented|NotImplementedError|lorem ipsum)\b",
    re.I,
)
PLACES = re.compile(
    r"/(work|farm)/|/tmp/brief|registry\.npm" + r"js|pypi\.o" + r"rg|python" + r"hosted|deb\.debi" + "an"
)
GENERATED = {"package-lock.json"}


@cache
def tracked() -> tuple[Path, ...]:
    """The files of the repository, also those that are not committed yet."""
    listed = subprocess.run(
        ["git", "ls-files", "--cached", "--others", "--exclude-standard"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=True,
    )
    return tuple(path for name in listed.stdout.splitlines() if (path := ROOT / name).is_file())


def sources(*folders: str) -> list[Path]:
    """The Python files below these folders."""
    return [path for path in tracked() if path.suffix == ".py" and path.relative_to(ROOT).parts[0] in folders]


def functions(path: Path) -> Iterator[ast.FunctionDef | ast.AsyncFunctionDef]:
    """Every function and method of a file."""
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            yield node


def where(path: Path, line: int) -> str:
    return f"{path.relative_to(ROOT)}:{line}"


def test_only_the_unit_of_work_commits() -> None:
    found = [
        where(path, node.lineno)
        for path in sources("webapp")
        if not any(path.is_relative_to(allowed) for allowed in COMMITS_ITSELF)
        for node in ast.walk(ast.parse(path.read_text()))
        if isinstance(node, ast.Call)
        and isinstance(node.func, ast.Attribute)
        and node.func.attr == "commit"
        and not (isinstance(node.func.value, ast.Name) and node.func.value.id == "database")
    ]
    assert found == []


def test_operations_know_no_http() -> None:
    """Operations are called by pages, JSON doors and workers alike: no request, no session cookie, no response."""
    forbidden = {"request", "session", "g", "make_response", "render_template", "redirect", "abort", "flash", "jsonify"}
    found = [
        f"{where(path, node.lineno)} imports {alias.name}"
        for path in sources("webapp")
        if path.name in {"operations.py", "models.py", "claims.py", "queue.py", "scheduler.py"}
        for node in ast.walk(ast.parse(path.read_text()))
        if isinstance(node, ast.ImportFrom) and node.module in {"flask", "flask_login"}
        for alias in node.names
        if alias.name in forbidden
    ]
    assert found == []


def test_files_stay_short_enough_to_read() -> None:
    lengths = {
        path: len(path.read_text().splitlines()) for path in sources("webapp", "tests", "benchmarks", "migrations")
    }
    migrations = ROOT / "migrations" / "versions"
    too_long = {
        str(path.relative_to(ROOT)): n
        for path, n in lengths.items()
        if n > LONGEST_FILE and not path.is_relative_to(migrations)
    }
    assert too_long == {}


def test_functions_stay_short_enough_to_understand() -> None:
    too_long = [
        f"{where(path, node.lineno)} {node.name}: {node.end_lineno - node.lineno + 1} lines"
        for path in sources("webapp")
        for node in functions(path)
        if node.end_lineno and node.end_lineno - node.lineno >= LONGEST_FUNCTION
    ]
    assert too_long == []


def test_most_functions_are_under_twenty_lines() -> None:
    lengths = [
        node.end_lineno - node.lineno for path in sources("webapp") for node in functions(path) if node.end_lineno
    ]
    assert sum(length < 20 for length in lengths) / len(lengths) > 0.85


def test_nothing_is_promised_for_later() -> None:
    kinds = {".py", ".html", ".js", ".mjs", ".css", ".md", ".sh"}
    found = [
        where(path, number)
        for path in tracked()
        if path.suffix in kinds and path != Path(__file__) and "node_modules" not in path.parts
        for number, line in enumerate(path.read_text(errors="replace").splitlines(), start=1)
        if PROMISES.search(line) and "placeholder=" not in line and "::placeholder" not in line
    ]
    assert found == []


def test_no_machine_and_no_registry_is_named() -> None:
    found = [
        where(path, number)
        for path in tracked()
        if path.suffix not in {".png", ".woff2", ".parquet"} and path != Path(__file__)
        for number, line in enumerate(path.read_text(errors="replace").splitlines(), start=1)
        if PLACES.search(line)
    ]
    assert found == []


def test_there_is_no_drawer_for_odds_and_ends() -> None:
    assert [path for path in tracked() if path.name in {"utils.py", "helpers.py", "misc.py"}] == []


def test_a_broad_catch_has_its_reason_beside_it() -> None:
    broad = re.compile(r"^\s*except( Base)?( ?Exception| BaseException)?( as \w+)?:")
    found = [
        where(path, number)
        for path in sources("webapp")
        for number, line in enumerate(path.read_text().splitlines(), start=1)
        if broad.match(line) and "#" not in line and not _explained(path, number) and not _raises_again(path, number)
    ]
    assert found == []


def _explained(path: Path, number: int) -> bool:
    return path.read_text().splitlines()[number].strip().startswith("#")


def _raises_again(path: Path, number: int) -> bool:
    """Whether the catch at this line ends with a bare raise: it only tidies up."""
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.ExceptHandler) and node.lineno == number:
            last = node.body[-1]
            return isinstance(last, ast.Raise) and last.exc is None
    return False


def test_public_functions_of_rooms_say_what_they_promise() -> None:
    silent = [
        f"{where(path, node.lineno)} {node.name}"
        for path in sources("webapp")
        if path.name == "operations.py"
        for node in ast.parse(path.read_text()).body
        if isinstance(node, ast.FunctionDef) and not node.name.startswith("_") and not ast.get_docstring(node)
    ]
    assert silent == []


# --- templates --------------------------------------------------------------------------------------------------------


def templates() -> list[str]:
    return sorted(str(path.relative_to(TEMPLATES)) for path in TEMPLATES.rglob("*.html"))


@pytest.mark.parametrize("name", templates())
def test_a_template_has_nothing_inline_that_the_policy_forbids(name: str) -> None:
    text = (TEMPLATES / name).read_text()
    assert not re.search(r"<script(?![^>]*\bsrc=)", text), "a script without src"
    assert not re.search(r"<style\b", text), "a style element"
    assert not re.search(r"<[^>{]*\sstyle\s*=", text), "a style attribute"
    assert not re.search(r"<[^>{]*\son[a-z]+\s*=", text), "an event handler"
    assert not re.search(r"hx-on|hx-vals\s*=\s*[\"']?js:|javascript:", text), "script in an attribute"
    assert "|safe" not in text.replace(" ", "") or name.startswith("ui/"), "text that is not escaped"


@pytest.mark.parametrize("name", templates())
def test_a_template_imports_each_macro_that_it_uses(name: str) -> None:
    """A fragment is rendered without its page: what only the page has imported would be missing there."""
    tree = parse(name)
    assert called(tree) & all_macros() - imported(tree) - own_macros(tree) == set()


@cache
def parse(name: str) -> nodes.Template:
    """The template, read as the application reads it."""
    app = Flask("templates")
    wire_ui(app)
    return app.jinja_env.parse((TEMPLATES / name).read_text())


def imported(tree: nodes.Template) -> set[str]:
    """The names that a template imports; its blocks see them too."""
    names: set[str] = {node.target for node in tree.find_all(nodes.Import)}
    for node in tree.find_all(nodes.FromImport):
        names |= {name[1] if isinstance(name, tuple) else name for name in node.names}
    return names


def own_macros(tree: nodes.Template) -> set[str]:
    return {node.name for node in tree.find_all(nodes.Macro)}


@cache
def all_macros() -> frozenset[str]:
    """The names of all macros."""
    return frozenset(name for template in templates() for name in own_macros(parse(template)))


def called(tree: nodes.Template) -> set[str]:
    """What a template calls by its bare name."""
    return {node.node.name for node in tree.find_all(nodes.Call) if isinstance(node.node, nodes.Name)}


@pytest.mark.parametrize("name", templates())
def test_a_form_that_posts_carries_its_token(name: str) -> None:
    for form in re.findall(r"<form\b[^>]*method=\"post\".*?</form>", (TEMPLATES / name).read_text(), re.S):
        assert re.search(r"csrf_token|hidden_tag\(|whole\(", form), form[:200]
