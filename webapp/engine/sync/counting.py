"""A source's count of its rows, taken while they are read."""

from __future__ import annotations

import threading
from collections.abc import Callable
from concurrent.futures import Future, wait

_LOOK = 0.2  # seconds


class Count:
    """A count in a thread of its own, which nobody has to wait for when the stream fails: a large table takes long."""

    def __init__(self, count: Callable[[], int | None], heard: Callable[[int | None], None]) -> None:
        self._answer: Future[int | None] = Future()
        threading.Thread(target=self._run, args=(count, heard), name="sync-count", daemon=True).start()

    def result(self, check: Callable[[], None]) -> int | None:
        """The number; `check` is called now and then, and raises when the run shall stop. Raises EngineError."""
        while not wait([self._answer], _LOOK).done:
            check()
        return self._answer.result()

    def _run(self, count: Callable[[], int | None], heard: Callable[[int | None], None]) -> None:
        try:
            found = count()
            heard(found)
            self._answer.set_result(found)
        except BaseException as error:  # whoever asks for the result hears of it
            self._answer.set_exception(error)
