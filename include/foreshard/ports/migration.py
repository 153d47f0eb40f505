"""The port of a move's documents: its units on the source and on the target.

A document is passed as its BSON bytes, so copies are exact. Its id is passed as the BSON of ``{"_id": …}``, which is hashable
for every type of id. A ``Position`` is a place in a partition's change stream; only its store can read it.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, MutableSequence, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import StrEnum
from typing import Any, Protocol

from foreshard.errors import ForeshardError
from foreshard.model.unit_set import UnitSet

DocumentId = bytes
Position = Mapping[str, Any]
Shape = Mapping[str, Mapping[str, Any]]
"""Namespace → its collection's options and indexes. A collection that does not exist has no entry."""


@dataclass(frozen=True, slots=True)
class RawDocument:
    """One document of a move's units."""

    id: DocumentId
    raw: bytes


@dataclass(frozen=True, slots=True)
class LateChange:
    """A change on the source after its fence: the source's wall clock, and the document now (None: removed)."""

    at: datetime
    raw: bytes | None


class ChangeKind(StrEnum):
    """Whether a document was written or removed."""

    PUT = "put"
    REMOVE = "remove"


@dataclass(frozen=True, slots=True)
class Touch:
    """The last change of a document in a feed."""

    kind: ChangeKind
    at: datetime


@dataclass(frozen=True, slots=True)
class Changes:
    """The result of polling a feed.

    ``touched``: namespace → id → last change; documents of other units may be among them. ``unfenced``: namespaces whose
    validator was changed: it is not a fence, or an older one. ``broken``: a collection was dropped or renamed. ``at_end``: no
    more changes were waiting. ``lag``: the age of the last change read (zero at the end).
    """

    touched: Mapping[str, Mapping[DocumentId, Touch]]
    unfenced: frozenset[str]
    broken: str | None
    at_end: bool
    lag: timedelta


class MoveFeed(Protocol):
    """The changes of the sharded collections on one partition, in oplog order, without the move's own deletes."""

    @property
    def position(self) -> Position:
        """Where to resume. Resuming repeats some changes and skips none."""

    @property
    def fences_seen(self) -> Mapping[str, int]:
        """Namespace → revision of the last fence read. Removed when the fence is lifted."""

    @property
    def mark_seen(self) -> int:
        """The highest mark of the move read on this partition."""

    def poll(self, limit: int, *, until_fences: Mapping[str, int] | None = None, until_mark: int | None = None) -> Changes:
        """Read at most ``limit`` changes. Stop early at the end, the fences, or the mark. Raise ``HistoryLost``."""

    def close(self) -> None: ...


class UniqueConflict(ForeshardError):
    """A unique index conflicts with documents of the same units. Synchronise ``ids`` together with the others."""

    def __init__(self, namespace: str, ids: frozenset[DocumentId]) -> None:
        super().__init__(f"{namespace}: {len(ids)} documents of its units block it by a unique index; sync them as well")
        self.namespace, self.ids = namespace, ids


