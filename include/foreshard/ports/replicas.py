"""Partitions as sources and targets of shadow copies, and the conflicts that are kept."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Protocol

from foreshard.consistency.reconcile import Replica, VersionedDocument
from foreshard.consistency.versions import Version
from foreshard.model import ConflictPolicy, ShardedCollection


@dataclass(frozen=True, slots=True)
class Standing:
    """What a replica has on record for a document; ``key`` None: a delete that came before anything else."""

    key: str | None
    replica: Replica


@dataclass(frozen=True, slots=True)
class ReplicaWrite:
    """What a replica shall have on record; ``shown_changed``: the document itself is to be written (or deleted)."""

    namespace: str
    document_id: Any
    identity: bytes
    key: str | None
    replica: Replica
    shown_changed: bool


ReconcileDocuments = Callable[[Mapping[bytes, Standing], Callable[[bytes], bytes | None]], Sequence[ReplicaWrite]]
"""(standing per identity, body of a shown document by identity) → what to write; called anew for each attempt."""


class GuardsMoved(Exception):
    """A replica's guard is not at the round that the writer believes in; nothing was written."""

    def __init__(self, keys: frozenset[str]) -> None:
        super().__init__(", ".join(sorted(keys)))
        self.keys = keys


class ReplicaStore(Protocol):
    """One partition as the target of shadows: documents, their versions (``foreshard_versions``) and guards."""

    def prepare(self, key: str, round_: int) -> bool:
        """Fence ``key`` against apps and open its guards for ``round_``; False where they stand at a later round or closed."""
        ...

    def revoke(self, key: str, round_: int) -> None:
        """Close the guards: no writer of ``round_`` or before commits anything for ``key`` after this returns."""
        ...

    def write(
        self, role: str, rounds: Mapping[str, int], identities: Sequence[tuple[str, Any, bytes]], decide: ReconcileDocuments
    ) -> int:
        """Decide and write in one transaction, if the guards of ``rounds`` (key → round) stand; return documents written.

        ``role`` is ``apply`` or ``copy`` (each has a guard of its own); ``identities`` are (namespace, id, identity).
        Raise :class:`GuardsMoved`.
        """
        ...

    def erase(self, key: str, round_: int) -> int:
        """Close the guards, then delete the documents of ``key`` and what is on record for them; return how many documents.

        Whoever closes or opens the guards meanwhile stops it: raise :class:`GuardsMoved`.
        """
        ...

    def take_over(self) -> int:
        """End the transactions that other writers have left open (one that lives repeats its own); return how many sessions."""
        ...

    def purge_tombstones(self, before: datetime) -> int:
        """Forget deletes applied before ``before``; return how many."""
        ...


class DocumentReader(Protocol):
    """One partition's documents, as exact BSON."""

    def cluster_time(self) -> tuple[int, int]:
        """(seconds, increment): all acknowledged before the call is at or before it."""
        ...

    def tick(self) -> tuple[int, int]:
        """A cluster time that is later than any write acknowledged before the call, and earlier than any after it."""
        ...

    def scan(self, collection: ShardedCollection, key: str, batch: int) -> Iterator[dict[bytes, tuple[Any, bytes]]]:
        """The documents of ``key`` in batches: identity → (id, BSON)."""
        ...

    def fetch(self, collection: ShardedCollection, key: str, ids: Sequence[Any]) -> dict[bytes, tuple[Any, bytes]]:
        """Those of ``ids`` that exist and carry ``key``."""
        ...

    def present(self, collection: ShardedCollection, key: str, ids: Sequence[Any]) -> frozenset[bytes]:
        """The identities of those of ``ids`` that exist and carry ``key``."""
        ...

    def indexes(self, collection: ShardedCollection) -> list[dict[str, Any]]: ...

    def copy_indexes_from(self, other: DocumentReader, collection: ShardedCollection) -> None:
        """Create the indexes that ``other`` has and this partition lacks; one that cannot be had here is left out."""
        ...


class PrimaryStore(Protocol):
    """One partition as the primary of a document whose conflict is being resolved."""

    def document(self, collection: ShardedCollection, document_id: Any) -> bytes | None:
        """The document as it stands."""
        ...

    def settle(
        self, collection: ShardedCollection, key: str, document_id: Any, body: bytes | None, seen: Version
    ) -> tuple[int, int]:
        """Write ``body`` (None: delete) and note what it covers, in one transaction; return its cluster time.

        Raise :class:`foreshard.errors.ReplicaRefused` where the partition isn't the key's primary (any more).
        """
        ...


@dataclass(frozen=True, slots=True)
class Conflict:
    """A concurrent version that is not shown (``conflicts``): kept until a merge function or a person resolves it."""

    conflict_id: str
    namespace: str
    document_id: Any
    identity: bytes
    key: str
    policy: ConflictPolicy
    kept: VersionedDocument
    shown: Version
    state: str
    detected_at: datetime
    resolution: str | None = None


class ConflictStore(Protocol):
    """Conflicts in the control database."""

    def keep(
        self, namespace: str, document_id: Any, key: str, policy: ConflictPolicy, copy: VersionedDocument, shown: Version
    ) -> None:
        """Save one; saving it again, or from another replica, changes nothing."""
        ...

    def open(self, limit: int = 100) -> tuple[Conflict, ...]: ...

    def get(self, conflict_id: str) -> Conflict:
        """Raise :class:`foreshard.errors.UnknownConflict`."""
        ...

    def of_document(self, namespace: str, document_id: Any) -> tuple[Conflict, ...]: ...

    def resolve(self, conflict_ids: Sequence[str], resolution: str) -> None: ...
