"""What becomes of a replicated version where it meets what a replica holds. Pure; replicas converge in any order.

``last_write_wins``: the highest stamp (epoch, hybrid time, origin) stands; a loser that was *concurrent* with it is kept
as a conflict, an obsolete one is discarded. ``vector_clock``: all versions that no other covers stand as siblings until a merge
function or a person writes one that covers them; the one with the highest stamp is shown meanwhile.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

from foreshard.consistency.vectors import Order
from foreshard.consistency.versions import Version
from foreshard.model import ConflictPolicy

UNREAD = b""
"""The body of a shown copy that stands in its collection and was not read (no BSON document is empty)."""


@dataclass(frozen=True, slots=True)
class VersionedDocument:
    """One version of a document; ``body`` is its BSON, None for a tombstone (a delete that must not be forgotten)."""

    version: Version
    body: bytes | None

    @property
    def deleted(self) -> bool:
        """Whether this version is a delete."""
        return self.body is None


@dataclass(frozen=True, slots=True)
class Replica:
    """What one partition holds of a document: the copy that is shown, and concurrent siblings in the order of their stamps."""

    shown: VersionedDocument
    siblings: tuple[VersionedDocument, ...] = ()

    @property
    def copies(self) -> tuple[VersionedDocument, ...]:
        """The shown copy first, then the siblings."""
        return (self.shown, *self.siblings)


class Action(StrEnum):
    """What happened to the incoming version."""

    APPLY = "apply"
    DISCARD = "discard"
    KEEP = "keep"


@dataclass(frozen=True, slots=True)
class Reconciliation:
    """The replica afterwards, what became of the incoming copy, and the concurrent copies that are not shown (conflicts)."""

    action: Action
    replica: Replica
    conflicts: tuple[VersionedDocument, ...] = ()


def reconcile(policy: ConflictPolicy, existing: Replica | None, incoming: VersionedDocument) -> Reconciliation:
    """Decide on ``incoming``; repeating it, or giving it later than its successors, changes nothing."""
    if existing is None:
        return Reconciliation(Action.APPLY, Replica(incoming))
    if policy is ConflictPolicy.LAST_WRITE_WINS:
        return _last_write_wins(existing.shown, incoming)
    return _vector_clock(existing, incoming)


def join(policy: ConflictPolicy, one: Replica, other: Replica) -> Replica:
    """The replica that has received all that either has: associative, commutative and idempotent."""
    if policy is ConflictPolicy.LAST_WRITE_WINS:
        return Replica(max(one.shown, other.shown, key=_stamp))
    return _replica(_uncovered((*one.copies, *other.copies)))


def _last_write_wins(standing: VersionedDocument, incoming: VersionedDocument) -> Reconciliation:
    wins = incoming.version.stamp > standing.version.stamp
    winner, loser = (incoming, standing) if wins else (standing, incoming)
    concurrent = winner.version.compare(loser.version) is Order.CONCURRENT
    action = Action.APPLY if wins else Action.KEEP if concurrent else Action.DISCARD
    return Reconciliation(action, Replica(winner), (loser,) if concurrent else ())


def _vector_clock(existing: Replica, incoming: VersionedDocument) -> Reconciliation:
    if any(copy.version.covers(incoming.version) for copy in existing.copies):
        return Reconciliation(Action.DISCARD, existing)
    replica = _replica(_uncovered((*existing.copies, incoming)))
    action = Action.APPLY if replica.shown is incoming else Action.KEEP
    return Reconciliation(action, replica, replica.siblings)


def _uncovered(copies: tuple[VersionedDocument, ...]) -> tuple[VersionedDocument, ...]:
    """The copies that no other covers; of copies with the same vector, the one with the highest stamp."""
    highest: dict[object, VersionedDocument] = {}
    for copy in copies:
        key = (copy.version.epoch, copy.version.vector)
        if key not in highest or _stamp(copy) > _stamp(highest[key]):
            highest[key] = copy
    return tuple(
        copy
        for copy in highest.values()
        if not any(copy.version.compare(other.version) is Order.BEFORE for other in highest.values())
    )


def _replica(copies: tuple[VersionedDocument, ...]) -> Replica:
    shown, *siblings = sorted(copies, key=_stamp, reverse=True)
    return Replica(shown, tuple(siblings))


def _stamp(copy: VersionedDocument) -> tuple[object, ...]:
    return (*copy.version.stamp, copy.body is not None, copy.body or b"")
