"""One Protocol per port. A stage's ports are the Protocols that it inherits, so its signature says what it reads and writes.

:class:`foreshard.wiring.Wiring` has all of them. A unit test passes an object that has only the ports of one stage.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence
    from contextlib import AbstractContextManager
    from pathlib import Path

    import pandas as pd
    import pyarrow as pa

    from foreshard.model import ShardedCollection
    from foreshard.model.key_space import KeyType
    from foreshard.model.unit_set import UnitSet
    from foreshard.observe.engines import Engine
    from foreshard.ports.access_logs import AccessLogSource, FieldSample, LogCounter, LogPlace, RawHourStore
    from foreshard.ports.documents import DocumentCodec
    from foreshard.ports.keys import KeyInspector
    from foreshard.ports.migration import Fence, ShadowAbsorber, UnitCopy
    from foreshard.ports.move_journal import MoveJournal
    from foreshard.ports.pacing import MigrationLimitStore, StrainGauge
    from foreshard.ports.planning import PlanningStore
    from foreshard.ports.replicas import ConflictStore, DocumentReader, PrimaryStore, ReplicaStore
    from foreshard.ports.replication import CaptureFeed, CaptureStore, ReplicationLog, ReplicationReader, ShadowStore
    from foreshard.ports.routing import RoutingStore
    from foreshard.ports.rules import PlacementRuleStore
    from foreshard.ports.stages import (
        AccuracyStore,
        ForecastStore,
        GateStore,
        PartitionRegistry,
        PlanStore,
        Retention,
        ScoreStore,
        SeriesStore,
        TallyStore,
    )
    from foreshard.ports.verification import VerificationProgressStore, Verifier
    from foreshard.quality.data_docs import DataDocs
    from foreshard.settings import (
        CollectionSetting,
        ForecastSettings,
        MigrateSettings,
        ObserveSettings,
        PlanSettings,
        Settings,
        ShadowSettings,
        SidecarSettings,
        SourceMapping,
    )


class WithGates(Protocol):
    @property
    def gates(self) -> GateStore: ...

    @property
    def data_docs(self) -> DataDocs: ...


class WithRegistry(Protocol):
    @property
    def registry(self) -> PartitionRegistry: ...


class WithRouting(Protocol):
    @property
    def routing(self) -> RoutingStore: ...


class WithAccessLog(Protocol):
    @property
    def access_log(self) -> AccessLogSource: ...


class WithEngine(Protocol):
    def engine(self) -> AbstractContextManager[Engine]:
        """Yield the engine that counts records. Its temporary files are deleted at the end."""


class WithRawHours(Protocol):
    @property
    def raw_hours(self) -> RawHourStore: ...


class WithTallies(Protocol):
    @property
    def tallies(self) -> TallyStore: ...


class WithLogFiles(Protocol):
    @property
    def log_files(self) -> LogCounter: ...


class WithSeries(Protocol):
    @property
    def series(self) -> SeriesStore: ...


class WithForecasts(Protocol):
    @property
    def forecasts(self) -> ForecastStore: ...


class WithAccuracy(Protocol):
    @property
    def accuracy(self) -> AccuracyStore: ...


class WithScores(Protocol):
    @property
    def scores(self) -> ScoreStore: ...


class WithPlans(Protocol):
    @property
    def plans(self) -> PlanStore: ...


class WithMoveJournal(Protocol):
    @property
    def move_journal(self) -> MoveJournal: ...


class WithShadowAbsorber(Protocol):
    @property
    def shadow_absorber(self) -> ShadowAbsorber: ...


class WithPlanning(Protocol):
    @property
    def planning(self) -> PlanningStore: ...


class WithPlacementRules(Protocol):
    @property
    def placement_rules(self) -> PlacementRuleStore: ...


class WithShadows(Protocol):
    @property
    def shadows(self) -> ShadowStore: ...


class WithCaptures(Protocol):
    @property
    def captures(self) -> CaptureStore: ...


class WithConflicts(Protocol):
    @property
    def conflicts(self) -> ConflictStore: ...


class WithDocumentCodec(Protocol):
    @property
    def document_codec(self) -> DocumentCodec: ...


class WithVerificationProgress(Protocol):
    @property
    def verifications(self) -> VerificationProgressStore: ...


class WithVerifier(Protocol):
    @property
    def verifier(self) -> Verifier: ...


class WithRetention(Protocol):
    @property
    def retention(self) -> Retention: ...


class WithSettings(Protocol):
    @property
    def settings(self) -> Settings: ...


class WithObserveSettings(Protocol):
    @property
    def observe_settings(self) -> ObserveSettings: ...


class WithForecastSettings(Protocol):
    @property
    def forecast_settings(self) -> ForecastSettings: ...


class WithPlanSettings(Protocol):
    @property
    def plan_settings(self) -> PlanSettings: ...


class WithMigrationLimits(Protocol):
    @property
    def migration_limits(self) -> MigrationLimitStore: ...


class WithMigrateSettings(Protocol):
    @property
    def migrate_settings(self) -> MigrateSettings: ...


class WithPacing(WithMigrateSettings, WithMigrationLimits, Protocol):
    def strain_gauges(self, partitions: Sequence[str]) -> Sequence[StrainGauge]: ...


class WithShadowSettings(Protocol):
    @property
    def shadow_settings(self) -> ShadowSettings: ...


class WithSidecarSettings(Protocol):
    @property
    def sidecar_settings(self) -> SidecarSettings: ...


class WithCollectionSettings(Protocol):
    @property
    def collection_settings(self) -> tuple[CollectionSetting, ...]: ...


class WithShardedCollections(Protocol):
    @property
    def sharded_collections(self) -> tuple[ShardedCollection, ...]: ...


class WithKeyType(Protocol):
    @property
    def key_type(self) -> KeyType: ...


class WithDataFolder(Protocol):
    @property
    def data_dir(self) -> Path: ...


class WithUserKey(Protocol):
    def require_user_key(self) -> bytes: ...


class WithReadAccessLog(Protocol):
    def access_log_tables(self, place: LogPlace, note: Callable[[str], None]) -> Iterator[pd.DataFrame | pa.Table]: ...


class WithLogSamples(Protocol):
    def log_sample(self, place: LogPlace) -> FieldSample: ...

    def mapped_log(
        self, place: LogPlace, mapping: SourceMapping | None, note: Callable[[str], None]
    ) -> Iterator[pd.DataFrame | pa.Table]: ...


class WithAccessLogBatches(Protocol):
    def access_log_batches(self, path: Path) -> Iterator[pd.DataFrame]: ...


class WithUnitCopies(Protocol):
    def unit_copy(self, partition_id: str, move_id: str, units: UnitSet) -> UnitCopy: ...


class WithKeyInspectors(Protocol):
    def key_inspector(self, partition_id: str) -> KeyInspector: ...


class WithFences(Protocol):
    def fences(self, partition_id: str) -> tuple[Fence, ...]: ...


class WithDocuments(Protocol):
    def documents(self, partition_id: str) -> DocumentReader: ...


class WithPrimaries(Protocol):
    def primary(self, partition_id: str) -> PrimaryStore: ...


class WithReplicas(Protocol):
    def replica(self, partition_id: str) -> ReplicaStore: ...


class WithChangeFeeds(Protocol):
    def change_feed(self, partition_id: str) -> CaptureFeed: ...


class WithReplicationLog(Protocol):
    def replication_log(self) -> ReplicationLog: ...


class WithReplicationReader(Protocol):
    def replication_reader(self) -> ReplicationReader: ...
