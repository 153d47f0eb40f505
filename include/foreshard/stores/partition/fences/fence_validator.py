"""How a fence and an app's own rules share one collection validator (pure).

While anything is fenced the validator is ``{$and: [{$comment: marker}, {}, app's validator or {}, fence's clauses…]}`` at
level ``strict`` with action ``error``. The marker holds the revision, the number of slots, and the app's own level and action,
so the collection alone says what was there before. Rules that the app does not enforce (action ``warn``, level ``off``) are
kept in the marker and are inactive meanwhile. Without fenced keys the app's rules are alone again. Level ``moderate`` is
refused, because it accepts an update of a document that is already invalid.

A refused write gets the failing clauses in its answer, so they are kept short. The clause of the slots prints their bitmap. The
keys that are here although their slot is fenced are in a JSON schema behind two ``not``, which MongoDB does not print. The
keys elsewhere are in short ``$nin`` lists under ranges of keys, so that a write meets few of them.

Older versions wrote ``{$and: [{key_field: {$nin: keys}}, {$comment: marker}, app's validator]}``. It is read, never written; so
the app's validator stands at the same place in both.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property, lru_cache
from math import isqrt
from typing import Any

from foreshard.errors import FenceRefused
from foreshard.model import ShardedCollection
from foreshard.model.key_space import KeySpace, KeyType
from foreshard.routing.fence_lists import FenceLists
from foreshard.stores.bson_codec import key_text, key_value
from foreshard.stores.partition._slot_filter import outside_slots, slots_in

STRICT, ERROR = "strict", "error"
FIRST_CLAUSE = 3
"""Where the fence's own clauses begin: a refusal by one of them is a fence's."""
HERE_AT_ONCE, ELSEWHERE_AT_ONCE = 128, 16
"""Keys in one list. The lists of keys here are compared one by one, those of keys elsewhere are printed."""


@dataclass(frozen=True, slots=True)
class AppRules:
    """The validator that the app itself has set, with its level and action."""

    validator: Mapping[str, Any] | None = None
    level: str = STRICT
    action: str = ERROR

    @property
    def enforced(self) -> bool:
        """Whether the server refuses what breaks these rules."""
        return bool(self.validator) and self.level == STRICT and self.action == ERROR


@dataclass(frozen=True)
class FenceInForce:
    """What a collection's options say: the revision of the fence (0 without one), and the app's own rules.

    ``clauses`` are the fence's, in the order of the validator, if the server really enforces them.
    """

    revision: int
    rules: AppRules
    space: KeySpace
    clauses: Sequence[Any] = ()

    @cached_property
    def lists(self) -> FenceLists:
        """What the server refuses."""
        return _lists(self.clauses, self.space) if self.clauses else FenceLists(self.space)


def read_options(options: Mapping[str, Any], collection: ShardedCollection) -> FenceInForce:
    """Take a collection's options apart."""
    validator = options.get("validator") or None
    level, action = options.get("validationLevel", STRICT), options.get("validationAction", ERROR)
    marker = _marker(validator)
    if validator is None or marker is None:
        return FenceInForce(0, AppRules(validator, level, action), KeySpace(collection.key_type))
    clauses = validator["$and"]
    is_old = "slots" not in marker
    own = clauses[2] if len(clauses) > 2 else None
    rules = AppRules(marker.get("validator") or own or None, marker["level"], marker["action"])
    enforced = clauses[:1] if is_old else clauses[FIRST_CLAUSE:]
    space = KeySpace(collection.key_type) if is_old else KeySpace(collection.key_type, int(marker["slots"]))
    return FenceInForce(int(marker["revision"]), rules, space, enforced if is_enforced(level, action) else ())


def is_enforced(level: str, action: str) -> bool:
    """Return whether the server refuses what breaks a validator."""
    return level == STRICT and action == ERROR


def revision_of(head: Sequence[Any] | None) -> int | None:
    """Return the revision of the fence whose first two clauses these are; None for another validator."""
    marker = _marker({"$and": list(head or ())})
    return None if marker is None else int(marker["revision"])


def compose(collection: ShardedCollection, lists: FenceLists, revision: int, rules: AppRules) -> dict[str, Any]:
    """Return the ``collMod`` arguments that enforce ``lists`` and keep the app's rules.

    Raise :class:`FenceRefused` for a validator of level ``moderate``.
    """
    if not lists:
        return {"validator": rules.validator or {}, "validationLevel": rules.level, "validationAction": rules.action}
    if rules.validator and rules.level == "moderate":
        raise FenceRefused(
            collection.namespace,
            "its own validator has level moderate, which lets writes past a fence",
            "set its validationLevel to strict",
        )
    marker = {
        "revision": revision,
        "slots": lists.space.slots,
        "level": rules.level,
        "action": rules.action,
        "validator": None if rules.enforced else rules.validator,
    }
    own = rules.validator if rules.enforced else {}
    clauses = [
        {"$comment": {"foreshard": marker}},
        {},
        own,
        *_slot_clauses(collection, lists),
        *_key_clauses(collection, lists),
    ]
    return {"validator": {"$and": clauses}, "validationLevel": STRICT, "validationAction": ERROR}


