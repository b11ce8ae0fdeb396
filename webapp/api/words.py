"""One canonical status word in the database; each contract's own words, in one table."""

from collections.abc import Mapping
from enum import StrEnum
from types import MappingProxyType

from webapp.runs.states import RunState


class Contract(StrEnum):
    """The published contracts, by the names of their texts."""

    ROCKETS = "000"
    ETL = "001"
    OLAKE = "002"
    ICECUBE = "003"
    LISTER = "004"


_CONTRACTS = (Contract.ROCKETS, Contract.ETL, Contract.OLAKE, Contract.ICECUBE, Contract.LISTER)
_WORDS: Mapping[RunState, tuple[str, ...]] = MappingProxyType(
    {
        RunState.QUEUED: ("pending", "queued", "scheduled", "pending", "PENDING"),
        RunState.RUNNING: ("running", "running", "running", "running", "RUNNING"),
        RunState.SUCCEEDED: ("succeeded", "success", "completed", "success", "COMPLETED"),
        RunState.FAILED: ("failed", "failed", "failed", "failed", "FAILED"),
        RunState.CANCELLED: ("cancelled", "failed", "cancelled", "failed", "FAILED"),
    }
)

STATUS_WORDS: Mapping[Contract, Mapping[RunState, str]] = MappingProxyType(
    {
        contract: MappingProxyType({state: words[at] for state, words in _WORDS.items()})
        for at, contract in enumerate(_CONTRACTS)
    }
)


def states_called(word: str, contract: Contract) -> tuple[RunState, ...]:
    """The states that this contract calls by this word; none for a word that it does not have."""
    return tuple(state for state, own in STATUS_WORDS[contract].items() if own == word)
