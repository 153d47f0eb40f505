"""A process that moves, cleans, reverts, undoes or tends is killed before every one of its effects, and another one finishes.

The effects are counted by the process itself, so the matrix ends where a run ends unkilled. Eight clients read and write all
the while; every answer that they get must be linearizable.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from itertools import count

import pytest
from tests.move_proofs.deployment import Proof
from tests.move_proofs.effects import Halt

from foreshard.stages import migrate

CLIENTS = 8
STRIDE = int(os.environ.get("FORESHARD_CRASH_STRIDE", "13"))
"""Every n-th point is tried. 1 (`make nightly`): all of them."""
MOST_POINTS = 400


@contextmanager
def clients_at_work(proof: Proof) -> Iterator[Callable[[], None]]:
    """Clients that go on until the end. The result checks that all is settled; the clients rest meanwhile."""
    proof.fill(30)
    proof.move()
    proof.move()
    crowd = proof.crowd(CLIENTS)

    def settled() -> None:
        with crowd.rest():
            proof.check_settled()

    try:
        yield settled
    finally:
        crowd.stop()
    assert sum(client.documents.refusals for client in crowd.clients) > 0


def points(first: int) -> Iterator[int]:
    """The points to be tried."""
    return (n for n in count(1) if n % STRIDE == first % STRIDE)


def switched(proof: Proof) -> str:
    """A move that has switched."""
    move_id = proof.plan()
    assert proof.child("run", move_id).code == 0
    assert proof.state(move_id) == "switched"
    return move_id


def verified(proof: Proof) -> str:
    """A move whose mover was killed just before its switch."""
    move_id = proof.plan()
    assert proof.child("run", move_id, Halt(1, among="switch: findAndModify")).how == "killed"
    assert proof.state(move_id) in ("fenced", "verified")  # the last transitions before the switch are quick ones
    return move_id


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


@pytest.mark.parametrize("row", range(len(MATRIX)), ids=[name.replace(" ", "_") for name in MATRIX])
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
            if successor == "revert" and proof.state(move_id) in ("switched", "cleaning", "done"):
                successor_now = "finish"
            else:
                successor_now = successor
            after = proof.child(successor_now, move_id)
            assert after.code == 0, f"{where}; then {successor_now}: {after.output}"
            try:
                settled()
            except AssertionError as error:
                raise AssertionError(f"{where}; then {successor_now}: {error}") from error
            if ended.how == "exited":
                assert ended.code == 0, ended.output
                break
            killed += 1
    print(f"{victim}: killed at {killed} points of {len(ended.effects)}; {proof.checked} answers checked")
