"""Makes a move's target collections like the source's before anything is copied, and indexes the key field."""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from pymongo import ASCENDING, HASHED, MongoClient
from pymongo.collection import Collection
from pymongo.errors import OperationFailure

from foreshard.errors import MoveRefused
from foreshard.model import ShardedCollection
from foreshard.ports.migration import Shape
from foreshard.stores.mongo_connections import Document
from foreshard.stores.partition._indexes import index_definitions
from foreshard.stores.partition.fences.fence_validator import AppRules, FenceInForce, read_options
from foreshard.stores.partition.units.shapes import IMAGES, conflicts, missing_indexes, rules_of

LOG = logging.getLogger("foreshard.move")
NAMESPACE_EXISTS, DUPLICATE_KEY = 48, 11000
INDEX_CONFLICTS = frozenset({67, 85, 86})
"""CannotCreateIndex, IndexOptionsConflict, IndexKeySpecsConflict."""
MODERATE = "moderate"
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
        if rules.validator and rules.level == MODERATE:
            problem = f"{each.namespace} has a validator of level moderate, which lets writes past a fence"
            raise MoveRefused(move_id, problem, "set its validationLevel to strict")
        kept = {name: value for name, value in options.items() if name not in NOT_COPIED}
        if rules.validator:
            kept |= {"validator": rules.validator, "validationLevel": rules.level, "validationAction": rules.action}
        indexes = index_definitions(client[each.database][each.collection])
        found[each.namespace] = {"options": kept, "indexes": indexes}
    return found


def prepare(
    client: MongoClient[Document],
    each: ShardedCollection,
    wanted: Mapping[str, Any] | None,
    move_id: str,
    probe: Callable[[], None],
) -> None:
    """Make the collection like ``wanted``, a collection's entry in a shape, and add what an existing one lacks.

    ``probe`` raises if an open transaction keeps the collection's lock: writers would queue behind the change that waits.
    Raise :class:`MoveRefused` for a difference that can't be settled, or a document that breaks a unique index.
    """
    if wanted is None:
        return
    here, database = each.namespace, client[each.database]
    there = shape(client, [each], move_id).get(here)
    if there is None:
        try:
            database.command({"create": each.collection, **wanted["options"]})
        except OperationFailure as error:
            if error.code != NAMESPACE_EXISTS:
                raise
        there = shape(client, [each], move_id)[here]
    problem = next(conflicts(wanted, there), None)
    if problem is not None:
        raise MoveRefused(move_id, f"{here} on the target {problem}", "make both collections the same")
    images = wanted["options"].get(IMAGES)
    images = images if images != there["options"].get(IMAGES) else None
    indexes = missing_indexes(wanted, there)
    if images or indexes:
        probe()
    if images:
        database.command({"collMod": each.collection, IMAGES: images})
    _create_indexes(database[each.collection], indexes, here, move_id)


def missing_rules(wanted: Mapping[str, Any] | None, there: FenceInForce) -> AppRules | None:
    """Return the app's own rules of ``wanted`` if the target's collection has none."""
    if wanted is None or there.rules.validator:
        return None
    rules = rules_of(wanted)
    return AppRules(rules["validator"], rules["validationLevel"], rules["validationAction"]) if rules["validator"] else None


def index_keys(client: MongoClient[Document], each: ShardedCollection, probe: Callable[[], None], *, hashed: bool) -> None:
    """Create an index on the key field where none starts with it. ``probe`` as in ``prepare``.

    ``hashed``: slots are read, which needs a hashed index. Where it can't be made, they are read by a scan.
    """
    collection = client[each.database][each.collection]
    if not any(_serves(index, each.key_field) for index in index_definitions(collection)):
        probe()
        collection.create_index([(each.key_field, ASCENDING)], name="foreshard_key")
    if hashed and not has_hashed_index(collection, each.key_field):
        probe()
        try:
            collection.create_index([(each.key_field, HASHED)], name="foreshard_hashed")
        except OperationFailure as error:
            LOG.warning("%s can't have a hashed index on %s: %s", each.namespace, each.key_field, _line(error))


def _create_indexes(collection: Collection[Any], indexes: Sequence[Mapping[str, Any]], here: str, move_id: str) -> None:
    for index in indexes:
        try:
            collection.database.command("createIndexes", collection.name, indexes=[dict(index)])
        except OperationFailure as error:
            if error.code == DUPLICATE_KEY:
                problem = f"{here} on the target has documents that break the source's unique index {index['name']!r}"
                raise MoveRefused(move_id, f"{problem}: {_duplicate(error)}", "make them unique over all partitions") from error
            if error.code in INDEX_CONFLICTS:
                problem = f"{here} on the target can't have the source's index {index['name']!r}: {_line(error)}"
                raise MoveRefused(move_id, problem, "make both collections the same") from error
            raise


def has_hashed_index(collection: Collection[Any], key_field: str) -> bool:
    """Return whether a hashed index on the key field has every document."""
    return any(
        dict(index["key"]) == {key_field: HASHED} and not PARTIAL & set(index) for index in index_definitions(collection)
    )


def _duplicate(error: OperationFailure) -> str:
    fields = (error.details or {}).get("keyValue") or {}
    return ", ".join(f"{name} {value!r}" for name, value in fields.items()) or _line(error)


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
