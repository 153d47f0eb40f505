"""Who owns a key: placements, slots, the routing table and its changes."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from datetime import datetime

from foreshard.model.key_space import KeySpace


@dataclass(frozen=True, slots=True)
class Placement:
    """A unit's primary partition, its live shadows, and its epoch, which each of its moves raises. ``key`` names the unit."""

    key: str
    primary: str
    shadows: tuple[str, ...] = ()
    epoch: int = 1


@dataclass(frozen=True, slots=True)
class SlotMap:
    """Where the keys are that the table does not list: one placement per slot, in order. Slots have no shadows."""

    space: KeySpace
    placements: tuple[Placement, ...]

    def of(self, key: str) -> Placement:
        """Return the placement of the key's slot."""
        return self.placements[self.space.slot_of(key)]

    def laid_over(self, changed: Mapping[int, Placement]) -> SlotMap:
        """Return this map with other placements for some slots."""
        placements = list(self.placements)
        for slot, placement in changed.items():
            placements[slot] = placement
        return replace(self, placements=tuple(placements))


@dataclass(frozen=True, slots=True)
class RoutingTable:
    """A published version: listed key → placement, and the slots of all other keys."""

    version: int
    placements: Mapping[str, Placement]
    slots: SlotMap
    published_at: datetime


@dataclass(frozen=True, slots=True)
class PlacementChange:
    """One row of a publication, of a listed key or of a slot.

    The publication fails unless the unit is at ``expected_epoch`` (0: the key was not listed). ``delist`` removes the key's
    row: its slot places it from then on, which must be on ``primary``. ``why`` is the reason for listing the key, in a few
    words.
    """

    key: str
    primary: str
    shadows: tuple[str, ...]
    expected_epoch: int
    new_epoch: int
    delist: bool = False
    why: str = ""
