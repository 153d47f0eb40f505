"""Conflicts: what was written concurrently is kept until a merge function or a person says which document stands."""

from __future__ import annotations

import importlib
from collections.abc import Callable
from typing import Any

import bson
from bson import CodecOptions, DatetimeConversion

from foreshard.errors import ConfigurationError
from foreshard.model import ShardedCollection
from foreshard.ports.replicas import Conflict
from foreshard.routing.table import locate
from foreshard.shadow.resolve import resolve
from foreshard.wiring import Wiring

Document = dict[str, Any]
Merge = Callable[[list[Document | None]], Document | None]
EXACT: CodecOptions[Document] = CodecOptions(tz_aware=True, datetime_conversion=DatetimeConversion.DATETIME_AUTO)


def resolve_with_shown(wiring: Wiring, conflict_id: str) -> None:
    """Let the primary's document stand."""
    conflict = wiring.conflicts.get(conflict_id)
    partition, _ = _primary(wiring, conflict.key)
    body = wiring.primary(partition).document(_collection(wiring, conflict), conflict.document_id)
    _resolve(wiring, conflict, body, "shown")


def resolve_with_kept(wiring: Wiring, conflict_id: str) -> None:
    """Let the version that was kept stand (which may be a delete)."""
    conflict = wiring.conflicts.get(conflict_id)
    _resolve(wiring, conflict, conflict.kept.body, "kept")


def resolve_with_document(wiring: Wiring, conflict_id: str, document: Document) -> None:
    """Let a merged document stand; its ``_id`` and key are those of the conflict."""
    conflict = wiring.conflicts.get(conflict_id)
    merged = {"_id": conflict.document_id, **{name: value for name, value in document.items() if name != "_id"}}
    _resolve(wiring, conflict, bson.encode(merged, codec_options=EXACT), "merged")


def merge_conflicts(wiring: Wiring) -> int:
    """Resolve open conflicts of the collections that name a merge function; return how many documents."""
    merges = {f"{c.database}.{c.collection}": c.merge for c in wiring.settings.collections if c.merge}
    if not merges:
        return 0
    done: set[bytes] = set()
    for conflict in wiring.conflicts.open(limit=1000):
        if conflict.namespace in merges and conflict.identity not in done:
            merge = load_merge(merges[conflict.namespace])
            partition, _ = _primary(wiring, conflict.key)
            shown = wiring.primary(partition).document(_collection(wiring, conflict), conflict.document_id)
            kept = wiring.conflicts.of_document(conflict.namespace, conflict.document_id)
            merged = merge([_decode(body) for body in (shown, *(each.kept.body for each in kept))])
            body = None if merged is None else bson.encode({"_id": conflict.document_id} | merged, codec_options=EXACT)
            _resolve(wiring, conflict, body, f"merged by {merges[conflict.namespace]}")
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


def _resolve(wiring: Wiring, conflict: Conflict, body: bytes | None, resolution: str) -> None:
    conflicts = wiring.conflicts.of_document(conflict.namespace, conflict.document_id) or (conflict,)
    partition, epoch = _primary(wiring, conflict.key)
    log = wiring.replication_log()
    primary = (partition, epoch, wiring.primary(partition))
    resolve(conflicts, body, _collection(wiring, conflict), primary, log, wiring.conflicts, resolution)


def _primary(wiring: Wiring, key: str) -> tuple[str, int]:
    placement = wiring.shadows.placements([key]).get(key) or locate(wiring.routing.current(), key)
    return placement.primary, placement.epoch


def _collection(wiring: Wiring, conflict: Conflict) -> ShardedCollection:
    for collection in wiring.settings.sharded_collections:
        if collection.namespace == conflict.namespace:
            return collection
    remedy = "add it to FORESHARD_COLLECTIONS"
    raise ConfigurationError("collections", f"{conflict.namespace} is not a sharded collection", remedy)


def _decode(body: bytes | None) -> Document | None:
    return None if body is None else bson.decode(body, codec_options=EXACT)
