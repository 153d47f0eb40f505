"""What a sidecar process shows of itself: its figures and its state, for the workers beside it and for Prometheus."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from foreshard.sidecar._figures import SidecarCounters

if TYPE_CHECKING:
    from foreshard.sidecar._service import RouteService

CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"
Document = Mapping[str, Any]


class SidecarMetrics:
    """One process' figures; ``others`` gives those of the workers beside it."""

    def __init__(
        self, service: RouteService, figures: SidecarCounters | None = None, others: Callable[[], Sequence[Document]] = tuple
    ) -> None:
        self.figures = figures or SidecarCounters()
        self.open_connections: Callable[[], int] = lambda: 0
        self._service, self._others = service, others
        service.counted = self.figures.routed

    def document(self) -> dict[str, Any]:
        """This process' figures, for the workers beside it."""
        self._service.settle()
        return {"figures": self.figures.document(), "state": _state(self._service), "open": self.open_connections()}

    def text(self) -> bytes:
        """All figures."""
        from foreshard.sidecar._exposition import exposed  # imported in the background of a start

        return exposed([self.document(), *self._others()])


def _state(service: RouteService) -> dict[str, Any]:
    """What the service knows at the moment of the question; a partition's age, utilisation and admission."""
    now, installed = service.clock(), service.installed
    service.take_in(now)
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
