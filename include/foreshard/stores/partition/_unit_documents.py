"""One collection's documents of a move's units on one partition.

A document's key is the exact value in the collection's key field. A document with a moved key inside an array belongs to more
than one key, so a move that meets one is refused. Documents without a key of the collection's type are in no unit. Where the
server's filter says all of that exactly, documents are read as raw batches and are not decoded.

A slot's documents are a range of the hashed index on the key field. Without that index, the server computes the slot of every
document.
"""

from __future__ import annotations

import logging
from collections.abc import Collection, Generator, Iterable, Iterator
from contextlib import closing
from typing import Any

from bson.raw_bson import RawBSONDocument
from pymongo import ASCENDING
from pymongo.client_session import ClientSession
from pymongo.collection import Collection as MongoCollection

from foreshard.errors import MoveRefused
from foreshard.model import ShardedCollection
from foreshard.model.key_space import KeyType
from foreshard.model.unit_set import UnitSet
from foreshard.ports.migration import DocumentId, RawDocument
from foreshard.stores.bson_codec import RAW, id_bytes, id_value, key_filter, key_text_of, key_value
from foreshard.stores.partition._collection_shape import has_hashed_index
from foreshard.stores.partition._slot_filter import TYPES, inside_slots
from foreshard.stores.partition.units.queries import MOVERS_READ, UnitQuery
from foreshard.stores.partition.units.raw_batches import array_of, bounds_in
from foreshard.stores.partition.units.raw_cursor import raw_answers

LOG = logging.getLogger("foreshard.move")
KEYS_AT_ONCE = 1_000
EXACT_TYPES = frozenset({KeyType.STRING, KeyType.OBJECT_ID})
"""Key types for which ``$type`` says whether a value is a key. Some numbers and binary values are none."""
RawCollection = MongoCollection[RawBSONDocument]


