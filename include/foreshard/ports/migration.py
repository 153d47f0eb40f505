"""What a move needs of the world: its journal, and the copies of its key on the source and on the target.

A document travels as the bytes of its BSON, so that a copy is exact; its id as the bytes of ``{"_id": …}``, which are hashable
whatever the id's type. A ``Position`` is a place in a partition's change stream, opaque outside its store.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from enum import StrEnum
from typing import Any, Protocol

from foreshard.errors import ForeshardError
from foreshard.model import Move
from foreshard.model.move_state import MoveState

DocumentId = bytes
Position = Mapping[str, Any]
Shape = Mapping[str, Mapping[str, Any]]
"""Namespace → its collection's options and indexes; a collection that does not exist has no entry."""


@dataclass(frozen=True, slots=True)
class HistoryEntry:
    """One transition: the state it led to, what caused it, when, and under which lease."""

    state: MoveState
    event: str
    at: datetime
    lease: int


@dataclass(frozen=True, slots=True)
class MoveRecord:
    """A move's journal entry.

    ``position`` is how far the source's changes are applied; ``opened_from`` a position on the target before its first
    app write; ``notes`` hold what a resumed mover must know; ``counters`` what people want to know (documents, bytes, …).
    """

    move: Move
    state: MoveState
    hour: datetime | None = None
    lease: int = 0
    lease_until: datetime | None = None
    stop_requested: bool = False
    position: Position | None = None
    opened_from: Position | None = None
    version: int | None = None
    error: str | None = None
    counters: Mapping[str, float] = field(default_factory=dict)
    notes: Mapping[str, Any] = field(default_factory=dict)
    history: tuple[HistoryEntry, ...] = ()

    @property
    def move_id(self) -> str:
        """The move's id."""
        return self.move.move_id

    def entered(self, state: MoveState) -> datetime | None:
        """When the move last entered ``state``."""
        return next((entry.at for entry in reversed(self.history) if entry.state == state), None)


class MoveJournal(Protocol):
    """``moves`` in the control database: one document per move; every change is a compare-and-set on (state, lease)."""

    def plan(self, move: Move, hour: datetime | None) -> MoveRecord:
        """Journal a move; return what stands there where it is known. A key with an active move gets a skipped entry."""
        ...

    def get(self, move_id: str) -> MoveRecord:
        """Return a move; raise :class:`foreshard.errors.UnknownMove`."""
        ...

    def find(self, states: Collection[MoveState] = (), hour: datetime | None = None) -> tuple[MoveRecord, ...]:
        """The moves in ``states`` (all where empty), of ``hour`` where given, oldest first."""
        ...

    def take(self, move_id: str) -> MoveRecord:
        """Take (over) a move: raise its lease number by one, forget a wish to stop."""
        ...

    def advance(
        self, record: MoveRecord, to: MoveState, event: str, changes: Mapping[str, Any] | None = None, session: Any = None
    ) -> MoveRecord:
        """Enter ``to``; raise :class:`foreshard.errors.MoveSuperseded` unless state and lease are still ``record``'s."""
        ...

    def beat(self, record: MoveRecord, changes: Mapping[str, Any]) -> MoveRecord:
        """Prolong the lease and note progress; raise :class:`foreshard.errors.MoveSuperseded` like ``advance``."""
        ...

    def pause(self, record: MoveRecord) -> MoveRecord:
        """Give the lease up at once; the move stays as it is until it is taken again."""
        ...

    def request_stop(self, move_id: str) -> MoveRecord:
        """Ask the move's mover to pause."""
        ...

    def abandoned(self, states: Collection[MoveState]) -> tuple[MoveRecord, ...]:
        """Moves in ``states`` whose lease has run out, by the control database's clock, and that nobody asked to stop."""
        ...


@dataclass(frozen=True, slots=True)
class RawDocument:
    """One document of the key."""

    id: DocumentId
    raw: bytes


@dataclass(frozen=True, slots=True)
class LateChange:
    """A change on the source after its fence: when (source's wall clock), and the document now (None: it is gone)."""

    at: datetime
    raw: bytes | None


class ChangeKind(StrEnum):
    """Whether a document was written or removed."""

    PUT = "put"
    REMOVE = "remove"


@dataclass(frozen=True, slots=True)
class Touch:
    """The last change of a document seen in a feed."""

    kind: ChangeKind
    at: datetime


@dataclass(frozen=True, slots=True)
class Changes:
    """What a poll of a feed brought.

    ``touched``: namespace → id → last change (documents of other keys may be among them); ``unfenced``: namespaces whose
    validator was changed without our key in it; ``broken``: what happened to a collection as a whole (drop, rename);
    ``at_end``: nothing more was there; ``lag``: age of the last change read (zero at the end).
    """

    touched: Mapping[str, Mapping[DocumentId, Touch]]
    unfenced: frozenset[str]
    broken: str | None
    at_end: bool
    lag: timedelta


