"""The partitions of a replay: read from a file, or N equal ones at the log's locations with a given utilisation."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from foreshard.errors import ConfigurationError, UnusableCapacity
from foreshard.lab.log import ReplayLog
from foreshard.measure.geography import distance_matrix
from foreshard.model import HOURS_PER_DAY, SECONDS_PER_HOUR, FloatArray, Location, Partition, PartitionState

UNKNOWN_KM = 1000.0
"""The distance between two locations if the coordinates of either are unknown."""
NOWHERE = "anywhere"
"""The location of partitions if the log has no locations."""


@dataclass(frozen=True)
class PartitionLayout:
    """P partitions, and the locations with known coordinates."""

    partitions: tuple[Partition, ...]
    locations: Mapping[str, Location]

    @property
    def capacity(self) -> FloatArray:
        """Capacities (P) in cost/s."""
        return np.array([partition.capacity for partition in self.partitions], np.float64)

    def scaled(self, factor: float) -> PartitionLayout:
        """Return the layout with ``factor`` × the capacities."""
        return replace(self, partitions=tuple(replace(one, capacity=one.capacity * factor) for one in self.partitions))

    def distance_from(self, origins: Sequence[str]) -> FloatArray:
        """Return km (origins, P); ``UNKNOWN_KM`` between different locations without coordinates."""
        homes = [partition.geographic_location for partition in self.partitions]
        matrix = distance_matrix(list(origins), homes, self.locations)
        return np.where(np.isnan(matrix), UNKNOWN_KM, matrix).reshape(len(origins), len(homes))


def equal_layout(
    log: ReplayLog, start: int, partitions: int, utilisation: float, locations: Mapping[str, Location]
) -> PartitionLayout:
    """N equal partitions, sized so that the median daily peak from ``start`` on takes ``utilisation`` of their capacity.

    They are at the log's locations in proportion to cost (Sainte-Laguë), and at two or more if the log has two.
    """
    if partitions < 1:
        raise ConfigurationError("--partitions", f"{partitions} is less than one", "give at least one partition")
    if not (math.isfinite(utilisation) and utilisation > 0):
        raise ConfigurationError("--utilisation", f"{utilisation} is not above 0", "give a share such as 0.7")
    total = log.costs[:, start:].sum(axis=0, dtype=np.float64)
    peak = median_daily_peak(total)
    peak = peak or float(total.mean()) or 1.0
    capacity = peak / utilisation / partitions / SECONDS_PER_HOUR
    homes = _homes(log, partitions)
    return PartitionLayout(tuple(Partition(f"p{n}", home, capacity) for n, home in enumerate(homes)), dict(locations))


def median_daily_peak(total: FloatArray) -> float:
    """Return the cost of the peak hour of the median day, from that of each hour (T,); 0 without hours."""
    days = [total[day : day + HOURS_PER_DAY].max() for day in range(0, len(total), HOURS_PER_DAY)]
    return float(np.median(days)) if days else 0.0


def _homes(log: ReplayLog, partitions: int) -> list[str]:
    if not log.locations:
        return [NOWHERE] * partitions
    known = log.visit_place >= 0
    cost = np.bincount(log.visit_place[known], weights=log.visit_cost[known], minlength=len(log.locations))
    taken = np.zeros(len(cost), np.int64)
    for _ in range(partitions):
        taken[int((cost / (2 * taken + 1)).argmax())] += 1
    if partitions > 1 and len(cost) > 1 and (taken > 0).sum() == 1:
        taken[int(taken.argmax())] -= 1
        taken[int(np.where(taken > 0, -1.0, cost).argmax())] += 1
    order = np.argsort(-cost, kind="stable")
    return [log.locations[place] for place in order for _ in range(int(taken[place]))]


def parse_layout(document: Any, name: str, locations: Mapping[str, Location]) -> PartitionLayout:
    """Read ``{"partitions": [{"partition_id", "geographic_location", "capacity"}, …], "locations": [{"name", …}, …]}``.

    A list of partitions is accepted too. Raise :class:`ConfigurationError` if something is missing, and
    :class:`UnusableCapacity` for a capacity that is not above 0.
    """
    rows = document.get("partitions") if isinstance(document, Mapping) else document
    places = document.get("locations", []) if isinstance(document, Mapping) else []
    if not isinstance(rows, Sequence) or isinstance(rows, str) or not rows:
        raise ConfigurationError("--layout", f"{name} lists no partitions", 'write {"partitions": [{"partition_id": …}, …]}')
    partitions = tuple(_partition(row, name) for row in rows)
    ids = [partition.partition_id for partition in partitions]
    if len(set(ids)) < len(ids):
        twice = next(one for one in ids if ids.count(one) > 1)
        raise ConfigurationError("--layout", f"{name} names partition {twice!r} twice", "give each partition a unique id")
    return PartitionLayout(
        partitions, {**locations, **{place.name: place for place in (_location(row, name) for row in places)}}
    )


def _partition(row: Any, name: str) -> Partition:
    try:
        found = Partition(
            str(row["partition_id"]),
            str(row.get("geographic_location", NOWHERE)),
            float(row["capacity"]),
            state=PartitionState(row.get("state", "active")),
        )
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        problem = f"{name} has an invalid partition ({error})"
        raise ConfigurationError("--layout", problem, "give partition_id, geographic_location and capacity") from None
    if not (math.isfinite(found.capacity) and found.capacity > 0):
        raise UnusableCapacity(found.partition_id, found.capacity)
    return found


def _location(row: Any, name: str) -> Location:
    try:
        return Location(str(row["name"]), float(row["latitude"]), float(row["longitude"]))
    except (KeyError, TypeError, ValueError) as error:
        problem = f"{name} has an invalid location ({error})"
        raise ConfigurationError("--layout", problem, "give name, latitude and longitude") from None
