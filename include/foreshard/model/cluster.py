"""Where data lives: locations, partitions, sharded collections, and the load that was measured."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import datetime
from enum import StrEnum


@dataclass(frozen=True, slots=True)
class Location:
    """A named place where partitions stand or accesses come from (degrees, WGS 84)."""

    name: str
    latitude: float
    longitude: float


class PartitionState(StrEnum):
    """Whether the planner may put keys on a partition."""

    ACTIVE = "active"
    DRAINING = "draining"


@dataclass(frozen=True, slots=True)
class Partition:
    """Partition Metadata: a MongoDB replica set with a place and a capacity (cost units per second)."""

    partition_id: str
    geographic_location: str
    capacity: float
    uri: str = field(default="", repr=False)
    current_load: float = 0.0
    predicted_load: float = 0.0
    state: PartitionState = PartitionState.ACTIVE


class RequestKind(StrEnum):
    """Whether a request type changes data; only reads may be served by a shadow copy."""

    READ = "read"
    WRITE = "write"


class ConflictPolicy(StrEnum):
    """How concurrent versions of one document are reconciled in a collection."""

    LAST_WRITE_WINS = "last_write_wins"
    VECTOR_CLOCK = "vector_clock"


@dataclass(frozen=True, slots=True)
class ShardedCollection:
    """A collection whose documents are placed by the partitionable key in ``key_field``."""

    database: str
    collection: str
    key_field: str
    policy: ConflictPolicy = ConflictPolicy.LAST_WRITE_WINS

    @property
    def namespace(self) -> str:
        """``database.collection``, as MongoDB writes it."""
        return f"{self.database}.{self.collection}"


@dataclass(frozen=True, slots=True)
class PartitionLoad:
    """The load that a partition's reporter last measured (cost/s), and whether it answered at all."""

    partition_id: str
    load: float
    reachable: bool
    reported_at: datetime
