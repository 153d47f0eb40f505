"""Finds the partitionable keys that an operation names in its filter or document. Pure.

A key is a non-empty string, because the fence and the routing table compare strings. A filter by any other value names no key.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from foreshard.client._types import Filter


def keys_of_filter(filter: Filter, key_field: str) -> tuple[str, ...] | None:
    """Return the only keys whose documents can match, in order, without duplicates. None if the filter does not limit keys.

    Understands equality, ``$eq`` and ``$in``, also inside ``$and`` (intersection) and ``$or`` (union).
    """
    if len(filter) == 1 and type(key := filter.get(key_field)) is str and key:
        return (key,)
    found: tuple[str, ...] | None = None
    for name, condition in filter.items():
        named: tuple[str, ...] | None = None
        if name == key_field:
            named = _keys_of_condition(condition)
        elif name == "$and":
            for clause in condition:
                named = _both(named, keys_of_filter(clause, key_field))
        elif name == "$or":
            named = _any_of([keys_of_filter(clause, key_field) for clause in condition])
        found = _both(found, named)
    return found


def key_of_document(document: Mapping[str, Any], key_field: str) -> str | None:
    """Return the document's key; None if the field is missing or not a non-empty string."""
    value: Any = document
    for part in key_field.split("."):
        if not isinstance(value, Mapping) or part not in value:
            return None
        value = value[part]
    return value if isinstance(value, str) and value else None


def change_of_key(update: Mapping[str, Any] | Sequence[Mapping[str, Any]], key_field: str, key: str) -> str | None:
    """Return the operator or stage of ``update`` that could change the key of a document of ``key``; None if there is none."""
    if isinstance(update, Mapping):
        return next((op for op, fields in update.items() if _operator_changes(op, fields, key_field, key)), None)
    return next((name for stage in update for name, fields in stage.items() if _stage_changes(name, fields, key_field)), None)


def narrowed(filter: Filter, key_field: str, keys: Sequence[Any]) -> dict[str, Any]:
    """Return ``filter``, limited to these keys."""
    condition = {key_field: keys[0] if len(keys) == 1 else {"$in": list(keys)}}
    if not filter:
        return condition
    if key_field not in filter and "$and" not in filter:
        return {**filter, **condition}
    return {"$and": [dict(filter), condition]}


def _keys_of_condition(condition: Any) -> tuple[str, ...] | None:
    if isinstance(condition, str):
        return (condition,) if condition else None
    if not isinstance(condition, Mapping):
        return None
    found: tuple[str, ...] | None = None
    if "$eq" in condition:
        found = _keys_of_condition(condition["$eq"])
    listed = condition.get("$in")
    if isinstance(listed, list | tuple) and all(isinstance(value, str) and value for value in listed):
        found = _both(found, tuple(dict.fromkeys(listed)))
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


def _operator_changes(operator: str, fields: Any, key_field: str, key: str) -> bool:
    if not isinstance(fields, Mapping):
        return False
    if operator == "$rename":
        return any(_touches(name, key_field) or _touches(str(target), key_field) for name, target in fields.items())
    keeps = operator in {"$set", "$setOnInsert"}
    return any(
        _touches(name, key_field) and not (keeps and name == key_field and value == key) for name, value in fields.items()
    )


def _stage_changes(stage: str, fields: Any, key_field: str) -> bool:
    if stage in {"$set", "$addFields"}:
        return any(_touches(name, key_field) for name in fields)
    if stage == "$unset":
        names = [fields] if isinstance(fields, str) else fields
        return any(_touches(name, key_field) for name in names)
    return True
