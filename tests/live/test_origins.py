"""Origins are compared exactly: scheme, host and port."""

import pytest

from webapp.origins import is_allowed

OWN = ("http://127.0.0.1:8000/", "https://hohmann.example")


@pytest.mark.parametrize(
    "origin",
    ["http://127.0.0.1:8000", "https://hohmann.example", "https://hohmann.example:443", "HTTPS://Hohmann.Example"],
)
def test_our_own_addresses_are_allowed(origin):
    assert is_allowed(origin, own=OWN, listed=(), may_be_absent=False)


@pytest.mark.parametrize(
    "origin",
    ["http://127.0.0.1", "https://127.0.0.1:8000", "http://localhost:8000", "http://hohmann.example",
     "https://hohmann.example.evil.example", "https://evil.example/https://hohmann.example", "https://x@hohmann.example",
     "null", "", "hohmann.example", "file://", "https://hohmann.example:abc", "https://[::1"],
)  # fmt: skip
def test_anything_else_is_refused(origin):
    assert not is_allowed(origin, own=OWN, listed=("",), may_be_absent=True)


def test_listed_origins_are_allowed():
    assert is_allowed("https://partner.example", own=OWN, listed=("https://partner.example/",), may_be_absent=False)
    assert not is_allowed("https://partner.example", own=OWN, listed=("https://other.example",), may_be_absent=False)


def test_no_origin_at_all_is_a_matter_of_who_asks():
    assert is_allowed(None, own=OWN, listed=(), may_be_absent=True)
    assert not is_allowed(None, own=OWN, listed=(), may_be_absent=False)
