"""The run's table of moves, walked in every order."""

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from webapp.runs.states import ACTIVE_STATES, FINAL_STATES, MOVES, ForbiddenRunMove, RunState, move

EXPECTED = {
    RunState.QUEUED: {RunState.RUNNING, RunState.FAILED, RunState.CANCELLED},
    RunState.RUNNING: {RunState.SUCCEEDED, RunState.FAILED, RunState.CANCELLED, RunState.QUEUED},
    RunState.SUCCEEDED: set(),
    RunState.FAILED: set(),
    RunState.CANCELLED: set(),
}


class RunLife(RuleBasedStateMachine):
    """Whatever is asked for, a run ends at most once and never comes back."""

    def __init__(self):
        super().__init__()
        self.state = RunState.QUEUED
        self.ended_as = None
        self.was_running = False

    @rule(to=st.sampled_from(RunState))
    def ask_for(self, to):
        if to in EXPECTED[self.state]:
            self.state = move(self.state, to)
            self.was_running = self.was_running or to is RunState.RUNNING
            self.ended_as = to if to.is_final else None
        else:
            with pytest.raises(ForbiddenRunMove) as refusal:
                move(self.state, to)
            assert (refusal.value.from_, refusal.value.to) == (self.state, to)
            assert set(refusal.value.allowed) == EXPECTED[self.state]

    @invariant()
    def the_end_is_the_end(self):
        if self.ended_as is not None:
            assert self.state is self.ended_as

    @invariant()
    def success_needs_a_worker(self):
        if self.state is RunState.SUCCEEDED:
            assert self.was_running


TestRunLife = RunLife.TestCase
TestRunLife.settings = settings(deadline=None)


def test_every_state_has_its_moves_and_is_active_or_final():
    assert set(MOVES) == set(RunState)
    assert set(ACTIVE_STATES) == {RunState.QUEUED, RunState.RUNNING}
    assert set(FINAL_STATES) == {RunState.SUCCEEDED, RunState.FAILED, RunState.CANCELLED}


def test_a_refusal_says_what_is_allowed():
    with pytest.raises(ForbiddenRunMove, match=r"queued cannot become succeeded; .* running or failed or cancelled\."):
        move(RunState.QUEUED, RunState.SUCCEEDED)


def test_a_refusal_says_when_a_run_has_ended():
    with pytest.raises(ForbiddenRunMove, match=r"failed cannot become running; it has ended\."):
        move(RunState.FAILED, RunState.RUNNING)
