"""Partition Metadata and locations in the control database.

``partitions {_id: partition_id, geographic_location, capacity, uri, current_load, predicted_load, state}``,
``locations {_id: name, latitude, longitude, round_trips: [{to: name, ms, measured_at}]}``.
"""

from __future__ import annotations

import logging
import math
from collections import Counter
from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any

from pymongo import UpdateOne
from pymongo.database import Database

from foreshard.errors import ConfigurationError, DuplicatePartition, UnknownLocation, UnknownPartition, UnusableCapacity
from foreshard.model import Location, Partition, PartitionState
from foreshard.routing.address import has_credentials
from foreshard.stores.mongo_connections import Document

log = logging.getLogger(__name__)
_warned: set[str] = set()
"""Partitions that were warned of."""


class MongoPartitionRegistry:
    """Implements :class:`foreshard.ports.stages.PartitionRegistry`."""

    def __init__(self, database: Database[Document]) -> None:
        self._partitions = database["partitions"]
        self._locations = database["locations"]

    def register(self, partitions: Sequence[Partition], locations: Sequence[Location]) -> None:
        known = {location.name for location in (*self.locations(), *locations)}
        check_partitions(partitions, known)
        if locations:
            self._locations.bulk_write(
                [_upsert(one.name, {"latitude": one.latitude, "longitude": one.longitude}) for one in locations]
            )
        if partitions:
            self._partitions.bulk_write([_registration(p) for p in partitions])

    def partitions(self) -> tuple[Partition, ...]:
        """Return every partition, by id."""
        return tuple(partition_of(document) for document in self._partitions.find().sort("_id", 1))

    def partition(self, partition_id: str) -> Partition:
        document = self._partitions.find_one({"_id": partition_id})
        if document is None:
            raise UnknownPartition(partition_id, self._known())
        return partition_of(document)

    def locations(self) -> tuple[Location, ...]:
        """Return every location, by name."""
        return tuple(location_of(document) for document in self._locations.find().sort("_id", 1))

    def save_round_trips(self, origin: str, milliseconds: Mapping[str, float], measured_at: datetime) -> None:
        known = self._locations.find_one({"_id": origin})
        if known is None:
            names = ", ".join(location.name for location in self.locations()) or "none"
            raise ConfigurationError("origin", f"location {origin!r} is not registered (known: {names})", "register it first")
        kept = [one for one in known.get("round_trips", ()) if one["to"] not in milliseconds]
        fresh = [{"to": to, "ms": float(ms), "measured_at": measured_at} for to, ms in milliseconds.items()]
        self._locations.update_one({"_id": origin}, {"$set": {"round_trips": [*kept, *fresh]}})

    def set_predicted_load(self, predicted: dict[str, float]) -> None:
        """Save PredictedLoad (cost/s) of registered partitions."""
        if predicted:
            self._partitions.bulk_write(
                [UpdateOne({"_id": name}, {"$set": {"predicted_load": float(load)}}) for name, load in predicted.items()]
            )

    def set_state(self, partition_id: str, state: PartitionState) -> None:
        if not self._partitions.update_one({"_id": partition_id}, {"$set": {"state": state.value}}).matched_count:
            raise UnknownPartition(partition_id, self._known())

    def _known(self) -> list[str]:
        return [str(name) for name in self._partitions.distinct("_id")]


def check_partitions(partitions: Sequence[Partition], known_locations: set[str]) -> None:
    """Raise an error for the first invalid registration."""
    for name, times in Counter(p.partition_id for p in partitions).items():
        if times > 1:
            raise DuplicatePartition(name)
    for partition in partitions:
        if not (math.isfinite(partition.capacity) and partition.capacity > 0):
            raise UnusableCapacity(partition.partition_id, partition.capacity)
        if partition.geographic_location not in known_locations:
            raise UnknownLocation(partition.partition_id, partition.geographic_location, sorted(known_locations))


def partition_of(document: Mapping[str, Any]) -> Partition:
    """Read one document of ``partitions``. Warn once of an address that an earlier release has stored with credentials."""
    name, uri = document["_id"], document["uri"]
    if name not in _warned and has_credentials(uri):
        _warned.add(name)
        log.warning(
            "the address of partition %s in the registry has credentials, which everybody who reads the control database sees; "
            "change them, name the user by FORESHARD_MONGO_USERNAME and FORESHARD_MONGO_PASSWORD, and register the partition "
            "again without them (foreshard partitions apply)",
            name,
        )
    return Partition(
        document["_id"],
        document["geographic_location"],
        float(document["capacity"]),
        document["uri"],
        float(document["current_load"]),
        float(document["predicted_load"]),
        PartitionState(document["state"]),
    )


def location_of(document: Mapping[str, Any]) -> Location:
    """Read one document of ``locations``."""
    measured = tuple((one["to"], float(one["ms"])) for one in document.get("round_trips", ()))
    return Location(document["_id"], float(document["latitude"]), float(document["longitude"]), measured)


def _upsert(name: str, fields: Document, new: Document | None = None) -> UpdateOne:
    return UpdateOne({"_id": name}, {"$set": fields, **({"$setOnInsert": new} if new else {})}, upsert=True)


def _registration(partition: Partition) -> UpdateOne:
    fields = {
        "geographic_location": partition.geographic_location,
        "capacity": float(partition.capacity),
        "uri": partition.uri,
    }
    new = {
        "current_load": float(partition.current_load),
        "predicted_load": float(partition.predicted_load),
        "state": partition.state.value,
    }
    return _upsert(partition.partition_id, fields, new)
