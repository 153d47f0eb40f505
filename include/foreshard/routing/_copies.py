"""The copies of a key as seen from a location, before loads and freshness are considered. Pure.

Keys with the same primary and the same shadows share one value, so it is computed once for all of them.
"""

from __future__ import annotations

from typing import NamedTuple

from foreshard.measure.distance import MS_PER_KM, RoundTrip
from foreshard.model import Placement
from foreshard.routing.decision import PRIMARY, SHADOW, RoutingContext

FAR = RoundTrip(MS_PER_KM * 20_100.0, False, None)
"""The round trip to a partition whose location is unknown: farther than any place on Earth."""
MOST_KNOWN = 4_096


class PlacedCopy(NamedTuple):
    """One copy and the round trip to it (:class:`foreshard.measure.distance.RoundTrip`). ``where`` describes both."""

    partition: str
    role: str
    ms: float
    measured: bool
    km: float | None
    where: str


class Copies(NamedTuple):
    """The copies of a key: primary first, and by distance.

    ``note`` says which location was assumed if the request's is unknown.
    """

    in_order: tuple[PlacedCopy, ...]
    by_distance: tuple[PlacedCopy, ...]
    note: str


def copies_of(placement: Placement, location: str | None, context: RoutingContext) -> Copies:
    """The copies of ``placement``, as seen from ``location``."""
    known = location if location is None or location in context.distances else ""
    wanted = (placement.primary, placement.shadows, known)
    found = context.known_copies.get(wanted)
    if found is None:
        if len(context.known_copies) >= MOST_KNOWN:
            context.known_copies.clear()
        found = context.known_copies[wanted] = _copies(placement, known, context)
    copies: Copies = found
    return copies if known != "" else copies._replace(note=_note(placement, location, context))


def _copies(placement: Placement, known: str | None, context: RoutingContext) -> Copies:
    origin = known or _assumed_location(placement, context)
    names = (placement.primary, *(name for name in placement.shadows if name in context.partitions))
    found = tuple(_copy(name, placement, origin, context) for name in dict.fromkeys(names))
    note = "" if known else _note(placement, None, context)
    return Copies(found, tuple(sorted(found, key=lambda copy: copy.ms)), note)


def _copy(name: str, placement: Placement, origin: str, context: RoutingContext) -> PlacedCopy:
    partition = context.partitions.get(name)
    trip = context.distances.round_trip(origin, partition.geographic_location) if partition else None
    ms, measured, km = trip or FAR
    role = PRIMARY if name == placement.primary else SHADOW
    far = f"{ms:.1f} ms" if measured else "distance unknown" if km is None else f"{km:.0f} km"
    return PlacedCopy(name, role, ms, measured, km, f"{name} ({role}, {far})")


def _assumed_location(placement: Placement, context: RoutingContext) -> str:
    """The location to measure from if the request's is unknown."""
    primary = context.partitions.get(placement.primary)
    return context.home_location or (primary.geographic_location if primary else "")


def _note(placement: Placement, location: str | None, context: RoutingContext) -> str:
    why = "no location given" if location is None else f"location {location!r} is unknown"
    return f" ({why}: taken as {_assumed_location(placement, context) or 'nowhere'})"
