"""Routes of a client that always has the newest published table."""

from __future__ import annotations

from typing import Any

from tests.integration.move.conftest import World

from foreshard.client.routing.routes import PartitionAddress, Route


class TableRoutes:
    """Answers from the published table."""

    def __init__(self, world: World) -> None:
        self._routing = world.wiring.routing
        self._uris = {p.partition_id: p.uri for p in world.wiring.registry.partitions()}

    def route(self, key: str, operation: Any, preference: Any) -> Route:
        placed = self._routing.placement(key)
        return Route(
            key, placed.primary, "here", "primary", placed.epoch, self._routing.version(), "test", self._uris[placed.primary]
        )

    def routes(self, keys: Any, operation: Any, preference: Any) -> dict[str, Route]:
        return {key: self.route(key, operation, preference) for key in keys}

    def partitions(self) -> tuple[PartitionAddress, ...]:
        return tuple(PartitionAddress(name, "here", uri) for name, uri in self._uris.items())

    def refresh(self) -> int:
        return 0

    def age(self) -> float:
        return 0.0

    def close(self) -> None:
        pass
