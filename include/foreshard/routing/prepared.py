"""Prepared routes: writes, and reads of keys that have one copy. Pure.

Such a route depends only on the partition of the key's primary copy, and on its load. It is therefore decided once per
partition and request kind, and again when the load changes the reason. Reads of keys with shadows are decided by
:mod:`foreshard.routing.decide`, or prepared by :mod:`foreshard.routing.near`.

The sidecar and the client both route through this module, by one lookup (:meth:`foreshard.routing.packed.PackedTable.finder`).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence

from foreshard.errors import UnknownPartition
from foreshard.model import Placement, RequestKind, RoutingTable, SlotMap
from foreshard.routing.decision import RouteDecision
from foreshard.routing.packed import EPOCH_SHIFT, PRIMARY_MASK, SHADOWED, PackedPlacements, encoded

DecidePrimary = Callable[[str, RequestKind], RouteDecision]
"""Decides a request of this kind whose only choice is the primary copy on this partition."""
Addresses = Mapping[str, tuple[str, str]]
"""Partition → (location, address)."""


class PreparedRoute:
    """The route of all requests of one kind whose primary copy is on one partition.

    ``sent`` counts the requests that took it. ``written`` is for the sidecar, which keeps parts of a written answer there.
    """

    __slots__ = ("address", "code", "location", "partition", "reason", "role", "sent", "written")

    def __init__(self, decision: RouteDecision, location: str, address: str) -> None:
        self.partition, self.role, self.code, self.reason = decision.partition, decision.role, decision.code, decision.sentence
        self.location, self.address = location, address
        self.sent = 0
        self.written: tuple[bytes, bytes] | None = None


Found = tuple[int, PreparedRoute]
"""A key's epoch and its route."""


class PreparedRoutes:
    """The prepared routes of one packed table. Raises :class:`UnknownPartition` for a partition without an address.

    Threads may look routes up while another one calls ``used`` and ``renew``; counts are then approximate.
    """

    def __init__(self, table: RoutingTable, decide: DecidePrimary, addresses: Addresses) -> None:
        self.table, self.placements = table, packed_placements(table)
        self.slots = SlotValues(table.slots, self.placements.base.names)
        self.writes = RoutesOfKind(RequestKind.WRITE, self.placements, self.slots, decide, addresses)
        self.reads = RoutesOfKind(RequestKind.READ, self.placements, self.slots, decide, addresses)

    def used(self) -> Iterator[tuple[RequestKind, PreparedRoute]]:
        """Iterate over the routes that requests took since the last ``renew``."""
        for routes in (self.reads, self.writes):
            yield from ((routes.kind, route) for route in tuple(routes.by_name.values()) if route.sent)

    def renew(self) -> None:
        """Set all counts to zero. Keep the routes that were used and whose decision is unchanged; drop the others."""
        self.reads.renew()
        self.writes.renew()


class SlotValues:
    """The slots of a table as values of the packed form (:mod:`foreshard.routing.packed`), by slot.

    ``names`` are the partitions that values refer to: those of the packed table, and then the slots' other ones. ``slot_of`` is
    the function from a key's bytes to its slot.
    """

    __slots__ = ("names", "slot_of", "values")

    def __init__(self, slots: SlotMap, names: Sequence[str]) -> None:
        numbers = {name: number for number, name in enumerate(names)}
        values = [
            numbers.setdefault(placement.primary, len(numbers)) | placement.epoch << EPOCH_SHIFT
            for placement in slots.placements
        ]
        self.values, self.names, self.slot_of = values, tuple(numbers), slots.space.finder()

    def value(self, key: bytes) -> int:
        """Return the value of the key's slot. Raise :class:`foreshard.model.key_space.UnusableKey`."""
        return self.values[self.slot_of(key)]


class RoutesOfKind:
    """The prepared routes of one request kind, by partition name and by the partition's number in the packed table.

    ``choice`` holds the bits of a packed value that are set if a request of this kind has a choice among copies.
    """

    def __init__(
        self, kind: RequestKind, placements: PackedPlacements, slots: SlotValues, decide: DecidePrimary, addresses: Addresses
    ) -> None:
        self.kind, self.placements, self.slots = kind, placements, slots
        self.choice = SHADOWED if kind is RequestKind.READ else 0
        self.by_name: dict[str, PreparedRoute] = {}
        self.by_number: list[PreparedRoute | None] = [None] * len(slots.names)
        self._decide, self._addresses = decide, addresses
        self.route = _lookup(self)

    def renew(self) -> None:
        """See :meth:`PreparedRoutes.renew`. The lookup holds ``by_number``, so that list is changed in place."""
        used = [(name, route) for name, route in tuple(self.by_name.items()) if route.sent]
        kept = {name: route for name, route in used if self._is_current(route)}
        self.by_name = kept
        self.by_number[:] = [kept.get(name) for name in self.slots.names]
        for route in kept.values():
            route.sent = 0

    def of(self, name: str) -> PreparedRoute:
        """The route to a partition."""
        found = self.by_name.get(name)
        if found is None:
            if name not in self._addresses:
                raise UnknownPartition(name, tuple(self._addresses))
            found = self.by_name[name] = PreparedRoute(self._decide(name, self.kind), *self._addresses[name])
        return found

    def at(self, number: int) -> PreparedRoute:
        """The route to a partition, by its number."""
        found = self.by_number[number] = self.of(self.slots.names[number])
        return found

    def outside(self, key: str, placement: Placement | None) -> Found | None:
        """The epoch and route of a key that has changed since the packed table was written. None if the request has a choice.

        ``placement`` is None if the key is not listed any more.
        """
        if placement is None:
            value = self.slots.value(encoded(key))
            return value >> EPOCH_SHIFT, self.of(self.slots.names[value & PRIMARY_MASK])
        return None if self.choice and placement.shadows else (placement.epoch, self.of(placement.primary))

    def _is_current(self, route: PreparedRoute) -> bool:
        decision = self._decide(route.partition, self.kind)
        return decision.sentence == route.reason and decision.code == route.code


def _lookup(routes: RoutesOfKind) -> Callable[[str], Found | tuple[int, None]]:
    """Return the function from a key to its epoch and route, which it counts.

    If the request has a choice, it returns the key's packed value (0: the key is not in the packed table) and None. A closure,
    because attribute lookups would take a third of its time.
    """
    find, changed, by_number, choice = routes.placements.find, routes.placements.changed, routes.by_number, routes.choice
    slot_values, slot_of = routes.slots.values, routes.slots.slot_of

    def route(key: str) -> Found | tuple[int, None]:
        if changed and key in changed:
            return _counted(routes.outside(key, changed[key]))
        try:
            data = key.encode()
        except UnicodeEncodeError:
            data = encoded(key)
        value = find(data) or slot_values[slot_of(data)]
        if value & choice:
            return value, None
        number = value & PRIMARY_MASK
        found = by_number[number] or routes.at(number)
        found.sent += 1
        return value >> EPOCH_SHIFT, found

    return route


def _counted(found: Found | None) -> Found | tuple[int, None]:
    if found is None:
        return 0, None
    found[1].sent += 1
    return found


def packed_placements(table: RoutingTable) -> PackedPlacements:
    """The table's placements, which must be packed (``TypeError`` otherwise)."""
    if not isinstance(table.placements, PackedPlacements):
        raise TypeError("routes can be prepared for a packed table only")
    return table.placements
