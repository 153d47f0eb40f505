"""The documents of a move's units on one partition, as its mover reads them."""

from __future__ import annotations

from collections.abc import Callable, Collection, Generator, Iterator, Mapping, MutableSequence
from contextlib import closing
from datetime import UTC, datetime
from itertools import chain
from typing import Any, TypeVar

from bson.raw_bson import RawBSONDocument
from pymongo import MongoClient
from pymongo.client_session import ClientSession
from pymongo.read_concern import ReadConcern
from pymongo.write_concern import WriteConcern

from foreshard.model import ShardedCollection
from foreshard.ports.migration import DocumentId, RawDocument
from foreshard.stores.bson_codec import RAW
from foreshard.stores.mongo_connections import Document
from foreshard.stores.partition._indexes import index_definitions
from foreshard.stores.partition._unit_documents import RawCollection, UnitDocuments
from foreshard.stores.partition.units.expiry import ExpiryRule, expiry_rules, is_expired, still_there
from foreshard.stores.partition.units.raw_batches import add_digests, bucket_of, documents_in, portions, read_ahead

DIGESTED_AT_ONCE, IDS_AT_ONCE = 1_000, 10_000
T = TypeVar("T")


class UnitReading:
    """The part of :class:`foreshard.ports.migration.UnitCopy` that reads. A batch has at most ``most`` documents."""

    _client: MongoClient[Document]

    def begin_reading(
        self, by_name: Mapping[str, ShardedCollection], units: Mapping[str, UnitDocuments], session: ClientSession, most: int
    ) -> None:
        """Read these collections' documents in ``session``."""
        self._by_name, self._units, self._reading, self._most = by_name, units, session, most

    def count(self, unexpired_at: datetime | None = None) -> Mapping[str, int]:
        found = {}
        for name, units in self._units.items():
            rules = self._expiry_rules(name) if unexpired_at else ()
            also = still_there(rules, unexpired_at) if unexpired_at else {}
            found[name] = units.count(self._collection(name), self._reading, also)
        return found

    def clock(self) -> datetime:
        """The time by the clock of the partition's primary."""
        now: datetime = self._client.admin.command("hello")["localTime"]
        return now.replace(tzinfo=UTC)

    def expired(self, namespace: str, documents: Mapping[DocumentId, bytes], at: datetime) -> frozenset[DocumentId]:
        rules = self._expiry_rules(namespace)
        return frozenset(i for i, raw in documents.items() if is_expired(rules, RawBSONDocument(raw, RAW), at))

    def _expiry_rules(self, namespace: str) -> tuple[ExpiryRule, ...]:
        return expiry_rules(index_definitions(self._collection(namespace)))

    def scan(self, namespace: str, skip: int = 0) -> Iterator[tuple[RawDocument, ...]]:
        most = self._most

        def parse(arrays: Iterator[bytes]) -> Iterator[tuple[RawDocument, ...]]:
            return portions(chain.from_iterable(map(documents_in, arrays)), most)

        return self._read(namespace, most, parse, skip=skip)

    def digest(self, namespace: str, into: MutableSequence[int]) -> Iterator[int]:
        return (add_digests(array, into) for array in self._read(namespace, DIGESTED_AT_ONCE, iter, checked=True))

    def ids_in(self, namespace: str, buckets: Collection[int], of: int) -> Iterator[frozenset[DocumentId]]:
        for array in self._read(namespace, IDS_AT_ONCE, iter, ids_only=True, checked=True):
            yield frozenset(document.id for document in documents_in(array) if bucket_of(document.id, of) in buckets)

    def _read(
        self, namespace: str, size: int, parse: Callable[[Iterator[bytes]], Iterator[T]], **what: Any
    ) -> Generator[T, None, None]:
        """Read arrays of at most ``size`` documents and parse them, one ahead of their use.

        Another thread does it, in a session of its own that reads causally after this copy's session.
        """

        def parsed() -> Generator[T, None, None]:
            arrays = self._units[namespace].arrays(self._collection(namespace), session, size, **what)
            with closing(arrays):
                yield from parse(arrays)

        with self._client.start_session(causal_consistency=True) as session:
            if self._reading.cluster_time and self._reading.operation_time:
                session.advance_cluster_time(self._reading.cluster_time)
                session.advance_operation_time(self._reading.operation_time)
            with closing(read_ahead(parsed())) as ahead:
                yield from ahead

    def fetch(self, namespace: str, ids: Collection[DocumentId]) -> dict[DocumentId, bytes]:
        return self._fetch(namespace, ids, self._reading)

    def _fetch(self, namespace: str, ids: Collection[DocumentId], session: ClientSession) -> dict[DocumentId, bytes]:
        collection = self._collection(namespace, in_transaction=session.in_transaction)
        return self._units[namespace].among(collection, ids, session)

    def strayed(self, namespace: str, ids: Collection[DocumentId]) -> frozenset[DocumentId]:
        return self._units[namespace].ids_among(self._collection(namespace), ids, self._reading, others=True)

    def _collection(self, namespace: str, *, in_transaction: bool = False) -> RawCollection:
        place = self._by_name[namespace]
        return self._client[place.database].get_collection(  # type: ignore[return-value]
            place.collection,
            codec_options=RAW,
            read_concern=None if in_transaction else ReadConcern("majority"),
            write_concern=WriteConcern("majority"),
        )