def _slot_clauses(collection: ShardedCollection, lists: FenceLists) -> Iterator[dict[str, Any]]:
    """Refuse keys of the fenced slots that are not here."""
    if not lists.slots:
        return
    free = outside_slots(collection, lists.space, lists.slots)
    chunks = list(_chunks(_values(collection.key_type, lists.here), HERE_AT_ONCE))
    if not chunks:
        yield free
    elif len(chunks) == 1:
        yield {"$or": [free, _hidden(collection.key_field, chunks[0])]}
    else:
        named = [
            {"$or": [*_outside(collection.key_field, chunks, n, n + 1), _hidden(collection.key_field, chunk)]}
            for n, chunk in enumerate(chunks)
        ]
        yield {"$or": [free, {"$and": named}]}


def _key_clauses(collection: ShardedCollection, lists: FenceLists) -> Iterator[dict[str, Any]]:
    """Refuse listed keys that are elsewhere."""
    field = collection.key_field
    chunks = list(_chunks(_values(collection.key_type, lists.elsewhere), ELSEWHERE_AT_ONCE))
    step = max(1, isqrt(len(chunks)))
    for start in range(0, len(chunks), step):
        end = min(start + step, len(chunks))
        refused = [{field: {"$nin": chunk}} for chunk in chunks[start:end]]
        if len(chunks) <= step:
            yield from refused
        else:
            yield {"$or": [*_outside(field, chunks, start, end), {"$and": refused}]}


@lru_cache(maxsize=8)
def _values(key_type: KeyType, keys: frozenset[str]) -> list[Any]:
    """Return the keys as BSON values, in the server's order (that of UTF-8 is the order of code points).

    A change touches one of two lists, and apps wait for it; the other one is kept.
    """
    return sorted(key_value(key, key_type) for key in keys)


def _chunks(values: Sequence[Any], size: int) -> Iterator[Sequence[Any]]:
    for start in range(0, len(values), size):
        yield values[start : start + size]


def _outside(field: str, chunks: Sequence[Sequence[Any]], start: int, end: int) -> Iterator[dict[str, Any]]:
    """Accept keys before the first or after the last key of some chunks. Ranges touch, so they cover every key once."""
    if start > 0:
        yield {field: {"$lt": chunks[start][0]}}
    if end < len(chunks):
        yield {field: {"$gte": chunks[end][0]}}


def _hidden(field: str, values: Collection[Any]) -> dict[str, Any]:
    """Accept these keys. MongoDB prints nothing of a schema behind ``not``."""
    schema: dict[str, Any] = {"enum": list(values)}
    for part in reversed(field.split(".")):
        schema = {"required": [part], "properties": {part: schema}}
    return {"$jsonSchema": {"not": {"not": schema}}}


def _marker(validator: Mapping[str, Any] | None) -> Mapping[str, Any] | None:
    clauses = (validator or {}).get("$and")
    for clause in clauses[:2] if isinstance(clauses, list) else ():
        comment = clause.get("$comment") if isinstance(clause, Mapping) else None
        marker = comment.get("foreshard") if isinstance(comment, Mapping) else None
        if isinstance(marker, Mapping):
            return marker
    return None


def _lists(clauses: Any, space: KeySpace) -> FenceLists:
    """Read the lists out of the fence's clauses."""
    found: dict[str, list[Any]] = {"$nin": [], "enum": [], "$substrBytes": []}
    _collect(clauses, found)
    slots = slots_in(found["$substrBytes"][0]) if found["$substrBytes"] else frozenset()
    elsewhere, here = (frozenset(_texts(found[name], space.key_type)) for name in ("$nin", "enum"))
    return FenceLists(space, slots, elsewhere, here)


def _texts(values: Iterable[Any], key_type: KeyType) -> Iterator[str]:
    for value in values:
        text = key_text(value, key_type)
        if text is not None:
            yield text


def _collect(part: Any, found: dict[str, list[Any]]) -> None:
    if isinstance(part, Mapping):
        for name, inner in part.items():
            if name in found and isinstance(inner, list):
                found[name] += inner
            else:
                _collect(inner, found)
    elif isinstance(part, list):
        for inner in part:
            _collect(inner, found)
