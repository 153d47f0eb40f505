"""The keys that a partition's fence refuses, as three bounded lists (pure).

A key is refused if it is ``elsewhere``, or if its slot is in ``slots`` and it is not ``here``. ``slots`` are the slots that the
partition does not own. ``elsewhere`` are listed keys that live on other partitions although their slot lives here, and ``here``
are listed keys that live here although their slot does not. So the lists grow with slots and listed keys, not with moves.

The form is canonical: ``elsewhere`` has no key of a fenced slot, and ``here`` only has keys of fenced slots.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable
from dataclasses import dataclass, field, replace
from functools import lru_cache

from foreshard.model.key_space import KeySpace, slot_number
from foreshard.model.placed import RoutingTable

MOST_KNOWN = 500_000


@dataclass(frozen=True, slots=True)
class FenceLists:
    """An immutable fence. Its operations return another one."""

    space: KeySpace
    slots: frozenset[int] = field(default=frozenset())
    elsewhere: frozenset[str] = field(default=frozenset())
    here: frozenset[str] = field(default=frozenset())

    def __bool__(self) -> bool:
        """Whether any key is refused."""
        return bool(self.slots or self.elsewhere)

    def refuses(self, key: str) -> bool:
        """Return whether writes of a key are refused."""
        return key in self.elsewhere or (self.space.slot_of(key) in self.slots and key not in self.here)

    def fence(self, units: Iterable[str], exceptions: Collection[str] = ()) -> FenceLists:
        """Refuse the units too. ``exceptions`` are listed keys of the units' slots, which stay as they are."""
        slots, keys = _parted(units)
        spared = {key for key in exceptions if key not in keys}
        accepted = {key for key in self._of(spared, slots) if not self.refuses(key)}
        kept = self._not_of(self.here, slots) | accepted
        fenced = self.slots | slots
        outside = {key for key in keys if self.space.slot_of(key) not in fenced}
        return replace(self, slots=fenced, elsewhere=self._not_of(self.elsewhere, slots) | outside, here=kept - keys)

    def unfence(self, units: Iterable[str], exceptions: Collection[str] = ()) -> FenceLists:
        """Accept the units again. ``exceptions`` stay as they are."""
        slots, keys = _parted(units)
        spared = {key for key in exceptions if key not in keys}
        refused = {key for key in self._of(spared, slots) if self.refuses(key)}
        kept = self._not_of(self.elsewhere, slots) | refused
        fenced = self.slots - slots
        inside = {key for key in keys if self.space.slot_of(key) in fenced}
        return replace(self, slots=fenced, elsewhere=kept - keys, here=self._not_of(self.here, slots) | inside)

    def covers(self, units: Iterable[str], exceptions: Collection[str] = ()) -> bool:
        """Return whether every unit is refused; ``exceptions`` may be either."""
        return self.fence(units, exceptions) == self

    def joined(self, other: FenceLists) -> FenceLists:
        """Return what refuses a key that either refuses."""
        slots = self.slots | other.slots
        named = self.here | other.here
        here = frozenset(key for key in named if not self.refuses(key) and not other.refuses(key))
        return FenceLists(self.space, slots, self._not_of(self.elsewhere | other.elsewhere, slots), here)

    def _of(self, keys: Iterable[str], slots: Collection[int]) -> frozenset[str]:
        if not slots:
            return frozenset()
        known, slot_of = _known_slots(self.space), self.space.slot_of
        if len(known) > MOST_KNOWN:
            known.clear()
        found = set()
        for key in keys:
            slot = known.get(key)
            if slot is None:
                slot = known[key] = slot_of(key)
            if slot in slots:
                found.add(key)
        return frozenset(found)

    def _not_of(self, keys: frozenset[str], slots: Collection[int]) -> frozenset[str]:
        return keys - self._of(keys, slots)


@lru_cache(maxsize=16)
def _known_slots(_space: KeySpace) -> dict[str, int]:
    """The slots of listed keys, so that a fence of many of them is not hashed again while apps wait."""
    return {}


def prescribed(table: RoutingTable, partition_id: str) -> FenceLists:
    """Return the fence of a partition that refuses everything that the table places elsewhere. It reads the whole table."""
    space = table.slots.space
    slots = frozenset(slot for slot, placement in enumerate(table.slots.placements) if placement.primary != partition_id)
    elsewhere: set[str] = set()
    here: set[str] = set()
    for key, placement in table.placements.items():
        is_here = placement.primary == partition_id
        if (space.slot_of(key) in slots) == is_here:
            (here if is_here else elsewhere).add(key)
    return FenceLists(space, slots, frozenset(elsewhere), frozenset(here))


def _parted(units: Iterable[str]) -> tuple[frozenset[int], frozenset[str]]:
    slots, keys = set(), set()
    for unit in units:
        slot = slot_number(unit)
        if slot is None:
            keys.add(unit)
        else:
            slots.add(slot)
    return frozenset(slots), frozenset(keys)
