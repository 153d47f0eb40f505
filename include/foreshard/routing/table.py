"""Finds the owner of a key: its own row if it is listed, or its slot's. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from datetime import datetime
from types import MappingProxyType

from foreshard.errors import TableGap
from foreshard.model import Placement, PlacementChange, RoutingTable
from foreshard.model.key_space import slot_number
from foreshard.routing.packed import PackedPlacements

MERGE_SHARE = 8
"""Changes are kept over a table until they reach 1/``MERGE_SHARE`` of it; then both are merged."""

Changed = Mapping[str, Placement | None]
"""Key → its new placement; None if it is not listed any more."""


def locate(table: RoutingTable, unit: str) -> Placement:
    """Return where a key or a slot lives. A key that is not listed lives where its slot does, at the slot's epoch."""
    listed = table.placements.get(unit)
    if listed is not None:
        return listed
    slot = slot_number(unit)
    if slot is not None:
        return table.slots.placements[slot]
    home = table.slots.of(unit)
    return Placement(unit, home.primary, (), home.epoch)


def apply_changes(
    table: RoutingTable, changes: Iterable[PlacementChange], version: int, published_at: datetime
) -> RoutingTable:
    """Return ``table`` at ``version``, in time proportional to the changes and the slots. The given table is not modified.

    Raise :class:`TableGap` unless ``version`` is the next one; the caller then reads the whole table.
    """
    if version != table.version + 1:
        raise TableGap(table.version, version)
    keys: dict[str, Placement | None] = {}
    slots: dict[int, Placement] = {}
    for change in changes:
        placement = Placement(change.key, change.primary, change.shadows, change.new_epoch)
        slot = slot_number(change.key)
        if slot is not None:
            slots[slot] = placement
        else:
            keys[change.key] = None if change.delist else placement
    placements = laid_over(table.placements, keys) if keys else table.placements
    return RoutingTable(version, placements, table.slots.laid_over(slots) if slots else table.slots, published_at)


def laid_over(placements: Mapping[str, Placement], changed: Changed) -> Mapping[str, Placement]:
    """Return ``placements`` with ``changed`` over them, without a copy."""
    if isinstance(placements, PackedPlacements):
        return placements.laid_over(changed)
    return LayeredPlacements.over(placements, changed)


class LayeredPlacements(Mapping[str, Placement]):
    """A few changed placements over many unchanged ones, so that a publication does not copy the table."""

    __slots__ = ("_added", "_base", "_changed")

    def __init__(self, base: Mapping[str, Placement], changed: Changed) -> None:
        self._base, self._changed = base, changed
        self._added = sum((key not in base) - (placement is None) for key, placement in changed.items())

    @classmethod
    def over(cls, placements: Mapping[str, Placement], changed: Changed) -> Mapping[str, Placement]:
        """Put ``changed`` over ``placements``; merge both once there are many changes."""
        base, before = (placements._base, placements._changed) if isinstance(placements, cls) else (placements, {})
        together = {key: placement for key, placement in {**before, **changed}.items() if placement or key in base}
        if len(together) * MERGE_SHARE >= len(base):
            merged = {**base, **together}
            return MappingProxyType({key: placement for key, placement in merged.items() if placement is not None})
        return cls(base, together)

    def __getitem__(self, key: str) -> Placement:
        found = self._changed[key] if key in self._changed else self._base[key]
        if found is None:
            raise KeyError(key)
        return found

    def __iter__(self) -> Iterator[str]:
        yield from (key for key in self._base if self._changed.get(key, self) is not None)
        yield from (key for key in self._changed if key not in self._base)

    def __len__(self) -> int:
        return len(self._base) + self._added
