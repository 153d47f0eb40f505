"""What the documents of a partition hold in their key field, and the index that finds a slot's documents."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Protocol

from foreshard.model import ShardedCollection


@dataclass(frozen=True, slots=True)
class KeyKinds:
    """Documents by what their key field holds. ``others``: BSON type (or ``missing``) → documents that have no usable key."""

    documents: int
    others: Mapping[str, int]


@dataclass(frozen=True, slots=True)
class IndexMade:
    """What an index cost: the documents that were read, seconds, and the index's size in bytes."""

    documents: int
    seconds: float
    size: int


class KeyInspector(Protocol):
    """The key field of one partition's documents."""

    def kinds(self, collection: ShardedCollection, sample: int | None = None) -> KeyKinds:
        """Count the documents, or those of a random sample, by what their key field holds."""
        ...

    def make_hashed_index(self, collection: ShardedCollection) -> IndexMade | None:
        """Create the hashed index on the key field. None: it exists, or the collection does not.

        Raise :class:`foreshard.errors.ArrayKeys` if a document holds an array there.
        """
        ...
