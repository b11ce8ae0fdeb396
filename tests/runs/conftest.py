"""Missions: instances whose workers are real processes."""

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.runs.mission import Mission
from tests.support.databases import Databases


@pytest.fixture
def mission(tmp_path: Path, databases: Databases) -> Iterator[Mission]:
    """An instance of this test's own; no worker runs yet."""
    made = Mission(tmp_path / "mission", databases)
    yield made
    made.close()


@pytest.fixture(scope="module")
def busy(tmp_path_factory: pytest.TempPathFactory, databases: Databases) -> Iterator[Mission]:
    """An instance with one worker, which the tests of a module share: harm nothing but your own runs."""
    made = Mission(tmp_path_factory.mktemp("busy") / "home", databases)
    made.start_worker()
    yield made
    made.close()


@pytest.fixture
def make_mission(tmp_path: Path, databases: Databases) -> Iterator[Callable[..., Mission]]:
    """Makes instances with settings of their own."""
    made: list[Mission] = []

    def make(**changes: object) -> Mission:
        made.append(Mission(tmp_path / f"mission{len(made)}", databases, **changes))
        return made[-1]

    yield make
    for one in made:
        one.close()
