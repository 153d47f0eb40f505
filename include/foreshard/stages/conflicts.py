"""Resolve conflicts: choose one of the documents that were written concurrently, or merge them."""

from __future__ import annotations

import importlib
from collections.abc import Callable
from typing import Any, Protocol

from foreshard.errors import ConfigurationError
from foreshard.model import ShardedCollection
from foreshard.ports.replicas import Conflict
from foreshard.shadow.resolve import resolve
from foreshard.stages._ports import (
    WithCollectionSettings,
    WithConflicts,
    WithDocumentCodec,
    WithPrimaries,
    WithReplicationLog,
    WithRouting,
    WithShadows,
    WithShardedCollections,
)

Document = dict[str, Any]
Merge = Callable[[list[Document | None]], Document | None]
"""A merge function: it gets the concurrent documents, None for a delete, and returns the one to keep."""


class OwnerPorts(WithShadows, WithRouting, Protocol):
    """Reads the routing table."""


class ConflictPorts(
    OwnerPorts,
    WithConflicts,
    WithPrimaries,
    WithReplicationLog,
    WithDocumentCodec,
    WithCollectionSettings,
    WithShardedCollections,
    Protocol,
):
    """Reads conflicts, placements and primary copies. Writes primary copies, the replication log and conflicts."""


def resolve_with_shown(ports: ConflictPorts, conflict_id: str) -> None:
    """Keep the document that the primary copy shows."""
    conflict = ports.conflicts.get(conflict_id)
    _resolve(ports, conflict, _shown(ports, conflict), "shown")


def resolve_with_kept(ports: ConflictPorts, conflict_id: str) -> None:
    """Keep the version that the conflict has stored, which may be a delete."""
    conflict = ports.conflicts.get(conflict_id)
    _resolve(ports, conflict, conflict.kept.body, "kept")


def resolve_with_document(ports: ConflictPorts, conflict_id: str, document: Document) -> None:
    """Keep ``document``. Its ``_id`` is replaced by the conflict's."""
    conflict = ports.conflicts.get(conflict_id)
    merged = {"_id": conflict.document_id, **{name: value for name, value in document.items() if name != "_id"}}
    _resolve(ports, conflict, ports.document_codec.encode(merged), "merged")


def merge_conflicts(ports: ConflictPorts) -> int:
    """Resolve the open conflicts of all collections that have a merge function. Return the number of documents."""
    merges = {f"{c.database}.{c.collection}": c.merge for c in ports.collection_settings if c.merge}
    if not merges:
        return 0
    codec = ports.document_codec
    done: set[bytes] = set()
    for conflict in ports.conflicts.open(limit=1000):
        if conflict.namespace in merges and conflict.identity not in done:
            merge = load_merge(merges[conflict.namespace])
            kept = ports.conflicts.of_document(conflict.namespace, conflict.document_id)
            bodies = (_shown(ports, conflict), *(each.kept.body for each in kept))
            merged = merge([None if body is None else codec.decode(body) for body in bodies])
            body = None if merged is None else codec.encode({"_id": conflict.document_id} | merged)
            _resolve(ports, conflict, body, f"merged by {merges[conflict.namespace]}")
            done.add(conflict.identity)
    return len(done)


def load_merge(name: str) -> Merge:
    """Import the function ``module:function``. Raise :class:`ConfigurationError` if it does not exist."""
    module, _, function = name.partition(":")
    try:
        found: Merge = getattr(importlib.import_module(module), function)
    except (ImportError, AttributeError, ValueError) as error:
        raise ConfigurationError("collections.merge", f"no function {name!r}", "name an importable module:function") from error
    return found


def _shown(ports: ConflictPorts, conflict: Conflict) -> bytes | None:
    partition, _ = _primary(ports, conflict.key)
    return ports.primary(partition).document(_collection(ports, conflict), conflict.document_id)


def _resolve(ports: ConflictPorts, conflict: Conflict, body: bytes | None, resolution: str) -> None:
    conflicts = ports.conflicts.of_document(conflict.namespace, conflict.document_id) or (conflict,)
    partition, epoch = _primary(ports, conflict.key)
    primary = (partition, epoch, ports.primary(partition))
    resolve(conflicts, body, _collection(ports, conflict), primary, ports.replication_log(), ports.conflicts, resolution)


def _primary(ports: OwnerPorts, key: str) -> tuple[str, int]:
    """Return the key's primary partition and epoch."""
    placement = ports.shadows.placements([key]).get(key) or ports.routing.placement(key)
    return placement.primary, placement.epoch


def _collection(ports: WithShardedCollections, conflict: Conflict) -> ShardedCollection:
    for collection in ports.sharded_collections:
        if collection.namespace == conflict.namespace:
            return collection
    remedy = "add it to FORESHARD_COLLECTIONS"
    raise ConfigurationError("collections", f"{conflict.namespace} is not a sharded collection", remedy)
