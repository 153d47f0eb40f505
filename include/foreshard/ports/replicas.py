"""Partitions as sources and targets of shadows, and the conflicts that are kept."""

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
    """The recorded state of a document on a replica. ``key`` is None after a delete that came before anything else."""

    key: str | None
    replica: Replica


@dataclass(frozen=True, slots=True)
class ReplicaWrite:
    """A state to record on a replica. ``shown_changed``: the document itself is written (or deleted) too."""

    namespace: str
    document_id: Any
    identity: bytes
    key: str | None
    replica: Replica
    shown_changed: bool


ReconcileDocuments = Callable[[Mapping[bytes, Standing], Callable[[bytes], bytes | None]], Sequence[ReplicaWrite]]
"""(state per identity, function that reads the shown document of an identity) → writes. Called again for each attempt."""


class GuardsMoved(Exception):
    """A replica's guard is at another lease than the writer's. Nothing was written."""

    def __init__(self, keys: frozenset[str]) -> None:
        super().__init__(", ".join(sorted(keys)))
        self.keys = keys


class ReplicaStore(Protocol):
    """One partition as the target of shadows: documents, their versions (``foreshard_versions``) and guards."""

    def prepare(self, key: str, lease: int) -> bool:
        """Fence ``key`` against apps and open its guards for ``lease``. Return False if they are closed or at a later lease."""

    def revoke(self, key: str, lease: int) -> None:
        """Close the guards. After this returns, no writer of ``lease`` or an earlier one can commit anything for ``key``."""

    def write(
        self, role: str, leases: Mapping[str, int], identities: Sequence[tuple[str, Any, bytes]], decide: ReconcileDocuments
    ) -> int:
        """Decide and write in one transaction, if the guards are at ``leases`` (key → lease). Return the number of documents.

        ``role`` is ``apply`` or ``copy``; each has its own guard. ``identities`` are (namespace, id, identity). Raise
        :class:`GuardsMoved`.
        """

    def erase(self, key: str, lease: int) -> int:
        """Close the guards, then delete the documents of ``key`` and their records. Return the number of documents.

        Raise :class:`GuardsMoved` if somebody opens or closes the guards meanwhile.
        """

    def take_over(self) -> int:
        """End the open transactions of other writers (a live writer repeats its own). Return the number of sessions."""

    def purge_tombstones(self, before: datetime) -> int:
        """Remove tombstones applied before ``before``. Return their number."""


class DocumentReader(Protocol):
    """One partition's documents, as exact BSON."""

    def cluster_time(self) -> tuple[int, int]:
        """Return (seconds, increment). Every write acknowledged before the call is at or before it."""

    def tick(self) -> tuple[int, int]:
        """Return a cluster time after every write acknowledged before the call, and before every write after it."""

    def scan(self, collection: ShardedCollection, key: str, batch: int) -> Iterator[dict[bytes, tuple[Any, bytes]]]:
        """Yield the documents of ``key`` in batches: identity → (id, BSON)."""

    def fetch(self, collection: ShardedCollection, key: str, ids: Sequence[Any]) -> dict[bytes, tuple[Any, bytes]]:
        """Return the documents among ``ids`` that carry ``key``."""

    def present(self, collection: ShardedCollection, key: str, ids: Sequence[Any]) -> frozenset[bytes]:
        """Return the identities of the documents among ``ids`` that carry ``key``."""

    def indexes(self, collection: ShardedCollection) -> list[dict[str, Any]]: ...

    def copy_indexes_from(self, other: DocumentReader, collection: ShardedCollection) -> None:
        """Create the indexes that ``other`` has and this partition lacks. Skip an index that conflicts with one here."""


class PrimaryStore(Protocol):
    """One partition as the primary of a document whose conflict is being resolved."""

    def document(self, collection: ShardedCollection, document_id: Any) -> bytes | None:
        """Return the current document."""

    def write_resolution(
        self, collection: ShardedCollection, key: str, document_id: Any, body: bytes | None, seen: Version
    ) -> tuple[int, int]:
        """Write ``body`` (None: delete) and record the version vector that it covers, in one transaction.

        Return its cluster time. Raise :class:`foreshard.errors.ReplicaRefused` if the key's primary copy is elsewhere.
        """


@dataclass(frozen=True, slots=True)
class Conflict:
    """A concurrent version that is not shown (``conflicts``). It is kept until a merge function or a person resolves it."""

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
        """Save a conflict. Saving it again, or from another replica, changes nothing."""

    def open(self, limit: int = 100) -> tuple[Conflict, ...]: ...

    def get(self, conflict_id: str) -> Conflict:
        """Return a conflict. Raise :class:`foreshard.errors.UnknownConflict`."""

    def of_document(self, namespace: str, document_id: Any) -> tuple[Conflict, ...]: ...

    def resolve(self, conflict_ids: Sequence[str], resolution: str) -> None: ...
