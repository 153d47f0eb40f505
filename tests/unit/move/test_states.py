"""The transition table: which transitions exist, and which can never happen."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from foreshard.errors import IllegalTransition
from foreshard.model.move_state import BEFORE_SWITCH, ENDED, OPEN, MoveState
from foreshard.move.mover import STEPS
from foreshard.move.states import TRANSITIONS, MoveEvent, next_state


def reachable(start: MoveState) -> set[MoveState]:
    found, waiting = {start}, [start]
    while waiting:
        state = waiting.pop()
        for (origin, _), to in TRANSITIONS.items():
            if origin is state and to not in found:
                found.add(to)
                waiting.append(to)
    return found


def test_every_state_is_reached_from_planned_and_reaches_an_end():
    assert reachable(MoveState.PLANNED) == set(MoveState)
    assert all(reachable(state) & set(ENDED) for state in MoveState)


def test_nothing_leads_from_a_switched_move_back_before_its_switch():
    assert reachable(MoveState.SWITCHED) == {MoveState.SWITCHED, MoveState.CLEANING, MoveState.DONE, MoveState.UNDONE}


def test_every_state_before_the_switch_can_be_reverted_and_no_other():
    assert {origin for origin, event in TRANSITIONS if event is MoveEvent.REVERT} == set(BEFORE_SWITCH)


def test_a_switch_follows_a_verification_behind_a_fence_only():
    assert [origin for (origin, _), to in TRANSITIONS.items() if to is MoveState.SWITCHED] == [MoveState.FENCED]


def test_ended_moves_have_no_transitions():
    assert not [origin for origin, _ in TRANSITIONS if origin in ENDED]


def test_the_driver_has_a_step_for_every_state_that_is_not_final():
    assert set(OPEN) == set(STEPS)


@given(st.sampled_from(MoveState), st.sampled_from(MoveEvent))
def test_an_event_without_a_transition_is_refused_by_name(state, event):
    if (state, event) in TRANSITIONS:
        assert next_state(state, event) is TRANSITIONS[state, event]
    else:
        with pytest.raises(IllegalTransition, match=f"'{state}' cannot '{event}'"):
            next_state(state, event)
