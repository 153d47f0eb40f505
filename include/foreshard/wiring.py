"""The one place that builds adapters from settings. Nothing is built at import, and each thing only when it is asked for."""

from __future__ import annotations

from functools import cached_property
from typing import TYPE_CHECKING, Any

from foreshard.settings import Settings

if TYPE_CHECKING:
    from pathlib import Path

    import pandas as pd
    from pymongo import MongoClient

    from foreshard.adapters.mongo import MongoConnections
    from foreshard.ports.migration import Fence, KeyCopy, MoveJournal, ShadowAbsorber
    from foreshard.ports.planning import PlanningStore
    from foreshard.ports.routing import RoutingStore
    from foreshard.ports.stages import (
        AccessLogSource,
        ForecastStore,
        GateStore,
        LoadStore,
        LogCounter,
        PartitionRegistry,
        PlanStore,
        RawHourStore,
        ScoreStore,
        SeriesStore,
        TallyStore,
    )


class Wiring:
    """Adapters for one process, built from ``settings`` when first asked for; ``close`` gives their connections back."""

    def __init__(self, settings: Settings | None = None) -> None:
        self.settings = settings or Settings.load()

    @cached_property
    def mongo(self) -> MongoConnections:
        """Clients of the control database and of each partition, shared by every adapter."""
        from foreshard.adapters.mongo import MongoConnections

        return MongoConnections(self.settings)

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
    def access_log(self) -> AccessLogSource:
        if self.settings.observe.access_log_paths:
            from foreshard.adapters.parquet_access_log import ParquetAccessLog

            return ParquetAccessLog(self.settings.observe.access_log_paths)
        from foreshard.adapters.kafka_access_log import KafkaAccessLog

        return KafkaAccessLog(self.settings.kafka_bootstrap, self.settings.access_topic, self.settings.observe.allowed_lateness)

    def read_access_log(self, path: Path) -> pd.DataFrame:
        from foreshard.adapters.parquet_access_log import read_access_log

        return read_access_log(path)

    @cached_property
    def raw_hours(self) -> RawHourStore:
        from foreshard.adapters.parquet_hours import ParquetHourStore

        return ParquetHourStore(self.settings.data_dir)

    @cached_property
    def tallies(self) -> TallyStore:
        from foreshard.adapters.mongo_tally import MongoTallyStore

        return MongoTallyStore(self.mongo.control_database, self.settings.observe.minimum_distinct_users)

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

    def close(self) -> None:
        """Close what was opened."""
        if "mongo" in self.__dict__:
            self.mongo.close()

    def __enter__(self) -> Wiring:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()
