"""A process is paused before one of its effects. It wakes after its successor has finished, and must change nothing."""

from __future__ import annotations

import pytest
from tests.move_proofs.deployment import Proof
from tests.move_proofs.effects import Halt
from tests.move_proofs.points import MOST_POINTS, Settled, clients_at_work, points, switched, verified

from foreshard.stages import migrate

ZOMBIES = {
    "a mover, and the move is resumed": (Proof.plan, "run", False),
    "a mover, and the keys are moved back too": (Proof.plan, "run", True),
    "a cleaner, and the cleaning is resumed": (switched, "clean", False),
    "a cleaner, and the keys are moved back too": (switched, "clean", True),
    "a revert, and the move is reverted": (verified, "revert", False),
    "an undo, and what it began is finished": (switched, "undo", False),
    "a watchdog over a dead mover": (verified, "tend", True),
    "a watchdog that cleans": (switched, "tend", True),
}


@pytest.mark.parametrize("row", range(len(ZOMBIES)), ids=[name.replace(" ", "_") for name in ZOMBIES])
def test_paused_before_any_effect(proof: Proof, row: int) -> None:
    """The row's number shifts the sample, so that different points are tried."""
    begin, victim, moved_back = list(ZOMBIES.values())[row]
    if victim == "tend" and not hasattr(migrate, "tend_moves"):
        pytest.skip("there is no such operation yet")
    stopped = 0
    with clients_at_work(proof) as settled:
        for point in points(row):
            assert point < MOST_POINTS, f"{victim} does not end"
            move_id = begin(proof)
            pid = proof.start(victim, move_id, Halt(point, "SIGSTOP"))
            ended = proof.nursery.wait(pid)
            if ended.how == "exited":
                proof.child("finish", move_id)
                break
            stopped += 1
            where = f"{victim} paused before effect {point}: {ended.effects[-1]}"
            finished = proof.child("finish", move_id)
            assert finished.code == 0, f"{where}; then finish: {finished.output}"
            if moved_back:
                proof.move()
            try:
                settled()
            except AssertionError as error:
                raise AssertionError(f"{where}; then finish: {error}") from error
            wake(proof, settled, pid, where)
    print(f"{victim}: paused at {stopped} points; {proof.checked} answers checked")


def wake(proof: Proof, settled: Settled, pid: int, where: str) -> None:
    """Let the zombie go on while the clients rest, and compare what was there before and after.

    An undo that wakes moves the keys back if they are still where the undone move has brought them: as it was asked to.
    """
    with settled.crowd.rest():
        before = proof.snapshot()
        ended = proof.wake(pid)
        if where.startswith("undo"):
            proof.child("finish", "")
        else:
            after = proof.snapshot()
            changed = [part for part in before if before[part] != after[part]]
            assert not changed, f"{where}; when it woke, it changed {changed}"
        told = [line for line in ended.output.splitlines() if line.startswith("foreshard.errors")]
        assert ended.code == 0 or told, f"{where}; when it woke: {ended.output}"
        proof.check_settled()


def test_a_delete_that_is_acknowledged_just_before_the_switch_is_done_when_the_target_opens(proof: Proof) -> None:
    """The mover is paused before it commits the switch, so the source still owns the key."""
    proof.fill(20)
    proof.move()
    mover = proof.start("run", proof.plan(), Halt(1, "SIGSTOP", among="_switch: commitTransaction"))
    assert proof.nursery.wait(mover).how == "stopped"
    proof.trips(proof.owner(proof.keys[0])).delete_one({"_id": f"{proof.keys[0]}:7"})  # a plain client's
    assert proof.wake(mover).code == 0
    assert f"{proof.keys[0]}:7" not in proof.copies(proof.owner(proof.keys[0]))


def test_a_second_cleaner_that_wakes_after_the_keys_have_come_back_removes_nothing(proof: Proof) -> None:
    """It is paused between reading the journal and taking the lease."""
    proof.fill(100)
    move_id = switched(proof)
    late = proof.start("clean", move_id, Halt(1, "SIGSTOP"))
    assert proof.nursery.wait(late).how == "stopped"
    assert proof.child("clean", move_id).code == 0
    proof.move()
    assert proof.owner(proof.keys[0]) == "alpha"
    proof.wake(late)
    assert len(proof.copies("alpha")) == 100
    assert proof.accepts("alpha") == list(proof.keys)
    proof.check_settled()
