"""Loads of partitions and freshness of shadows, in a JSON file beside the routing table, because they change more often.

The sidecar replaces ``folder/live/state.json`` every second; clients that route in process read it. It is in a folder of its
own, because replacing it must not look like a new table. It is not flushed to disk: after a crash it is out of date anyway, and
all figures carry their time. A file of an older version has no clock: shadows are then not
used.
"""

from __future__ import annotations

import json
import os
from dataclasses import asdict
from datetime import UTC, datetime
from pathlib import Path

from foreshard.model import PartitionLoad
from foreshard.model.cluster_time import ClusterTime
from foreshard.ports.routing_file import LiveClock, LiveRouting, LiveRoutingStore


class LiveRoutingFile(LiveRoutingStore):
    """The file in a routing folder. Several processes may write it; the last one wins."""

    def __init__(self, folder: Path) -> None:
        self._path = folder / "live" / "state.json"

    def write(self, live: LiveRouting) -> None:
        loads = [[one.partition_id, one.load, one.reachable, one.reported_at.timestamp(), one.latency_ms] for one in live.loads]
        fresh = [[key, partition, at] for (key, partition), at in live.caught_up_at.items()]
        applied = [[key, partition, *to] for (key, partition), to in live.applied_to.items()]
        self._path.parent.mkdir(parents=True, exist_ok=True)
        beside = self._path.with_name(f".state.{os.getpid()}")
        clock = None if live.clock is None else asdict(live.clock)
        written = {"loads": loads, "caught_up_at": fresh, "clock": clock, "applied_to": applied}
        beside.write_text(json.dumps(written, separators=(",", ":")))
        beside.replace(self._path)

    def stamp(self) -> int:
        try:
            return self._path.stat().st_mtime_ns
        except OSError:
            return 0

    def read(self) -> LiveRouting:
        document = json.loads(self._path.read_bytes())
        try:
            loads = tuple(
                PartitionLoad(str(name), float(load), bool(reachable), datetime.fromtimestamp(at, UTC), latency)
                for name, load, reachable, at, latency in document["loads"]
            )
            fresh = {(key, partition): float(at) for key, partition, at in document["caught_up_at"]}
            clock = document.get("clock")
            applied = {
                (key, partition): ClusterTime(str(source), int(seconds), int(increment))
                for key, partition, source, seconds, increment in document.get("applied_to", ())
            }
            return LiveRouting(loads, fresh, None if clock is None else LiveClock(**clock), applied)
        except (KeyError, TypeError) as error:
            raise ValueError(f"written by another version ({error!r})") from error
