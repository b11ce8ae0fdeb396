"""What a run can be, and the one table of moves. Nothing here knows the database or the clock."""

from collections.abc import Mapping
from enum import StrEnum
from types import MappingProxyType


class RunState(StrEnum):
    """Where a run is on its way; the words of the database, which each contract translates at its own door."""

    #: Waits for its time and for a worker.
    QUEUED = "queued"
    #: A worker holds its lease.
    RUNNING = "running"
    #: Done, and what it wrote is committed.
    SUCCEEDED = "succeeded"
    #: Ended without success and will not be tried again.
    FAILED = "failed"
    #: Somebody stopped it.
    CANCELLED = "cancelled"

    @property
    def is_final(self) -> bool:
        """True when nothing can happen to the run any more."""
        return not MOVES[self]


#: The table of allowed moves. Running goes back to queued when a try failed and another is due, or its worker was lost;
#: queued goes straight to failed when the run cannot be started at all, say because its job cannot be read.
MOVES: Mapping[RunState, tuple[RunState, ...]] = MappingProxyType(
    {
        RunState.QUEUED: (RunState.RUNNING, RunState.FAILED, RunState.CANCELLED),
        RunState.RUNNING: (RunState.SUCCEEDED, RunState.FAILED, RunState.CANCELLED, RunState.QUEUED),
        RunState.SUCCEEDED: (),
        RunState.FAILED: (),
        RunState.CANCELLED: (),
    }
)

#: States in which something can still happen, and those in which nothing can: what queries filter by.
ACTIVE_STATES: tuple[RunState, ...] = tuple(state for state in RunState if MOVES[state])
FINAL_STATES: tuple[RunState, ...] = tuple(state for state in RunState if not MOVES[state])


class ForbiddenRunMove(Exception):
    """The run cannot go there from where it is; `from_`, `to` and `allowed` are the facts."""

    def __init__(self, from_: RunState, to: RunState, allowed: tuple[RunState, ...]) -> None:
        choices = f"from here it can become {' or '.join(allowed)}" if allowed else "it has ended"
        super().__init__(f"A run that is {from_} cannot become {to}; {choices}.")
        self.from_ = from_
        self.to = to
        self.allowed = allowed


def move(state: RunState, to: RunState) -> RunState:
    """The state `to`, when the table allows it from `state`. Raises ForbiddenRunMove.

    The state in which it is already is no move: callers answer that before they ask here.
    """
    if to not in MOVES[state]:
        raise ForbiddenRunMove(state, to, MOVES[state])
    return to
