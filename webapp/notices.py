"""How a lower room tells upper ones what it did, without importing them: within the same unit of work, in order."""

from collections.abc import Callable
from typing import Generic, TypeVar

Fact = TypeVar("Fact")


class Notice(Generic[Fact]):
    """A list of listeners; `tell` calls each with the fact. What a listener raises stops the unit of work."""

    def __init__(self) -> None:
        self._listeners: list[Callable[[Fact], None]] = []

    def listen(self, listener: Callable[[Fact], None]) -> Callable[[Fact], None]:
        """Add a listener once; a second time changes nothing."""
        if listener not in self._listeners:
            self._listeners.append(listener)
        return listener

    def tell(self, fact: Fact) -> None:
        """Call every listener."""
        for listener in self._listeners:
            listener(fact)
