"""The words of Foreshard as types: what passes between rooms.

Every ``hour`` is the aware UTC start of a *closed* hour; the horizon of a forecast made for it starts one hour later. A *cost*
is what an access costs its partition; *load* is cost units per second.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from enum import StrEnum
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt
    import pandas as pd

    FloatArray = npt.NDArray[np.float64]
    BoolArray = npt.NDArray[np.bool_]
else:  # names for annotations only: an app's client and the sidecar import this module without numpy and pandas
    FloatArray = BoolArray = Any

ONE_HOUR = timedelta(hours=1)

ACCESS_LOG_COLUMNS = ("timestamp", "partitionable_key", "user_id", "request_type", "location", "session_id", "cost")
"""The standard access-log columns; ``session_id`` and ``cost`` may be absent."""

KEY_LOAD_COLUMNS = ("hour", "partitionable_key", "location", "request_type", "count", "cost", "distinct_users")
"""One row per hour × key × location × request type; ``cost`` is summed over the hour."""

CO_ACCESS_COLUMNS = ("hour", "key_a", "key_b", "weight", "distinct_users", "user_marks")
"""One row per hour × unordered key pair (``key_a < key_b``); ``weight`` counts the sessions or windows that touched both.

``user_marks`` are hashes of the pair's users, by which distinct users are counted over several hours (observe.co_access)."""


def hour_floor(moment: datetime) -> datetime:
    """Return the aware UTC hour that contains ``moment`` (naive moments are taken as UTC)."""
    aware = moment.replace(tzinfo=UTC) if moment.tzinfo is None else moment.astimezone(UTC)
    return aware.replace(minute=0, second=0, microsecond=0)


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
class AccessRecord:
    """Access Log entry; ``user_id`` is a pseudonym (HMAC-SHA256), never a raw id."""

    timestamp: datetime
    partitionable_key: str
    user_id: str | None
    request_type: str
    location: str | None = None
    session_id: str | None = None
    cost: float | None = None


@dataclass(frozen=True)
class HourTally:
    """What one closed hour's log says: key load (``KEY_LOAD_COLUMNS``) and co-access (``CO_ACCESS_COLUMNS``)."""

    hour: datetime
    key_load: pd.DataFrame
    co_access: pd.DataFrame


@dataclass(frozen=True)
class SeriesMatrix:
    """Cost per key and hour for the ``T`` hours that end with ``hour`` (inclusive).

    ``costs`` is (keys, T) in cost units per hour, zero where an hour is missing; ``counted`` (T,) says which were counted.
    """

    hour: datetime
    keys: tuple[str, ...]
    costs: npt.NDArray[np.float32]
    counted: BoolArray

    @property
    def missing(self) -> BoolArray:
        """(keys, T): True where the cost is unknown. A read-only view."""
        import numpy as np

        return np.broadcast_to(~self.counted, self.costs.shape)

    def rows(self, start: int, stop: int) -> SeriesMatrix:
        """The keys ``start:stop``."""
        return SeriesMatrix(self.hour, self.keys[start:stop], self.costs[start:stop], self.counted)


@dataclass(frozen=True, slots=True)
class HourCounts:
    """How many accesses a counted hour had, and of how many distinct keys."""

    hour: datetime
    accesses: int
    keys: int


@dataclass(frozen=True, slots=True)
class GateResult:
    """What a quality gate found for an hour: each failure is one line that says what failed and by how much."""

    gate: str
    hour: datetime
    passed: bool
    failures: tuple[str, ...] = ()
    expectations: int = 0


@dataclass(frozen=True)
class ForecastBatch:
    """Forecasts of many keys for the ``H`` hours after ``hour``, in cost units per hour.

    ``mean``, ``sigma`` (standard deviation) and ``upper`` (at ``quantile``) are float arrays of shape (keys, H);
    ``models`` names what made each key's forecast (``prophet``, ``hour_of_week_mean``, ``recent_mean``, …).
    """

    hour: datetime
    quantile: float
    keys: tuple[str, ...]
    mean: FloatArray
    sigma: FloatArray
    upper: FloatArray
    models: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class PartitionScore:
    """LPS of one partition for the horizon after ``hour``: its forecast's peak at the upper quantile ÷ capacity.

    ``predicted_load`` (cost/s) stands at ``peak_hour``; ``volume`` (accesses/s) × ``complexity`` (cost per access) are the
    parts of its mean; ``utilisation`` is the upper-quantile load ÷ capacity of each horizon hour.
    """

    hour: datetime
    partition_id: str
    lps: float
    peak_hour: datetime
    predicted_load: float
    capacity: float
    volume: float
    complexity: float
    keys: int
    utilisation: tuple[float, ...]


@dataclass(frozen=True, slots=True)
class Reason:
    """Why a decision was taken: a machine-readable ``code``, its ``facts``, and one ``sentence`` for people."""

    code: str
    sentence: str
    facts: Mapping[str, Any] = field(default_factory=lambda: MappingProxyType({}))


@dataclass(frozen=True, slots=True)
class Move:
    """One key to another partition. ``move_id`` is derived from the hour and the key, so planning twice names it once."""

    move_id: str
    key: str
    source: str
    target: str
    estimated_bytes: int
    clump: str
    reason: Reason


@dataclass(frozen=True, slots=True)
class ShadowCopy:
    """One extra, asynchronously updated copy of ``key`` (primary on ``source``) on ``target``."""

    shadow_id: str
    key: str
    source: str
    target: str
    reason: Reason


@dataclass(frozen=True, slots=True)
class Refusal:
    """A partition over its threshold that the plan could not (fully) relieve, and why."""

    partition_id: str
    reason: Reason


@dataclass(frozen=True, slots=True)
class Plan:
    """The hour's moves, shadows and shadow removals, made from table ``table_version``; LPS per partition before and after."""

    hour: datetime
    table_version: int
    moves: tuple[Move, ...] = ()
    shadows: tuple[ShadowCopy, ...] = ()
    removals: tuple[ShadowCopy, ...] = ()
    refusals: tuple[Refusal, ...] = ()
    lps_before: Mapping[str, float] = field(default_factory=dict)
    lps_after: Mapping[str, float] = field(default_factory=dict)
    dry_run: bool = False


@dataclass(frozen=True, slots=True)
class Placement:
    """Where a key lives: its primary partition, its readable shadows, and the epoch that each of its moves raises."""

    key: str
    primary: str
    shadows: tuple[str, ...] = ()
    epoch: int = 1


@dataclass(frozen=True, slots=True)
class DefaultRule:
    """Where unlisted keys live: rendezvous hashing over these partitions, weighted by their published capacities."""

    partitions: tuple[str, ...]
    weights: tuple[float, ...]


@dataclass(frozen=True, slots=True)
class RoutingTable:
    """A published version: key → placement, and the rule for every key that it does not list."""

    version: int
    placements: Mapping[str, Placement]
    default_rule: DefaultRule
    published_at: datetime


@dataclass(frozen=True, slots=True)
class PlacementChange:
    """One row of a publication; refused as a whole unless the key's epoch is ``expected_epoch`` (0: not listed yet)."""

    key: str
    primary: str
    shadows: tuple[str, ...]
    expected_epoch: int
    new_epoch: int


@dataclass(frozen=True, slots=True)
class PartitionLoad:
    """The load that a partition's reporter last measured (cost/s), and whether it answered at all."""

    partition_id: str
    load: float
    reachable: bool
    reported_at: datetime
