"""Measures whether a partition suffers from a move: a small majority write, against those before the copy, and the oplog.

The writes go to ``move_probes`` in the partition's bookkeeping database. A short oplog endangers every reader of the change
stream: it is short if it is full and holds less than ``SHORTEST_OPLOG``. Without the privilege to read it, it counts as long.
"""

from __future__ import annotations

import time
from collections import deque
from datetime import timedelta
from statistics import median

from pymongo import MongoClient
from pymongo.errors import PyMongoError
from pymongo.write_concern import WriteConcern

from foreshard.stores.mongo_connections import Document

PROBES_BEFORE, PROBES_NOW = 9, 5
"""Writes whose median counts: back to back before the copy, and the latest ones."""
SLOWER, SLOWER_BY = 2.0, 0.010
"""A write is slow if it takes this many times as long as before the copy, and this many seconds longer."""
SHORTEST_OPLOG, FULL = timedelta(minutes=10), 0.9
OPLOG_EVERY = 10.0
"""Seconds between two looks at the oplog."""


class PartitionStrain:
    """Implements :class:`foreshard.ports.pacing.StrainGauge` for one partition. ``database`` holds the probes."""

    def __init__(self, partition_id: str, client: MongoClient[Document], database: str) -> None:
        self._partition_id, self._client = partition_id, client
        self._probes = client[database].get_collection("move_probes", write_concern=WriteConcern("majority"))
        self._before: float | None = None
        self._now: deque[float] = deque(maxlen=PROBES_NOW)
        self._oplog_at, self._oplog = float("-inf"), timedelta.max

    def strain(self) -> str | None:
        """Return what is slow or short on the partition."""
        if self._before is None:
            self._before = median(self._probe() for _ in range(PROBES_BEFORE))
        self._now.append(self._probe())
        latest = median(self._now)
        if latest > max(SLOWER * self._before, self._before + SLOWER_BY):
            return f"writes on {self._partition_id} take {latest * 1000:.0f} ms instead of {self._before * 1000:.0f}"
        if time.monotonic() - self._oplog_at > OPLOG_EVERY:
            self._oplog, self._oplog_at = self._oplog_window(), time.monotonic()
        if self._oplog < SHORTEST_OPLOG:
            return f"the oplog of {self._partition_id} holds only {self._oplog.total_seconds():.0f} s"
        return None

    def _probe(self) -> float:
        begun = time.monotonic()
        self._probes.update_one({"_id": "probe"}, {"$inc": {"probes": 1}}, upsert=True)
        return time.monotonic() - begun

    def _oplog_window(self) -> timedelta:
        oplog = self._client["local"]["oplog.rs"]
        try:
            stats = self._client["local"].command("collStats", "oplog.rs")
            if stats["size"] < FULL * stats.get("maxSize", float("inf")):
                return timedelta.max
            first, last = (oplog.find({}, {"ts": 1}).sort("$natural", way).limit(1).next()["ts"] for way in (1, -1))
        except (PyMongoError, StopIteration):
            return timedelta.max
        return timedelta(seconds=last.time - first.time)
