"""What a test needs and this machine does not have."""

import os
from typing import NoReturn

import pytest


def missing(what: str) -> NoReturn:
    """A part that some tests need is not on this machine: on CI that is a failure, elsewhere it is said loudly."""
    if os.environ.get("CI") == "true":
        pytest.fail(f"needs {what}")
    pytest.skip(f"needs {what}")
