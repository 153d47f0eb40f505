"""The points at which processes are killed or paused, and what goes on around them."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import count

from tests.move_proofs.crowd import Crowd
from tests.move_proofs.deployment import Proof
from tests.move_proofs.effects import Halt

CLIENTS = 8
STRIDE = int(os.environ.get("FORESHARD_CRASH_STRIDE", "23"))
"""Every n-th point is tried. 1 (`make nightly`): all of them."""
MOST_POINTS = 400


@dataclass
class Settled:
    """Called between two cases: the clients rest, and all must be settled."""

    proof: Proof
    crowd: Crowd

    def __call__(self) -> None:
        with self.crowd.rest():
            self.proof.check_settled()


@contextmanager
def clients_at_work(proof: Proof) -> Iterator[Settled]:
    """Clients that go on until the end. The result checks that all is settled."""
    proof.fill(30)
    proof.move()
    proof.move()
    crowd = proof.crowd(CLIENTS)

    try:
        yield Settled(proof, crowd)
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
    assert proof.child("run", move_id, Halt(1, among="findAndModify routing_state")).how == "killed"
    assert proof.state(move_id) not in ("switched", "copying", "catching_up")
    return move_id
