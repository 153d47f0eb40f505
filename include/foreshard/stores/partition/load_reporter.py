"""Measures each partition's load from its mongod's counters: weighted, per second, smoothed.

load = Σ weight × Δ(serverStatus.opcounters) ÷ Δ seconds ÷ time scale, as a moving average with the time constant
``load_smoothing``. The weights are ``settings.sidecar.operation_weights``. A server counts most of its internal work as
commands, whose weight is 0 by default; so are the commands of this reporter. Writes of movers and appliers count, because they
are load. The report also has the mean time of a read since the last report (serverStatus.opLatencies), smoothed in the same
way: it reveals a partition that is slow although it does little. Partitions are measured in parallel, each within ``TIMEOUT``,
and each report is saved as it arrives, so that a dead partition does not delay the others.
"""

from __future__ import annotations

import logging
import math
import threading
import time
from collections.abc import Callable, Mapping
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

import pymongo
from pymongo.errors import PyMongoError

from foreshard.model import Partition, PartitionLoad

if TYPE_CHECKING:
    from pymongo import MongoClient

    from foreshard.ports.stages import LoadStore, PartitionRegistry
    from foreshard.settings import SidecarSettings

TIMEOUT = 1.0
"""Seconds that a partition has to answer."""
TOGETHER = 0.05
"""Answers that arrive within these seconds are saved in one write."""
PARALLEL = 64
LONGEST_PAUSE = 30.0
FORGOTTEN = 30.0
"""Seconds for which the mean time of a read is reported while there are no reads."""

log = logging.getLogger(__name__)


@dataclass
class LoadMeter:
    """Computes a smoothed load (cost/s) from a partition's running counters."""

    weights: Mapping[str, float]
    smoothing: float
    time_scale: float = 1.0
    load: float = 0.0
    _cost: float | None = None
    _at: float = 0.0
    _uptime: float = 0.0
    _measured: bool = False

    def measure(self, counters: Mapping[str, int], uptime: float, at: float) -> float | None:
        """Add counters read at ``at`` (seconds). Return the load; None after the first reading."""
        cost = sum(weight * counters.get(name, 0) for name, weight in self.weights.items())
        before, since, restarted = self._cost, at - self._at, uptime < self._uptime
        self._cost, self._at, self._uptime = cost, at, uptime
        if before is None or restarted or cost < before or since <= 0:
            return self.load if self._measured else None
        rate = (cost - before) / since / self.time_scale
        keep = math.exp(-since / self.smoothing) if self.smoothing > 0 and self._measured else 0.0
        self.load = keep * self.load + (1 - keep) * rate
        self._measured = True
        return self.load


@dataclass
class LatencyMeter:
    """Computes the smoothed mean time of a read (ms) from a partition's latency sums.

    Forgets it after ``FORGOTTEN`` seconds.
    """

    smoothing: float
    _sums: tuple[int, int] | None = None
    _at: float = 0.0
    _mean: float | None = None
    _mean_at: float = 0.0

    def measure(self, microseconds: int, reads: int, at: float) -> float | None:
        """Add sums read at ``at`` (seconds). Return the mean time; None without recent reads."""
        before, since = self._sums, at - self._at
        self._sums, self._at = (microseconds, reads), at
        if before is None or reads <= before[1] or microseconds < before[0]:
            self._mean = None if at - self._mean_at > FORGOTTEN else self._mean
            return self._mean
        fresh = (microseconds - before[0]) / (reads - before[1]) / 1000
        keep = math.exp(-since / self.smoothing) if self.smoothing > 0 and self._mean is not None else 0.0
        self._mean, self._mean_at = keep * (self._mean or 0.0) + (1 - keep) * fresh, at
        return self._mean


