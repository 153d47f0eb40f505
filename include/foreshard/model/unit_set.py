"""The units of one move as a set of keys. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field

from foreshard.model.key_space import KeySpace, slot_number


@dataclass(frozen=True, slots=True)
class UnitSet:
    """Keys by name, and all keys of some slots except the listed ``exceptions``, which are placed by themselves."""

    space: KeySpace
    units: tuple[str, ...]
    exceptions: frozenset[str] = frozenset()
    keys: frozenset[str] = field(init=False)
    slots: frozenset[int] = field(init=False)

    def __post_init__(self) -> None:
        """Part the units into keys and slots."""
        numbers = {unit: slot_number(unit) for unit in self.units}
        object.__setattr__(self, "keys", frozenset(unit for unit, slot in numbers.items() if slot is None))
        object.__setattr__(self, "slots", frozenset(slot for slot in numbers.values() if slot is not None))

    def __contains__(self, key: object) -> bool:
        """Whether the set contains a key; False for None."""
        if not isinstance(key, str):
            return False
        if key in self.keys:
            return True
        return bool(self.slots) and key not in self.exceptions and self.space.slot_of(key) in self.slots

    def keys_beside_slots(self) -> list[str]:
        """Return the keys whose slot is not in the set, in order."""
        return sorted(key for key in self.keys if not self.slots or self.space.slot_of(key) not in self.slots)

    def hash_ranges(self) -> Iterator[tuple[int, int | None]]:
        """Yield the slots' ranges of hashes [first, end); consecutive slots are one range. None: up to the highest hash."""
        run: list[int] = []
        for slot in (*sorted(self.slots), self.space.slots + 1):
            if run and slot != run[-1] + 1:
                first, last = self.space.bounds(run[0])[0], self.space.bounds(run[-1])[1]
                yield first, None if run[-1] == self.space.slots - 1 else last
                run = []
            run.append(slot)

    def touched_slots(self) -> frozenset[int]:
        """Return the slot of every unit. A move of a slot excludes every other move that touches it."""
        return self.slots | frozenset(map(self.space.slot_of, self.keys))


def unit_set(units: Iterable[str], space: KeySpace, listed: Iterable[str] = ()) -> UnitSet:
    """Return the set of ``units``. A listed key in a slot of the units is an exception of the set."""
    plain = UnitSet(space, tuple(units))
    slots = plain.slots
    spared = (key for key in listed if key not in plain.keys and space.slot_of(key) in slots)
    return UnitSet(space, plain.units, frozenset(spared)) if slots else plain
