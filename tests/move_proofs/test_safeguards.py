"""What only one safeguard prevents: nothing else of a move would notice."""

from __future__ import annotations

import pytest
from tests.move_proofs.deployment import Proof

from foreshard.errors import MoveRefused
from foreshard.model.key_space import KeySpace
from foreshard.model.unit_set import UnitSet


def test_a_mover_with_a_valid_lease_removes_nothing_from_a_partition_whose_fence_accepts_the_key(proof: Proof) -> None:
    """Such as after a person has lifted the fence and given the key back by hand."""
    proof.fill(20)
    proof.move()
    proof.move()
    copy = proof.wiring.unit_copy("alpha", "a move", UnitSet(KeySpace(), proof.keys))
    try:
        copy.claim(1)
        for batch in copy.scan(copy.namespaces[0]):
            with pytest.raises(MoveRefused, match="accepts writes"):
                copy.remove_unchanged(copy.namespaces[0], batch)
    finally:
        copy.close()
    assert len(proof.copies("alpha")) == 20
