"""What a rocket can be, and the one table of moves between the phases of its life.

The contract knows five states, but one of them, InFlight, is two things: the way out and the way home. What may follow
differs between the two, so the table is written over phases, and the state is what a phase is called outside.
Nothing here knows the database or the clock.
"""

from collections.abc import Mapping
from enum import StrEnum
from types import MappingProxyType


class RocketState(StrEnum):
    """A rocket's state in the words of contract 000."""

    PREPARING = "Preparing"
    READY = "Ready"
    IN_FLIGHT = "InFlight"
    LANDED_ON_MARS = "Landed_On_Mars"
    RUD = "RUD"


class Phase(StrEnum):
    """Where a rocket is in its life; finer than its state, because a flight has two legs."""

    #: Not complete, switched off, or being turned around.
    PREPARING = "preparing"
    #: Fuelled: waits for its hour. Only from here does a rocket launch.
    READY = "ready"
    #: On the way to its destination.
    OUTBOUND = "outbound"
    #: Arrived.
    LANDED = "landed"
    #: On the way home.
    RETURNING = "returning"
    #: Lost; it can be rebuilt.
    DESTROYED = "destroyed"


_STATES: Mapping[Phase, RocketState] = MappingProxyType(
    {
        Phase.PREPARING: RocketState.PREPARING,
        Phase.READY: RocketState.READY,
        Phase.OUTBOUND: RocketState.IN_FLIGHT,
        Phase.LANDED: RocketState.LANDED_ON_MARS,
        Phase.RETURNING: RocketState.IN_FLIGHT,
        Phase.DESTROYED: RocketState.RUD,
    }
)

#: The table of allowed moves. From each phase no two moves lead to the same state, so a state names its move.
MOVES: Mapping[Phase, tuple[Phase, ...]] = MappingProxyType(
    {
        Phase.PREPARING: (Phase.READY, Phase.DESTROYED),
        Phase.READY: (Phase.OUTBOUND, Phase.DESTROYED),
        Phase.OUTBOUND: (Phase.LANDED, Phase.DESTROYED),
        Phase.LANDED: (Phase.RETURNING,),
        Phase.RETURNING: (Phase.PREPARING, Phase.DESTROYED),
        Phase.DESTROYED: (Phase.PREPARING,),
    }
)

#: What only the system does: a rocket whose job is switched off goes back to the workshop. Nobody can ask for it.
GROUND_MOVES: Mapping[Phase, tuple[Phase, ...]] = MappingProxyType({Phase.READY: (Phase.PREPARING,)})

#: Also the system's alone: a rocket in flight is called back when the worker that flies it has to give its run up.
RECALL_MOVES: Mapping[Phase, tuple[Phase, ...]] = MappingProxyType({Phase.OUTBOUND: (Phase.READY,)})


class ForbiddenMove(Exception):
    """The rocket cannot go there from where it is; `from_`, `to` and `allowed` are the contract's states."""

    def __init__(self, from_: RocketState, to: RocketState, allowed: tuple[RocketState, ...]) -> None:
        choices = " or ".join(allowed)
        super().__init__(f"A rocket that is {from_} cannot become {to}; from here it can become {choices}.")
        self.from_ = from_
        self.to = to
        self.allowed = allowed


def state_of(phase: Phase) -> RocketState:
    """The contract's word for the phase."""
    return _STATES[phase]


def allowed_states(phase: Phase) -> tuple[RocketState, ...]:
    """The states that can be asked for from this phase, in the order of the table."""
    return tuple(state_of(target) for target in MOVES[phase])


def is_returning(phase: Phase) -> bool:
    """True on the way home, when source and destination have changed places."""
    return phase is Phase.RETURNING


def move(phase: Phase, to: RocketState) -> Phase:
    """The phase in which the rocket is after the move that leads to the state `to`.

    Asking for the state in which it is already is no move: callers answer that before they ask here.
    Raises ForbiddenMove.
    """
    for target in MOVES[phase]:
        if state_of(target) is to:
            return target
    raise ForbiddenMove(state_of(phase), to, allowed_states(phase))


def ground(phase: Phase) -> Phase:
    """The phase of a rocket whose job was switched off: a waiting one goes back to Preparing, any other stays."""
    targets = GROUND_MOVES.get(phase)
    return targets[0] if targets else phase


def recall(phase: Phase) -> Phase:
    """The phase of a rocket whose run was given back: one in flight stands ready again, any other stays."""
    targets = RECALL_MOVES.get(phase)
    return targets[0] if targets else phase
