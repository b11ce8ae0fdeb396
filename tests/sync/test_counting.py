"""A count runs beside the read: its number is heard at once, its failure at the end, and nobody has to wait for it."""

import threading

import pytest

from webapp.engine.errors import Cancelled, EngineError, Origin
from webapp.engine.sync.counting import Count


def nothing() -> None:
    """No reason to stop."""


def test_the_number_is_heard_when_it_is_there_and_can_be_asked_for() -> None:
    heard: list[int | None] = []
    count = Count(lambda: 7, heard.append)
    assert count.result(nothing) == 7
    assert heard == [7]


def test_a_count_that_failed_says_so_to_whoever_asks() -> None:
    def fails() -> int:
        raise EngineError("gone away", origin=Origin.SOURCE)

    heard: list[int | None] = []
    with pytest.raises(EngineError, match="gone away"):
        Count(fails, heard.append).result(nothing)
    assert heard == []


def test_nobody_waits_for_a_count_when_the_run_shall_stop() -> None:
    never = threading.Event()

    def stop() -> None:
        raise Cancelled

    count = Count(lambda: int(never.wait(60)), lambda rows: None)
    with pytest.raises(Cancelled):
        count.result(stop)
    never.set()
