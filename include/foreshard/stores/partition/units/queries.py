"""A query for documents of a move's units: by their keys, or by a range of the hashed index on the key field."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

from bson import Int64
from pymongo import HASHED
from pymongo.client_session import ClientSession
from pymongo.collection import Collection
from pymongo.cursor import Cursor

MOVERS_READ = "read by a Foreshard mover"
"""The comment of a mover's reads. Nobody waits for them: the server keeps those of a mover that was killed for ten minutes."""


@dataclass(frozen=True, slots=True)
class UnitQuery:
    """The documents that ``wanted`` describes; with ``field``, those with a hash of it in [first, end)."""

    wanted: dict[str, Any]
    field: str | None = None
    first: int = 0
    end: int | None = None

    def and_also(self, also: dict[str, Any]) -> UnitQuery:
        """Return a query for those of the documents that match ``also``."""
        return replace(self, wanted={"$and": [self.wanted, also]}) if also else self

    def find(self, collection: Collection[Any], **options: Any) -> Cursor[Any]:
        """Open a cursor. ``options`` are those of pymongo's ``find``."""
        found = collection.find(self.wanted, comment=MOVERS_READ, **options)
        if self.field is None:
            return found
        found = found.hint([(self.field, HASHED)]).min([(self.field, Int64(self.first))])
        return found if self.end is None else found.max([(self.field, Int64(self.end))])

    def command(self) -> dict[str, Any]:
        """Return the fields of the ``find`` command."""
        named = {"filter": self.wanted, "comment": MOVERS_READ}
        if self.field is None:
            return named
        end = {} if self.end is None else {"max": {self.field: Int64(self.end)}}
        return {**named, "hint": {self.field: HASHED}, "min": {self.field: Int64(self.first)}, **end}

    def has_more_than(self, number: int, collection: Collection[Any], session: ClientSession) -> bool:
        """Return whether there are more than ``number`` documents."""
        return any(True for _ in self.find(collection, projection={"_id": 1}, skip=number, limit=1, session=session))

    def count(self, collection: Collection[Any], session: ClientSession) -> int:
        """Count the documents one by one."""
        return sum(1 for _ in self.find(collection, projection={"_id": 1}, batch_size=10_000, session=session))
