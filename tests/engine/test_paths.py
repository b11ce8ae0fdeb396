"""A load reads and writes under the allowed roots, and nowhere else."""

from pathlib import Path

import pytest

from tests.engine.conftest import World
from webapp.engine.errors import EngineError, Origin
from webapp.engine.tasks import check_paths

LOADER = {"type": "duckdb", "db_path": "out.duckdb", "table_name": "orders"}


def secret(world: World) -> Path:
    path = world.outside / "secret.csv"
    path.write_text("id\n42\n")
    return path


@pytest.mark.parametrize(
    "path",
    [
        "../outside/secret.csv",
        "sub/../../outside/secret.csv",
        "link.csv",
        "linked/secret.csv",
        "linked/*.csv",
        "l*/secret.csv",
        "*.csv",
        "**/*.csv",
        "sub/../../outside/*.csv",
        "linked",
    ],
)
def test_a_source_outside_the_roots_is_refused(world: World, path: str) -> None:
    outside = secret(world)
    (world.data / "sub").mkdir()
    (world.data / "link.csv").symlink_to(outside)
    (world.data / "linked").symlink_to(world.outside)
    with pytest.raises(EngineError) as caught:
        world.load(path)
    assert (caught.value.origin, caught.value.permanent) == (Origin.SOURCE, True)
    assert not (world.data / "out.duckdb").exists()


def test_an_absolute_path_outside_is_refused_when_the_task_is_saved(world: World) -> None:
    for path in (str(secret(world)), "/etc/*.conf", "../x.csv", "a/../*.csv"):
        with pytest.raises(EngineError) as caught:
            check_paths({"type": "csv", "path": path}, LOADER, world.context())
        assert caught.value.origin is Origin.SOURCE


@pytest.mark.parametrize("db_path", ["../outside/x.db", "/tmp/x.db", "linked/x.db", "sub", "sub/"])
def test_a_database_outside_the_roots_is_refused(world: World, db_path: str) -> None:
    (world.data / "sub").mkdir()
    (world.data / "linked").symlink_to(world.outside)
    with pytest.raises(EngineError) as caught:
        check_paths({"type": "csv", "path": "a.csv"}, {**LOADER, "db_path": db_path}, world.context())
    assert (caught.value.origin, caught.value.permanent) == (Origin.DESTINATION, True)


def test_a_folder_that_the_operator_allows_is_used_by_its_absolute_path(world: World) -> None:
    path = secret(world)
    context = world.context(allowed_roots=(world.outside,))
    check_paths({"type": "csv", "path": str(path)}, LOADER, context)
    assert world.load(str(path), context=context).rows_found == 1


def test_a_link_that_stays_inside_is_followed(world: World) -> None:
    world.write("real/a.csv", "id\n1\n")
    (world.data / "alias.csv").symlink_to(world.data / "real" / "a.csv")
    assert world.load("alias.csv").rows_found == 1


def test_the_warehouse_takes_loads_without_lying_under_a_root(world: World) -> None:
    from webapp.engine.preview import preview_table
    from webapp.engine.tasks import run_task

    world.write("a.csv", "id\n1\n")
    loader = {"type": "warehouse", "table_name": "orders"}
    assert run_task({"type": "csv", "path": "a.csv"}, loader, world.context()).rows_found == 1
    assert preview_table(loader, world.context()).rows == [[1]]


def test_a_path_with_quotes_is_only_a_path(world: World) -> None:
    world.write("a'); DROP TABLE orders; --.csv", "id\n1\n")
    assert world.load("a'); DROP TABLE orders; --.csv", db="o'); x.duckdb").rows_found == 1
