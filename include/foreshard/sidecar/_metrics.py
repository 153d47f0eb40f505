"""The figures and the state of one sidecar process, for the workers beside it and for Prometheus."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from foreshard.sidecar._figures import SidecarCounters, WorkerDocument
from foreshard.sidecar._service import RouteService

CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"


class SidecarMetrics:
    """The metrics of one process. ``others`` returns the documents of the workers beside it."""

    def __init__(
        self,
        service: RouteService,
        figures: SidecarCounters | None = None,
        others: Callable[[], Sequence[WorkerDocument]] = tuple,
    ) -> None:
        self.figures = figures or SidecarCounters()
        self.open_connections: Callable[[], int] = lambda: 0
        self._service, self._others = service, others
        service.counted = self.figures.routed

    def document(self) -> dict[str, Any]:
        """The figures and state of this process."""
        self._service.expire_prepared()
        return {"figures": self.figures.document(), "state": _state(self._service), "open": self.open_connections()}

    def text(self) -> bytes:
        """The figures of all workers, in Prometheus' text format."""
        from foreshard.sidecar._exposition import exposed  # imported late: answers don't need prometheus_client

        return exposed([self.document(), *self._others()])


def _state(service: RouteService) -> dict[str, Any]:
    """The current state of the service; for each partition its load's age, utilisation and admission."""
    now, installed = service.clock(), service.installed
    service.apply_reports(now)
    partitions = {}
    for partition in service.partitions:
        at = service.book.pressure(partition.partition_id, now)
        partitions[partition.partition_id] = (at.age, at.utilisation, at.admission)
    return {
        "connected": service.connected,
        "table_version": installed.table.version if installed else 0,
        "table_age": max(0.0, now - installed.confirmed_at) if installed else None,
        "table_keys": len(installed.table.placements) if installed else 0,
        "partitions": partitions,
    }
