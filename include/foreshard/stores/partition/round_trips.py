"""Measures the round trip to each partition: the time of a ping over an open connection."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Iterable
from statistics import median
from typing import TYPE_CHECKING, Any

from pymongo.errors import PyMongoError

from foreshard.model import Partition

if TYPE_CHECKING:
    from pymongo import MongoClient

PINGS = 20

log = logging.getLogger(__name__)


def measure_round_trips(
    partitions: Iterable[Partition], connect: Callable[[Partition], MongoClient[dict[str, Any]]], pings: int = PINGS
) -> dict[str, float]:
    """Return the median round trip (ms) to each location, by its nearest partition. Skip partitions that don't answer."""
    found: dict[str, float] = {}
    for partition in partitions:
        try:
            milliseconds = _ping(connect(partition), pings)
        except (PyMongoError, OSError, ValueError) as error:
            log.warning("partition %s does not answer: %s", partition.partition_id, str(error).split(",")[0][:160])
            continue
        place = partition.geographic_location
        found[place] = min(milliseconds, found.get(place, milliseconds))
    return found


def _ping(client: MongoClient[dict[str, Any]], pings: int) -> float:
    client.admin.command("ping")  # opens the connection
    taken = []
    for _ in range(pings):
        begun = time.perf_counter()
        client.admin.command("ping")
        taken.append((time.perf_counter() - begun) * 1000)
    return median(taken)
