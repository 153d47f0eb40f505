"""The latest measured loads: ``partition_load {_id: partition_id, load, reachable, reported_at, latency_ms}``.

``load`` is in cost units per second, ``reported_at`` is the reporter's clock, ``latency_ms`` is a read's mean time.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from pymongo import UpdateOne
from pymongo.database import Database

from foreshard.model import PartitionLoad
from foreshard.stores.mongo_connections import Document


class MongoLoadStore:
    """Implements :class:`foreshard.ports.stages.LoadStore`."""

    def __init__(self, database: Database[Document]) -> None:
        self._loads = database["partition_load"]
        self._partitions = database["partitions"]

    def report(self, loads: Sequence[PartitionLoad]) -> None:
        """Replace the reports of these partitions. CurrentLoad changes where the partition answered."""
        if not loads:
            return
        self._loads.bulk_write(
            [
                UpdateOne(
                    {"_id": one.partition_id},
                    {"$set": _fields(one)},
                    upsert=True,
                )
                for one in loads
            ],
            ordered=False,
        )
        answered = [
            UpdateOne({"_id": one.partition_id}, {"$set": {"current_load": one.load}}) for one in loads if one.reachable
        ]
        if answered:
            self._partitions.bulk_write(answered, ordered=False)

    def current(self) -> tuple[PartitionLoad, ...]:
        """Return the last report of every partition, by id."""
        return tuple(load_of(document) for document in self._loads.find().sort("_id", 1))


def load_of(document: Mapping[str, Any]) -> PartitionLoad:
    """Read one document of ``partition_load``."""
    latency = document.get("latency_ms")
    return PartitionLoad(
        document["_id"],
        float(document["load"]),
        bool(document["reachable"]),
        document["reported_at"],
        None if latency is None else float(latency),
    )


def _fields(load: PartitionLoad) -> Document:
    return {
        "load": load.load,
        "reachable": load.reachable,
        "reported_at": load.reported_at,
        "latency_ms": load.latency_ms,
    }
