"""The one place that builds stores from settings. Nothing is built at import, and each thing only when it is asked for."""

from __future__ import annotations

from functools import cached_property
from typing import TYPE_CHECKING, Any

from foreshard.settings import Settings, SettingsAccess

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    import pandas as pd
    from pymongo import MongoClient

    from foreshard.ports.migration import Fence, KeyCopy, MoveJournal, ShadowAbsorber
    from foreshard.ports.planning import PlanningStore
    from foreshard.ports.replicas import ConflictStore, DocumentReader, PrimaryStore, ReplicaStore
    from foreshard.ports.replication import CaptureFeed, CaptureStore, ReplicationLog, ReplicationReader, ShadowStore
    from foreshard.ports.routing import RoutingStore
    from foreshard.ports.rules import PlacementRuleStore
    from foreshard.ports.stages import (
        AccessLogSource,
        AccuracyStore,
        ForecastStore,
        GateStore,
        LoadStore,
        LogCounter,
        PartitionRegistry,
        PlanStore,
        RawHourStore,
        Retention,
        ScoreStore,
        SeriesStore,
        TallyStore,
    )
    from foreshard.ports.task_outcomes import TaskOutcomeStore
    from foreshard.ports.verification import Verifier
    from foreshard.stores.control.control_feed import ControlFeed
    from foreshard.stores.files.data_docs import DataDocsFolder
    from foreshard.stores.files.routing_file import RoutingFile
    from foreshard.stores.mongo_connections import MongoConnections
    from foreshard.stores.partition.load_reporter import LoadReporter


