"""Reconciles a replicated version with the versions that a replica has. Pure; replicas converge in any order of delivery.

``last_write_wins``: the version with the highest stamp (epoch, hybrid time, origin) wins. A losing version that was concurrent
with it is kept as a conflict; an obsolete one is discarded.

``vector_clock``: all versions that no other version covers are kept as siblings, until a merge function or a person writes a
version that covers them. Meanwhile the sibling with the highest stamp is shown.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

from foreshard.consistency.vectors import Order
from foreshard.consistency.versions import Version
from foreshard.model import ConflictPolicy

UNREAD = b""
"""The body of a shown version that was not read from its collection. (No BSON document is empty.)"""


@dataclass(frozen=True, slots=True)
class VersionedDocument:
    """One version of a document. ``body`` is its BSON, None for a tombstone (a recorded delete)."""

    version: Version
    body: bytes | None

    @property
    def deleted(self) -> bool:
        """Whether this version is a delete."""
        return self.body is None


@dataclass(frozen=True, slots=True)
class Replica:
    """One partition's versions of a document: the one that is shown, and concurrent siblings ordered by stamp."""

    shown: VersionedDocument
    siblings: tuple[VersionedDocument, ...] = ()

    @property
    def copies(self) -> tuple[VersionedDocument, ...]:
        """The shown version, then the siblings."""
        return (self.shown, *self.siblings)


class Action(StrEnum):
    """The result for the incoming version."""

    APPLY = "apply"
    DISCARD = "discard"
    KEEP = "keep"


@dataclass(frozen=True, slots=True)
class Reconciliation:
    """The result for the incoming version, the new replica, and the concurrent versions that are not shown (conflicts)."""

    action: Action
    replica: Replica
    conflicts: tuple[VersionedDocument, ...] = ()


def reconcile(policy: ConflictPolicy, existing: Replica | None, incoming: VersionedDocument) -> Reconciliation:
    """Reconcile ``incoming``. Delivering it again, or after its successors, changes nothing."""
    if existing is None:
        return Reconciliation(Action.APPLY, Replica(incoming))
    if policy is ConflictPolicy.LAST_WRITE_WINS:
        return _last_write_wins(existing.shown, incoming)
    return _vector_clock(existing, incoming)


def join(policy: ConflictPolicy, one: Replica, other: Replica) -> Replica:
    """Merge two replicas; associative, commutative and idempotent."""
    if policy is ConflictPolicy.LAST_WRITE_WINS:
        return Replica(max(one.shown, other.shown, key=_stamp))
    return _replica(_uncovered((*one.copies, *other.copies)))


def _last_write_wins(current: VersionedDocument, incoming: VersionedDocument) -> Reconciliation:
    wins = incoming.version.stamp > current.version.stamp
    winner, loser = (incoming, current) if wins else (current, incoming)
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
    """Return the versions that no other covers; of versions with the same vector, the one with the highest stamp."""
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
