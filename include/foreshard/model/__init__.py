"""The shared data types of all rooms.

Every ``hour`` is the aware UTC start of a *closed* hour. The horizon of a forecast for it starts one hour later. A *cost* is
what an access costs its partition. *Load* is in cost units per second.
"""

from __future__ import annotations

import importlib
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

from foreshard.model.arrays import BoolArray, FloatArray, IntArray
from foreshard.model.cluster import (
    ConflictPolicy,
    Location,
    Partition,
    PartitionLoad,
    PartitionState,
    PlacementRule,
    RequestKind,
    RuleKind,
    ShardedCollection,
)
from foreshard.model.placed import (
    Placement,
    PlacementChange,
    RoutingTable,
    SlotMap,
)

if TYPE_CHECKING:
    from foreshard.model.decided import (
        ForecastBatch,
        Move,
        PartitionScore,
        Plan,
        PlannedShadow,
        PlanWarning,
        Reason,
        Refusal,
    )
    from foreshard.model.observed import (
        Acceptance,
        AccessRecord,
        GateResult,
        HourCounts,
        HourFacts,
        HourTally,
        SeriesMatrix,
    )

__all__ = [
    "ACCESS_LOG_COLUMNS",
    "READ_COLUMNS",
    "RECORD_ID",
    "Acceptance",
    "AccessRecord",
    "BoolArray",
    "CO_ACCESS_COLUMNS",
    "ConflictPolicy",
    "FloatArray",
    "ForecastBatch",
    "GateResult",
    "HOURS_PER_DAY",
    "HOURS_PER_WEEK",
    "HourCounts",
    "HourFacts",
    "HourTally",
    "IntArray",
    "KEY_LOAD_COLUMNS",
    "Location",
    "Move",
    "ONE_HOUR",
    "Partition",
    "PartitionLoad",
    "PartitionScore",
    "PartitionState",
    "Placement",
    "PlacementChange",
    "PlacementRule",
    "Plan",
    "PlanWarning",
    "Reason",
    "Refusal",
    "RequestKind",
    "RoutingTable",
    "RuleKind",
    "SECONDS_PER_HOUR",
    "SeriesMatrix",
    "PlannedShadow",
    "ShardedCollection",
    "SlotMap",
    "hour_floor",
]

ONE_HOUR = timedelta(hours=1)
HOURS_PER_DAY = 24
HOURS_PER_WEEK = 168
SECONDS_PER_HOUR = 3600.0

ACCESS_LOG_COLUMNS = ("timestamp", "partitionable_key", "user_id", "request_type", "location", "session_id", "cost")
RECORD_ID = "record_id"
"""The optional column that names a record, so that a record that is delivered twice counts once."""
READ_COLUMNS = (*ACCESS_LOG_COLUMNS, RECORD_ID)
"""The columns that are read from a log."""
"""The standard access-log columns; ``session_id`` and ``cost`` may be absent."""

KEY_LOAD_COLUMNS = ("hour", "partitionable_key", "location", "request_type", "count", "cost", "distinct_users")
"""One row per hour × key × location × request type; ``cost`` is summed over the hour."""

CO_ACCESS_COLUMNS = ("hour", "key_a", "key_b", "weight", "distinct_users", "user_marks")
"""One row per hour × unordered key pair (``key_a < key_b``). ``weight`` counts the sessions or windows that touched both.

``user_marks`` are hashes of the pair's users; they count distinct users over several hours (observe.pairs.co_access).
"""


def hour_floor(moment: datetime) -> datetime:
    """Return the aware UTC hour that contains ``moment`` (naive moments are taken as UTC)."""
    aware = moment.replace(tzinfo=UTC) if moment.tzinfo is None else moment.astimezone(UTC)
    return aware.replace(minute=0, second=0, microsecond=0)


_DECIDED = {"ForecastBatch", "Move", "PartitionScore", "Plan", "PlanWarning", "Reason", "Refusal", "PlannedShadow"}
_OBSERVED = {"Acceptance", "AccessRecord", "GateResult", "HourCounts", "HourFacts", "HourTally", "SeriesMatrix"}


def __getattr__(name: str) -> Any:
    """Import the classes that routing does not need at their first use. They would add a tenth to a sidecar's start."""
    if name not in _DECIDED | _OBSERVED:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    found = getattr(importlib.import_module(f"{__name__}.{'decided' if name in _DECIDED else 'observed'}"), name)
    globals()[name] = found
    return found
