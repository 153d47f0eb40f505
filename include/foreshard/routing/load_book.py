"""What a sidecar knows of the partitions' loads, and which share of the reads each partition is given.

Pure: times are passed in, as seconds since 1970. Loads are cost units per second. Many sidecars act on the same, slightly old
reports, so that a rule like "leave when above the mark, come back when below" would send all of them back and forth. Three
things prevent that:

* **Admission.** Each partition has a share of reads that it is given, 1 at first. A new report above the mark lowers the share
  by a factor, one well below the mark (``RELEASE``) raises it by a factor, in between it stays (hysteresis). It falls by the
  power ``GAIN`` of mark ÷ utilisation, which is small enough for reports that are a few intervals old, and it rises by at most
  ``RECOVERY`` per report, so that a partition that comes back starts slowly.
* **Own traffic.** What this sidecar has sent since the report is added to it: the change of its own rate since then.
* **Level.** Where all copies of a key are overloaded, a partition is compared with the mean of those copies instead of
  with the mark, so that the copies end up equally loaded and no share falls to nothing. The level is forgotten by
  ``FORGETTING`` per report.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import NamedTuple

from foreshard.model import PartitionLoad

GAIN = 0.25
RELEASE = 0.92
RECOVERY = 1.25
LOWEST_SHARE = 0.02
RETURN_SHARE = 0.1
"""The share with which an unreachable partition comes back."""
LEVEL_WEIGHT = 0.2
FORGETTING = 0.95
OWN_RATE_SECONDS = 5.0
"""The time over which this sidecar's own rate is averaged."""


@dataclass(frozen=True, slots=True)
class LoadRules:
    """``room_mark``: utilisation up to which a partition has room; ``expiry``: seconds after which a report counts for nothing.

    ``time_scale``: seconds of the loads' clock per second (above 1 where a log is played faster than it happened).
    """

    room_mark: float = 0.8
    expiry: float = 15.0
    time_scale: float = 1.0


class Pressure(NamedTuple):
    """One partition at one moment.

    ``utilisation``: load ÷ capacity, None where no report is recent enough; ``reachable``: False where the last recent report
    said so; ``admission``: the share of reads that it is given; ``age``: seconds since the report, None without one;
    ``latency_ms``: what its server took for a read, by that report.
    """

    utilisation: float | None
    reachable: bool
    admission: float
    age: float | None
    latency_ms: float | None = None


@dataclass(slots=True)
class _OwnRate:
    """The cost per second that this sidecar sends, averaged over ``OWN_RATE_SECONDS``."""

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
    """The loads of all partitions, as one sidecar sees them. Not thread-safe: one thread owns it."""

    def __init__(self, rules: LoadRules) -> None:
        self.rules = rules
        self._entries: dict[str, _Entry] = {}

    def register(self, capacities: Mapping[str, float]) -> None:
        """Know these partitions (id → capacity in cost/s) and no others; what is known of them stays."""
        for name, capacity in capacities.items():
            if name in self._entries:
                self._entries[name].capacity = capacity
            else:
                self._entries[name] = _Entry(capacity)
        for name in set(self._entries) - set(capacities):
            del self._entries[name]

    def report(self, loads: Iterable[PartitionLoad], now: float) -> None:
        """Take in reports; those of unknown partitions and those seen before are skipped."""
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
        """Note a request that this sidecar has sent there, in cost units."""
        entry = self._entries.get(partition_id)
        if entry is not None:
            entry.own.add(cost, now)

    def all_overloaded(self, copies: Iterable[str], level: float) -> None:
        """Note that these copies of one key were all overloaded, at the mean utilisation ``level``."""
        for name in copies:
            entry = self._entries.get(name)
            if entry is not None:
                entry.level += LEVEL_WEIGHT * (level - entry.level)

    def relieved(self, partition_id: str) -> None:
        """Note that a read of this overloaded partition found room elsewhere."""
        entry = self._entries.get(partition_id)
        if entry is not None:
            entry.level *= FORGETTING

    def pressure(self, partition_id: str, now: float) -> Pressure:
        """What is known of a partition now; an unregistered one is unknown and takes what it is given."""
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
        """Whether a partition answers, as :meth:`pressure` says it."""
        entry = self._entries.get(partition_id)
        return entry is None or entry.report is None or entry.report.reachable or now - entry.reported_at > self.rules.expiry

    def capacity(self, partition_id: str) -> float:
        """The registered capacity (cost/s); 1 where a partition is not registered."""
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
