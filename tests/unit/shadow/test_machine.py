import pytest

from foreshard.errors import IllegalTransition
from foreshard.model.shadow_state import APPLYING, WANTED, ShadowState
from foreshard.shadow.machine import TRANSITIONS, next_state


def test_a_shadow_goes_from_its_request_to_the_table_and_away():
    state = ShadowState.REQUESTED
    for event in (
        "start",
        "copied",
        "caught_up",
        "publish",
        "recopy",
        "copied",
        "caught_up",
        "publish",
        "remove",
        "cleaned",
        "request",
    ):
        state = next_state(state, event)
    assert state is ShadowState.REQUESTED


def test_every_state_can_be_reached_and_left():
    assert set(TRANSITIONS.values()) == set(ShadowState)
    assert {state for state, _ in TRANSITIONS} == set(ShadowState)


def test_a_retired_shadow_takes_no_changes_and_returns_only_on_request():
    assert {event for state, event in TRANSITIONS if state is ShadowState.RETIRED} == {"request"}
    assert ShadowState.RETIRING not in APPLYING
    with pytest.raises(IllegalTransition, match="'retired' cannot 'publish'"):
        next_state(ShadowState.RETIRED, "publish")


@pytest.mark.parametrize("state", WANTED)
def test_any_shadow_before_retiring_can_fail_be_removed_and_be_absorbed(state):
    assert next_state(state, "fail") is ShadowState.FAILED
    assert next_state(state, "remove") is ShadowState.RETIRING
    assert next_state(state, "absorb") is ShadowState.RETIRED
