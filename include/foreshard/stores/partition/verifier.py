"""Verification on the data itself: sharded documents are read once on every partition, as ``{_id, key}``.

The documents of some slots are ranges of the hashed index on the key field. Memory is bounded. Ids are kept as 64-bit hashes
that spill to disk, and at most ``MAXIMUM_SUSPECTS`` suspicious documents are remembered. Shadows are compared with their
primary copies by count and by an order-independent hash of their BSON (:mod:`foreshard.stores.partition._compare`). Apps write
and keys move meanwhile, so each suspect is looked at again.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Collection, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from itertools import chain
from typing import Any

from pymongo.collection import Collection as MongoCollection
from pymongo.errors import PyMongoError

from foreshard.model import Partition, ShardedCollection
from foreshard.model.key_space import slot_unit
from foreshard.model.unit_set import UnitSet
from foreshard.ports.verification import DocumentDifference, ExpectedPlacement, Verification
from foreshard.routing.table import locate
from foreshard.stores.bson_codec import exact, id_bytes, id_value, key_text_of
from foreshard.stores.mongo_connections import MongoConnections
from foreshard.stores.partition._compare import CopyPair, compare, difference
from foreshard.stores.partition._seen_ids import SeenIds
from foreshard.stores.partition._unit_documents import can_read_ranges, queries_of_slots

MAXIMUM_SUSPECTS = 10_000
LOOKUP = 1_000

Raw = Any


@dataclass(frozen=True, slots=True)
class _Stray:
    """A document on a partition that should have no copy of its key."""

    collection: ShardedCollection
    partition: str
    key: str
    identity: bytes

    def as_difference(self) -> DocumentDifference:
        """Return it as a difference."""
        sentence = f"{self.collection.namespace} {id_value(self.identity)!r} (key {self.key!r}) on {self.partition}"
        return difference("misplaced", self.collection, self.identity, self.key, self.partition, sentence)


@dataclass
class _Tally:
    """The counts of one verification."""

    documents: int = 0
    without_key: int = 0
    in_transit: int = 0
    shadow_documents: int = 0
    misplaced: int = 0
    keys: SeenIds = field(default_factory=SeenIds)
    strays: list[_Stray] = field(default_factory=list)

    def __enter__(self) -> _Tally:
        return self

    def __exit__(self, *_: object) -> None:
        self.keys.close()


class MongoVerifier:
    """Implements :class:`foreshard.ports.verification.Verifier`. Each suspect gets ``looks`` looks, ``pause`` seconds apart."""

    def __init__(self, connections: MongoConnections, looks: int = 20, pause: float = 0.5) -> None:
        self._connections, self._looks, self._pause = connections, looks, pause

    def documents(self, partitions: Sequence[Partition], collections: Sequence[ShardedCollection]) -> int:
        with self._explained(partitions):
            return sum(
                self._documents(partition, collection).estimated_document_count()
                for partition in partitions
                for collection in collections
            )

    def verify(
        self,
        partitions: Sequence[Partition],
        collections: Sequence[ShardedCollection],
        expected: Callable[[], ExpectedPlacement],
        slots: Collection[int] | None = None,
    ) -> Verification:
        with self._explained(partitions), _Tally() as tally:
            return self._verify({p.partition_id: p for p in partitions}, collections, expected, slots, tally)

    @contextmanager
    def _explained(self, partitions: Sequence[Partition]) -> Iterator[None]:
        """Raise :class:`foreshard.errors.Unreachable` instead of the driver's error if a partition does not answer."""
        try:
            yield
        except PyMongoError:
            for partition in partitions:
                self._connections.check(partition.uri, f"partition {partition.partition_id}")
            raise

    def _verify(
        self,
        partitions: dict[str, Partition],
        collections: Sequence[ShardedCollection],
        expected: Callable[[], ExpectedPlacement],
        slots: Collection[int] | None,
        tally: _Tally,
    ) -> Verification:
        first, twice = expected(), []
        space = first.table.slots.space
        units = None if slots is None else UnitSet(space, tuple(map(slot_unit, sorted(slots))))
        for collection in collections:
            with SeenIds() as seen:
                for partition in partitions.values():
                    self._read(partition, collection, first, seen, tally, units)
                twice += self._named_twice(partitions, collection, seen.repeated(), expected, units)
        duplicated, missing = self._look_again(partitions, tally, expected)
        pairs = [
            CopyPair(collection, placement.key, placement.primary, shadow)
            for placement in first.table.placements.values()
            if units is None or placement.key in units
            for shadow in placement.shadows
            if {placement.primary, shadow} <= set(partitions) and (placement.key, shadow) not in first.in_transit
            for collection in collections
        ]
        differences = compare(lambda name, c: self._documents(partitions[name], c), pairs, expected, self._looks, self._pause)
        return Verification(
            documents=tally.documents,
            keys=tally.keys.distinct(),
            misplaced=tally.misplaced,
            duplicated=duplicated + len(twice),
            missing=missing,
            shadow_copies=len({(pair.key, pair.shadow) for pair in pairs}),
            shadow_documents=tally.shadow_documents,
            shadow_differences=len(differences),
            in_transit=tally.in_transit,
            without_key=tally.without_key,
            slots=space.slots if slots is None else len(set(slots)),
            differences=(*(stray.as_difference() for stray in tally.strays), *twice, *differences),
        )

    def _read(
        self,
        partition: Partition,
        collection: ShardedCollection,
        expected: ExpectedPlacement,
        seen: SeenIds,
        tally: _Tally,
        units: UnitSet | None,
    ) -> None:
        """Count one collection of one partition by the role of each document."""
        name, roles = partition.partition_id, _Roles(expected)
        for identity, key in self._ids(partition, collection, units):
            if key is None:
                tally.without_key += 1
                continue
            role = roles.of(key, name)
            if role == "primary":
                tally.documents += 1
                tally.keys.add(key.encode("utf-8", "surrogatepass"))
                seen.add(identity)
            elif role == "shadow":
                tally.shadow_documents += 1
            elif role == "in_transit":
                tally.in_transit += 1
            else:
                tally.misplaced += 1
                if len(tally.strays) < MAXIMUM_SUSPECTS:
                    tally.strays.append(_Stray(collection, name, key, identity))

    def _look_again(
        self, partitions: dict[str, Partition], tally: _Tally, expected: Callable[[], ExpectedPlacement]
    ) -> tuple[int, int]:
        """Look at the strays again until none remains or the looks are used up. Return (also at their primary copy, only here).

        Moves that began or ended during the read explain most of them.
        """
        unseen = tally.misplaced - len(tally.strays)
        for _ in range(self._looks):
            if not tally.strays:
                break
            now = expected()
            tally.strays = [
                s for s in tally.strays if _Roles(now).of(s.key, s.partition) == "none" and self._stands(partitions, s)
            ]
            if tally.strays:
                time.sleep(self._pause)
        tally.misplaced = len(tally.strays) + (unseen if tally.strays else 0)
        table = expected().table
        at_primary = 0
        for stray in tally.strays:
            owner = locate(table, stray.key).primary
            at_primary += owner in partitions and self._find(partitions[owner], stray.collection, stray.identity) is not None
        return at_primary, len(tally.strays) - at_primary

    def _named_twice(
        self,
        partitions: dict[str, Partition],
        collection: ShardedCollection,
        hashes: frozenset[int],
        expected: Callable[[], ExpectedPlacement],
        units: UnitSet | None,
    ) -> list[DocumentDifference]:
        """Return documents with one id that are primary copies on two partitions (under two keys), after a second look."""
        if not hashes:
            return []
        holders: dict[bytes, set[str]] = {}
        for partition in partitions.values():
            for identity, _key in self._ids(partition, collection, units):
                if SeenIds.hash(identity) in hashes:
                    holders.setdefault(identity, set()).add(partition.partition_id)
        roles = _Roles(expected())
        found = []
        for identity, names in holders.items():
            keys = {name: self._find(partitions[name], collection, identity) for name in sorted(names)}
            owners = [name for name, key in keys.items() if key is not None and roles.of(key, name) == "primary"]
            if len(owners) > 1:
                sentence = f"{collection.namespace} {id_value(identity)!r} is a primary on {' and '.join(owners)}"
                found.append(difference("duplicated", collection, identity, keys[owners[0]] or "", owners[1], sentence))
        return found

    def _stands(self, partitions: dict[str, Partition], stray: _Stray) -> bool:
        return self._find(partitions[stray.partition], stray.collection, stray.identity) == stray.key

    def _find(self, partition: Partition, collection: ShardedCollection, identity: bytes) -> str | None:
        """Return the key of a document; None if the document is not there."""
        found = self._documents(partition, collection).find_one({"_id": id_value(identity)}, {collection.key_field: 1})
        return None if found is None else key_text_of(found, collection)

    def _ids(
        self, partition: Partition, collection: ShardedCollection, units: UnitSet | None
    ) -> Iterator[tuple[bytes, str | None]]:
        """Yield (BSON of the id, key) of every document, or of those of some slots."""
        documents, fields = self._documents(partition, collection), {"_id": 1, collection.key_field: 1}
        if units is None:
            found = iter([documents.find({}, fields)])
        else:
            indexed = can_read_ranges(documents, collection, collection.namespace)
            queries = queries_of_slots(collection, units, indexed=indexed)
            found = (query.find(documents, projection=fields) for query in queries)
        for document in chain.from_iterable(found):
            key = key_text_of(document, collection)
            if units is None or key in units:
                yield id_bytes(document["_id"]), key

    def _documents(self, partition: Partition, collection: ShardedCollection) -> MongoCollection[Raw]:
        client = self._connections.partition(partition)
        return exact(client[collection.database][collection.collection])


class _Roles:
    """The role of a partition for a key. It caches placements of unlisted keys, which cost a hash each."""

    def __init__(self, expected: ExpectedPlacement) -> None:
        self._expected = expected
        self._placements: dict[str, tuple[str, tuple[str, ...]]] = {}

    def of(self, key: str, partition: str) -> str:
        """Return ``primary``, ``shadow``, ``in_transit`` or ``none``."""
        placement = self._placements.get(key)
        if placement is None:
            found = locate(self._expected.table, key)
            placement = self._placements[key] = (found.primary, found.shadows)
        if placement[0] == partition:
            return "primary"
        home = self._expected.table.slots.of(key).key
        if {(key, partition), (home, partition)} & self._expected.in_transit:
            return "in_transit"
        return "shadow" if partition in placement[1] else "none"