class LoadReporter:
    """Reports the load of every registered partition. ``connect`` returns a partition's client."""

    def __init__(
        self,
        registry: PartitionRegistry,
        loads: LoadStore,
        connect: Callable[[Partition], MongoClient[dict[str, Any]]],
        settings: SidecarSettings,
        timeout: float = TIMEOUT,
    ) -> None:
        self._registry, self._loads, self._connect = registry, loads, connect
        self._settings, self._timeout = settings, timeout
        self._meters: dict[str, LoadMeter] = {}
        self._latencies: dict[str, LatencyMeter] = {}
        self._busy: dict[str, Future[PartitionLoad | None]] = {}
        self._pool = ThreadPoolExecutor(PARALLEL, thread_name_prefix="load")

    def run(self, stop: threading.Event) -> None:
        """Report every ``load_interval`` until ``stop``. While the control database is unreachable, pauses grow."""
        interval = self._settings.load_interval.total_seconds()
        pause = interval
        while not stop.is_set():
            begun = time.monotonic()
            try:
                self.report_once()
                pause = interval
            except PyMongoError as error:
                pause = min(LONGEST_PAUSE, pause * 2)
                log.warning("loads were not reported (%s); trying again in %.0f s", _short(error), pause)
            stop.wait(max(0.0, begun + pause - time.monotonic()))
        self.close()

    def report_once(self) -> tuple[PartitionLoad, ...]:
        """Measure every partition once, save each report as it arrives, and return all of them."""
        partitions = self._registry.partitions()
        for gone in set(self._meters) - {p.partition_id for p in partitions}:
            del self._meters[gone]
            self._latencies.pop(gone, None)
        for partition in partitions:
            if partition.partition_id not in self._busy:
                self._busy[partition.partition_id] = self._pool.submit(self._measure, partition)
        reported: list[PartitionLoad] = []
        deadline = time.monotonic() + 2 * self._timeout
        while self._busy and (left := deadline - time.monotonic()) > 0:
            wait(self._busy.values(), left, FIRST_COMPLETED)
            time.sleep(min(TOGETHER, self._timeout / 4))
            done = [name for name, future in self._busy.items() if future.done()]
            loads = [load for name in done if (load := self._busy.pop(name).result()) is not None]
            self._loads.report(loads)
            reported.extend(loads)
        return tuple(reported)

    def close(self) -> None:
        """Stop measuring."""
        self._pool.shutdown(wait=False, cancel_futures=True)

    def _measure(self, partition: Partition) -> PartitionLoad | None:
        name = partition.partition_id
        meter = self._meters.setdefault(name, self._meter())
        try:
            with pymongo.timeout(self._timeout):
                status = self._connect(partition).admin.command({"serverStatus": 1, **_LEAN})
        except (PyMongoError, OSError, ValueError) as error:
            log.warning("partition %s does not answer: %s", name, _short(error))
            return PartitionLoad(name, meter.load, False, datetime.now(UTC))
        now = time.monotonic()
        load = meter.measure(status["opcounters"], float(status["uptime"]), now)
        reads = status.get("opLatencies", {}).get("reads", {"latency": 0, "ops": 0})
        latencies = self._latencies.setdefault(name, LatencyMeter(self._settings.load_smoothing.total_seconds()))
        latency = latencies.measure(int(reads["latency"]), int(reads["ops"]), now)
        return None if load is None else PartitionLoad(name, load, True, datetime.now(UTC), latency)

    def _meter(self) -> LoadMeter:
        settings = self._settings
        return LoadMeter(settings.operation_weights, settings.load_smoothing.total_seconds(), settings.load_time_scale)


_LEAN = dict.fromkeys(
    ("wiredTiger", "metrics", "locks", "tcmalloc", "transactions", "repl", "flowControl", "mirroredReads", "sharding"), 0
)
"""Sections of serverStatus that are not requested."""


def _short(error: BaseException) -> str:
    """The first part of a driver's error, which has no address with credentials."""
    return f"{type(error).__name__}: {str(error).split(',')[0][:160]}"
