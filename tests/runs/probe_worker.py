"""A worker that can also execute kinds of jobs that only tests have: they look at the process that they run in."""

import os
from collections.abc import Callable

from webapp import create_app
from webapp.config import Settings
from webapp.runs.queue import Lease, Outcome
from webapp.runs.worker import execution
from webapp.runs.worker.execution import Telephone
from webapp.runs.worker.loop import main

Stop = Callable[[], bool]
kept: list[bytearray] = []


def show_environment(_lease: Lease, telephone: Telephone, _settings: Settings, _stop: Stop) -> Outcome:
    telephone.log("info", f"environment: {' '.join(sorted(os.environ))}")
    return Outcome("succeeded")


def grow(_lease: Lease, telephone: Telephone, _settings: Settings, _stop: Stop) -> Outcome:
    kept.append(bytearray(os.urandom(1)) * (200 * 1024 * 1024))
    telephone.log("info", f"kept: {len(kept)}")
    return Outcome("succeeded")


def chatter(_lease: Lease, telephone: Telephone, _settings: Settings, _stop: Stop) -> Outcome:
    for number in range(20_000):
        telephone.log("info", f"line {number}")
    return Outcome("succeeded")


def die_after_the_last_word(lease: Lease, telephone: Telephone, _settings: Settings, _stop: Stop) -> Outcome:
    telephone.log("info", "these are my last words")
    os.kill(os.getpid(), 9)
    return Outcome("succeeded")


if __name__ == "__main__":
    execution._EXECUTORS = {
        **execution._EXECUTORS,
        "environment": show_environment,
        "grow": grow,
        "chatter": chatter,
        "die": die_after_the_last_word,
    }
    main(create_app())
