"""The sidecar's figures for Prometheus."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING

from prometheus_client import CollectorRegistry, Counter, Histogram, generate_latest
from prometheus_client.core import GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

if TYPE_CHECKING:
    from foreshard.sidecar.service import RouteService

CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"
BUCKETS = (25e-6, 50e-6, 100e-6, 250e-6, 500e-6, 1e-3, 2.5e-3, 5e-3, 10e-3, 25e-3, 100e-3, 1.0)


class SidecarMetrics:
    """Counters that the sidecar raises, and gauges that are read when Prometheus asks."""

    def __init__(self, service: RouteService, refused_files: int = 0) -> None:
        self._registry = CollectorRegistry()
        self._routes = Counter("foreshard_sidecar_requests", "Routed keys", ("op", "role", "reason"), registry=self._registry)
        self._seconds = Histogram(
            "foreshard_sidecar_request_seconds", "Time to answer", ("endpoint",), buckets=BUCKETS, registry=self._registry
        )
        self._problems = Counter("foreshard_sidecar_problems", "Refused requests", ("status", "code"), registry=self._registry)
        self._refreshes = Counter(
            "foreshard_sidecar_fence_refreshes", "Refreshes that fenced clients asked for", ("result",), registry=self._registry
        )
        self._refused = Counter(
            "foreshard_sidecar_refused_files", "Saved tables that were refused as corrupt", registry=self._registry
        )
        self._refused.inc(refused_files)
        self._known: dict[tuple[str, str, str], Counter] = {}
        self._one, self._many = self._seconds.labels("route"), self._seconds.labels("routes")
        self._registry.register(_Gauges(service))

    def routed(self, op: str, role: str, reason: str) -> None:
        """Count one routed key."""
        labels = (op, role, reason)
        counter = self._known.get(labels)
        if counter is None:
            counter = self._known[labels] = self._routes.labels(*labels)
        counter.inc()

    def took(self, seconds: float, *, batch: bool = False) -> None:
        """Note how long one request took."""
        (self._many if batch else self._one).observe(seconds)

    def refused(self, status: int, code: str) -> None:
        """Count one refused request."""
        self._problems.labels(str(status), code).inc()

    def refreshed(self, result: str) -> None:
        """Count one refresh."""
        self._refreshes.labels(result).inc()

    def text(self) -> bytes:
        """All figures in Prometheus' text format."""
        return generate_latest(self._registry)


class _Gauges(Collector):
    """What the service knows at the moment of the question."""

    def __init__(self, service: RouteService) -> None:
        self._service = service

    def collect(self) -> Iterable[Metric]:
        service = self._service
        now = service.clock()
        installed = service.installed
        version = installed.table.version if installed else 0
        yield _gauge("connected", "1 while the sidecar follows the control database", float(service.connected))
        yield _gauge("table_version", "Version of the table that answers; 0 without one", version)
        if installed is not None:
            age = max(0.0, now - installed.confirmed_at)
            yield _gauge("table_age_seconds", "Seconds since the control database last agreed with the table", age)
            yield _gauge("table_keys", "Keys that the table lists", len(installed.table.placements))
        service.take_in(now)
        ages = _per_partition("load_age_seconds", "Seconds since a partition's load report")
        used = _per_partition("utilisation", "Load by capacity, as the sidecar sees it")
        share = _per_partition("admission", "Share of reads that a partition is given")
        for partition in service.partitions:
            at = service.book.pressure(partition.partition_id, now)
            label = [partition.partition_id]
            share.add_metric(label, at.admission)
            if at.age is not None:
                ages.add_metric(label, at.age)
            if at.utilisation is not None:
                used.add_metric(label, at.utilisation)
        yield from (ages, used, share)


def _gauge(name: str, text: str, value: float) -> GaugeMetricFamily:
    return GaugeMetricFamily(f"foreshard_sidecar_{name}", text, value=value)


def _per_partition(name: str, text: str) -> GaugeMetricFamily:
    return GaugeMetricFamily(f"foreshard_sidecar_{name}", text, labels=["partition"])
