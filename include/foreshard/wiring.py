"""The one place that builds adapters from settings. Nothing is built at import, and each thing only when it is asked for."""

from __future__ import annotations

from functools import cached_property
from typing import TYPE_CHECKING, Any

from foreshard.settings import Settings

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    import pandas as pd
    from pymongo import MongoClient

    from foreshard.adapters.data_docs import DataDocsFolder
    from foreshard.adapters.load_reporter import LoadReporter
    from foreshard.adapters.mongo import MongoConnections
    from foreshard.adapters.mongo_control_feed import ControlFeed
    from foreshard.adapters.routing_file import RoutingFile
    from foreshard.ports.migration import Fence, KeyCopy, MoveJournal, ShadowAbsorber
    from foreshard.ports.planning import PlanningStore
    from foreshard.ports.replicas import ConflictStore, DocumentReader, PrimaryStore, ReplicaStore
    from foreshard.ports.replication import CaptureStore, ChangeFeed, ReplicationLog, ReplicationReader, ShadowStore
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
    from foreshard.ports.verification import Verifier


class Wiring:
    """Adapters for one process, built from ``settings`` when first asked for; ``close`` gives their connections back."""

    def __init__(self, settings: Settings | None = None) -> None:
        self.settings = settings or Settings.load()

    @cached_property
    def mongo(self) -> MongoConnections:
        """Clients of the control database and of each partition, shared by every adapter."""
        from foreshard.adapters.mongo import LOOP, MongoConnections

        return MongoConnections(self.settings, LOOP)

    @property
    def control(self) -> MongoClient[dict[str, Any]]:
        """The control database's client."""
        return self.mongo.control

    @cached_property
    def registry(self) -> PartitionRegistry:
        from foreshard.adapters.mongo_registry import MongoPartitionRegistry

        return MongoPartitionRegistry(self.mongo.control_database)

    @cached_property
    def routing(self) -> RoutingStore:
        from foreshard.adapters.mongo_routing import MongoRoutingStore

        return MongoRoutingStore(self.mongo.control_database)

    @cached_property
    def loads(self) -> LoadStore:
        from foreshard.adapters.mongo_load import MongoLoadStore

        return MongoLoadStore(self.mongo.control_database)

    @cached_property
    def control_feed(self) -> ControlFeed:
        from foreshard.adapters.mongo_control_feed import ControlFeed

        return ControlFeed(self.mongo.control_database)

    @cached_property
    def routing_file(self) -> RoutingFile:
        from foreshard.adapters.routing_file import RoutingFile

        return RoutingFile(self.settings.data_dir / "routing")

    @cached_property
    def load_reporter(self) -> LoadReporter:
        from foreshard.adapters.load_reporter import LoadReporter

        return LoadReporter(self.registry, self.loads, self.mongo.partition, self.settings.sidecar)

    @cached_property
    def access_log(self) -> AccessLogSource:
        if self.settings.observe.access_log_paths:
            from foreshard.adapters.parquet_access_log import ParquetAccessLog

            return ParquetAccessLog(self.settings.observe.access_log_paths)
        from foreshard.adapters.kafka_access_log import KafkaAccessLog

        return KafkaAccessLog(self.settings.kafka_bootstrap, self.settings.access_topic, self.settings.observe.allowed_lateness)

    def read_access_log(self, path: Path) -> pd.DataFrame:
        from foreshard.adapters.parquet_access_log import read_access_log

        return read_access_log(path)

    def access_log_batches(self, path: Path) -> Iterator[pd.DataFrame]:
        from foreshard.adapters.parquet_access_log import read_batches

        return read_batches(path)

    @cached_property
    def raw_hours(self) -> RawHourStore:
        from foreshard.adapters.parquet_hours import ParquetHourStore

        return ParquetHourStore(self.settings.data_dir)

    @cached_property
    def tallies(self) -> TallyStore:
        from foreshard.adapters.mongo_tally import MongoTallyStore

        return MongoTallyStore(self.mongo.control_database, self.settings.observe.minimum_distinct_users)

    @cached_property
    def data_docs(self) -> DataDocsFolder:
        from foreshard.adapters.data_docs import DataDocsFolder

        return DataDocsFolder(self.settings.data_dir / "data_docs")

    @cached_property
    def gates(self) -> GateStore:
        from foreshard.adapters.mongo_gates import MongoGateStore

        return MongoGateStore(self.mongo.control_database)

    @cached_property
    def log_files(self) -> LogCounter:
        from foreshard.adapters.log_file import LogFileCounter

        return LogFileCounter({name: kind.weight for name, kind in self.settings.observe.request_types.items()})

    @cached_property
    def series(self) -> SeriesStore:
        from foreshard.adapters.parquet_series import ParquetSeriesStore

        return ParquetSeriesStore(self.settings.data_dir)

    @cached_property
    def forecasts(self) -> ForecastStore:
        from foreshard.adapters.mongo_forecast import MongoForecastStore

        return MongoForecastStore(self.mongo.control_database)

    @cached_property
    def accuracy(self) -> AccuracyStore:
        from foreshard.adapters.mongo_accuracy import MongoAccuracyStore

        return MongoAccuracyStore(self.mongo.control_database)

    @cached_property
    def scores(self) -> ScoreStore:
        from foreshard.adapters.mongo_score import MongoScoreStore

        return MongoScoreStore(self.mongo.control_database)

    @cached_property
    def plans(self) -> PlanStore:
        from foreshard.adapters.mongo_plan import MongoPlanStore

        return MongoPlanStore(self.mongo.control_database)

    @cached_property
    def move_journal(self) -> MoveJournal:
        from foreshard.adapters.mongo_journal import MongoMoveJournal

        return MongoMoveJournal(self.mongo.control_database, self.settings.migrate.lease)

    def key_copy(self, partition_id: str, move_id: str, key: str) -> KeyCopy:
        from foreshard.adapters.mongo_copy import CopyScope, MongoKeyCopy

        limits = self.settings.migrate
        scope = CopyScope(
            move_id,
            key,
            self.settings.sharded_collections,
            self.settings.control_database,
            limits.batch_documents,
            limits.fence_timeout,
        )
        return MongoKeyCopy(partition_id, self.mongo.partition(self.registry.partition(partition_id)), scope)

    def fences(self, partition_id: str) -> tuple[Fence, ...]:
        from foreshard.adapters.mongo_fence import MongoFence

        client = self.mongo.partition(self.registry.partition(partition_id))
        timeout = self.settings.migrate.fence_timeout
        return tuple(MongoFence(client, collection, timeout=timeout) for collection in self.settings.sharded_collections)

    @cached_property
    def shadow_absorber(self) -> ShadowAbsorber:
        from foreshard.adapters.shadow_absorber import MongoShadowAbsorber

        return MongoShadowAbsorber(self.mongo, self.registry, self.settings)

    @cached_property
    def planning(self) -> PlanningStore:
        from foreshard.adapters.mongo_planning import MongoPlanningStore

        return MongoPlanningStore(self.mongo)

    @cached_property
    def placement_rules(self) -> PlacementRuleStore:
        from foreshard.adapters.mongo_rules import MongoPlacementRules

        return MongoPlacementRules(self.mongo.control_database)

    @cached_property
    def shadows(self) -> ShadowStore:
        from foreshard.adapters.mongo_shadow import MongoShadowStore

        return MongoShadowStore(self.mongo.control_database)

    @cached_property
    def captures(self) -> CaptureStore:
        from foreshard.adapters.mongo_captures import MongoCaptureStore

        return MongoCaptureStore(self.mongo.control_database)

    @cached_property
    def conflicts(self) -> ConflictStore:
        from foreshard.adapters.mongo_conflicts import MongoConflictStore

        return MongoConflictStore(self.mongo.control_database)

    def documents(self, partition_id: str) -> DocumentReader:
        from foreshard.adapters.mongo_documents import MongoDocumentReader

        return MongoDocumentReader(self.mongo.partition(self.registry.partition(partition_id)), self.settings.control_database)

    def primary(self, partition_id: str) -> PrimaryStore:
        from foreshard.adapters.mongo_primary import MongoPrimaryStore

        return MongoPrimaryStore(self.mongo.partition(self.registry.partition(partition_id)))

    def replica(self, partition_id: str) -> ReplicaStore:
        from foreshard.adapters.mongo_versions import MongoReplicaStore

        client, settings = self.mongo.partition(self.registry.partition(partition_id)), self.settings
        database, timeout = settings.control_database, settings.migrate.fence_timeout
        return MongoReplicaStore(client, settings.sharded_collections, database, timeout)

    def change_feed(self, partition_id: str) -> ChangeFeed:
        from foreshard.adapters.mongo_change_feed import MongoChangeFeed

        client = self.mongo.partition(self.registry.partition(partition_id))
        return MongoChangeFeed(client, partition_id, self.settings.sharded_collections)

    def replication_log(self) -> ReplicationLog:
        from foreshard.adapters.kafka_replication import KafkaReplicationLog

        return KafkaReplicationLog(self.settings.kafka_bootstrap, self.settings.replication_topic)

    def replication_reader(self) -> ReplicationReader:
        from foreshard.adapters.kafka_replication import KafkaReplicationReader

        return KafkaReplicationReader(self.settings.kafka_bootstrap, self.settings.replication_topic)

    @cached_property
    def verifier(self) -> Verifier:
        from foreshard.adapters.mongo_verify import MongoVerifier

        return MongoVerifier(self.mongo)

    @cached_property
    def retention(self) -> Retention:
        from foreshard.adapters.retention import Retention

        return Retention(self.mongo.control_database, self.settings.data_dir)

    def close(self) -> None:
        """Close what was opened."""
        if "mongo" in self.__dict__:
            self.mongo.close()

    def __enter__(self) -> Wiring:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()
