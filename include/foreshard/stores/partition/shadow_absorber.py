"""Retires the shadow that a move replaces on its target: closes its guards on the partition, then changes its state."""

from __future__ import annotations

from collections.abc import Callable

from foreshard.model.shadow_state import ShadowState
from foreshard.model.unit_set import UnitSet
from foreshard.ports.replication import Shadow
from foreshard.ports.stages import PartitionRegistry
from foreshard.settings import Settings
from foreshard.stores.control.shadows import MongoShadowStore
from foreshard.stores.mongo_connections import MongoConnections
from foreshard.stores.partition.fences.fence import ExpectedFence
from foreshard.stores.partition.replica import MongoReplicaStore

ExpectedFences = Callable[[str], ExpectedFence]
STANDING = tuple(state for state in ShadowState if state is not ShadowState.RETIRED)


class MongoShadowAbsorber:
    """Implements :class:`foreshard.ports.migration.ShadowAbsorber`."""

    def __init__(
        self, mongo: MongoConnections, registry: PartitionRegistry, settings: Settings, expected: ExpectedFences
    ) -> None:
        self._mongo, self._registry, self._settings, self._expected = mongo, registry, settings, expected
        self._shadows = MongoShadowStore(mongo.control_database)

    def absorb(self, units: UnitSet, partition_id: str) -> None:
        """Close the shadows' guards, so that no replicated change is committed there any more, and retire them."""
        while True:
            found = self._found(units, partition_id)
            if not found:
                return
            client = self._mongo.partition(self._registry.partition(partition_id))
            settings = self._settings
            replicas = MongoReplicaStore(
                client,
                settings.sharded_collections,
                settings.control_database,
                self._expected(partition_id),
                settings.migrate.fence_timeout,
            )
            for shadow in found:
                replicas.revoke(shadow.key, shadow.lease)
                self._shadows.change(shadow, ShadowState.RETIRED, {"problem": None})

    def _found(self, units: UnitSet, partition_id: str) -> list[Shadow]:
        """Return the units' shadows on the partition that are not retired."""
        if units.slots:
            some = [shadow for shadow in self._shadows.shadows(STANDING) if shadow.key in units]
        else:
            some = list(self._shadows.of_keys(units.keys))
        return [shadow for shadow in some if shadow.target == partition_id and shadow.state is not ShadowState.RETIRED]
