"""Compares shadows with their primary copies: by count and an order-independent hash, and document by document if these differ.

The hash of a copy is the sum of its documents' 128-bit xxh3 hashes modulo 2¹²⁸, so it needs no order and no memory. Changes may
still be on their way, so different documents are read again until they agree or the looks are used up.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from bson import json_util
from pymongo.collection import Collection
from xxhash import xxh3_128_intdigest

from foreshard.model import ShardedCollection
from foreshard.ports.verification import DocumentDifference, ExpectedPlacement
from foreshard.routing.table import locate
from foreshard.stores.bson_codec import id_bytes, id_value, key_filter

MAXIMUM_DIFFERENCES = 10_000
_MODULUS = 1 << 128

DocumentsOf = Callable[[str, ShardedCollection], Collection[Any]]
"""(partition id, collection) → the collection there, with documents as raw BSON."""


@dataclass(frozen=True, slots=True)
class CopyPair:
    """One key's documents of one collection: the primary copy and one shadow."""

    collection: ShardedCollection
    key: str
    primary: str
    shadow: str


def compare(
    documents: DocumentsOf,
    pairs: Sequence[CopyPair],
    expected: Callable[[], ExpectedPlacement],
    looks: int,
    pause: float,
) -> list[DocumentDifference]:
    """Return each document that stays different. Shadows that the table no longer lists are ignored."""
    suspects: dict[tuple[CopyPair, bytes], str] = {}
    for pair in pairs:
        if _digest(documents, pair, pair.primary) != _digest(documents, pair, pair.shadow):
            for identity in _differing(documents, pair):
                if len(suspects) < MAXIMUM_DIFFERENCES:
                    suspects[pair, identity] = ""
    for look in range(looks):
        table = expected().table if suspects else None
        again = {}
        for pair, identity in suspects:
            placement = locate(table, pair.key) if table else None
            listed = placement is not None and placement.primary == pair.primary and pair.shadow in placement.shadows
            problem = _problem(documents, pair, identity) if listed else None
            if problem:
                again[pair, identity] = problem
        suspects = again
        if not suspects:
            break
        time.sleep(pause if look + 1 < looks else 0)
    return [
        difference("shadow", pair.collection, identity, pair.key, pair.shadow, problem)
        for (pair, identity), problem in suspects.items()
    ]


def difference(
    kind: str, collection: ShardedCollection, identity: bytes, key: str, partition: str, sentence: str
) -> DocumentDifference:
    """Return a difference for a report."""
    return DocumentDifference(kind, collection.namespace, json_util.dumps(id_value(identity)), key, partition, sentence)


def _digest(documents: DocumentsOf, pair: CopyPair, partition: str) -> tuple[int, int]:
    """Return (count, hash) of a copy."""
    count = total = 0
    for document in documents(partition, pair.collection).find(key_filter(pair.collection, [pair.key])):
        count, total = count + 1, (total + xxh3_128_intdigest(document.raw)) % _MODULUS
    return count, total


def _differing(documents: DocumentsOf, pair: CopyPair) -> list[bytes]:
    """Return the ids of the documents that differ."""
    sides = [
        {
            (id_bytes(document["_id"]), xxh3_128_intdigest(document.raw))
            for document in documents(partition, pair.collection).find(key_filter(pair.collection, [pair.key]))
        }
        for partition in (pair.primary, pair.shadow)
    ]
    return sorted({identity for identity, _ in sides[0] ^ sides[1]})


def _problem(documents: DocumentsOf, pair: CopyPair, identity: bytes) -> str | None:
    """Describe how a document differs now. None if the shadow equals the primary copy's document now or a moment ago."""
    wanted = {"_id": id_value(identity), **key_filter(pair.collection, [pair.key])}
    before, copy, after = (
        None if found is None else bytes(found.raw)
        for found in (documents(p, pair.collection).find_one(wanted) for p in (pair.primary, pair.shadow, pair.primary))
    )
    if copy in (before, after):
        return None
    what = "lacks" if copy is None else ("still has" if after is None else "differs in")
    return f"shadow of {pair.key!r} on {pair.shadow} {what} {pair.collection.namespace} {wanted['_id']!r} of {pair.primary}"
