"""The requests of a bulk write: their kinds, their keys, and the same requests limited to one key each.

pymongo's request classes have no public accessors, so this module reads their private attributes.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from copy import copy
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

import bson
from bson import ObjectId
from bson.codec_options import CodecOptions
from pymongo import DeleteMany, DeleteOne, InsertOne, ReplaceOne, UpdateMany, UpdateOne

from foreshard.client._keys import KIND_OF_VALUE, change_of_key, key_of_document, keys_of_filter, limited
from foreshard.client.routing.pymongo_errors import OperationRefused
from foreshard.errors import UnroutableOperation
from foreshard.model import ShardedCollection

WriteRequest = InsertOne[Any] | UpdateOne | UpdateMany | ReplaceOne[Any] | DeleteOne | DeleteMany

LARGEST_MESSAGE = 24_000_000
"""Bytes: half of what a server accepts in one message."""


class BulkKind(StrEnum):
    """The kinds of requests that can be sent together."""

    INSERT = "insert"
    UPDATE = "update"
    UPDATE_MANY = "update_many"
    DELETE = "delete"


@dataclass(frozen=True, slots=True)
class BulkItem:
    """One request, limited to ``key``. ``index`` is its position in the app's list."""

    index: int
    key: str
    kind: BulkKind
    request: WriteRequest


KINDS: Mapping[type, BulkKind] = {
    InsertOne: BulkKind.INSERT,
    UpdateOne: BulkKind.UPDATE,
    ReplaceOne: BulkKind.UPDATE,
    UpdateMany: BulkKind.UPDATE_MANY,
    DeleteOne: BulkKind.DELETE,
    DeleteMany: BulkKind.DELETE,
}


class KeyRule:
    """Checks that writes on one sharded collection name their keys. Refuses all others before anything is sent."""

    def __init__(self, sharded: ShardedCollection) -> None:
        self._sharded = sharded

    def of_filter(self, operation: str, filter: Mapping[str, Any], options: Mapping[str, Any]) -> str:
        """Return the one key that ``filter`` names."""
        keys = self.of_filter_many(operation, filter, options)
        if len(keys) != 1:
            raise self._refuse(operation, f"it names {len(keys)} keys", "name exactly one key")
        return keys[0]

    def of_filter_many(self, operation: str, filter: Mapping[str, Any], options: Mapping[str, Any]) -> tuple[str, ...]:
        """Return the keys that ``filter`` names."""
        if options.get("collation") is not None:
            raise self._refuse(operation, "a collation may match documents of other keys", "omit it")
        keys = keys_of_filter(filter, self._sharded)
        if keys is None:
            raise self._refuse(operation, "its filter names no partitionable key", f"add {self._sharded.key_field} to it")
        return keys

    def of_document(self, operation: str, document: Mapping[str, Any]) -> str:
        """Return the key of ``document``."""
        key = key_of_document(document, self._sharded)
        if key is None:
            remedy = f"give it {KIND_OF_VALUE[self._sharded.key_type]} in {self._sharded.key_field}"
            raise self._refuse(operation, "a document has no partitionable key", remedy)
        return key

    def of_replacement(
        self, operation: str, filter: Mapping[str, Any], replacement: Mapping[str, Any], options: Mapping[str, Any]
    ) -> str:
        """Return the key of a replacement. It must be the key that the filter names, if it names any."""
        key = self.of_document(operation, replacement)
        if options.get("collation") is not None:
            raise self._refuse(operation, "a collation may match documents of other keys", "omit it")
        keys = keys_of_filter(filter, self._sharded)
        if keys is not None and keys != (key,):
            raise self.of_another_key(operation)
        if keys is None and options.get("upsert"):
            problem = "an upsert without a key may make a second document, since _id is unique on each partition only"
            raise self._refuse(operation, problem, f"add {self._sharded.key_field} to its filter")
        return key

    def of_another_key(self, operation: str) -> UnroutableOperation:
        """The error for a replacement whose key is not that of the document."""
        return self._refuse(operation, "it would give the document another key", "delete it and insert it under its new key")

    def check_update(self, operation: str, update: Mapping[str, Any] | Sequence[Mapping[str, Any]], key: str) -> None:
        """Refuse an update that could change the key of a document."""
        if operator := change_of_key(update, self._sharded, key):
            problem = f"its {operator} may give the document another key"
            raise self._refuse(operation, problem, "delete it and insert it under its new key")

    def limit(self, filter: Mapping[str, Any], key: str) -> Mapping[str, Any]:
        """Return ``filter``, limited to ``key``. An upsert takes the key from it."""
        return limited(filter, self._sharded, key)

    def items(self, operation: str, requests: Iterable[tuple[int, WriteRequest]]) -> list[BulkItem]:
        """Return numbered requests, each limited to its key. A request of several keys becomes one request per key."""
        return [item for index, request in requests for item in self._items(operation, index, request)]

    def _items(self, operation: str, index: int, request: Any) -> list[BulkItem]:
        kind = next((kind for known, kind in KINDS.items() if isinstance(request, known)), None)
        if kind is None:
            raise self._refuse(operation, f"{type(request).__name__} is not a write request", "use pymongo's request classes")
        if isinstance(request, InsertOne):
            document: Any = request._doc
            key = self.of_document(operation, document)
            document.setdefault("_id", ObjectId())
            return [BulkItem(index, key, kind, request)]
        options = {"collation": request._collation}
        if isinstance(request, ReplaceOne):
            key = self.of_replacement(operation, request._filter, request._doc, {**options, "upsert": request._upsert})
            if keys_of_filter(request._filter, self._sharded) is None:
                problem = "a replacement without a key in its filter would leave a document of another key as it is, in silence"
                raise self._refuse(operation, problem, f"add {self._sharded.key_field} to it, or use replace_one")
            return [BulkItem(index, key, kind, self._limited(request, key))]
        if isinstance(request, UpdateMany | DeleteMany):
            keys = self.of_filter_many(operation, request._filter, options)
        else:
            keys = (self.of_filter(operation, request._filter, options),)
        if isinstance(request, UpdateMany) and request._upsert and len(keys) != 1:
            raise self._refuse(operation, "an upsert of several keys", "name exactly one key")
        for key in keys:
            if isinstance(request, UpdateOne | UpdateMany):
                self.check_update(operation, request._doc, key)
        return [BulkItem(index, key, kind, self._limited(request, key)) for key in keys]

    def _limited(self, request: Any, key: str) -> WriteRequest:
        limited = copy(request)
        limited._filter = self.limit(request._filter, key)
        same: WriteRequest = limited
        return same

    def _refuse(self, operation: str, problem: str, remedy: str) -> UnroutableOperation:
        return OperationRefused(self._sharded.namespace, operation, problem, remedy)


def fits_one_message(run: Sequence[BulkItem], codec: CodecOptions[Any]) -> bool:
    """Whether pymongo sends a run in one message.

    It splits a larger run. A server that is not found then does not mean that nothing was sent.
    """
    size = 0
    for item in run:
        size += sum(len(bson.encode({"": part}, codec_options=codec)) for part in written(item.request))
        if size > LARGEST_MESSAGE:
            return False
    return True


def written(request: Any) -> tuple[Any, ...]:
    """The parts of a request that make up its size on the wire."""
    if isinstance(request, InsertOne):
        return (request._doc,)
    return (request._filter, getattr(request, "_doc", None))
