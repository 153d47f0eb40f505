"""A ``find``, and the part of it that is still missing when a move interrupts it. Pure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from foreshard.client._types import Document
from foreshard.stores.bson_codec import key_of

MOST_GIVEN = 100_000
"""A find without a sort remembers at most this many ids, about 10 MB."""


@dataclass(frozen=True)
class Find:
    """The arguments of a ``find``. ``options`` are passed to pymongo unchanged."""

    filter: Mapping[str, Any]
    projection: Mapping[str, Any] | Sequence[str] | None = None
    skip: int = 0
    limit: int = 0
    sort: tuple[tuple[str, Any], ...] = ()
    options: Mapping[str, Any] = field(default_factory=dict)


class Given:
    """What a find has returned so far, as far as it is needed to go on elsewhere.

    ``key_field``: the field that tells documents with the same ``_id`` apart, which is unique on each partition only; "" if all
    documents come from one partition. Nothing is left out before ``rest`` was called.
    """

    def __init__(self, find: Find, key_field: str = "") -> None:
        self._by_id = len(find.sort) == 1 and find.sort[0][0] == "_id" and find.options.get("collation") is None
        told_apart = has_ids(find.projection) and (not key_field or keeps_field(find.projection, key_field))
        self._possible = told_apart and (self._by_id or not (find.sort or find.skip))
        self._key_field, self._goes_on = key_field, False
        self._ids: set[Any] = set()
        self._last: Any = None
        self.count = 0

    def note(self, document: Document) -> bool:
        """Note a document before it is returned. Return False if it has been returned before."""
        if self._possible and not self._remember(document):
            return False
        self.count += 1
        return True

    def _remember(self, document: Document) -> bool:
        identity = document["_id"]
        if self._by_id and identity != self._last:
            self._ids.clear()
            self._last = identity
        try:
            told = (identity, key_of(document, self._key_field) if self._key_field else None)
            if told in self._ids:
                return not self._goes_on
            self._ids.add(told)
        except TypeError:  # a document as an id
            self._possible = self._by_id and not self._key_field
        is_vague = isinstance(identity, bool) and (self._key_field or not self._by_id)  # True equals 1, but not in MongoDB
        if is_vague or len(self._ids) > MOST_GIVEN:
            self._possible = False
            self._ids.clear()
        return True

    def rest(self, find: Find) -> Find | None:
        """Return the find of the documents that are still missing; None if it can't be told which these are.

        It repeats some documents, which ``note`` refuses: all of them without a sort, those with the last ``_id`` otherwise.
        """
        self._goes_on = True
        if self.count == 0:
            return find
        if not self._possible:
            return None
        if not self._by_id:
            return find
        operator = ("$gte" if _ascends(find) else "$lte") if self._key_field else ("$gt" if _ascends(find) else "$lt")
        beyond = {"$expr": {operator: ["$_id", {"$literal": self._last}]}}
        narrow = {**find.filter, "$and": [*find.filter.get("$and", ()), beyond]}
        repeated = len(self._ids) if self._key_field else 0
        limit = find.limit - self.count + repeated if find.limit else 0
        return replace(find, filter=narrow, skip=0, limit=limit)


def _ascends(find: Find) -> bool:
    return bool(find.sort[0][1] > 0)


def has_ids(projection: Any) -> bool:
    """Whether documents under a projection carry their own ``_id``."""
    return not isinstance(projection, Mapping) or projection.get("_id", 1) in (1, True)


def keeps_field(projection: Any, field: str) -> bool:
    """Whether documents under a projection carry this field as it is stored."""
    if not projection:
        return True
    if not isinstance(projection, Mapping):
        return any(_within(field, name) for name in projection)
    named = {name: value for name, value in projection.items() if name != "_id"}
    if not named or not all(value in (0, 1) for value in named.values()):  # True and False are 1 and 0
        return not named
    if any(named.values()):
        return any(_within(field, name) for name in named)
    return not any(_within(field, name) or _within(name, field) for name in named)


def _within(field: str, other: str) -> bool:
    return field == other or field.startswith(f"{other}.")
