"""docs/types.md says what the connectors do."""

from pathlib import Path

from tests.connectors.contract import types_page
from tests.connectors.contract.destinations import by_connector
from tests.connectors.contract.servers import Servers


def test_the_page_says_what_the_connectors_do(servers: Servers, tmp_path: Path) -> None:
    """Written anew by `python -m tests.connectors.contract.types_page`."""
    assert types_page.PAGE.read_text().splitlines() == types_page.page(servers, tmp_path).splitlines()


def test_each_destination_that_is_proven_has_a_column() -> None:
    assert set(types_page.NAMES) == set(by_connector())
