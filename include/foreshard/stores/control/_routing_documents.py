"""The routing table's types as MongoDB documents (:mod:`.routing_table` describes their form)."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from foreshard.model import DefaultRule, Placement, PlacementChange
from foreshard.stores.mongo_connections import Document

CHUNK_BYTES = 4_000_000
"""The maximum size of keys and ids in one document of changes (MongoDB's limit is 16 MB of BSON)."""
CHUNK_CHANGES = 10_000
CHANGE_OVERHEAD = 400


def row_document(placement: Placement, version: int) -> Document:
    """Return a row of ``routing_table`` that ``version`` changed last."""
    return {
        "_id": placement.key,
        "primary": placement.primary,
        "shadows": list(placement.shadows),
        "epoch": placement.epoch,
        "version": version,
    }


def placement_of(row: Mapping[str, Any]) -> Placement:
    """Read one row of ``routing_table``."""
    return Placement(row["_id"], row["primary"], tuple(row["shadows"]), int(row["epoch"]))


def rule_document(rule: DefaultRule) -> Document:
    """Return a default rule as a document. Ids are values, because field names cannot contain every character."""
    return {"partitions": list(rule.partitions), "weights": list(rule.weights)}


def rule_of(document: Mapping[str, Any]) -> DefaultRule:
    """Read a default rule."""
    return DefaultRule(tuple(document["partitions"]), tuple(float(w) for w in document["weights"]))


def change_document(change: PlacementChange, before: Placement | None) -> Document:
    """Return one change of a publication and the row ``before`` it (None: the key was not listed)."""
    document: Document = {
        "key": change.key,
        "primary": change.primary,
        "shadows": list(change.shadows),
        "expected_epoch": change.expected_epoch,
        "new_epoch": change.new_epoch,
    }
    if before is not None:
        document["before"] = {"primary": before.primary, "shadows": list(before.shadows), "epoch": before.epoch}
    return document


def before_of(document: Mapping[str, Any]) -> Placement | None:
    """Read the row before a change."""
    before = document.get("before")
    return Placement(document["key"], before["primary"], tuple(before["shadows"]), int(before["epoch"])) if before else None


def change_of(document: Mapping[str, Any]) -> PlacementChange:
    """Read one change."""
    return PlacementChange(
        document["key"],
        document["primary"],
        tuple(document["shadows"]),
        int(document["expected_epoch"]),
        int(document["new_epoch"]),
    )


def chunk_id(version: int, chunk: int) -> Document:
    """Return the id of a chunk of changes."""
    return {"version": version, "chunk": chunk}


def chunked(changes: Sequence[PlacementChange]) -> Iterator[list[PlacementChange]]:
    """Yield the changes in lists that fit into one document and one command."""
    some: list[PlacementChange] = []
    size = 0
    for change in changes:
        length = CHANGE_OVERHEAD + 4 * sum(len(text) for text in (change.key, change.primary, *change.shadows))
        if some and (size + length > CHUNK_BYTES or len(some) == CHUNK_CHANGES):
            yield some
            some, size = [], 0
        some.append(change)
        size += length
    if some:
        yield some
