"""The distance between named locations, for routing and planning. Without numpy, so that sidecars and clients stay light.

The distance is the measured round trip if there is one (``foreshard partitions measure``), in either direction. Otherwise it is
the great circle, at the speed of light in fibre.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from typing import NamedTuple

from foreshard.model import Location

EARTH_RADIUS_KM = 6371.0088
"""The mean Earth radius (IUGG)."""

MS_PER_KM = 0.015
"""Round trip per km of great circle: 200 km per ms in fibre, on routes half as long again as the great circle."""

NEAR_EQUAL_MS = 0.25
"""Copies whose round trips differ by at most this are equally near: they share the reads."""


class RoundTrip(NamedTuple):
    """The round trip to a location in ``ms``, whether it was ``measured``, and the great circle in ``km`` (None if unknown)."""

    ms: float
    measured: bool
    km: float | None


class Distances:
    """The distances between given locations. Each pair is computed once."""

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
        """Return the round trip; None if it was not measured and the coordinates of a location are unknown."""
        pair = (origin, destination)
        if pair not in self._trips:
            if origin not in self._places and destination not in self._places and origin != destination:
                return None
            self._trips[pair] = self._round_trip(origin, destination)
        return self._trips[pair]

    def route_km(self, origin: str, destination: str) -> float | None:
        """Return the round trip as km of great circle, the planner's unit of distance.

        It orders places like :meth:`round_trip`.
        """
        trip = self.round_trip(origin, destination)
        if trip is None:
            return None
        return trip.ms / MS_PER_KM if trip.measured else trip.km

    def km(self, origin: str, destination: str) -> float | None:
        """Return the great circle; 0 between equal names, None if a location is unknown."""
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
    """Return the haversine distance between two locations."""
    lat_a, lon_a, lat_b, lon_b = map(math.radians, (a.latitude, a.longitude, b.latitude, b.longitude))
    chord = math.sin((lat_b - lat_a) / 2) ** 2 + math.cos(lat_a) * math.cos(lat_b) * math.sin((lon_b - lon_a) / 2) ** 2
    return 2 * EARTH_RADIUS_KM * math.asin(math.sqrt(min(1.0, chord)))
