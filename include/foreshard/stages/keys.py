"""Checks what documents hold in their key field, and makes the hashed indexes that find the documents of a slot."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Protocol

from foreshard.model import ShardedCollection
from foreshard.model.key_space import KeyType
from foreshard.ports.keys import IndexMade
from foreshard.stages._ports import WithKeyInspectors, WithRegistry, WithShardedCollections

KEYLESS = ("missing", "null", "undefined")
FLOATING = ("double", "decimal")
STORE_AS = {
    KeyType.STRING: "a string that does not begin with U+001F",
    KeyType.INT: "an int or a long",
    KeyType.OBJECT_ID: "an ObjectId",
    KeyType.UUID: "a UUID (binary subtype 4)",
}


class KeyPorts(WithRegistry, WithShardedCollections, WithKeyInspectors, Protocol):
    """Reads the partitions' documents. Writes indexes."""


@dataclass(frozen=True, slots=True)
class UnusableKeys:
    """Documents of one collection on one partition whose key field holds no usable key."""

    collection: ShardedCollection
    partition_id: str
    documents: int
    kind: str

    def __str__(self) -> str:
        """The finding and what to do, in one line."""
        field, count = self.collection.key_field, self.documents
        have = f"{count:,} {'document has' if count == 1 else 'documents have'} {_held(self.kind)} in {field}"
        return f"{self.collection.namespace} on {self.partition_id}: {have}; {self._remedy}"

    @property
    def _remedy(self) -> str:
        wanted = STORE_AS[self.collection.key_type]
        if self.kind in KEYLESS:
            return f"give each {wanted}, or they stay where they are when keys move"
        if self.kind == "array":
            return "give each document one key: a document with an array can't move, and prevents the hashed index"
        if self.kind in FLOATING:
            return f"store {wanted}: the hash drops the fraction, so two keys would share a place"
        return f"store {wanted}, or set the collection's key_type"


@dataclass(frozen=True, slots=True)
class KeyCheck:
    """What a check has read, and what it found."""

    collections: int
    partitions: int
    documents: int
    findings: tuple[UnusableKeys, ...]


def check_keys(ports: KeyPorts, sample: int | None = None) -> KeyCheck:
    """Count the documents without a usable key, in each sharded collection of each partition.

    ``sample``: look at this many random documents of each instead of all.
    """
    partitions, documents, findings = ports.registry.partitions(), 0, []
    for partition in partitions:
        inspector = ports.key_inspector(partition.partition_id)
        for collection in ports.sharded_collections:
            kinds = inspector.kinds(collection, sample)
            documents += kinds.documents
            findings += [UnusableKeys(collection, partition.partition_id, n, kind) for kind, n in kinds.others.items()]
    return KeyCheck(len(ports.sharded_collections), len(partitions), documents, tuple(findings))


def make_hashed_indexes(ports: KeyPorts, partition_ids: Iterable[str]) -> Iterator[tuple[ShardedCollection, str, IndexMade]]:
    """Create the missing hashed indexes of these partitions. Yield (collection, partition, what it cost) after each.

    Raise :class:`foreshard.errors.ArrayKeys`.
    """
    for partition_id in partition_ids:
        inspector = ports.key_inspector(partition_id)
        for collection in ports.sharded_collections:
            made = inspector.make_hashed_index(collection)
            if made is not None:
                yield collection, partition_id, made


def _held(kind: str) -> str:
    if kind == "missing":
        return "nothing"
    return f"{'an' if kind[0] in 'aeio' else 'a'} {kind}" if kind != "null" else "null"
