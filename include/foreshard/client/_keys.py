"""Finds the partitionable keys that an operation names in its filter or document. Pure.

A key is a value of the collection's key type: a non-empty string, a whole number, an ObjectId or a UUID. It is handed on as
canonical text, which routing tables and access records carry. A filter by any other value names no key.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from foreshard.client._types import Filter
from foreshard.client.routing.pymongo_errors import KeyRefused
from foreshard.model import ShardedCollection
from foreshard.model.key_space import KeyType, UnusableKey, canonical_key
from foreshard.stores.bson_codec import TEXTS, key_filter, key_of, key_text

KIND_OF_VALUE = {
    KeyType.STRING: "a non-empty string",
    KeyType.INT: "a whole number",
    KeyType.OBJECT_ID: "an ObjectId",
    KeyType.UUID: "a UUID",
}


def keys_of_filter(filter: Filter, sharded: ShardedCollection) -> tuple[str, ...] | None:
    """Return the only keys whose documents can match, in order, without duplicates. None if the filter does not limit keys.

    Understands equality, ``$eq`` and ``$in``, also inside ``$and`` (intersection) and ``$or`` (union).
    """
    if len(filter) == 1 and type(key := filter.get(sharded.key_field)) is str and key and sharded.key_type is KeyType.STRING:
        return (key,)
    found: tuple[str, ...] | None = None
    for name, condition in filter.items():
        named: tuple[str, ...] | None = None
        if name == sharded.key_field:
            named = _keys_of_condition(condition, sharded.key_type)
        elif name == "$and":
            for clause in condition:
                named = _both(named, keys_of_filter(clause, sharded))
        elif name == "$or":
            named = _any_of([keys_of_filter(clause, sharded) for clause in condition])
        found = _both(found, named)
    return found


def key_of_document(document: Mapping[str, Any], sharded: ShardedCollection) -> str | None:
    """Return the document's key; None if the field is missing or holds no key of the collection's type."""
    return key_text(key_of(document, sharded.key_field), sharded.key_type) or None


def key_argument(key: Any, key_type: KeyType) -> str:
    """Return a key that an app names, as a value or as text, as canonical text. Raise :class:`RouteRefused`."""
    text = key if isinstance(key, str) else key_text(key, key_type)
    if text is None:
        raise KeyRefused(str(key), 400, f"the key is not {KIND_OF_VALUE[key_type]}")
    try:
        return canonical_key(text, key_type)
    except UnusableKey as problem:
        raise KeyRefused(text, 400, f"the key {problem}") from None


def change_of_key(update: Mapping[str, Any] | Sequence[Mapping[str, Any]], sharded: ShardedCollection, key: str) -> str | None:
    """Return the operator or stage of ``update`` that could change the key of a document of ``key``; None if there is none."""
    if isinstance(update, Mapping):
        return next((op for op, fields in update.items() if _operator_changes(op, fields, sharded, key)), None)
    return next(
        (name for stage in update for name, fields in stage.items() if _stage_changes(name, fields, sharded.key_field)), None
    )


def limited(filter: Filter, sharded: ShardedCollection, key: str) -> Filter:
    """Return ``filter``, limited to one key. An upsert takes the key from it."""
    if key_text(filter.get(sharded.key_field), sharded.key_type) == key:
        return filter
    return narrowed(filter, sharded.key_field, [*key_filter(sharded, [key]).values()])


def narrowed(filter: Filter, key_field: str, keys: Sequence[Any]) -> dict[str, Any]:
    """Return ``filter``, limited to these keys, which are BSON values."""
    condition = {key_field: keys[0] if len(keys) == 1 else {"$in": list(keys)}}
    if not filter:
        return condition
    if key_field not in filter and "$and" not in filter:
        return {**filter, **condition}
    return {"$and": [dict(filter), condition]}


def _keys_of_condition(condition: Any, key_type: KeyType) -> tuple[str, ...] | None:
    if key := TEXTS[key_type](condition):
        return (key,)
    if not isinstance(condition, Mapping):
        return None
    found: tuple[str, ...] | None = None
    if "$eq" in condition:
        found = _keys_of_condition(condition["$eq"], key_type)
    listed = condition.get("$in")
    if isinstance(listed, list | tuple):
        keys = dict.fromkeys(key_text(value, key_type) or None for value in listed)
        if None not in keys:
            found = _both(found, tuple(key for key in keys if key is not None))
    return found


def _both(left: tuple[str, ...] | None, right: tuple[str, ...] | None) -> tuple[str, ...] | None:
    if left is None or right is None:
        return right if left is None else left
    return tuple(key for key in left if key in set(right))


def _any_of(clauses: Sequence[tuple[str, ...] | None]) -> tuple[str, ...] | None:
    if not clauses or any(clause is None for clause in clauses):
        return None
    return tuple(dict.fromkeys(key for clause in clauses for key in clause or ()))


def _touches(field: str, key_field: str) -> bool:
    return field == key_field or field.startswith(f"{key_field}.") or key_field.startswith(f"{field}.")


def _operator_changes(operator: str, fields: Any, sharded: ShardedCollection, key: str) -> bool:
    key_field = sharded.key_field
    if not isinstance(fields, Mapping):
        return False
    if operator == "$rename":
        return any(_touches(name, key_field) or _touches(str(target), key_field) for name, target in fields.items())
    keeps = operator in {"$set", "$setOnInsert"}
    return any(
        _touches(name, key_field) and not (keeps and name == key_field and key_text(value, sharded.key_type) == key)
        for name, value in fields.items()
    )


def _stage_changes(stage: str, fields: Any, key_field: str) -> bool:
    """Whether a stage may change the key. Only what provably keeps it does not."""
    if stage in {"$set", "$addFields"}:
        return any(_touches(name, key_field) for name in fields)
    if stage == "$unset":
        names = [fields] if isinstance(fields, str) else fields
        return any(_touches(name, key_field) for name in names)
    if stage == "$project":
        return not _projection_keeps(fields, key_field)
    if stage in {"$replaceWith", "$replaceRoot"}:
        return not _document_keeps(fields.get("newRoot") if stage == "$replaceRoot" else fields, key_field)
    return True


def _projection_keeps(fields: Mapping[str, Any], key_field: str) -> bool:
    """Whether documents have their key after ``$project``: it is included as it is, or other fields are excluded."""
    if fields.get(key_field) in (1, True) and type(fields[key_field]) in (int, float, bool):
        return all(name == key_field or not _touches(name, key_field) for name in fields)
    others = {name: value for name, value in fields.items() if name != "_id" or _touches("_id", key_field)}
    excludes = all(type(value) in (int, float, bool) and not value for value in others.values())
    return bool(others) and excludes and not any(_touches(name, key_field) for name in others)


def _document_keeps(new: Any, key_field: str) -> bool:
    """Whether a new document has the old one's key: it is the old one, has the key copied, or merges the old one in last."""
    if new == "$$ROOT":
        return True
    if not isinstance(new, Mapping):
        return False
    if [*new] == ["$mergeObjects"] and isinstance(new["$mergeObjects"], list):
        parts = new["$mergeObjects"]
        kept = [number for number, part in enumerate(parts) if _document_keeps(part, key_field)]
        return bool(kept) and not any(_may_have(part, key_field) for part in parts[kept[-1] + 1 :])
    return not _is_expression(new) and "." not in key_field and new.get(key_field) == f"${key_field}"


def _may_have(part: Any, key_field: str) -> bool:
    """Whether a part of a merged document may have the key field."""
    return not isinstance(part, Mapping) or _is_expression(part) or any(_touches(name, key_field) for name in part)


def _is_expression(document: Mapping[str, Any]) -> bool:
    return any(name.startswith("$") for name in document)
