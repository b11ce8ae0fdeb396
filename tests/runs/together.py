"""Several at once."""

import threading
from collections.abc import Callable, Iterable
from typing import Any


def in_threads(call: Callable[[Any], Any], arguments: Iterable[Any]) -> None:
    """Call the function with each of the arguments at once; what one raises is raised here."""
    problems = []

    def guarded(argument):
        try:
            call(argument)
        except BaseException as problem:
            problems.append(problem)

    threads = [threading.Thread(target=guarded, args=[argument]) for argument in arguments]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    if problems:
        raise problems[0]
