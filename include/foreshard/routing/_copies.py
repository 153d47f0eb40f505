"""The copies of a key as they lie around a place: what a decision knows of them before it looks at loads and freshness. Pure.

Keys of one primary and the same shadows share it, so that it is made once for all of them.
"""

from __future__ import annotations

from typing import NamedTuple

from foreshard.measure.distance import MS_PER_KM, RoundTrip
from foreshard.model import Placement
from foreshard.routing.decision import PRIMARY, SHADOW, RoutingContext

FAR = RoundTrip(MS_PER_KM * 20_100.0, False, None)
"""Farther than any place on Earth: the way to a partition whose location is unknown."""
MOST_KNOWN = 4_096


class PlacedCopy(NamedTuple):
    """One copy, and the round trip there (:class:`foreshard.measure.distance.RoundTrip`); ``where`` names both."""

    partition: str
    role: str
    ms: float
    measured: bool
    km: float | None
    where: str


class Copies(NamedTuple):
    """The copies of a key, the primary first, and by distance; ``note``: what to say where the place was not the asked one."""

    in_order: tuple[PlacedCopy, ...]
    by_distance: tuple[PlacedCopy, ...]
    note: str


def copies_of(placement: Placement, location: str | None, around: RoutingContext) -> Copies:
    """The copies that ``placement`` names, as seen from ``location``."""
    known = location if location is None or location in around.distances else ""
    asked = (placement.primary, placement.shadows, known)
    found = around.known_copies.get(asked)
    if found is None:
        if len(around.known_copies) >= MOST_KNOWN:
            around.known_copies.clear()
        found = around.known_copies[asked] = _copies(placement, known, around)
    copies: Copies = found
    return copies if known != "" else copies._replace(note=_note(placement, location, around))


def _copies(placement: Placement, known: str | None, around: RoutingContext) -> Copies:
    origin = known or _instead(placement, around)
    names = (placement.primary, *(name for name in placement.shadows if name in around.partitions))
    found = tuple(_copy(name, placement, origin, around) for name in dict.fromkeys(names))
    note = "" if known else _note(placement, None, around)
    return Copies(found, tuple(sorted(found, key=lambda copy: copy.ms)), note)


def _copy(name: str, placement: Placement, origin: str, around: RoutingContext) -> PlacedCopy:
    partition = around.partitions.get(name)
    trip = around.distances.round_trip(origin, partition.geographic_location) if partition else None
    ms, measured, km = trip or FAR
    role = PRIMARY if name == placement.primary else SHADOW
    far = f"{ms:.1f} ms" if measured else "distance unknown" if km is None else f"{km:.0f} km"
    return PlacedCopy(name, role, ms, measured, km, f"{name} ({role}, {far})")


def _instead(placement: Placement, around: RoutingContext) -> str:
    """The place to measure from where the request's is not known."""
    primary = around.partitions.get(placement.primary)
    return around.home_location or (primary.geographic_location if primary else "")


def _note(placement: Placement, location: str | None, around: RoutingContext) -> str:
    why = "no location given" if location is None else f"location {location!r} is unknown"
    return f" ({why}: taken as {_instead(placement, around) or 'nowhere'})"
