"""The planner's reads of the move journal, the shadows, and the key sizes on the partitions."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Any

from pymongo.errors import PyMongoError
from pymongo.read_preferences import ReadPreference

from foreshard.model import Partition, ShardedCollection
from foreshard.model.move_state import AFTER_SWITCH, OPEN, PENDING, MoveState
from foreshard.model.recent import CurrentShadow, RecentMove
from foreshard.model.shadow_state import UNLISTED_WITH_DATA, WANTED, ShadowState
from foreshard.ports.planning import KeySizes
from foreshard.stores.bson_codec import key_text
from foreshard.stores.control._move_documents import UNITS, units_of
from foreshard.stores.mongo_connections import Document, MongoConnections

MOVES_MEASURED = 500
"""The migration rate is estimated from at most this many recent moves."""

WHOLE_SCAN_DOCUMENTS = 20_000
"""A larger collection is measured from a sample of this many documents."""


class MongoPlanningStore:
    """Implements :class:`foreshard.ports.planning.PlanningStore`."""

    def __init__(self, connections: MongoConnections, sample: int = WHOLE_SCAN_DOCUMENTS) -> None:
        self._connections = connections
        self._sample = sample

    def recent_moves(self, since: datetime) -> tuple[RecentMove, ...]:
        pending = {"state": {"$in": [state.value for state in PENDING]}}
        switched = {
            "state": {"$in": [state.value for state in AFTER_SWITCH]},
            "history": {"$elemMatch": {"state": MoveState.SWITCHED.value, "at": {"$gte": since}}},
        }
        found = self._moves.find({"$or": [pending, switched]}, {**UNITS, "source": 1, "target": 1, "state": 1, "history": 1})
        recent = (move for document in found for move in _recent_moves(document))
        return tuple(sorted(recent, key=lambda move: (move.at, move.key)))

    def move_times(self, since: datetime) -> tuple[tuple[float, float], ...]:
        """Return (bytes, seconds) of recent moves that one mover made without interruption, newest first."""
        switched = {
            "state": {"$in": [state.value for state in AFTER_SWITCH]},
            "history": {"$elemMatch": {"state": MoveState.SWITCHED.value, "at": {"$gte": since}}},
        }
        found = self._moves.find(switched, {"history": 1, "counters.bytes": 1}).sort("planned_at", -1).limit(MOVES_MEASURED)
        times = (_move_time(document) for document in found)
        return tuple(time for time in times if time is not None)

    def current_shadows(self) -> tuple[CurrentShadow, ...]:
        """Return the shadows that are wanted or being removed, by id."""
        states = [state.value for state in (*WANTED, ShadowState.RETIRING)]
        return tuple(
            CurrentShadow(
                document["_id"],
                document["key"],
                document["target"],
                str(document.get("reason") or ""),
                document.get("hour"),
                document["state"] == ShadowState.RETIRING.value,
            )
            for document in self._shadows.find({"state": {"$in": states}}).sort("_id", 1)
        )

    def copies_in_transit(self) -> frozenset[tuple[str, str]]:
        moves = self._moves.find({"state": {"$in": list(OPEN)}}, {**UNITS, "source": 1, "target": 1})
        ends = {
            (unit, partition) for move in moves for unit in units_of(move) for partition in (move["source"], move["target"])
        }
        shadows = self._shadows.find({"state": {"$in": list(UNLISTED_WITH_DATA)}}, {"key": 1, "target": 1})
        return frozenset(ends | {(shadow["key"], shadow["target"]) for shadow in shadows})

    def started(self, hour: datetime) -> bool:
        return any(collection.find_one({"hour": hour}, {"_id": 1}) for collection in (self._moves, self._shadows))

    def key_sizes(self, partitions: Sequence[Partition], collections: Sequence[ShardedCollection]) -> KeySizes:
        """Sum ``$bsonSize`` by key, with one aggregation per partition and collection. A key's largest copy counts."""
        sizes: Counter[str] = Counter()
        sampled = False
        for partition in partitions:
            here: Counter[str] = Counter()
            for collection in collections:
                try:
                    sampled |= self._measure(partition, collection, here)
                except PyMongoError:
                    self._connections.check(partition.uri, f"partition {partition.partition_id}")
                    raise
            for key, size in here.items():
                sizes[key] = max(sizes[key], size)
        typical = sizes.total() / len(sizes) if sampled and sizes else 0.0
        return KeySizes({key: float(size) for key, size in sizes.items()}, typical)

    def _measure(self, partition: Partition, collection: ShardedCollection, sizes: Counter[str]) -> bool:
        """Add the sizes found. Return whether they come from a scaled sample."""
        documents = (
            self._connections.partition(partition)
            .get_database(collection.database, read_preference=ReadPreference.SECONDARY_PREFERRED)
            .get_collection(collection.collection)
        )
        count = documents.estimated_document_count()
        sampled = count > self._sample
        total = {"$group": {"_id": f"${collection.key_field}", "bytes": {"$sum": {"$bsonSize": "$$ROOT"}}}}
        pipeline: list[dict[str, Any]] = [*([{"$sample": {"size": self._sample}}] if sampled else []), total]
        scale = count / self._sample if sampled else 1.0
        for row in documents.aggregate(pipeline, allowDiskUse=True):
            key = key_text(row["_id"], collection.key_type)
            if key is not None:
                sizes[key] += round(row["bytes"] * scale)
        return sampled

    @property
    def _moves(self) -> Any:
        return self._connections.control_database["moves"]

    @property
    def _shadows(self) -> Any:
        return self._connections.control_database["shadows"]


def _move_time(document: Document) -> tuple[float, float] | None:
    """Return the move's bytes and seconds. None if it had more than one mover or did not count its bytes."""
    entries = [entry for entry in document["history"] if entry["state"] != MoveState.PLANNED.value]
    upto = next(n for n, entry in enumerate(entries) if entry["state"] == MoveState.SWITCHED.value)
    states = [entry["state"] for entry in entries[: upto + 1]]
    if len({entry["lease"] for entry in entries[: upto + 1]}) > 1 or len(set(states)) < len(states):
        return None
    seconds = (entries[upto]["at"] - entries[0]["at"]).total_seconds()
    size = document.get("counters", {}).get("bytes")
    return None if size is None or seconds < 0 else (float(size), float(seconds))


def _recent_moves(document: Document) -> list[RecentMove]:
    """Return one row for each unit of the move."""
    pending = document["state"] in [state.value for state in PENDING]
    wanted = None if pending else MoveState.SWITCHED.value
    moments = [entry["at"] for entry in document["history"] if wanted is None or entry["state"] == wanted]
    goes_back = document["state"] == MoveState.REVERTING.value
    target = document["source"] if goes_back else document["target"]
    at = max(moments, default=datetime.min.replace(tzinfo=UTC))
    return [RecentMove(unit, document["source"], target, pending, at) for unit in units_of(document)]
