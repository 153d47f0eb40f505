"""Retires the shadow that a move replaces on its target: closes its guards on the partition, then changes its state."""

from __future__ import annotations

from foreshard.model.shadow_state import ShadowState
from foreshard.ports.stages import PartitionRegistry
from foreshard.settings import Settings
from foreshard.stores.control.shadows import MongoShadowStore
from foreshard.stores.mongo_connections import MongoConnections
from foreshard.stores.partition.replica import MongoReplicaStore


class MongoShadowAbsorber:
    """Implements :class:`foreshard.ports.migration.ShadowAbsorber`."""

    def __init__(self, mongo: MongoConnections, registry: PartitionRegistry, settings: Settings) -> None:
        self._mongo, self._registry, self._settings = mongo, registry, settings
        self._shadows = MongoShadowStore(mongo.control_database)

    def absorb(self, key: str, partition_id: str) -> None:
        """Close the shadow's guards, so that no replicated change is committed there any more, and retire it."""
        while True:
            found = [s for s in self._shadows.of_key(key) if s.target == partition_id and s.state is not ShadowState.RETIRED]
            if not found:
                return
            client = self._mongo.partition(self._registry.partition(partition_id))
            settings = self._settings
            replicas = MongoReplicaStore(
                client, settings.sharded_collections, settings.control_database, settings.migrate.fence_timeout
            )
            for shadow in found:
                replicas.revoke(key, shadow.lease)
                self._shadows.change(shadow, ShadowState.RETIRED, {"problem": None})