class Wiring(SettingsAccess):
    """Adapters for one process, built from ``settings`` when first asked for; ``close`` gives their connections back."""

    def __init__(self, settings: Settings | None = None) -> None:
        self.settings = settings or Settings.load()

    @cached_property
    def mongo(self) -> MongoConnections:
        """Clients of the control database and of each partition, shared by every store."""
        from foreshard.stores.mongo_connections import LOOP, MongoConnections

        return MongoConnections(self.settings, LOOP)

    @property
    def control(self) -> MongoClient[dict[str, Any]]:
        """The control database's client."""
        return self.mongo.control

    @cached_property
    def registry(self) -> PartitionRegistry:
        from foreshard.stores.control.registry import MongoPartitionRegistry

        return MongoPartitionRegistry(self.mongo.control_database)

    @cached_property
    def routing(self) -> RoutingStore:
        from foreshard.stores.control.routing_table import MongoRoutingStore

        return MongoRoutingStore(self.mongo.control_database)

    @cached_property
    def loads(self) -> LoadStore:
        from foreshard.stores.control.partition_loads import MongoLoadStore

        return MongoLoadStore(self.mongo.control_database)

    @cached_property
    def control_feed(self) -> ControlFeed:
        from foreshard.stores.control.control_feed import ControlFeed

        return ControlFeed(self.mongo.control_database)

    @cached_property
    def routing_file(self) -> RoutingFile:
        from foreshard.stores.files.routing_file import RoutingFile

        return RoutingFile(self.settings.data_dir / "routing")

    @cached_property
    def load_reporter(self) -> LoadReporter:
        from foreshard.stores.partition.load_reporter import LoadReporter

        return LoadReporter(self.registry, self.loads, self.mongo.partition, self.settings.sidecar)

    @cached_property
    def access_log(self) -> AccessLogSource:
        if self.settings.observe.access_log_paths:
            from foreshard.stores.files.access_log import FileAccessLog

            return FileAccessLog(self.settings.observe.access_log_paths)
        from foreshard.stores.kafka.access_log import KafkaAccessLog

        return KafkaAccessLog(self.settings.kafka_bootstrap, self.settings.access_topic, self.settings.observe.allowed_lateness)

    def read_access_log(self, path: Path) -> pd.DataFrame:
        from foreshard.stores.files.access_log import read_access_log

        return read_access_log(path)

    def access_log_batches(self, path: Path) -> Iterator[pd.DataFrame]:
        from foreshard.stores.files.access_log import read_batches

        return read_batches(path)

    @cached_property
    def raw_hours(self) -> RawHourStore:
        from foreshard.stores.files.raw_hours import ParquetHourStore

        return ParquetHourStore(self.settings.data_dir)

    @cached_property
    def tallies(self) -> TallyStore:
        from foreshard.stores.control.tallies import MongoTallyStore

        return MongoTallyStore(self.mongo.control_database, self.settings.observe.minimum_distinct_users)

    @cached_property
    def data_docs(self) -> DataDocsFolder:
        from foreshard.stores.files.data_docs import DataDocsFolder

        return DataDocsFolder(self.settings.data_dir / "data_docs")

    @cached_property
    def gates(self) -> GateStore:
        from foreshard.stores.control.gates import MongoGateStore

        return MongoGateStore(self.mongo.control_database)

    @cached_property
    def log_files(self) -> LogCounter:
        from foreshard.stores.files.log_counter import LogFileCounter

        return LogFileCounter({name: kind.weight for name, kind in self.settings.observe.request_types.items()})

    @cached_property
    def series(self) -> SeriesStore:
        from foreshard.stores.files.series import ParquetSeriesStore

        return ParquetSeriesStore(self.settings.data_dir)

    @cached_property
    def forecasts(self) -> ForecastStore:
        from foreshard.stores.control.forecasts import MongoForecastStore

        return MongoForecastStore(self.mongo.control_database)

    @cached_property
    def accuracy(self) -> AccuracyStore:
        from foreshard.stores.control.accuracy import MongoAccuracyStore

        return MongoAccuracyStore(self.mongo.control_database)

    @cached_property
    def scores(self) -> ScoreStore:
        from foreshard.stores.control.scores import MongoScoreStore

        return MongoScoreStore(self.mongo.control_database)

    @cached_property
    def plans(self) -> PlanStore:
        from foreshard.stores.control.plans import MongoPlanStore

        return MongoPlanStore(self.mongo.control_database)

    @cached_property
    def move_journal(self) -> MoveJournal:
        from foreshard.stores.control.move_journal import MongoMoveJournal

        return MongoMoveJournal(self.mongo.control_database, self.settings.migrate.lease)

    def key_copy(self, partition_id: str, move_id: str, key: str) -> KeyCopy:
        from foreshard.stores.partition.key_copy import CopyScope, MongoKeyCopy

        settings, limits = self.settings, self.settings.migrate
        place = (settings.sharded_collections, settings.control_database)
        scope = CopyScope(move_id, key, *place, limits.batch_documents, limits.fence_timeout)
        return MongoKeyCopy(partition_id, self.mongo.partition(self.registry.partition(partition_id)), scope)

    def fences(self, partition_id: str) -> tuple[Fence, ...]:
        from foreshard.stores.partition.fence import MongoFence

        client = self.mongo.partition(self.registry.partition(partition_id))
        timeout = self.settings.migrate.fence_timeout
        return tuple(MongoFence(client, collection, timeout=timeout) for collection in self.settings.sharded_collections)

    @cached_property
    def shadow_absorber(self) -> ShadowAbsorber:
        from foreshard.stores.partition.shadow_absorber import MongoShadowAbsorber

        return MongoShadowAbsorber(self.mongo, self.registry, self.settings)

    @cached_property
    def planning(self) -> PlanningStore:
        from foreshard.stores.control.planning import MongoPlanningStore

        return MongoPlanningStore(self.mongo)

    @cached_property
    def placement_rules(self) -> PlacementRuleStore:
        from foreshard.stores.control.placement_rules import MongoPlacementRules

        return MongoPlacementRules(self.mongo.control_database)

    @cached_property
    def shadows(self) -> ShadowStore:
        from foreshard.stores.control.shadows import MongoShadowStore

        return MongoShadowStore(self.mongo.control_database)

    @cached_property
    def captures(self) -> CaptureStore:
        from foreshard.stores.control.captures import MongoCaptureStore

        return MongoCaptureStore(self.mongo.control_database)

    @cached_property
    def task_outcomes(self) -> TaskOutcomeStore:
        from foreshard.stores.control.task_outcomes import MongoTaskOutcomeStore

        return MongoTaskOutcomeStore(self.mongo.control_database)

    @cached_property
    def conflicts(self) -> ConflictStore:
        from foreshard.stores.control.conflicts import MongoConflictStore

        return MongoConflictStore(self.mongo.control_database)

    def documents(self, partition_id: str) -> DocumentReader:
        from foreshard.stores.partition.documents import MongoDocumentReader

        return MongoDocumentReader(self.mongo.partition(self.registry.partition(partition_id)), self.settings.control_database)

    def primary(self, partition_id: str) -> PrimaryStore:
        from foreshard.stores.partition.primary import MongoPrimaryStore

        return MongoPrimaryStore(self.mongo.partition(self.registry.partition(partition_id)))

    def replica(self, partition_id: str) -> ReplicaStore:
        from foreshard.stores.partition.replica import MongoReplicaStore

        client, settings = self.mongo.partition(self.registry.partition(partition_id)), self.settings
        database, timeout = settings.control_database, settings.migrate.fence_timeout
        return MongoReplicaStore(client, settings.sharded_collections, database, timeout)

    def change_feed(self, partition_id: str) -> CaptureFeed:
        from foreshard.stores.partition.capture_feed import MongoCaptureFeed

        client = self.mongo.partition(self.registry.partition(partition_id))
        return MongoCaptureFeed(client, partition_id, self.settings.sharded_collections)

    def replication_log(self) -> ReplicationLog:
        from foreshard.stores.kafka.replication import KafkaReplicationLog

        return KafkaReplicationLog(self.settings.kafka_bootstrap, self.settings.replication_topic)

    def replication_reader(self) -> ReplicationReader:
        from foreshard.stores.kafka.replication import KafkaReplicationReader

        return KafkaReplicationReader(self.settings.kafka_bootstrap, self.settings.replication_topic)

    @cached_property
    def verifier(self) -> Verifier:
        from foreshard.stores.partition.verifier import MongoVerifier

        return MongoVerifier(self.mongo)

    @cached_property
    def retention(self) -> Retention:
        from foreshard.stores.retention import StoredRetention

        return StoredRetention(self.mongo.control_database, self.settings.data_dir)

    def close(self) -> None:
        """Close what was opened."""
        if "mongo" in self.__dict__:
            self.mongo.close()

    def __enter__(self) -> Wiring:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()
