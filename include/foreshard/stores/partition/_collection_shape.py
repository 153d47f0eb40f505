"""Creates a move's target collections like the source's: options and indexes if empty, and an index on the key field."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from typing import Any

from pymongo import ASCENDING, HASHED, MongoClient
from pymongo.collection import Collection
from pymongo.errors import OperationFailure

from foreshard.errors import MoveRefused
from foreshard.model import ShardedCollection
from foreshard.ports.migration import Shape
from foreshard.stores.mongo_connections import Document
from foreshard.stores.partition._indexes import create_missing, index_definitions
from foreshard.stores.partition.fences.fence_validator import read_options

LOG = logging.getLogger("foreshard.move")
NAMESPACE_EXISTS = 48
PARTIAL = {"partialFilterExpression", "sparse", "collation"}
"""Options of an index that may lack documents or compare otherwise."""
NOT_COPIED = frozenset({"uuid", "validator", "validationLevel", "validationAction"})


def shape(client: MongoClient[Document], collections: Sequence[ShardedCollection], move_id: str) -> Shape:
    """Return namespace → ``{options, indexes}`` of existing collections. Raise :class:`MoveRefused` if one cannot be moved."""
    found: dict[str, Mapping[str, Any]] = {}
    for each in collections:
        entry = next(iter(client[each.database].list_collections(filter={"name": each.collection})), None)
        if entry is None:
            continue
        options = dict(entry.get("options", {}))
        problem = _problem(entry.get("type", "collection"), options)
        if problem:
            raise MoveRefused(move_id, f"{each.namespace} {problem}", "move its keys by other means")
        rules = read_options(options, each).rules
        kept = {name: value for name, value in options.items() if name not in NOT_COPIED}
        if rules.validator:
            kept |= {"validator": rules.validator, "validationLevel": rules.level, "validationAction": rules.action}
        indexes = index_definitions(client[each.database][each.collection])
        found[each.namespace] = {"options": kept, "indexes": indexes}
    return found


def prepare(client: MongoClient[Document], collections: Sequence[ShardedCollection], wanted: Shape, *, hashed: bool) -> None:
    """Create missing collections like ``wanted``. Create an index on the key field where none starts with it.

    ``hashed``: slots are read, which needs a hashed index. Where it can't be made, they are read by a scan.
    """
    for each in collections:
        database = client[each.database]
        like = wanted.get(each.namespace, {})
        if each.collection not in database.list_collection_names(filter={"name": each.collection}):
            try:
                database.command({"create": each.collection, **like.get("options", {})})
            except OperationFailure as error:
                if error.code != NAMESPACE_EXISTS:
                    raise
        collection = database[each.collection]
        if len(index_definitions(collection)) <= 1 and collection.estimated_document_count() == 0:
            create_missing(collection, like.get("indexes", ()))
        if not any(_serves(index, each.key_field) for index in index_definitions(collection)):
            collection.create_index([(each.key_field, ASCENDING)], name="foreshard_key")
        if hashed and not has_hashed_index(collection, each.key_field):
            try:
                collection.create_index([(each.key_field, HASHED)], name="foreshard_hashed")
            except OperationFailure as error:
                LOG.warning("%s can't have a hashed index on %s: %s", each.namespace, each.key_field, _line(error))


def has_hashed_index(collection: Collection[Any], key_field: str) -> bool:
    """Return whether a hashed index on the key field has every document."""
    return any(
        dict(index["key"]) == {key_field: HASHED} and not PARTIAL & set(index) for index in index_definitions(collection)
    )


def _line(error: OperationFailure) -> str:
    return str(error).split(", full error")[0]


def _serves(index: Mapping[str, Any], key_field: str) -> bool:
    plain = not PARTIAL & set(index)
    return plain and next(iter(index["key"])) == key_field and index["key"][key_field] in (1, -1, "hashed")


def _problem(kind: str, options: Mapping[str, Any]) -> str | None:
    if kind != "collection":
        return f"is a {kind}, not a collection"
    if options.get("capped"):
        return "is capped, so documents cannot be removed from it"
    if options.get("collation", {}).get("locale", "simple") != "simple":
        return "has a default collation, by which different keys may be equal"
    return None
