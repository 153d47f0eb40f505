"""Where data lives: locations, partitions, sharded collections, and the load that was measured."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import datetime
from enum import StrEnum


@dataclass(frozen=True, slots=True)
class Location:
    """A named place where partitions stand or accesses come from (degrees, WGS 84).

    ``round_trips``: the milliseconds that were measured from here to other places (and to partitions at this one).
    """

    name: str
    latitude: float
    longitude: float
    round_trips: tuple[tuple[str, float], ...] = ()


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


class RuleKind(StrEnum):
    """What a placement rule is about: where a key's primary copy is, or where any of its copies may be."""

    PIN = "pin"
    RESIDENCY = "residency"


@dataclass(frozen=True, slots=True)
class PlacementRule:
    """Where keys must stay: the key ``selector`` or, where it ``is_prefix``, every key that begins with it.

    A pin keeps the primary copy on ``partition_id`` (None: where it is); residency keeps every copy in ``locations``. Of each
    kind the rule with the most specific selector holds for a key: the key itself, else the longest prefix.
    """

    kind: RuleKind
    selector: str
    is_prefix: bool = False
    partition_id: str | None = None
    locations: tuple[str, ...] = ()
    note: str = ""

    @property
    def rule_id(self) -> str:
        """``kind:key:selector`` or ``kind:prefix:selector``: one rule of each kind per selector."""
        return f"{self.kind}:{'prefix' if self.is_prefix else 'key'}:{self.selector}"

    @property
    def claim(self) -> str:
        """What it asks of a key, to be put behind the key's name."""
        if self.kind is RuleKind.RESIDENCY:
            return f"must stay in {', '.join(self.locations)}"
        return f"is pinned to {self.partition_id}" if self.partition_id else "is pinned where it is"


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
    """The load that a partition's reporter last measured (cost/s), and whether it answered at all.

    ``latency_ms``: the mean time that the server took for a read, None where it had none to measure.
    """

    partition_id: str
    load: float
    reachable: bool
    reported_at: datetime
    latency_ms: float | None = None
