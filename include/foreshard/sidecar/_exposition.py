"""The sidecar's figures in Prometheus' text format, for all workers together."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from itertools import accumulate
from typing import Any

from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily, Metric
from prometheus_client.registry import Collector

from foreshard.sidecar._figures import BOUNDS, SidecarCounters, WorkerDocument

PREFIX = "foreshard_sidecar_"


def exposed(documents: Sequence[WorkerDocument]) -> bytes:
    """Return the documents of all workers (:meth:`SidecarMetrics.document`) as one text."""
    registry = CollectorRegistry()
    registry.register(_Combined(documents))
    return generate_latest(registry)


class _Combined(Collector):
    """Combines the documents of all workers: counters are added, gauges show the worst value or the mean."""

    def __init__(self, documents: Sequence[WorkerDocument]) -> None:
        self._states = [document["state"] for document in documents]
        self._open = sum(document["open"] for document in documents)
        self._figures = SidecarCounters()
        for document in documents:
            self._figures.add(document["figures"])

    def collect(self) -> Iterable[Metric]:
        yield from self._counters()
        yield from self._gauges()
        yield from self._partitions()

    def _counters(self) -> Iterable[Metric]:
        figures = self._figures
        yield _counter("requests", "Routed keys", ("op", "role", "reason"), figures.routes)
        yield _counter("problems", "Refused requests", ("status", "code"), figures.problems)
        refreshes = {(name,): number for name, number in figures.refreshes.items()}
        yield _counter("fence_refreshes", "Refreshes that fenced clients asked for", ("result",), refreshes)
        outcomes = {(name,): number for name, number in figures.connections.items()}
        yield _counter("connections", "Connections by outcome", ("outcome",), outcomes)
        refused = {(): figures.refused_files}
        yield _counter("refused_files", "Saved tables that were refused as corrupt", (), refused)
        seconds = HistogramMetricFamily(f"{PREFIX}request_seconds", "Time to answer", labels=("endpoint",))
        for name, times in figures.times.items():
            bounds = (*(str(bound) for bound in BOUNDS), "+Inf")
            seconds.add_metric((name,), list(zip(bounds, accumulate(times.counts), strict=True)), times.total)
        yield seconds

    def _gauges(self) -> Iterable[Metric]:
        states = self._states
        yield _gauge("workers", "Worker processes", len(states))
        yield _gauge("open_connections", "Open connections", self._open)
        yield _gauge(
            "connected", "1 while the sidecar follows the control database", min(float(s["connected"]) for s in states)
        )
        version = min(s["table_version"] for s in states)
        yield _gauge("table_version", "Version of the table in use; 0 without a table", version)
        ages = [s["table_age"] for s in states if s["table_age"] is not None]
        if ages:
            yield _gauge("table_age_seconds", "Seconds since the control database last confirmed the table", max(ages))
            yield _gauge("table_keys", "Keys listed in the table", max(s["table_keys"] for s in states))

    def _partitions(self) -> Iterable[Metric]:
        ages = _per_partition("load_age_seconds", "Seconds since a partition's load report")
        used = _per_partition("utilisation", "Load ÷ capacity, as the sidecar sees it")
        share = _per_partition("admission", "Share of its reads that a partition gets")
        for name in self._states[0]["partitions"]:
            seen = [s["partitions"][name] for s in self._states if name in s["partitions"]]
            for family, values in zip((ages, used, share), zip(*seen, strict=True), strict=True):
                known = [value for value in values if value is not None]
                if known:
                    family.add_metric([name], max(known) if family is ages else sum(known) / len(known))
        yield from (ages, used, share)


def _counter(name: str, text: str, labels: Sequence[str], values: Mapping[Any, float]) -> CounterMetricFamily:
    family = CounterMetricFamily(PREFIX + name, text, labels=labels)
    for given, value in values.items():
        family.add_metric(given, value)
    return family


def _gauge(name: str, text: str, value: float) -> GaugeMetricFamily:
    return GaugeMetricFamily(PREFIX + name, text, value=value)


def _per_partition(name: str, text: str) -> GaugeMetricFamily:
    return GaugeMetricFamily(PREFIX + name, text, labels=["partition"])
