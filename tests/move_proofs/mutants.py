"""Moves without one of their safeguards. It removes the one that FORESHARD_MUTANT names."""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import Any


def no_fence() -> None:
    """The source takes writes during the cutover and after it."""
    from foreshard.stores.partition.unit_copy import MongoUnitCopy

    MongoUnitCopy.fence = lambda self: {}  # type: ignore[method-assign]
    MongoUnitCopy.is_fenced = lambda self: True  # type: ignore[method-assign]


def no_drain() -> None:
    """What was written just before the fence is not read."""
    from foreshard.move import _cutover

    _cutover._fence_and_drain = lambda session, deadline: session.context.source.fence()


def no_verification() -> None:
    """The copies are not compared behind the fence."""
    from foreshard.move import _cutover

    _cutover._verify = lambda session: None


def no_state_check() -> None:
    """A move that has ended can be taken."""
    from foreshard.model.move_state import MoveState
    from foreshard.stores.control.move_journal import MongoMoveJournal

    take = MongoMoveJournal.take

    def take_any(self: Any, move_id: str, states: Any = (), *, silent: bool = False) -> Any:
        return take(self, move_id, tuple(MoveState), silent=silent)

    MongoMoveJournal.take = take_any  # type: ignore[method-assign]


def no_lease() -> None:
    """A superseded mover's transactions commit."""
    from foreshard.stores.partition._move_lease import MoveLease

    def bump(self: Any, session: Any) -> int:
        found = self._leases.find_one_and_update({"_id": self.move_id}, {"$inc": {"batches": 1}}, session=session)
        return int(found["batches"]) + 1

    MoveLease.bump = bump  # type: ignore[method-assign]


def no_fence_check() -> None:
    """Documents are removed from a partition whose fence does not refuse the units."""
    from foreshard.stores.partition.unit_copy import MongoUnitCopy

    MongoUnitCopy._require_fence = lambda self, namespace, session: None  # type: ignore[method-assign]


def no_owner_check() -> None:
    """A cleaner does not ask who owns the units."""
    from foreshard.move._owners import Owners

    Owners.on = lambda self, partition_id: ()  # type: ignore[method-assign]


def no_late_deletes() -> None:
    """Deletes that the source acknowledges between the last read and the switch are forwarded after the opening."""
    from foreshard.move import _cutover

    _cutover._apply_acknowledged_deletes = lambda session: None


MUTANTS: dict[str, Callable[[], None]] = {
    made.__name__: made
    for made in (
        no_fence, no_drain, no_verification, no_state_check, no_lease, no_fence_check, no_owner_check, no_late_deletes,
    )
}  # fmt: skip

if name := os.environ.get("FORESHARD_MUTANT"):
    MUTANTS[name]()
