"""Great-circle distances between named locations, vectorised; pure, shared by planning and routing."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import numpy.typing as npt

from foreshard.model import FloatArray, Location

EARTH_RADIUS_KM = 6371.0088
"""The mean Earth radius (IUGG)."""


def great_circle_km(
    latitude_a: npt.ArrayLike, longitude_a: npt.ArrayLike, latitude_b: npt.ArrayLike, longitude_b: npt.ArrayLike
) -> FloatArray:
    """Return the great-circle distance in km between points in degrees (haversine formula); the arguments broadcast."""
    lat_a, lon_a, lat_b, lon_b = (
        np.radians(np.asarray(v, dtype=np.float64)) for v in (latitude_a, longitude_a, latitude_b, longitude_b)
    )
    chord = np.sin((lat_b - lat_a) / 2) ** 2 + np.cos(lat_a) * np.cos(lat_b) * np.sin((lon_b - lon_a) / 2) ** 2
    return np.asarray(2 * EARTH_RADIUS_KM * np.arcsin(np.sqrt(np.clip(chord, 0.0, 1.0))), dtype=np.float64)


def distance_km(origin: Location, destination: Location) -> float:
    """Return the distance between two locations."""
    return float(great_circle_km(origin.latitude, origin.longitude, destination.latitude, destination.longitude))


def distance_matrix(
    origins: Sequence[str | None], destinations: Sequence[str | None], locations: Mapping[str, Location]
) -> FloatArray:
    """Return km between names, shape (origins, destinations); NaN where ``locations`` lacks a name.

    The same name is at distance 0 from itself, even where its coordinates are unknown.
    """
    lat_a, lon_a = _coordinates(origins, locations)
    lat_b, lon_b = _coordinates(destinations, locations)
    matrix = great_circle_km(lat_a[:, None], lon_a[:, None], lat_b[None, :], lon_b[None, :])
    same = np.array([[a is not None and a == b for b in destinations] for a in origins], dtype=bool)
    return np.where(same.reshape(matrix.shape), 0.0, matrix)


def fill_unknown(matrix: FloatArray) -> FloatArray:
    """Replace the NaN of ``distance_matrix`` neutrally: an unknown origin is equally far (0) from every destination.

    An unknown destination counts as farther than the farthest known one of its origin, so that it is never taken for near.
    """
    known = ~np.isnan(matrix)
    farthest = np.where(known, matrix, 0.0).max(axis=1, initial=0.0, keepdims=True)
    beyond = np.where(known.any(axis=1, keepdims=True), farthest + 1.0, 0.0)
    return np.where(known, matrix, beyond)


def _coordinates(names: Sequence[str | None], locations: Mapping[str, Location]) -> tuple[FloatArray, FloatArray]:
    """Latitudes and longitudes of ``names``; NaN where unknown."""
    found = [locations.get(name) if name is not None else None for name in names]
    latitude = np.array([place.latitude if place else np.nan for place in found], dtype=np.float64)
    longitude = np.array([place.longitude if place else np.nan for place in found], dtype=np.float64)
    return latitude, longitude
