"""Index definitions of a collection, and copying them to the same collection on another partition."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from pymongo.collection import Collection

IndexDefinition = dict[str, Any]


def index_definitions(collection: Collection[Any]) -> list[IndexDefinition]:
    """Return the definitions as ``createIndexes`` takes them, the one of ``_id`` included."""
    return [{name: value for name, value in dict(i).items() if name not in ("v", "ns")} for i in collection.list_indexes()]


def create_missing(collection: Collection[Any], wanted: Iterable[Mapping[str, Any]]) -> None:
    """Create the wanted indexes whose names are not there yet. Raise ``OperationFailure`` if one conflicts."""
    present = {index["name"] for index in collection.list_indexes()} | {"_id_"}
    missing = [dict(index) for index in wanted if index["name"] not in present]
    if missing:
        collection.database.command("createIndexes", collection.name, indexes=missing)
