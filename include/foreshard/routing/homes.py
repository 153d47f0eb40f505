"""What lives on each partition, as one table says: the fence lists of all partitions, from one pass over the table. Pure."""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass

from foreshard.model import RoutingTable
from foreshard.routing.fence_lists import FenceLists


@dataclass(frozen=True, slots=True)
class Home:
    """One partition in one table. ``away``: the keys that do not live on it."""

    partition: str
    table: RoutingTable
    away: FenceLists


class Homes:
    """The homes of one table. A partition that the table does not name owns nothing."""

    def __init__(self, table: RoutingTable) -> None:
        self.table, self._space = table, table.slots.space
        self._owners = [placement.primary for placement in table.slots.placements]
        self._elsewhere: dict[str, set[str]] = defaultdict(set)
        self._here: dict[str, set[str]] = defaultdict(set)
        for key, placement in table.placements.items():
            owner = self._owners[self._space.slot_of(key)]
            if owner != placement.primary:
                self._elsewhere[owner].add(key)
                self._here[placement.primary].add(key)
        self._made: dict[str, Home] = {}

    def of(self, partition: str) -> Home:
        """Return a partition's home."""
        found = self._made.get(partition)
        if found is None:
            slots = frozenset(slot for slot, owner in enumerate(self._owners) if owner != partition)
            elsewhere, here = (frozenset(keys.get(partition, ())) for keys in (self._elsewhere, self._here))
            lists = FenceLists(self._space, slots, elsewhere, here)
            found = self._made[partition] = Home(partition, self.table, lists)
        return found
