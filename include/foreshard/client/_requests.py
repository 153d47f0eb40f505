"""What a request of ``bulk_write`` says: its filter or document, and the same request limited to its key.

pymongo's request classes have no public accessors; this is the one module that looks inside them.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from copy import copy
from typing import Any

from bson import ObjectId
from pymongo import DeleteMany, DeleteOne, InsertOne, ReplaceOne, UpdateMany, UpdateOne

from foreshard.client._bulk import BulkItem, BulkKind, WriteRequest
from foreshard.client._keys import change_of_key, key_of_document, keys_of_filter, narrowed
from foreshard.errors import UnroutableOperation
from foreshard.model import ShardedCollection

KINDS: Mapping[type, BulkKind] = {
    InsertOne: BulkKind.INSERT,
    UpdateOne: BulkKind.UPDATE,
    ReplaceOne: BulkKind.UPDATE,
    UpdateMany: BulkKind.UPDATE_MANY,
    DeleteOne: BulkKind.DELETE,
    DeleteMany: BulkKind.DELETE,
}


class KeyRule:
    """What a write on one sharded collection must say about its key; everything else is refused before anything is sent."""

    def __init__(self, sharded: ShardedCollection) -> None:
        self._sharded = sharded

    def of_filter(self, operation: str, filter: Mapping[str, Any], options: Mapping[str, Any]) -> str:
        """The one key that ``filter`` names."""
        keys = self.of_filter_many(operation, filter, options)
        if len(keys) != 1:
            raise self._refuse(operation, f"it names {len(keys)} keys", "name exactly one key")
        return keys[0]

    def of_filter_many(self, operation: str, filter: Mapping[str, Any], options: Mapping[str, Any]) -> tuple[str, ...]:
        """The keys that ``filter`` names."""
        if options.get("collation") is not None:
            raise self._refuse(operation, "a collation may match documents of other keys", "leave it out")
        keys = keys_of_filter(filter, self._sharded.key_field)
        if keys is None:
            raise self._refuse(operation, "its filter names no partitionable key", f"add {self._sharded.key_field} to it")
        return keys

    def of_document(self, operation: str, document: Mapping[str, Any]) -> str:
        """The key in ``document``."""
        key = key_of_document(document, self._sharded.key_field)
        if key is None:
            field = self._sharded.key_field
            raise self._refuse(operation, "a document has no partitionable key", f"give it a non-empty string in {field}")
        return key

    def of_replacement(
        self, operation: str, filter: Mapping[str, Any], replacement: Mapping[str, Any], options: Mapping[str, Any]
    ) -> str:
        """The key of a replacement, which a document keeps."""
        key = self.of_document(operation, replacement)
        if options.get("collation") is not None:
            raise self._refuse(operation, "a collation may match documents of other keys", "leave it out")
        keys = keys_of_filter(filter, self._sharded.key_field)
        if keys is not None and keys != (key,):
            raise self._refuse(operation, "it would give the document another key", "delete it and insert it under its new key")
        return key

    def check_update(self, operation: str, update: Mapping[str, Any] | Sequence[Mapping[str, Any]], key: str) -> None:
        """Refuse an update that could give a document another key."""
        if operator := change_of_key(update, self._sharded.key_field, key):
            problem = f"its {operator} may give the document another key"
            raise self._refuse(operation, problem, "delete it and insert it under its new key")

    def limit(self, filter: Mapping[str, Any], key: str) -> Mapping[str, Any]:
        """``filter`` for documents of ``key`` only; an upsert takes the key from it."""
        return filter if filter.get(self._sharded.key_field) == key else narrowed(filter, self._sharded.key_field, [key])

    def items(self, operation: str, requests: Sequence[WriteRequest]) -> list[BulkItem]:
        """The requests with their keys, each limited to its own; one of several keys becomes one per key."""
        return [item for index, request in enumerate(requests) for item in self._items(operation, index, request)]

    def _items(self, operation: str, index: int, request: Any) -> list[BulkItem]:
        kind = next((kind for known, kind in KINDS.items() if isinstance(request, known)), None)
        if kind is None:
            raise self._refuse(operation, f"{type(request).__name__} is no write request", "use pymongo's request classes")
        if isinstance(request, InsertOne):
            document: Any = request._doc
            key = self.of_document(operation, document)
            document.setdefault("_id", ObjectId())
            return [BulkItem(index, key, kind, request)]
        options = {"collation": request._collation}
        if isinstance(request, ReplaceOne):
            key = self.of_replacement(operation, request._filter, request._doc, options)
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
        return UnroutableOperation(self._sharded.namespace, operation, problem, remedy)
