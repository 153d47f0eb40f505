"""Tracks the load of each partition, and the share of its reads that each partition gets (its admission).

Pure: times are arguments, in seconds since 1970. Loads are in cost units per second. Many sidecars act on the same, slightly
old reports. A rule such as "leave above the mark, return below it" would make all of them switch back and forth together. Three
mechanisms prevent that:

* **Admission.** It starts at 1. A new report above the room mark lowers it by a factor, a report well below the mark
  (``RELEASE``) raises it by a factor, and in between it does not change (hysteresis). The factor is (mark ÷ utilisation) to the
  power of ``GAIN``, which is small enough for reports that are a few intervals old. A report raises it by at most ``RECOVERY``,
  so that a partition that comes back starts slowly.
* **Own traffic.** The load since the report is corrected by the change of this sidecar's own rate since then.
* **Level.** If all copies of a key are overloaded, each partition is compared with the mean utilisation of those copies instead
  of the mark. The copies then end up equally loaded, and no admission falls to zero. Each report reduces the level by
  ``FORGETTING``.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import NamedTuple

from foreshard.model import PartitionLoad, Placement
from foreshard.routing.decision import RouteDecision

GAIN = 0.25
RELEASE = 0.92
RECOVERY = 1.25
LOWEST_SHARE = 0.02
RETURN_SHARE = 0.1
"""The highest admission of a partition that answers again after it was unreachable."""
LEVEL_WEIGHT = 0.2
FORGETTING = 0.95
OWN_RATE_SECONDS = 5.0
"""The time constant of the average of this sidecar's own rate."""


@dataclass(frozen=True, slots=True)
class LoadRules:
    """How loads are judged.

    ``room_mark``: utilisation up to which a partition has room. ``expiry``: seconds after which a report is ignored.
    ``time_scale``: seconds of the loads' clock per second of real time (above 1 if a log is replayed faster than it happened).
    """

    room_mark: float
    expiry: float
    time_scale: float


class Pressure(NamedTuple):
    """The state of one partition at one moment.

    ``utilisation``: load ÷ capacity (None without a recent report). ``reachable``: False if the last recent report said so.
    ``admission``: the share of its reads that it gets. ``age``: seconds since the report (None without one). ``latency_ms``:
    the server's mean time for a read, as reported.
    """

    utilisation: float | None
    reachable: bool
    admission: float
    age: float | None
    latency_ms: float | None = None


@dataclass(slots=True)
class _OwnRate:
    """The cost per second that this sidecar sends, as a moving average over ``OWN_RATE_SECONDS``."""

    value: float = 0.0
    at: float = 0.0

    def add(self, cost: float, now: float) -> None:
        self.value = self.rate(now) + cost / OWN_RATE_SECONDS
        self.at = max(now, self.at)

    def rate(self, now: float) -> float:
        return self.value * math.exp((self.at - now) / OWN_RATE_SECONDS) if now > self.at else self.value


@dataclass(slots=True)
class _Entry:
    capacity: float
    report: PartitionLoad | None = None
    reported_at: float = -math.inf
    own: _OwnRate = field(default_factory=_OwnRate)
    own_when_reported: float = 0.0
    admission: float = 1.0
    level: float = 0.0


class LoadBook:
    """The loads of all partitions, as one sidecar sees them. Not thread-safe."""

    def __init__(self, rules: LoadRules) -> None:
        self.rules = rules
        self._entries: dict[str, _Entry] = {}

    def register(self, capacities: Mapping[str, float]) -> None:
        """Set the known partitions (id → capacity in cost/s). The loads of partitions that were known before are kept."""
        for name, capacity in capacities.items():
            if name in self._entries:
                self._entries[name].capacity = capacity
            else:
                self._entries[name] = _Entry(capacity)
        for name in set(self._entries) - set(capacities):
            del self._entries[name]

    def report(self, loads: Iterable[PartitionLoad], now: float) -> None:
        """Apply load reports. Reports of unknown partitions, and reports seen before, are ignored."""
        for load in loads:
            entry = self._entries.get(load.partition_id)
            if entry is None or (entry.report is not None and entry.report.reported_at == load.reported_at):
                continue
            at = min(load.reported_at.timestamp(), now)
            entry.report, entry.reported_at = load, at
            entry.own_when_reported = entry.own.rate(now)
            if now - at <= self.rules.expiry:
                self._admit(entry, load)

    def sent(self, partition_id: str, cost: float, now: float) -> None:
        """Add requests that this sidecar has sent to a partition, in cost units."""
        entry = self._entries.get(partition_id)
        if entry is not None:
            entry.own.add(cost, now)

    def decided(self, decision: RouteDecision, placement: Placement, cost: float, now: float) -> None:
        """Account for one request that was sent as ``decision`` says, of a key with this placement."""
        self.sent(decision.partition, cost, now)
        if decision.level is not None:
            self.all_overloaded((placement.primary, *placement.shadows), decision.level)
        if decision.relieved is not None:
            self.relieved(decision.relieved)

    def all_overloaded(self, copies: Iterable[str], level: float) -> None:
        """Record that all copies of a key were overloaded, with the mean utilisation ``level``."""
        for name in copies:
            entry = self._entries.get(name)
            if entry is not None:
                entry.level += LEVEL_WEIGHT * (level - entry.level)

    def relieved(self, partition_id: str) -> None:
        """Record that a read of this overloaded partition found room elsewhere."""
        entry = self._entries.get(partition_id)
        if entry is not None:
            entry.level *= FORGETTING

    def pressure(self, partition_id: str, now: float) -> Pressure:
        """The state of a partition now. An unregistered partition has an unknown load and an admission of 1."""
        entry = self._entries.get(partition_id)
        if entry is None or entry.report is None:
            return Pressure(None, True, 1.0 if entry is None else entry.admission, None)
        age = now - entry.reported_at
        if age > self.rules.expiry:
            return Pressure(None, True, entry.admission, age)
        change = (entry.own.rate(now) - entry.own_when_reported) / self.rules.time_scale
        load, admission = entry.report.load + change, entry.admission
        utilisation = load / entry.capacity if load > 0.0 else 0.0
        if change > 0 and utilisation > self.rules.room_mark and utilisation > entry.level:
            admission *= max(self.rules.room_mark, entry.level) / utilisation
        return Pressure(utilisation, entry.report.reachable, admission, age, entry.report.latency_ms)

    def reachable(self, partition_id: str, now: float) -> bool:
        """The ``reachable`` of :meth:`pressure`, without the rest."""
        entry = self._entries.get(partition_id)
        return entry is None or entry.report is None or entry.report.reachable or now - entry.reported_at > self.rules.expiry

    def capacity(self, partition_id: str) -> float:
        """The registered capacity (cost/s); 1 for an unregistered partition."""
        entry = self._entries.get(partition_id)
        return entry.capacity if entry else 1.0

    def _admit(self, entry: _Entry, load: PartitionLoad) -> None:
        if not load.reachable:
            entry.admission = min(entry.admission, RETURN_SHARE)
            return
        mark = max(self.rules.room_mark, entry.level)
        entry.level *= FORGETTING
        ratio = mark / max(load.load / entry.capacity, 1e-9)
        if ratio < 1:
            entry.admission = max(LOWEST_SHARE, entry.admission * ratio**GAIN)
        elif ratio * RELEASE > 1:
            entry.admission = min(1.0, entry.admission * min(RECOVERY, ratio**GAIN))
