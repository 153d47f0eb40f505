"""Makes a replica equal to its source by comparison: for the first copy, after a gap or a move, and for repair.

The source is read after the cluster time of ``floor``, so the documents contain every change up to the floor. Later changes
come through the topic with later versions. Different documents are written with the floor's version, so a change applied
meanwhile is newer and wins. Documents that the source lacks become tombstones of that version. Written documents are looked up
at the source once more, because a change of a document's key leaves no trace where the document does not exist yet.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from foreshard.consistency.versions import Version, version_of_write
from foreshard.model import ConflictPolicy, ShardedCollection
from foreshard.ports.replicas import ConflictStore, DocumentReader, ReplicaStore
from foreshard.ports.replication import ReplicationRecord, Shadow
from foreshard.shadow._apply import Decider

DocumentsById = Mapping[bytes, tuple[Any, bytes | None]]
"""Identity → (id, BSON or None)."""


@dataclass
class Compared:
    """The numbers of documents that a comparison read, copied and removed."""

    documents: int = 0
    copied: int = 0
    removed: int = 0


@dataclass(frozen=True)
class Differences:
    """Namespace → documents that differ, are missing, or are extra on the shadow, with their state at the source."""

    by_namespace: Mapping[str, DocumentsById]

    def __len__(self) -> int:
        return sum(len(ids) for ids in self.by_namespace.values())


class Copier:
    """Compares one shadow with its source, ``batch`` documents at a time. It asks ``proceed`` before each batch."""

    def __init__(
        self,
        shadow: Shadow,
        source: DocumentReader,
        target: DocumentReader,
        replica: ReplicaStore,
        collections: Sequence[ShardedCollection],
        conflicts: ConflictStore,
        batch: int = 500,
    ) -> None:
        self._shadow, self._source, self._target, self._replica = shadow, source, target, replica
        self._collections, self._conflicts, self._batch = collections, conflicts, batch
        self._policies: dict[str, ConflictPolicy] = {c.namespace: c.policy for c in collections}

    def copy(self, floor: Version, proceed: Callable[[], bool]) -> Compared | None:
        """Make the replica equal. Return None if ``proceed`` said no. Extra documents are removed first (unique indexes)."""
        compared = Compared()
        for collection in self._collections:
            self._target.copy_indexes_from(self._source, collection)
            for extra in self._extra(collection):
                if not proceed():
                    return None
                compared.removed += self._write(collection, floor, extra)
            for read, different in self._different(collection):
                if not proceed():
                    return None
                compared.documents += read
                compared.copied += self._write(collection, floor, different)
        return compared

    def differences(self) -> Differences:
        """Return the current differences. Changes that are not applied yet count too."""
        found: dict[str, DocumentsById] = {}
        for collection in self._collections:
            ids: dict[bytes, tuple[Any, bytes | None]] = {}
            for extra in self._extra(collection):
                ids |= extra
            for _, different in self._different(collection):
                ids |= different
            found[collection.namespace] = ids
        return Differences(found)

    def _extra(self, collection: ShardedCollection) -> Iterator[DocumentsById]:
        """Yield, batch by batch, the documents of the shadow that the source lacks."""
        for here in self._target.scan(collection, self._shadow.key, self._batch):
            there = self._source.fetch(collection, self._shadow.key, [i for i, _ in here.values()])
            yield {identity: (i, None) for identity, (i, _) in here.items() if identity not in there}

    def _different(self, collection: ShardedCollection) -> Iterator[tuple[int, DocumentsById]]:
        """Yield per batch: the number of documents read, and the documents that the shadow lacks or has in another form."""
        for there in self._source.scan(collection, self._shadow.key, self._batch):
            here = self._target.fetch(collection, self._shadow.key, [i for i, _ in there.values()])
            yield len(there), {i: (d, b) for i, (d, b) in there.items() if i not in here or here[i][1] != b}

    def sort_out(self, among: Differences) -> tuple[Differences, Differences]:
        """Split differences found before the shadow caught up: (lasting ones, ones whose source has changed since)."""
        lasting: dict[str, dict[bytes, tuple[Any, bytes | None]]] = {}
        moving: dict[str, dict[bytes, tuple[Any, bytes | None]]] = {}
        for collection, documents in self._again(among):
            before = among.by_namespace[collection.namespace]
            for identity, (document_id, body) in documents.items():
                kind = lasting if body == before[identity][1] else moving
                kind.setdefault(collection.namespace, {})[identity] = (document_id, body)
        return Differences(lasting), Differences(moving)

    def repair(self, floor: Version, among: Differences) -> int:
        """Write the source's documents over those of ``among`` that still differ. Return their number."""
        return sum(self._write(collection, floor, documents) for collection, documents in self._again(among))

    def _again(self, among: Differences) -> Iterator[tuple[ShardedCollection, DocumentsById]]:
        """Yield the documents of ``among`` that still differ, in batches, with their state at the source (None: absent)."""
        for collection in self._collections:
            wanted = list(among.by_namespace.get(collection.namespace, {}).items())
            for start in range(0, len(wanted), self._batch):
                some = {identity: document_id for identity, (document_id, _) in wanted[start : start + self._batch]}
                here = self._target.fetch(collection, self._shadow.key, list(some.values()))
                there = self._source.fetch(collection, self._shadow.key, list(some.values()))
                yield collection, {i: there.get(i, (d, None)) for i, d in some.items() if _body(there, i) != _body(here, i)}

    def _write(self, collection: ShardedCollection, floor: Version, documents: DocumentsById) -> int:
        """Write, then remove documents that have left the key since they were read. Return the number of documents written."""
        if not documents:
            return 0
        written = self._put(collection, floor, documents)
        bodies: DocumentsById = {identity: (i, None) for identity, (i, body) in documents.items() if body is not None}
        if self._left(collection, bodies):
            shadow = self._shadow
            now = version_of_write(shadow.source, shadow.epoch, *self._source.tick())
            self._put(collection, now, self._left(collection, bodies))
        return written

    def _left(self, collection: ShardedCollection, documents: DocumentsById) -> DocumentsById:
        """Return the documents that are not at the source under this key.

        A document may have changed its key between the read and the write. If that change was applied when the replica had no
        such document, it left no tombstone.
        """
        if not documents:
            return {}
        present = self._source.present(collection, self._shadow.key, [i for i, _ in documents.values()])
        return {identity: document for identity, document in documents.items() if identity not in present}

    def _put(self, collection: ShardedCollection, version: Version, documents: DocumentsById) -> int:
        if not documents:
            return 0
        shadow, namespace = self._shadow, collection.namespace
        records = [
            ReplicationRecord(namespace, document_id, identity, shadow.key, shadow.source, version, body)
            for identity, (document_id, body) in documents.items()
        ]
        decider = Decider(records, {shadow.key: shadow}, self._policies, self._conflicts, heed_floors=False)
        identities = [(namespace, document_id, identity) for identity, (document_id, _) in documents.items()]
        return self._replica.write("copy", {shadow.key: shadow.lease}, identities, decider)


def _body(documents: DocumentsById, identity: bytes) -> bytes | None:
    return documents[identity][1] if identity in documents else None
