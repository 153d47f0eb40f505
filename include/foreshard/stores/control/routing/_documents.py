"""The routing table's types as MongoDB documents (:mod:`.store` describes their form)."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from foreshard.model import Placement, PlacementChange, SlotMap
from foreshard.model.key_space import KeySpace, KeyType, slot_number
from foreshard.stores.mongo_connections import Document

CHUNK_BYTES = 4_000_000
"""The maximum size of keys and ids in one document of changes (MongoDB's limit is 16 MB of BSON)."""
CHUNK_CHANGES = 10_000
CHANGE_OVERHEAD = 400


def row_document(placement: Placement, version: int, space: KeySpace, why: str = "") -> Document:
    """Return a row of ``routing_table`` that ``version`` changed last. A listed key's row has its slot and its reason."""
    row: Document = {
        "_id": placement.key,
        "primary": placement.primary,
        "shadows": list(placement.shadows),
        "epoch": placement.epoch,
        "version": version,
    }
    if slot_number(placement.key) is None:
        row |= {"slot": space.slot_of(placement.key), "why": why}
    return row


def placement_of(row: Mapping[str, Any]) -> Placement:
    """Read one row of ``routing_table``."""
    return Placement(row["_id"], row["primary"], tuple(row["shadows"]), int(row["epoch"]))


def space_document(space: KeySpace) -> Document:
    """Return the fields of the version document that describe the keys."""
    return {"key_type": space.key_type.value, "slots": space.slots}


def space_of(head: Mapping[str, Any]) -> KeySpace:
    """Read the key type and the number of slots from the version document."""
    return KeySpace(KeyType(head["key_type"]), int(head["slots"]))


def slot_map_of(space: KeySpace, rows: Mapping[int, Placement]) -> SlotMap:
    """Put the slots' rows in order. Raise ``KeyError`` if one is missing."""
    return SlotMap(space, tuple(rows[slot] for slot in range(space.slots)))


def change_document(change: PlacementChange, before: Placement | None) -> Document:
    """Return one change of a publication and the row ``before`` it (None: the key was not listed)."""
    document: Document = {
        "key": change.key,
        "primary": change.primary,
        "shadows": list(change.shadows),
        "expected_epoch": change.expected_epoch,
        "new_epoch": change.new_epoch,
        **({"delist": True} if change.delist else {}),
        **({"why": change.why} if change.why else {}),
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
        bool(document.get("delist", False)),
        str(document.get("why", "")),
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
