"""A ``find``, and the part of it that is still missing when a move interrupts it. Pure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from foreshard.client._types import Document

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
    """What a find has returned so far, as far as it is needed to go on elsewhere."""

    def __init__(self, find: Find) -> None:
        self._by_id = len(find.sort) == 1 and find.sort[0][0] == "_id"
        self._possible = has_ids(find.projection) and (self._by_id or not (find.sort or find.skip))
        self._ids: set[Any] = set()
        self._last: Any = None
        self.count = 0

    def note(self, document: Document) -> bool:
        """Note a document before it is returned. Return False if it has been returned before."""
        if not self._possible:
            self.count += 1
            return True
        identity = document["_id"]
        if self._by_id:
            self._last = identity
        elif not self._remember(identity):
            return False
        self.count += 1
        return True

    def _remember(self, identity: Any) -> bool:
        try:
            if identity in self._ids:
                return False
            self._ids.add(identity)
        except TypeError:  # a document as an id
            self._possible = False
        if len(self._ids) > MOST_GIVEN or isinstance(identity, bool):  # True equals 1 here, but not in MongoDB
            self._possible = False
            self._ids.clear()
        return True

    def rest(self, find: Find) -> Find | None:
        """Return the find of the documents that are still missing; None if it can't be told which these are.

        A find without a sort is repeated, and ``note`` refuses what was returned before.
        """
        if self.count == 0:
            return find
        if not self._possible:
            return None
        if not self._by_id:
            return find
        beyond = {"$expr": {"$gt" if _ascends(find) else "$lt": ["$_id", {"$literal": self._last}]}}
        narrow = {**find.filter, "$and": [*find.filter.get("$and", ()), beyond]}
        limit = find.limit - self.count if find.limit else 0
        return replace(find, filter=narrow, skip=0, limit=limit)


def _ascends(find: Find) -> bool:
    return bool(find.sort[0][1] > 0)


def has_ids(projection: Any) -> bool:
    """Whether documents under a projection carry their own ``_id``."""
    return not isinstance(projection, Mapping) or projection.get("_id", 1) in (1, True)
