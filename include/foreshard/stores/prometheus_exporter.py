"""The exporter: figures of the control database over HTTP for Prometheus, read at each scrape."""

from __future__ import annotations

import errno
import threading
import time
from collections.abc import Callable, Iterator
from datetime import datetime
from wsgiref.simple_server import WSGIServer

from prometheus_client import CollectorRegistry, start_http_server
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from foreshard.errors import ConfigurationError, PortInUse
from foreshard.settings import Settings
from foreshard.stores.control.monitoring import ControlReader, utc_now
from foreshard.watch.figures import Figure, MetricKind, figures, one


class ControlCollector(Collector):
    """Reads the control database at each scrape. Scrapes wait for each other, so a slow database gets one read at a time."""

    def __init__(self, reader: ControlReader, clock: Callable[[], datetime] = utc_now) -> None:
        self._reader, self._clock = reader, clock
        self._lock = threading.Lock()

    def collect(self) -> Iterator[Metric]:
        """Yield all figures, and whether everything could be read."""
        with self._lock:
            now, begun = self._clock(), time.perf_counter()
            state = self._reader.read(now)
            seconds = time.perf_counter() - begun
        up = float(not state.failed)
        yield family(one("foreshard_exporter_up", "1 where the whole control database could be read", up))
        yield family(one("foreshard_exporter_read_seconds", "How long reading the control database took", seconds))
        for figure in figures(state, now):
            yield family(figure)

    def describe(self) -> list[Metric]:
        """Nothing is read at registration."""
        return []


def family(figure: Figure) -> Metric:
    """Return a figure as a metric family of prometheus_client."""
    kind = CounterMetricFamily if figure.kind is MetricKind.COUNTER else GaugeMetricFamily
    made = kind(figure.name, figure.text, labels=list(figure.labels))
    for labels, value in figure.samples:
        made.add_metric(list(labels), value)
    return made


def start_exporter(reader: ControlReader, settings: Settings) -> tuple[WSGIServer, threading.Thread]:
    """Serve ``/metrics`` in a thread. Raise :class:`PortInUse` or :class:`ConfigurationError` if it cannot listen."""
    registry = CollectorRegistry(auto_describe=False)
    registry.register(ControlCollector(reader))
    host, port = settings.sidecar.host, settings.sidecar.metrics_port
    try:
        return start_http_server(port, host, registry)
    except OSError as error:
        if error.errno == errno.EADDRINUSE:
            raise PortInUse("exporter", port) from error
        problem = f"can't listen on {host}:{port} ({error.strerror or error})"
        raise ConfigurationError("FORESHARD_SIDECAR__HOST", problem, "choose an address of this machine") from error
