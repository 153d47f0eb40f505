"""Conflicts: what was written concurrently is kept until a merge function or a person says which document stands."""

from __future__ import annotations

import importlib
from collections.abc import Callable
from typing import Any, Protocol

import bson
from bson import CodecOptions, DatetimeConversion

from foreshard.errors import ConfigurationError
from foreshard.model import ShardedCollection
from foreshard.ports.replicas import Conflict
from foreshard.routing.table import locate
from foreshard.shadow.resolve import resolve
from foreshard.stages._ports import (
    WithCollectionSettings,
    WithConflicts,
    WithPrimaries,
    WithReplicationLog,
    WithRouting,
    WithShadows,
    WithShardedCollections,
)

Document = dict[str, Any]
Merge = Callable[[list[Document | None]], Document | None]
EXACT: CodecOptions[Document] = CodecOptions(tz_aware=True, datetime_conversion=DatetimeConversion.DATETIME_AUTO)


class ConflictPorts(
    WithConflicts,
    WithShadows,
    WithRouting,
    WithPrimaries,
    WithReplicationLog,
    WithCollectionSettings,
    WithShardedCollections,
    Protocol,
):
    """Reads conflicts, placements and primary copies. Writes primary copies, the replication log and conflicts."""


def resolve_with_shown(ports: ConflictPorts, conflict_id: str) -> None:
    """Let the primary's document stand."""
    conflict = ports.conflicts.get(conflict_id)
    partition, _ = _primary(ports, conflict.key)
    body = ports.primary(partition).document(_collection(ports, conflict), conflict.document_id)
    _resolve(ports, conflict, body, "shown")


def resolve_with_kept(ports: ConflictPorts, conflict_id: str) -> None:
    """Let the version that was kept stand (which may be a delete)."""
    conflict = ports.conflicts.get(conflict_id)
    _resolve(ports, conflict, conflict.kept.body, "kept")


def resolve_with_document(ports: ConflictPorts, conflict_id: str, document: Document) -> None:
    """Let a merged document stand; its ``_id`` and key are those of the conflict."""
    conflict = ports.conflicts.get(conflict_id)
    merged = {"_id": conflict.document_id, **{name: value for name, value in document.items() if name != "_id"}}
    _resolve(ports, conflict, bson.encode(merged, codec_options=EXACT), "merged")


def merge_conflicts(ports: ConflictPorts) -> int:
    """Resolve open conflicts of the collections that name a merge function; return how many documents."""
    merges = {f"{c.database}.{c.collection}": c.merge for c in ports.collection_settings if c.merge}
    if not merges:
        return 0
    done: set[bytes] = set()
    for conflict in ports.conflicts.open(limit=1000):
        if conflict.namespace in merges and conflict.identity not in done:
            merge = load_merge(merges[conflict.namespace])
            partition, _ = _primary(ports, conflict.key)
            shown = ports.primary(partition).document(_collection(ports, conflict), conflict.document_id)
            kept = ports.conflicts.of_document(conflict.namespace, conflict.document_id)
            merged = merge([_decode(body) for body in (shown, *(each.kept.body for each in kept))])
            body = None if merged is None else bson.encode({"_id": conflict.document_id} | merged, codec_options=EXACT)
            _resolve(ports, conflict, body, f"merged by {merges[conflict.namespace]}")
            done.add(conflict.identity)
    return len(done)


def load_merge(name: str) -> Merge:
    """The function ``module:function``; raise :class:`ConfigurationError` where there is none."""
    module, _, function = name.partition(":")
    try:
        found: Merge = getattr(importlib.import_module(module), function)
    except (ImportError, AttributeError, ValueError) as error:
        raise ConfigurationError("collections.merge", f"no function {name!r}", "name an importable module:function") from error
    return found


def _resolve(ports: ConflictPorts, conflict: Conflict, body: bytes | None, resolution: str) -> None:
    conflicts = ports.conflicts.of_document(conflict.namespace, conflict.document_id) or (conflict,)
    partition, epoch = _primary(ports, conflict.key)
    log = ports.replication_log()
    primary = (partition, epoch, ports.primary(partition))
    resolve(conflicts, body, _collection(ports, conflict), primary, log, ports.conflicts, resolution)


def _primary(ports: ConflictPorts, key: str) -> tuple[str, int]:
    placement = ports.shadows.placements([key]).get(key) or locate(ports.routing.current(), key)
    return placement.primary, placement.epoch


def _collection(ports: ConflictPorts, conflict: Conflict) -> ShardedCollection:
    for collection in ports.sharded_collections:
        if collection.namespace == conflict.namespace:
            return collection
    remedy = "add it to FORESHARD_COLLECTIONS"
    raise ConfigurationError("collections", f"{conflict.namespace} is not a sharded collection", remedy)


def _decode(body: bytes | None) -> Document | None:
    return None if body is None else bson.decode(body, codec_options=EXACT)
