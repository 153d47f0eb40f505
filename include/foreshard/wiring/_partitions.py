"""The stores of the partitions."""

from __future__ import annotations

from functools import cached_property
from typing import TYPE_CHECKING

from foreshard.wiring._control import ControlWiring

if TYPE_CHECKING:
    from collections.abc import Sequence

    from foreshard.model.unit_set import UnitSet
    from foreshard.ports.documents import DocumentCodec
    from foreshard.ports.keys import KeyInspector
    from foreshard.ports.migration import Fence, ShadowAbsorber, UnitCopy
    from foreshard.ports.pacing import StrainGauge
    from foreshard.ports.replicas import DocumentReader, PrimaryStore, ReplicaStore
    from foreshard.ports.replication import CaptureFeed
    from foreshard.ports.verification import Verifier
    from foreshard.stores.partition.fences.fence import ExpectedFence
    from foreshard.stores.partition.load_reporter import LoadReporter


class PartitionWiring(ControlWiring):
    """The stores of the partitions."""

    @cached_property
    def load_reporter(self) -> LoadReporter:
        from foreshard.stores.partition.load_reporter import LoadReporter

        return LoadReporter(self.registry, self.loads, self.mongo.partition, self.settings.sidecar)

    def unit_copy(self, partition_id: str, move_id: str, units: UnitSet) -> UnitCopy:
        from foreshard.stores.partition.unit_copy import CopyScope, MongoUnitCopy

        settings, limits = self.settings, self.settings.migrate
        place = (settings.sharded_collections, settings.control_database)
        scope = CopyScope(
            move_id, units, self._expected_fence(partition_id), *place, limits.batch_documents, limits.fence_timeout
        )
        return MongoUnitCopy(partition_id, self.mongo.partition(self.registry.partition(partition_id)), scope)

    def strain_gauges(self, partitions: Sequence[str]) -> Sequence[StrainGauge]:
        from foreshard.stores.control.shadow_strain import ShadowGauge
        from foreshard.stores.partition.strain import PartitionStrain

        clients = {name: self.mongo.partition(self.registry.partition(name)) for name in partitions}
        gauges = [PartitionStrain(name, client, self.settings.control_database) for name, client in clients.items()]
        return [*gauges, ShadowGauge(self.shadows, partitions, self.settings.shadow.maximum_staleness)]

    def fences(self, partition_id: str) -> tuple[Fence, ...]:
        from foreshard.stores.partition.fences.fence import MongoFence

        client = self.mongo.partition(self.registry.partition(partition_id))
        expected, timeout = self._expected_fence(partition_id), self.settings.migrate.fence_timeout
        collections = self.settings.sharded_collections
        return tuple(MongoFence(client, collection, expected=expected, timeout=timeout) for collection in collections)

    def _expected_fence(self, partition_id: str) -> ExpectedFence:
        from foreshard.stores.partition.fences.fence import fence_by_table

        return fence_by_table(self.routing, partition_id)

    @cached_property
    def shadow_absorber(self) -> ShadowAbsorber:
        from foreshard.stores.partition.shadow_absorber import MongoShadowAbsorber

        return MongoShadowAbsorber(self.mongo, self.registry, self.settings, self._expected_fence)

    @cached_property
    def document_codec(self) -> DocumentCodec:
        from foreshard.stores.bson_codec import BsonDocumentCodec

        return BsonDocumentCodec()

    def documents(self, partition_id: str) -> DocumentReader:
        from foreshard.stores.partition.documents import MongoDocumentReader

        return MongoDocumentReader(self.mongo.partition(self.registry.partition(partition_id)), self.settings.control_database)

    def key_inspector(self, partition_id: str) -> KeyInspector:
        from foreshard.stores.partition.key_inspector import MongoKeyInspector

        return MongoKeyInspector(partition_id, self.mongo.partition(self.registry.partition(partition_id)))

    def primary(self, partition_id: str) -> PrimaryStore:
        from foreshard.stores.partition.primary import MongoPrimaryStore

        return MongoPrimaryStore(self.mongo.partition(self.registry.partition(partition_id)))

    def replica(self, partition_id: str) -> ReplicaStore:
        from foreshard.stores.partition.replica import MongoReplicaStore

        client, settings = self.mongo.partition(self.registry.partition(partition_id)), self.settings
        database, timeout = settings.control_database, settings.migrate.fence_timeout
        expected = self._expected_fence(partition_id)
        return MongoReplicaStore(client, settings.sharded_collections, database, expected, timeout)

    def change_feed(self, partition_id: str) -> CaptureFeed:
        from foreshard.stores.partition.capture_feed import MongoCaptureFeed

        client = self.mongo.partition(self.registry.partition(partition_id))
        return MongoCaptureFeed(client, partition_id, self.settings.sharded_collections)

    @cached_property
    def verifier(self) -> Verifier:
        from foreshard.stores.partition.verifier import MongoVerifier

        return MongoVerifier(self.mongo)
