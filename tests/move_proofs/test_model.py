"""The movers' own code under every schedule with a bounded number of interruptions (:mod:`tests.move_proofs.model`).

Bounds: one interruption of any kind anywhere; two of five kinds from the fence to the opened target (about 1,100 and 4,000
schedules, 16,000 and 45,000 states); with `make nightly` two of any kind anywhere.
"""

from __future__ import annotations

import os

import pytest
from tests.move_proofs.model import ANY, explore

from foreshard.model.move_state import MoveState
from foreshard.move import _unit_sync

CUTOVER = (MoveState.FENCED, MoveState.SWITCHED)
FEW = 5
BOUNDS = [pytest.param(1, ANY, None, id="one anywhere"), pytest.param(2, CUTOVER, FEW, id="two in the cutover")]
if os.environ.get("FORESHARD_MODEL_DEPTH") == "nightly":
    BOUNDS.append(pytest.param(2, ANY, None, id="two anywhere", marks=pytest.mark.timeout(7200)))


@pytest.mark.parametrize(("bound", "states", "kinds"), BOUNDS)
def test_no_schedule_within_the_bound_loses_doubles_or_revives_a_document(bound, states, kinds, monkeypatch) -> None:
    monkeypatch.setattr(_unit_sync, "BUCKETS", 8)
    explored = explore(bound, states, kinds)
    print(f"at most {bound} interruptions: {explored.schedules} schedules, {len(explored.states)} states, ends {explored.ends}")
    assert explored.ends["done"] > 0
