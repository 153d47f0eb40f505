"""Distances between named locations, without numpy, so that a sidecar and an app's client stay light. Pure.

A distance is a round trip in milliseconds: the measured one where there is one (``foreshard partitions measure``), in the
asked direction or else in the other; else what the great circle takes in fibre.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from typing import NamedTuple

from foreshard.model import Location

EARTH_RADIUS_KM = 6371.0088
"""The mean Earth radius (IUGG), as in :mod:`foreshard.measure.geography`."""


MS_PER_KM = 0.015
"""There and back at 200 km per ms in fibre, half as long again as the great circle."""


class RoundTrip(NamedTuple):
    """How far a place is: milliseconds there and back, whether they were measured, and kilometres where both are known."""

    ms: float
    measured: bool
    km: float | None


class Distances:
    """Round trips between the locations that it was built from; each pair is computed once."""

    def __init__(self, locations: Iterable[Location]) -> None:
        self._places = {place.name: place for place in locations}
        self._measured = {(place.name, to): ms for place in self._places.values() for to, ms in place.round_trips}
        self._known: dict[tuple[str, str], float | None] = {}
        self._trips: dict[tuple[str, str], RoundTrip | None] = {}

    def __contains__(self, name: object) -> bool:
        return name in self._places

    @property
    def names(self) -> tuple[str, ...]:
        """Every location's name."""
        return tuple(self._places)

    def round_trip(self, origin: str, destination: str) -> RoundTrip | None:
        """There and back; None where it was not measured and a location is unknown."""
        pair = (origin, destination)
        if pair not in self._trips:
            if origin not in self._places and destination not in self._places and origin != destination:
                return None
            self._trips[pair] = self._round_trip(origin, destination)
        return self._trips[pair]

    def km(self, origin: str, destination: str) -> float | None:
        """The distance; 0 between equal names, None where a location is unknown."""
        pair = (origin, destination)
        if pair not in self._known:
            if origin not in self._places and origin != destination:
                return None
            self._known[pair] = self._compute(origin, destination)
        return self._known[pair]

    def _round_trip(self, origin: str, destination: str) -> RoundTrip | None:
        km = self.km(origin, destination)
        measured = self._measured.get((origin, destination), self._measured.get((destination, origin)))
        if measured is not None:
            return RoundTrip(measured, True, km)
        return None if km is None else RoundTrip(MS_PER_KM * km, False, km)

    def _compute(self, origin: str, destination: str) -> float | None:
        if origin == destination:
            return 0.0
        a, b = self._places.get(origin), self._places.get(destination)
        return great_circle_km(a, b) if a and b else None


def great_circle_km(a: Location, b: Location) -> float:
    """The haversine distance between two locations."""
    lat_a, lon_a, lat_b, lon_b = map(math.radians, (a.latitude, a.longitude, b.latitude, b.longitude))
    chord = math.sin((lat_b - lat_a) / 2) ** 2 + math.cos(lat_a) * math.cos(lat_b) * math.sin((lon_b - lon_a) / 2) ** 2
    return 2 * EARTH_RADIUS_KM * math.asin(math.sqrt(min(1.0, chord)))
