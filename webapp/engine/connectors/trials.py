"""The steps of a connection's test: each has ten seconds, and the first that fails is the last."""

import threading
import time
from collections.abc import Callable, Iterator

from webapp.engine.connectors.base import CheckStep
from webapp.engine.errors import EngineError

_LIMIT = 10.0
Step = tuple[str, Callable[[], str | None]]


def tried(*steps: Step) -> Iterator[CheckStep]:
    """Do named steps in their order; what a step returns is its message. Stops after the first that fails."""
    for name, action in steps:
        step = _tried(name, action)
        yield step
        if not step.ok:
            return


def _tried(name: str, action: Callable[[], str | None]) -> CheckStep:
    began = time.monotonic()
    outcome: list[CheckStep] = []
    # A driver that hangs must not hold the test: its thread is left behind.
    thread = threading.Thread(target=lambda: outcome.append(_done(name, action, began)), daemon=True)
    thread.start()
    thread.join(_LIMIT)
    if outcome:
        return outcome[0]
    return CheckStep(name, False, f"took longer than {_LIMIT:.0f} s", "Check that the system answers.", _LIMIT)


def _done(name: str, action: Callable[[], str | None], began: float) -> CheckStep:
    try:
        message = action() or ""
    except EngineError as error:
        return CheckStep(name, False, error.message, error.fix or "", _since(began))
    except Exception as error:  # whatever a driver raises is the answer to the test, not a failure of the test
        return CheckStep(name, False, f"failed unexpectedly: {type(error).__name__}", "", _since(began))
    return CheckStep(name, True, message, "", _since(began))


def _since(began: float) -> float:
    return round(time.monotonic() - began, 3)
