"""Resolves a conflict: writes one document at the primary copy, with a version that covers all concurrent ones."""

from __future__ import annotations

from dataclasses import replace
from functools import reduce

from foreshard.consistency.clock import HybridTime
from foreshard.consistency.vectors import VersionVector
from foreshard.consistency.versions import Version, version_of_write
from foreshard.model import ShardedCollection
from foreshard.ports.replicas import Conflict, ConflictStore, PrimaryStore
from foreshard.ports.replication import ReplicationLog, ReplicationRecord


def covering(conflicts: tuple[Conflict, ...]) -> VersionVector:
    """Return a version vector that covers every version in ``conflicts``."""
    vectors = [vector for c in conflicts for vector in (c.kept.version.vector, c.shown.vector)]
    return reduce(VersionVector.merge, vectors, VersionVector())


def version_of_resolution(primary: str, epoch: int, time: tuple[int, int], conflicts: tuple[Conflict, ...]) -> Version:
    """Return a version at ``primary`` that covers all of ``conflicts`` and has a later stamp than any of them."""
    version = version_of_write(primary, epoch, *time, covering(conflicts))
    highest = max(t for c in conflicts for t in (c.kept.version.time, c.shown.time))
    if highest >= version.time:
        version = replace(version, time=HybridTime(highest.physical, highest.counter + 1, primary))
    return version


def resolve(
    conflicts: tuple[Conflict, ...],
    body: bytes | None,
    collection: ShardedCollection,
    primary: tuple[str, int, PrimaryStore],
    log: ReplicationLog,
    store: ConflictStore,
    resolution: str,
) -> None:
    """Resolve all open ``conflicts`` of one document with ``body`` (None: delete it). It can be repeated after an interruption.

    ``primary`` is (partition, epoch of the key, its store).
    """
    partition, epoch, documents = primary
    one = conflicts[0]
    seen = Version(epoch, HybridTime(0, 0, partition), covering(conflicts))
    time = documents.write_resolution(collection, one.key, one.document_id, body, seen)
    version = version_of_resolution(partition, epoch, time, conflicts)
    log.publish([ReplicationRecord(one.namespace, one.document_id, one.identity, one.key, partition, version, body)])
    store.resolve([conflict.conflict_id for conflict in conflicts], resolution)
