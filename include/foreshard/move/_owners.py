"""Who owns a move's units, and the rows of the routing table that its switch changes. Pure, except for ``read_owners``."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from foreshard.model import Placement, PlacementChange
from foreshard.model.key_space import slot_number, slot_unit
from foreshard.model.unit_set import UnitSet, unit_set
from foreshard.ports.routing import Publication, RoutingStore


@dataclass(frozen=True, slots=True)
class Owners:
    """The placements of a move's units, and of the slots and listed keys that they touch, in ``version`` or a later one."""

    version: int
    units: UnitSet
    placements: Mapping[str, Placement]
    listed: Mapping[str, Placement]

    def off(self, partition_id: str) -> tuple[str, ...]:
        """Return the units whose primary copy is not on the partition."""
        return tuple(unit for unit in self.units.units if self.placements[unit].primary != partition_id)

    def on(self, partition_id: str) -> tuple[str, ...]:
        """Return the units whose primary copy is on the partition."""
        return tuple(unit for unit in self.units.units if self.placements[unit].primary == partition_id)

    def shadowed_on(self, partition_id: str) -> tuple[str, ...]:
        """Return the units that have a shadow on the partition."""
        return tuple(unit for unit in self.units.units if partition_id in self.placements[unit].shadows)

    def epochs(self) -> dict[str, int]:
        """Return the epoch of each unit."""
        return {unit: self.placements[unit].epoch for unit in self.units.units}

    def have_other_exceptions(self) -> bool:
        """Return whether keys of the moved slots have been listed or delisted since the move began."""
        return unit_set(self.units.units, self.units.space, self.listed).exceptions != self.units.exceptions

    def are_touched_by(self, publications: Iterable[Publication]) -> bool:
        """Return whether a publication has changed a unit, its slot, or a listed key of a moved slot."""
        units, slot_of = self.units, self.units.space.slot_of
        watched = {*units.units, *map(slot_unit, units.touched_slots())}
        changed = {change.key for publication in publications for change in publication.changes}
        if changed & watched:
            return True
        return bool(units.slots) and any(slot_number(key) is None and slot_of(key) in units.slots for key in changed)

    def switch_to(self, target: str, why: str) -> list[PlacementChange]:
        """Return the changes that give every unit to ``target``. ``why`` is the reason of keys that are listed.

        A key is listed there, unless its slot is there as well and it has no other copy. Its epoch rises above that of its
        slot, which counted while it was not listed.
        """
        changes = [self._change(slot_unit(slot), target, ()) for slot in sorted(self.units.slots)]
        for key in sorted(self.units.keys):
            slot = self.units.space.slot_of(key)
            home = target if slot in self.units.slots else self.placements[slot_unit(slot)].primary
            shadows = tuple(shadow for shadow in self.placements[key].shadows if shadow != target)
            at_home = home == target and not shadows
            if key in self.listed or not at_home:
                changes.append(self._change(key, target, shadows, delist=at_home, why=why))
        return changes

    def without_shadows(self, partition_id: str) -> list[PlacementChange]:
        """Return the changes that remove the units' shadows on the partition."""
        return [
            self._change(key, self.placements[key].primary, tuple(s for s in self.placements[key].shadows if s != partition_id))
            for key in self.shadowed_on(partition_id)
        ]

    def _change(
        self, unit: str, primary: str, shadows: tuple[str, ...], *, delist: bool = False, why: str = ""
    ) -> PlacementChange:
        before = self.placements[unit]
        is_listed = unit in self.listed or slot_number(unit) is not None
        expected = before.epoch if is_listed else 0
        return PlacementChange(unit, primary, shadows, expected, before.epoch + 1, delist, why)


def read_owners(routing: RoutingStore, units: UnitSet) -> Owners:
    """Read a version of the table, and then the placements, which are of that version or a later one."""
    version, slots = routing.version(), units.touched_slots()
    placements = routing.placements([*units.units, *map(slot_unit, sorted(slots))])
    return Owners(version, units, placements, {placement.key: placement for placement in routing.listed_in(slots)})
