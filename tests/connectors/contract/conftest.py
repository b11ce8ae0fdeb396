from collections.abc import Iterator

import pytest

from tests.connectors.contract.servers import Servers


@pytest.fixture(scope="package")
def servers(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Servers]:
    """The servers of the contract, started as they are needed."""
    started = Servers(tmp_path_factory.mktemp("servers"))
    yield started
    started.close()
