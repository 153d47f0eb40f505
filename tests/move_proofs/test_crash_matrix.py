"""A process that moves, cleans, reverts, undoes or tends is killed before every one of its effects, and another one finishes.

The effects are counted by the process itself, so the matrix ends where a run ends unkilled. Eight clients read and write all
the while; every answer that they get must be linearizable.
"""

from __future__ import annotations

import pytest
from tests.move_proofs.deployment import Proof
from tests.move_proofs.effects import Halt
from tests.move_proofs.points import MOST_POINTS, STRIDE, clients_at_work, points, switched, verified

from foreshard.stages import migrate

MATRIX = {
    "a mover, and the move is resumed": (Proof.plan, "run", "finish"),
    "a mover, and the move is reverted": (Proof.plan, "run", "revert"),
    "a mover, and the watchdog takes the move": (Proof.plan, "run", "tend"),
    "a cleaner, and the cleaning is resumed": (switched, "clean", "finish"),
    "a cleaner, and the watchdog cleans": (switched, "clean", "tend"),
    "a revert, and it is resumed": (verified, "revert", "finish"),
    "an undo, and what it began is finished": (switched, "undo", "finish"),
    "a watchdog over a dead mover, and the next one": (verified, "tend", "tend"),
    "a watchdog that cleans, and the next one": (switched, "tend", "tend"),
}

TOO_LATE = ("switched", "cleaning", "done")
"""A move in these states can't be reverted any more, so it is finished."""


CASES = [
    pytest.param(row, kind, id=f"{name.replace(' ', '_')}-{kind}")
    for row, name in enumerate(MATRIX)
    for kind in ("key", "slot")
    if STRIDE == 1 or kind == ("slot" if row % 3 == 2 else "key")
]
"""Every row for a listed key and for a slot; in a sample, for one of them."""


@pytest.mark.parametrize(("row", "proof"), CASES, indirect=["proof"])
def test_killed_before_any_effect(proof: Proof, row: int) -> None:
    """The row's number shifts the sample, so that different points are tried."""
    begin, victim, successor = list(MATRIX.values())[row]
    if "tend" in (victim, successor) and not hasattr(migrate, "tend_moves"):
        pytest.skip("there is no such operation yet")
    killed = 0
    with clients_at_work(proof) as settled:
        for point in points(row):
            assert point < MOST_POINTS, f"{victim} does not end"
            move_id = begin(proof)
            ended = proof.child(victim, move_id, Halt(point))
            where = f"{victim} killed before effect {point}: {ended.effects[-1]}"
            successor_now = "finish" if successor == "revert" and proof.state(move_id) in TOO_LATE else successor
            after = proof.child(successor_now, move_id)
            assert after.code == 0, f"{where}; then {successor_now}: {after.output}"
            if successor == "tend":
                assert proof.accepts(proof.owner(proof.keys[0])), f"{where}; after the watchdog no partition takes writes"
                assert proof.child("finish", move_id).code == 0
            try:
                settled()
            except AssertionError as error:
                raise AssertionError(f"{where}; then {successor_now}: {error}") from error
            if ended.how == "exited":
                assert ended.code == 0, ended.output
                break
            killed += 1
    print(f"{victim}: killed at {killed} points of {len(ended.effects)}; {proof.checked} answers checked")
