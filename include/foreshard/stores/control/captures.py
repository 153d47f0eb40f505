"""Checkpoints of capture and of applying, in the control database.

``captures {_id: partition_id, term, incarnation, token, keys, cycle, at}``: how far a partition's changes are published.
``applied {_id: partition_id, incarnation, topic_partitions, notes: {"<topic partition>": {cycle, seen_until, committed}}}``:
how far they are applied. ``replicator {_id: "replicator", holder, term, until}``: the lease of the one process that replicates,
by the database's clock. A lease's number is stored as ``term``, a capture id as ``incarnation``.
"""

from __future__ import annotations

import time
import uuid
from collections.abc import Iterable, Mapping
from datetime import UTC, datetime
from typing import Any

from bson import Timestamp
from pymongo import ReturnDocument
from pymongo.database import Database
from pymongo.errors import DuplicateKeyError
from pymongo.read_concern import ReadConcern
from pymongo.write_concern import WriteConcern

from foreshard.errors import ReplicatorSuperseded
from foreshard.model.cluster_time import ClusterTime
from foreshard.ports.replication import ApplyProgress, CaptureState, Heartbeat
from foreshard.stores.mongo_connections import Document

LEASE = "replicator"
CLOCK_EVERY = 5.0
"""Seconds."""


class MongoCaptureStore:
    """Implements :class:`foreshard.ports.replication.CaptureStore`."""

    def __init__(self, database: Database[Document]) -> None:
        durable: dict[str, Any] = {"write_concern": WriteConcern("majority"), "read_concern": ReadConcern("majority")}
        self._captures = database.get_collection("captures", **durable)
        self._applied = database.get_collection("applied", **durable)
        self._leases = database.get_collection("replicator", **durable)
        self._behind, self._asked_at = 0.0, float("-inf")

    def acquire(self, holder: str, seconds: float) -> int | None:
        until = {"$add": ["$$NOW", round(seconds * 1000)]}
        mine = {"$eq": ["$holder", holder]}
        lease = {"$cond": [mine, "$term", {"$add": ["$term", 1]}]}
        taken = self._leases.find_one_and_update(
            {"_id": LEASE, "$expr": {"$or": [mine, {"$lte": ["$until", "$$NOW"]}]}},
            [{"$set": {"term": lease, "holder": {"$literal": holder}, "until": until}}],
            return_document=ReturnDocument.AFTER,
        )
        if taken is not None:
            return int(taken["term"])
        try:
            self._leases.insert_one({"_id": LEASE, "holder": None, "term": 0, "until": datetime.fromtimestamp(0, UTC)})
        except DuplicateKeyError:
            return None
        return self.acquire(holder, seconds)

    def release(self, holder: str) -> None:
        """Release the lease. Its number stays."""
        free = {"holder": None, "until": datetime.fromtimestamp(0, UTC)}
        self._leases.update_one({"_id": LEASE, "holder": holder}, {"$set": free})

    def holder(self) -> str | None:
        """Return the process that replicates now, if any."""
        found = self._leases.find_one({"_id": LEASE, "$expr": {"$gt": ["$until", "$$NOW"]}})
        return str(found["holder"]) if found else None

    def clock(self) -> datetime:
        """The database is asked every ``CLOCK_EVERY`` seconds, and the monotonic clock continues its answer."""
        if time.monotonic() - self._asked_at > CLOCK_EVERY:
            told: datetime = self._leases.database.command("hello")["localTime"]
            self._asked_at = time.monotonic()
            self._behind = told.timestamp() - self._asked_at
        return datetime.fromtimestamp(time.monotonic() + self._behind, UTC)

    def claim(self, partition_id: str, lease: int) -> CaptureState | None:
        """Take over a partition's capture. Skip one cycle, which the previous owner may have published without a checkpoint."""
        found = self._captures.find_one_and_update(
            {"_id": partition_id, "term": {"$lte": lease}},
            {"$set": {"term": lease}, "$inc": {"cycle": 1}},
            return_document=ReturnDocument.AFTER,
        )
        if found is None and self._captures.find_one({"_id": partition_id}, {"_id": 1}) is not None:
            raise ReplicatorSuperseded(partition_id, lease)
        return _state(found) if found else None

    def begin(self, partition_id: str, lease: int, token: bytes, keys: frozenset[str]) -> CaptureState:
        changed = {
            "term": lease, "incarnation": uuid.uuid4().hex, "token": token, "keys": sorted(keys), "at": datetime.now(UTC),
        }  # fmt: skip
        try:
            found = self._captures.find_one_and_update(
                {"_id": partition_id, "term": {"$lte": lease}},
                {"$set": changed, "$inc": {"cycle": 1}},
                upsert=True,
                return_document=ReturnDocument.AFTER,
            )
        except DuplicateKeyError:
            raise ReplicatorSuperseded(partition_id, lease) from None
        return _state(found or {})

    def checkpoint(self, state: CaptureState, lease: int) -> None:
        changed = {"token": state.token, "keys": sorted(state.keys), "cycle": state.cycle, "at": datetime.now(UTC)}
        mine = {"_id": state.partition_id, "term": lease, "incarnation": state.capture_id}
        if self._captures.update_one(mine, {"$set": changed}).matched_count != 1:
            raise ReplicatorSuperseded(state.partition_id, lease)

    def states(self) -> dict[str, CaptureState]:
        """Return every partition's checkpoint."""
        return {found["_id"]: _state(found) for found in self._captures.find({})}

    def save_applied(self, origin: str, capture_id: str, applied: Mapping[int, Heartbeat], topic_partitions: int) -> None:
        notes = {str(partition): _note(beat) for partition, beat in applied.items()}
        rises = {f"notes.{partition}.{name}": value for partition, note in notes.items() for name, value in note.items()}
        known = {"_id": origin, "incarnation": capture_id, "topic_partitions": topic_partitions}
        if self._applied.update_one(known, {"$max": rises}).matched_count:
            return
        self._applied.replace_one({"_id": origin}, {**known, "notes": notes}, upsert=True)

    def progress(self) -> dict[str, ApplyProgress]:
        return {
            found["_id"]: ApplyProgress(
                found["incarnation"],
                min(int(note["cycle"]) for note in found["notes"].values()),
                min(note["seen_until"] for note in found["notes"].values()),
                _least_committed(found["_id"], found["notes"].values()),
            )
            for found in self._applied.find({})
            if len(found["notes"]) >= found["topic_partitions"]
        }


def _note(beat: Heartbeat) -> dict[str, Any]:
    """A heartbeat as it is stored. One without a committed time leaves the stored one as it is, which stays true."""
    note = {"cycle": beat.cycle, "seen_until": beat.seen_until}
    at = beat.committed
    return note if at is None else {**note, "committed": Timestamp(at.seconds, at.increment)}


def _least_committed(origin: str, notes: Iterable[Mapping[str, Any]]) -> ClusterTime | None:
    """The cluster time that every topic partition has reached; None if one of them has not said."""
    times = [note.get("committed") for note in notes]
    if None in times or not times:
        return None
    return ClusterTime(origin, *min((at.time, at.inc) for at in times if at is not None))


def _state(found: Mapping[str, Any]) -> CaptureState:
    token = found["token"]
    keys, cycle = frozenset(found["keys"]), int(found["cycle"])
    return CaptureState(found["_id"], found["incarnation"], None if token is None else bytes(token), keys, cycle)
