"""Where data is: locations, partitions, sharded collections, and measured loads."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import datetime
from enum import StrEnum

from foreshard.model.key_space import KeyType


@dataclass(frozen=True, slots=True)
class Location:
    """A named place of partitions or accesses (degrees, WGS 84).

    ``round_trips`` are measured milliseconds from here to other places, and to partitions here.
    """

    name: str
    latitude: float
    longitude: float
    round_trips: tuple[tuple[str, float], ...] = ()


class PartitionState(StrEnum):
    """Whether the planner may place keys on a partition."""

    ACTIVE = "active"
    DRAINING = "draining"


@dataclass(frozen=True, slots=True)
class Partition:
    """Partition Metadata: a MongoDB replica set with a location and a capacity (cost units per second)."""

    partition_id: str
    geographic_location: str
    capacity: float
    uri: str = field(default="", repr=False)
    current_load: float = 0.0
    predicted_load: float = 0.0
    state: PartitionState = PartitionState.ACTIVE


class RuleKind(StrEnum):
    """What a placement rule restricts: the primary copy of a key (pin), or all its copies (residency)."""

    PIN = "pin"
    RESIDENCY = "residency"


@dataclass(frozen=True, slots=True)
class PlacementRule:
    """Where keys must stay. ``selector`` is a key, or a prefix of keys if ``is_prefix``.

    A pin keeps the primary copy on ``partition_id`` (None: where it is now). Residency keeps every copy in ``locations``. For
    each kind, the most specific selector applies to a key: the key itself, else the longest prefix.
    """

    kind: RuleKind
    selector: str
    is_prefix: bool = False
    partition_id: str | None = None
    locations: tuple[str, ...] = ()
    note: str = ""

    @property
    def rule_id(self) -> str:
        """``kind:key:selector`` or ``kind:prefix:selector``. There is one rule of each kind per selector."""
        return f"{self.kind}:{'prefix' if self.is_prefix else 'key'}:{self.selector}"

    @property
    def claim(self) -> str:
        """The rule as the end of a sentence that begins with the key."""
        if self.kind is RuleKind.RESIDENCY:
            return f"must stay in {', '.join(self.locations)}"
        return f"is pinned to {self.partition_id}" if self.partition_id else "is pinned where it is"


class RequestKind(StrEnum):
    """Whether a request type changes data. Only reads may use a shadow."""

    READ = "read"
    WRITE = "write"


class ConflictPolicy(StrEnum):
    """How concurrent versions of a document are reconciled in a collection."""

    LAST_WRITE_WINS = "last_write_wins"
    VECTOR_CLOCK = "vector_clock"


@dataclass(frozen=True, slots=True)
class ShardedCollection:
    """A collection whose documents are placed by the partitionable key in ``key_field``, of type ``key_type``."""

    database: str
    collection: str
    key_field: str
    policy: ConflictPolicy = ConflictPolicy.LAST_WRITE_WINS
    key_type: KeyType = KeyType.STRING

    @property
    def namespace(self) -> str:
        """``database.collection``, as MongoDB writes it."""
        return f"{self.database}.{self.collection}"


@dataclass(frozen=True, slots=True)
class PartitionLoad:
    """The load last measured on a partition (cost/s), and whether the partition answered.

    ``latency_ms`` is the server's mean time for a read; None if there was no read to measure.
    """

    partition_id: str
    load: float
    reachable: bool
    reported_at: datetime
    latency_ms: float | None = None
