"""The counters of a sidecar process: plain numbers that can be shared with other processes and added up."""

from __future__ import annotations

from bisect import bisect_left
from collections import Counter
from collections.abc import Iterable, Mapping
from typing import Any

WorkerDocument = Mapping[str, Any]
"""The figures and state of one worker, as JSON holds them; see :meth:`foreshard.sidecar._metrics.SidecarMetrics.document`."""

BOUNDS = (25e-6, 50e-6, 100e-6, 250e-6, 500e-6, 1e-3, 2.5e-3, 5e-3, 10e-3, 25e-3, 100e-3, 1.0)
"""Upper bounds (s) of the histogram's buckets. A last bucket has no bound."""
ROUTE, ROUTES = "route", "routes"


class Times:
    """A histogram of request durations. ``uncounted`` requests get the duration of the next sampled one."""

    __slots__ = ("_last", "counts", "total", "uncounted")

    def __init__(self) -> None:
        self.counts = [0] * (len(BOUNDS) + 1)
        self.total = 0.0
        self.uncounted = 0
        self._last = 0.0

    def took_sampled(self, seconds: float) -> None:
        """Record ``seconds`` for all uncounted requests."""
        self.took(seconds, self.uncounted)
        self.uncounted, self._last = 0, seconds

    def count_rest(self) -> None:
        """Record the uncounted requests with the duration of the last sample."""
        if self.uncounted:
            self.took_sampled(self._last)

    def took(self, seconds: float, requests: int = 1) -> None:
        """Record ``seconds`` for each of ``requests``."""
        self.counts[bisect_left(BOUNDS, seconds)] += requests
        self.total += seconds * requests

    def add(self, counts: Iterable[int], total: float) -> None:
        """Add another process' histogram."""
        self.counts = [one + other for one, other in zip(self.counts, counts, strict=True)]
        self.total += total


class SidecarCounters:
    """The counters of one process, or of several processes after ``add``."""

    def __init__(self, refused_files: int = 0) -> None:
        self.routes: Counter[tuple[str, str, str]] = Counter()
        """(op, role, reason) → routed keys."""
        self.problems: Counter[tuple[str, str]] = Counter()
        """(status, code) → refused requests."""
        self.refreshes: Counter[str] = Counter()
        self.connections: Counter[str] = Counter()
        """Connections by outcome: accepted, refused, stalled, slow."""
        self.times = {ROUTE: Times(), ROUTES: Times()}
        self.refused_files = refused_files

    def routed(self, op: str, role: str, reason: str, keys: int = 1) -> None:
        """Count routed keys."""
        self.routes[op, role, reason] += keys

    def refused(self, status: int, code: str) -> None:
        """Count one refused request."""
        self.problems[str(status), code] += 1

    def document(self) -> dict[str, Any]:
        """All counters, for JSON."""
        for times in self.times.values():
            times.count_rest()
        return {
            "routes": [[*labels, number] for labels, number in self.routes.items()],
            "problems": [[*labels, number] for labels, number in self.problems.items()],
            "refreshes": dict(self.refreshes),
            "connections": dict(self.connections),
            "times": {name: [times.counts, times.total] for name, times in self.times.items()},
            "refused_files": self.refused_files,
        }

    def add(self, document: Mapping[str, Any]) -> None:
        """Add the counters in ``document``."""
        for op, role, reason, number in document["routes"]:
            self.routes[op, role, reason] += number
        for status, code, number in document["problems"]:
            self.problems[status, code] += number
        self.refreshes.update(document["refreshes"])
        self.connections.update(document["connections"])
        for name, (counts, total) in document["times"].items():
            self.times[name].add(counts, total)
        self.refused_files += document["refused_files"]