class MoveFeed(Protocol):
    """The changes of the sharded collections on one partition, in the order of its oplog, without the move's own deletes."""

    @property
    def position(self) -> Position:
        """Resuming here repeats some changes at most; none is skipped."""
        ...

    @property
    def fences_seen(self) -> Mapping[str, int]:
        """Namespace → revision of the fence with our key in it that was read last (absent again once it was lifted)."""
        ...

    @property
    def mark_seen(self) -> int:
        """The highest of the move's own marks on this partition that was read."""
        ...

    def poll(self, limit: int, *, until_fences: Mapping[str, int] | None = None, until_mark: int | None = None) -> Changes:
        """Read up to ``limit`` changes, until the end or until the fences or the mark are seen; raise ``HistoryLost``."""
        ...

    def close(self) -> None: ...


class UniqueConflict(ForeshardError):
    """Documents of the same key stand in the way by a unique index; bring ``ids`` up to date together with the others."""

    def __init__(self, namespace: str, ids: frozenset[DocumentId]) -> None:
        super().__init__(f"{namespace}: {len(ids)} documents of the key stand in the way by a unique index; sync them as well")
        self.namespace, self.ids = namespace, ids


class KeyCopy(Protocol):
    """One key's documents on one partition, in every sharded collection, as one mover sees and writes them.

    Reads follow what the feed has shown (majority, causally consistent). Every write is a transaction that bumps the move's
    lease document *on this partition*, and raises :class:`foreshard.errors.MoveSuperseded` where the lease is another's.
    """

    @property
    def partition_id(self) -> str: ...

    @property
    def namespaces(self) -> tuple[str, ...]: ...

    def claim(self, lease: int) -> None:
        """Write the lease number down on this partition; raise ``MoveSuperseded`` where a higher one stands."""
        ...

    def shape(self) -> Shape:
        """Options and indexes of the collections; raise ``MoveRefused`` for what cannot be moved (views, capped, …)."""
        ...

    def prepare(self, shape: Shape) -> None:
        """Have every collection, with the shape's options and indexes where it is new, and an index on the key field."""
        ...

    def now(self) -> Position: ...

    def feed(self, position: Position) -> MoveFeed: ...

    def count(self) -> Mapping[str, int]:
        """Namespace → documents of the key."""
        ...

    def scan(self, namespace: str) -> Iterator[tuple[RawDocument, ...]]:
        """Every document of the key, in batches bounded by number and bytes."""
        ...

    def fetch(self, namespace: str, ids: Collection[DocumentId]) -> dict[DocumentId, bytes]:
        """Those of ``ids`` that are there and carry the key."""
        ...

    def strayed(self, namespace: str, ids: Collection[DocumentId]) -> frozenset[DocumentId]:
        """Those of ``ids`` that are there but carry another key."""
        ...

    def write(self, namespace: str, remove: Collection[DocumentId], put: Sequence[RawDocument]) -> None:
        """Remove, then insert, in one transaction past the validator; raise ``UniqueConflict`` or ``MoveRefused``."""
        ...

    def remove_unchanged(self, namespace: str, documents: Sequence[RawDocument]) -> int:
        """Remove those that are still exactly so; return how many."""
        ...

    def forward(self, namespace: str, changes: Mapping[DocumentId, LateChange], since: Position) -> frozenset[DocumentId]:
        """Apply late changes unless the document was written here later, since ``since``; return the ids kept as they are."""
        ...

    def mark(self) -> int:
        """Leave a mark in this partition's change stream and return its number."""
        ...

    def fence(self) -> Mapping[str, int]:
        """Fence the key in every collection; return namespace → revision, to drain to."""
        ...

    def unfence(self) -> None: ...

    def is_fenced(self) -> bool:
        """Whether every collection refuses writes for the key now."""
        ...

    def close(self) -> None: ...


class ShadowAbsorber(Protocol):
    """What a move does about a shadow of its key on its own target."""

    def absorb(self, key: str, partition_id: str) -> None:
        """Retire a shadow of ``key`` there, if there is one, so that nobody commits a change to it any more."""
        ...


class Fence(Protocol):
    """The fence of one sharded collection on one partition."""

    def fenced(self) -> frozenset[str]:
        """The keys whose writes the server refuses now."""
        ...

    def listed(self) -> frozenset[str]:
        """The keys whose writes it should refuse."""
        ...

    def repair(self) -> object:
        """Impose what is listed."""
        ...