class UnitDocuments:
    """Reads the documents. ``place`` names partition and namespace for people."""

    def __init__(self, move_id: str, place: str, sharded: ShardedCollection, units: UnitSet) -> None:
        self._move_id, self._place = move_id, place
        self._sharded, self._units = sharded, units
        self._indexed: bool | None = None

    def arrays(
        self,
        collection: RawCollection,
        session: ClientSession,
        size: int,
        skip: int = 0,
        *,
        ids_only: bool = False,
        checked: bool = False,
    ) -> Generator[bytes, None, None]:
        """Yield every document of the units but about the first ``skip``, as BSON arrays of at most ``size`` documents.

        Raise :class:`MoveRefused` if one holds a key inside an array, unless that is ``checked`` already.
        """
        if not checked:
            self._refuse_arrays(collection, session)
        fields = {"_id": 1, **({} if self._is_exact else {self._sharded.key_field: 1})}
        for query in self._queries(collection):
            if skip and not query.has_more_than(skip, collection, session):
                skip -= query.count(collection, session)
                continue
            command = {**query.command(), "projection": fields if ids_only else {}, "skip": skip}
            with closing(raw_answers(collection, session, command, size)) as found:
                yield from found if self._is_exact else map(self._only_own, found)
            skip = 0

    @property
    def _is_exact(self) -> bool:
        """Whether the server finds exactly the units' documents. If not, each one is checked by ``holds``."""
        return not self._units.slots or self._sharded.key_type in EXACT_TYPES

    def _only_own(self, array: bytes) -> bytes:
        documents = (RawBSONDocument(array[start:end], RAW) for start, end in bounds_in(array))
        return array_of(document for document in documents if self.holds(document))

    def count(self, collection: RawCollection, session: ClientSession, also: dict[str, Any]) -> int:
        """Return the number of documents that match ``also``. Those of slots are counted one by one."""
        of_keys = sum(
            collection.count_documents({"$and": [key_filter(self._sharded, keys), also]}, session=session)
            for keys in _portions(self._units.keys_beside_slots(), KEYS_AT_ONCE)
        )
        options = {"projection": {"_id": 0, self._sharded.key_field: 1}, "session": session, "batch_size": 10_000}
        of_slots = (query.and_also(also).find(collection, **options) for query in self._slot_queries(collection))
        return of_keys + sum(self.holds(document) for some in of_slots for document in some)

    def among(self, collection: RawCollection, ids: Collection[DocumentId], session: ClientSession) -> dict[DocumentId, bytes]:
        """Return the documents among ``ids`` that belong to the units."""
        if not ids:
            return {}
        if self._units.slots:
            some = collection.find(with_ids(ids), session=session, comment=MOVERS_READ)
            return {id_bytes(document["_id"]): bytes(document.raw) for document in some if self.holds(document)}
        of_keys = {"$and": [with_ids(ids), key_filter(self._sharded, sorted(self._units.keys))]}
        found = collection.find(of_keys, session=session, comment=MOVERS_READ).hint([("_id", ASCENDING)])
        documents = map(self.own, found)
        return {document.id: document.raw for document in documents}

    def ids_among(
        self, collection: RawCollection, ids: Collection[DocumentId], session: ClientSession, *, others: bool = False
    ) -> frozenset[DocumentId]:
        """Return the ids of documents that belong to the units; with ``others``, those of documents that do not."""
        fields = {"_id": 1, self._sharded.key_field: 1}
        found = collection.find(with_ids(ids), fields, session=session, comment=MOVERS_READ)
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

    def _refuse_arrays(self, collection: RawCollection, session: ClientSession) -> None:
        """Raise :class:`MoveRefused` if a document holds one of the keys inside an array."""
        parts = self._sharded.key_field.split(".")
        paths = (".".join(parts[:end]) for end in range(1, len(parts) + 1))
        array = {"$or": [{path: {"$type": "array"}} for path in paths]}
        for keys in _portions(self._units.keys_beside_slots(), KEYS_AT_ONCE):
            found = collection.find_one({"$and": [key_filter(self._sharded, keys), array]}, session=session)
            if found is not None:
                self.own(found)

    def _queries(self, collection: RawCollection) -> Iterator[UnitQuery]:
        """Yield queries that find every document of the units once."""
        for keys in _portions(self._units.keys_beside_slots(), KEYS_AT_ONCE):
            yield UnitQuery(key_filter(self._sharded, keys))
        yield from self._slot_queries(collection)

    def _slot_queries(self, collection: RawCollection) -> Iterator[UnitQuery]:
        """Yield a query for each range of slots. Documents of other types may be among those found."""
        if not self._units.slots:
            return iter(())
        if self._indexed is None:
            self._indexed = can_read_ranges(collection, self._sharded, self._place)
        return queries_of_slots(self._sharded, self._units, indexed=self._indexed)


def can_read_ranges(collection: MongoCollection[Any], sharded: ShardedCollection, place: str) -> bool:
    """Return whether the hashed index can find the documents of slots. If not, say that they are read by a scan."""
    indexed = has_hashed_index(collection, sharded.key_field)
    if not indexed:
        LOG.warning("%s has no hashed index on %s: slots are read by a scan", place, sharded.key_field)
    return indexed


def queries_of_slots(sharded: ShardedCollection, units: UnitSet, *, indexed: bool) -> Iterator[UnitQuery]:
    """Yield a query for each range of the units' slots, without their exceptions; one for all if it is not ``indexed``.

    Documents of other types may be among those found.
    """
    field, key_type = sharded.key_field, sharded.key_type
    spared = [key_value(key, key_type) for key in sorted(units.exceptions)]
    others = {"$nin": spared} if spared else {}
    if not indexed:
        yield UnitQuery({**inside_slots(sharded, units.space, units.slots), **({field: others} if others else {})})
        return
    for first, end in units.hash_ranges():
        yield UnitQuery({field: {"$type": TYPES[key_type], **others}}, field, first, end)


def with_ids(ids: Iterable[DocumentId]) -> dict[str, Any]:
    """Return the filter of documents with these ids."""
    return {"_id": {"$in": [id_value(identity) for identity in ids]}}


def _portions(keys: list[str], limit: int) -> Iterator[list[str]]:
    for start in range(0, len(keys), limit):
        yield keys[start : start + limit]
