"""The demo's partitions, locations and first placement: four replica sets around the Bay, with keys in their own city.

Capacities are derived from the history, so that the demo shows the same thing at every hour of the week: in the busiest hour of
the coming day the first San Francisco partition passes the high-water mark, and no other does.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta

import pandas as pd

from foreshard.model import Location, Partition, Placement, RoutingTable
from foreshard.model.key_space import KeySpace
from foreshard.routing.slots import first_slots, rendezvous

DATABASE = "bikeshare"
PARTITION_LOCATIONS: Mapping[str, str] = {
    "sf-1": "San Francisco",
    "sf-2": "San Francisco",
    "sj-1": "San Jose",
    "rwc-1": "Redwood City",
}
LOCATIONS = (
    Location("San Francisco", 37.789, -122.401),
    Location("Redwood City", 37.487, -122.227),
    Location("Palo Alto", 37.441, -122.152),
    Location("Mountain View", 37.395, -122.090),
    Location("San Jose", 37.336, -121.890),
)
HOME_PARTITIONS: Mapping[str, tuple[str, ...]] = {
    "San Francisco": ("sf-1", "sf-2"),
    "Redwood City": ("rwc-1",),
    "Palo Alto": ("rwc-1",),
    "Mountain View": ("sj-1",),
    "San Jose": ("sj-1",),
}
"""Each city's nearest partitions."""

HEADROOM: Mapping[str, float] = {"sf-1": 0.72, "sf-2": 2.4, "sj-1": 2.2, "rwc-1": 2.2}
"""Capacity ÷ load of the first San Francisco partition in the coming day's busiest hour."""


@dataclass(frozen=True)
class DemoLayout:
    """The registered partitions and locations, and the first routing table."""

    partitions: tuple[Partition, ...]
    locations: tuple[Location, ...]
    table: RoutingTable


def make_layout(log: pd.DataFrame, weights: Mapping[str, float], end: datetime, uris: Mapping[str, str]) -> DemoLayout:
    """Size the partitions from the weighted ``log`` before ``end`` and place each key in its city.

    ``weights`` gives each request type's cost, ``uris`` each partition's address.
    """
    homes = log.drop_duplicates("partitionable_key", keep="last")
    cities = zip(homes["partitionable_key"], homes["location"], strict=True)
    placement = {str(key): home_partition(str(key), str(city)) for key, city in cities}
    peak = coming_peak(log, weights, end, {key for key, partition in placement.items() if partition == "sf-1"})
    partitions = tuple(
        Partition(name, location, round(max(peak, 0.01) * HEADROOM[name], 4), uris[name])
        for name, location in PARTITION_LOCATIONS.items()
    )
    slots = first_slots(KeySpace(), {p.partition_id: p.capacity for p in partitions})
    placements = {key: Placement(key, partition) for key, partition in placement.items()}
    return DemoLayout(partitions, LOCATIONS, RoutingTable(1, placements, slots, end))


def home_partition(key: str, city: str) -> str:
    """Return the partition of a key's city, by rendezvous hashing if the city has several."""
    return rendezvous(key, dict.fromkeys(HOME_PARTITIONS[city], 1.0))


def coming_peak(log: pd.DataFrame, weights: Mapping[str, float], end: datetime, keys: set[str]) -> float:
    """Return the busiest hour of the 24 hours after ``end`` in any of the last four weeks (cost/s).

    It is not the mean of the weeks: after a clock change the rush hour of some weeks is outside the 24 hours.
    """
    mine = log[log["partitionable_key"].isin(keys)]
    hourly = mine["request_type"].map(weights).groupby(mine["timestamp"].dt.floor("h")).sum()
    weeks = [
        hourly.reindex(pd.date_range(end - timedelta(weeks=n), periods=24, freq="h"), fill_value=0.0) for n in (1, 2, 3, 4)
    ]
    return float(max(week.max() for week in weeks)) / 3600
