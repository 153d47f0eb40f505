"""Distance matrices for planning, filled from :mod:`foreshard.measure.distance`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from foreshard.measure.distance import Distances
from foreshard.model import FloatArray, Location


def distance_matrix(
    origins: Sequence[str | None], destinations: Sequence[str | None], locations: Mapping[str, Location]
) -> FloatArray:
    """Return km (:meth:`Distances.route_km`) between names, shape (origins, destinations); NaN if unknown.

    A name without coordinates is at distance 0 from itself.
    """
    distances = Distances(locations.values())
    distinct = list(dict.fromkeys(destinations))
    column = {name: number for number, name in enumerate(distinct)}
    matrix = np.full((len(origins), len(distinct)), np.nan)
    for row, origin in enumerate(origins):
        for number, destination in enumerate(distinct):
            km = distances.route_km(origin, destination) if origin is not None and destination is not None else None
            matrix[row, number] = np.nan if km is None else km
    return np.asarray(matrix[:, [column[name] for name in destinations]], np.float64)


def fill_unknown(matrix: FloatArray) -> FloatArray:
    """Replace the NaN of :func:`distance_matrix`.

    An unknown origin is at distance 0 from every destination. An unknown destination is farther than all known destinations of
    its origin, so that it never counts as near.
    """
    known = ~np.isnan(matrix)
    farthest = np.where(known, matrix, 0.0).max(axis=1, initial=0.0, keepdims=True)
    beyond = np.where(known.any(axis=1, keepdims=True), farthest + 1.0, 0.0)
    return np.where(known, matrix, beyond)
