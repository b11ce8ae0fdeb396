"""Callers of contract 004."""

import pytest
from flask.testing import FlaskClient

from tests.api.lister.client import Caller
from tests.support.people import Person


@pytest.fixture
def operator(client: FlaskClient, bob: Person) -> Caller:
    """May make jobs and report them."""
    return Caller(client, bob)


@pytest.fixture
def viewer(client: FlaskClient, rita: Person) -> Caller:
    """May only look."""
    return Caller(client, rita)