class UnitCopy(Protocol):
    """A move's units on one partition: their documents in every sharded collection, for one mover.

    Reads are majority reads, causally after the feed. Every write is a transaction that bumps the move's lease document *on
    this partition*. It raises :class:`foreshard.errors.MoveSuperseded` if another mover has the lease.
    """

    @property
    def partition_id(self) -> str: ...

    @property
    def namespaces(self) -> tuple[str, ...]: ...

    def claim(self, lease: int) -> None:
        """Write the lease on this partition. Raise ``MoveSuperseded`` if there is a higher one."""

    def explain(self, error: Exception) -> ForeshardError | None:
        """Return the error for people if this partition does not answer or forbids something; else None."""

    def shape(self) -> Shape:
        """Return options and indexes. Raise ``MoveRefused`` if a collection cannot be moved (view, capped, …)."""

    def prepare(self, shape: Shape) -> None:
        """Make the collections like those of the shape, and index the key field.

        Missing collections, indexes and validators are added. Raise ``MoveRefused`` for other differences.
        """

    def now(self) -> Position: ...

    def feed(self, position: Position, *, strays: bool = False) -> MoveFeed:
        """Return the changes after a position. ``strays``: only changes by apps to standing documents."""

    def count(self, unexpired_at: datetime | None = None) -> Mapping[str, int]:
        """Return namespace → number of documents of the units; with a time, without the documents that are ``expired`` then."""

    def clock(self) -> datetime:
        """Return the time by the partition's clock."""

    def expired(self, namespace: str, documents: Mapping[DocumentId, bytes], at: datetime) -> frozenset[DocumentId]:
        """Return which of the documents a TTL index of this collection has expired, or will within a minute of ``at``.

        Each partition deletes these by itself, at a moment of its own.
        """

    def scan(self, namespace: str, skip: int = 0) -> Iterator[tuple[RawDocument, ...]]:
        """Yield every document of the units but about the first ``skip``, in batches bounded by number and bytes."""

    def digest(self, namespace: str, into: MutableSequence[int]) -> Iterator[int]:
        """Add a 128-bit hash of each document to the bucket of its id. Yield the number of documents after each batch."""

    def ids_in(self, namespace: str, buckets: Collection[int], of: int) -> Iterator[frozenset[DocumentId]]:
        """Yield the ids of the documents in some of the ``of`` buckets of ``digest``, batch by batch."""

    def fetch(self, namespace: str, ids: Collection[DocumentId]) -> dict[DocumentId, bytes]:
        """Return the documents among ``ids`` that belong to the units."""

    def strayed(self, namespace: str, ids: Collection[DocumentId]) -> frozenset[DocumentId]:
        """Return the ids among ``ids`` whose documents belong to other units now."""

    def write(self, namespace: str, remove: Collection[DocumentId], put: Sequence[RawDocument]) -> None:
        """Remove, then insert, in one transaction that bypasses the validator. Raise ``UniqueConflict`` or ``MoveRefused``.

        Like ``remove_unchanged``, it is refused in its transaction unless the fence here refuses all the units.
        """

    def announce_removal(self, epochs: Mapping[str, int]) -> None:
        """Tell readers that the units' documents are about to be removed here. ``epochs``: unit → epoch of its owner."""

    def cursors_opened_before(self, at: datetime) -> int:
        """Return how many reads of the collections are still open that were opened before ``at``; 0 if that can't be seen."""

    def set_aside(self, namespace: str, documents: Sequence[RawDocument]) -> None:
        """Move documents to the partition's collection of strays. It is refused like ``write``."""

    def remove_unchanged(self, namespace: str, documents: Sequence[RawDocument]) -> int:
        """Remove the documents that have not changed. Return their number."""

    def forward(self, namespace: str, changes: Mapping[DocumentId, LateChange], since: Position) -> frozenset[DocumentId]:
        """Apply changes that another partition has acknowledged. Return the ids of the documents that were kept instead.

        A delete gives way to any write here after ``since``, because an old copy's expiry is a delete as well. Another change
        gives way to a later write.
        """

    def mark(self) -> int:
        """Write a mark to this partition's change stream and return its number."""

    def arm_fence(self) -> None:
        """Do all of ``fence`` that needs no app to wait: lock the fence's lists, change them, compose the validators.

        Arm the partitions of a move in the order of their ids, so that two moves cannot wait for each other.
        """

    def arm_opening(self) -> None:
        """Do all of ``unfence`` that needs no app to wait."""

    def probe(self) -> None:
        """Raise :class:`foreshard.errors.FenceTimedOut` if an open transaction would keep the fence from changing now."""

    def fence(self) -> Mapping[str, int]:
        """Fence the units in every collection. Return namespace → revision, which draining waits for."""

    def unfence(self) -> None: ...

    def settle(self) -> None:
        """End what was armed: release the locks, and restore the lists of changes that were not made."""

    def is_fenced(self) -> bool:
        """Return whether every collection refuses writes for all units now."""

    def close(self) -> None: ...


class ShadowAbsorber(Protocol):
    """Retires the shadow that a move replaces on its target."""

    def absorb(self, units: UnitSet, partition_id: str) -> None:
        """Retire the units' shadows on the partition. Replication commits nothing there afterwards."""


class Fence(Protocol):
    """The fence of one sharded collection on one partition."""

    def is_out_of_date(self) -> bool:
        """Return whether the server refuses other writes than the fence's lists do."""

    def repair(self) -> object:
        """Impose the lists again."""
