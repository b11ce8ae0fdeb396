"""The rocket's table of moves, walked in every order."""

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from webapp.rockets.states import (
    GROUND_MOVES,
    MOVES,
    ForbiddenMove,
    Phase,
    RocketState,
    allowed_states,
    ground,
    is_returning,
    move,
    state_of,
)

# The states and moves as contract 000 and the issue give them, written out once more on purpose.
EXPECTED = {
    Phase.PREPARING: {RocketState.READY, RocketState.RUD},
    Phase.READY: {RocketState.IN_FLIGHT, RocketState.RUD},
    Phase.OUTBOUND: {RocketState.LANDED_ON_MARS, RocketState.RUD},
    Phase.LANDED: {RocketState.IN_FLIGHT},
    Phase.RETURNING: {RocketState.PREPARING, RocketState.RUD},
    Phase.DESTROYED: {RocketState.PREPARING},
}


class RocketLife(RuleBasedStateMachine):
    """Whatever is asked for, a rocket only ever makes allowed moves and a refusal changes nothing."""

    def __init__(self):
        super().__init__()
        self.phase = Phase.PREPARING
        self.trail = [self.phase]

    @rule(to=st.sampled_from(RocketState))
    def ask_for(self, to):
        if to in EXPECTED[self.phase]:
            self.phase = move(self.phase, to)
            self.trail.append(self.phase)
            assert state_of(self.phase) is to
        else:
            with pytest.raises(ForbiddenMove) as refusal:
                move(self.phase, to)
            assert refusal.value.from_ is state_of(self.phase)
            assert refusal.value.to is to
            assert set(refusal.value.allowed) == EXPECTED[self.phase]

    @precondition(lambda self: self.phase is Phase.READY)
    @rule()
    def switch_its_job_off(self):
        self.phase = ground(self.phase)
        self.trail.append(self.phase)
        assert self.phase is Phase.PREPARING

    @invariant()
    def a_launch_has_been_on_the_pad_and_a_return_has_landed(self):
        if self.phase is Phase.OUTBOUND:
            assert self.trail[-2] is Phase.READY
        if self.phase is Phase.RETURNING:
            assert self.trail[-2] is Phase.LANDED
            assert is_returning(self.phase)

    @invariant()
    def there_is_always_a_way_on(self):
        assert allowed_states(self.phase)


TestRocketLife = RocketLife.TestCase
TestRocketLife.settings = settings(deadline=None)


def test_every_phase_has_its_moves_and_its_state():
    assert set(MOVES) == set(Phase)
    assert {state_of(phase) for phase in Phase} == set(RocketState)


def test_a_state_names_at_most_one_move_from_each_phase():
    for phase, targets in MOVES.items():
        assert len({state_of(target) for target in targets}) == len(targets), phase


def test_only_a_ready_rocket_launches_from_home():
    assert [phase for phase, targets in MOVES.items() if Phase.OUTBOUND in targets] == [Phase.READY]


def test_a_refusal_says_what_is_allowed():
    with pytest.raises(ForbiddenMove, match=r"Preparing cannot become Landed_On_Mars; .* Ready or RUD\.$"):
        move(Phase.PREPARING, RocketState.LANDED_ON_MARS)


def test_staying_is_not_a_move():
    for phase in Phase:
        with pytest.raises(ForbiddenMove):
            move(phase, state_of(phase))


def test_grounding_touches_only_a_waiting_rocket():
    assert {phase for phase in Phase if ground(phase) is not phase} == {Phase.READY} == set(GROUND_MOVES)


def test_nobody_can_ask_for_what_only_the_system_does():
    assert RocketState.PREPARING not in allowed_states(Phase.READY)


def test_the_words_are_those_of_the_contract():
    assert [state.value for state in RocketState] == ["Preparing", "Ready", "InFlight", "Landed_On_Mars", "RUD"]
