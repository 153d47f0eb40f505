"""One collection's documents of a move's units on one partition.

A document's key is the exact value in the collection's key field. A document with a moved key inside an array belongs to more
than one key, so a move that meets one is refused. Documents without a key of the collection's type are in no unit.

A slot's documents are a range of the hashed index on the key field. Without that index, the server computes the slot of every
document.
"""

from __future__ import annotations

import logging
from collections.abc import Collection, Iterable, Iterator
from typing import Any

from bson import Int64
from bson.raw_bson import RawBSONDocument
from pymongo.client_session import ClientSession
from pymongo.collection import Collection as MongoCollection
from pymongo.cursor import Cursor

from foreshard.errors import MoveRefused
from foreshard.model import ShardedCollection
from foreshard.model.unit_set import UnitSet
from foreshard.ports.migration import DocumentId, RawDocument
from foreshard.stores.bson_codec import id_bytes, id_value, key_filter, key_text_of, key_value
from foreshard.stores.partition._collection_shape import has_hashed_index
from foreshard.stores.partition._slot_filter import TYPES, inside_slots

LOG = logging.getLogger("foreshard.move")
KEYS_AT_ONCE = 1_000
RawCollection = MongoCollection[RawBSONDocument]


class UnitDocuments:
    """Reads the documents. ``place`` names partition and namespace for people."""

    def __init__(self, move_id: str, place: str, sharded: ShardedCollection, units: UnitSet) -> None:
        self._move_id, self._place = move_id, place
        self._sharded, self._units = sharded, units
        self._indexed: bool | None = None

    def scan(self, collection: RawCollection, session: ClientSession, batch: int) -> Iterator[RawDocument]:
        """Yield every document of the units."""
        for keys in _portions(self._units.keys_beside_slots(), KEYS_AT_ONCE):
            with collection.find(key_filter(self._sharded, keys), session=session, batch_size=batch) as found:
                for document in found:
                    yield self.own(document)
        for some in self._by_slot(collection, session, batch):
            with some:
                for document in some:
                    if self.holds(document):
                        yield RawDocument(id_bytes(document["_id"]), bytes(document.raw))

    def count(self, collection: RawCollection, session: ClientSession) -> int:
        """Return the number of documents. Those of slots are counted one by one."""
        of_keys = sum(
            collection.count_documents(key_filter(self._sharded, keys), session=session)
            for keys in _portions(self._units.keys_beside_slots(), KEYS_AT_ONCE)
        )
        fields = {"_id": 0, self._sharded.key_field: 1}
        return of_keys + sum(
            self.holds(document) for some in self._by_slot(collection, session, 10_000, fields) for document in some
        )

    def among(self, collection: RawCollection, ids: Collection[DocumentId], session: ClientSession) -> dict[DocumentId, bytes]:
        """Return the documents among ``ids`` that belong to the units."""
        if not ids:
            return {}
        if self._units.slots:
            some = collection.find(with_ids(ids), session=session)
            return {id_bytes(document["_id"]): bytes(document.raw) for document in some if self.holds(document)}
        of_keys = {"$and": [with_ids(ids), key_filter(self._sharded, sorted(self._units.keys))]}
        documents = map(self.own, collection.find(of_keys, session=session))
        return {document.id: document.raw for document in documents}

    def ids_among(
        self, collection: RawCollection, ids: Collection[DocumentId], session: ClientSession, *, others: bool = False
    ) -> frozenset[DocumentId]:
        """Return the ids of documents that belong to the units; with ``others``, those of documents that do not."""
        fields = {"_id": 1, self._sharded.key_field: 1}
        found = collection.find(with_ids(ids), fields, session=session)
        return frozenset(id_bytes(document["_id"]) for document in found if self.holds(document) is not others)

    def holds(self, document: Any) -> bool:
        """Return whether a document belongs to the units."""
        return key_text_of(document, self._sharded) in self._units

    def own(self, document: RawBSONDocument) -> RawDocument:
        """Return a document that was found by its key. Raise :class:`MoveRefused` if the key is inside an array."""
        if not self.holds(document):
            problem = f"document {document['_id']!r} of {self._place} holds the key inside an array"
            raise MoveRefused(self._move_id, problem, "give each document one key")
        return RawDocument(id_bytes(document["_id"]), bytes(document.raw))

    def _by_slot(
        self, collection: RawCollection, session: ClientSession, batch: int, fields: dict[str, int] | None = None
    ) -> Iterator[Cursor[RawBSONDocument]]:
        """Yield a cursor for each range of slots. Documents of other types may be among those found."""
        if not self._units.slots:
            return iter(())
        if self._indexed is None:
            self._indexed = can_read_ranges(collection, self._sharded, self._place)
        options = {"projection": fields, "session": session, "batch_size": batch}
        return documents_of_slots(collection, self._sharded, self._units, indexed=self._indexed, **options)


def can_read_ranges(collection: MongoCollection[Any], sharded: ShardedCollection, place: str) -> bool:
    """Return whether the hashed index can find the documents of slots. If not, say that they are read by a scan."""
    indexed = has_hashed_index(collection, sharded.key_field)
    if not indexed:
        LOG.warning("%s has no hashed index on %s: slots are read by a scan", place, sharded.key_field)
    return indexed


def documents_of_slots(
    collection: MongoCollection[Any], sharded: ShardedCollection, units: UnitSet, *, indexed: bool, **options: Any
) -> Iterator[Cursor[Any]]:
    """Yield a cursor for each range of the units' slots, without their exceptions; one for all if it is not ``indexed``.

    Documents of other types may be among those found. ``options`` are those of pymongo's ``find``.
    """
    field, key_type = sharded.key_field, sharded.key_type
    if not indexed:
        yield collection.find(inside_slots(sharded, units.space, units.slots), **options)
        return
    spared = [key_value(key, key_type) for key in sorted(units.exceptions)]
    wanted = {field: {"$type": TYPES[key_type], **({"$nin": spared} if spared else {})}}
    for first, end in units.hash_ranges():
        some = collection.find(wanted, **options).hint([(field, "hashed")]).min([(field, Int64(first))])
        yield some if end is None else some.max([(field, Int64(end))])


def with_ids(ids: Iterable[DocumentId]) -> dict[str, Any]:
    """Return the filter of documents with these ids."""
    return {"_id": {"$in": [id_value(identity) for identity in ids]}}


def _portions(keys: list[str], limit: int) -> Iterator[list[str]]:
    for start in range(0, len(keys), limit):
        yield keys[start : start + limit]
