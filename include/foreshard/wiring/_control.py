"""The stores of the control database."""

from __future__ import annotations

from functools import cached_property
from typing import TYPE_CHECKING, Any

from foreshard.settings import SettingsAccess

if TYPE_CHECKING:
    from pymongo import MongoClient

    from foreshard.ports.control_feed import ControlFeed
    from foreshard.ports.move_journal import MoveJournal
    from foreshard.ports.pacing import MigrationLimitStore
    from foreshard.ports.page import PageStore
    from foreshard.ports.planning import PlanningStore
    from foreshard.ports.replicas import ConflictStore
    from foreshard.ports.replication import CaptureStore, ShadowStore
    from foreshard.ports.routing import RoutingStore
    from foreshard.ports.rules import PlacementRuleStore
    from foreshard.ports.stages import (
        AccuracyStore,
        ForecastStore,
        GateStore,
        LoadStore,
        PartitionRegistry,
        PlanStore,
        Retention,
        ScoreStore,
        TallyStore,
    )
    from foreshard.ports.task_outcomes import TaskOutcomeStore
    from foreshard.ports.verification import VerificationProgressStore
    from foreshard.stores.mongo_connections import MongoConnections


class ControlWiring(SettingsAccess):
    """The stores of the control database."""

    @cached_property
    def mongo(self) -> MongoConnections:
        """The clients of the control database and of each partition, shared by all stores."""
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
        from foreshard.stores.control.routing.store import MongoRoutingStore

        return MongoRoutingStore(self.mongo.control_database, self.settings.plan.maximum_listed)

    @cached_property
    def loads(self) -> LoadStore:
        from foreshard.stores.control.partition_loads import MongoLoadStore

        return MongoLoadStore(self.mongo.control_database)

    @cached_property
    def control_feed(self) -> ControlFeed:
        from foreshard.stores.control.control_feed import MongoControlFeed

        return MongoControlFeed(self.mongo.control_database)

    @cached_property
    def tallies(self) -> TallyStore:
        from foreshard.stores.control.tallies import MongoTallyStore

        settings = self.settings
        return MongoTallyStore(
            self.mongo.control_database, settings.observe.minimum_distinct_users, settings.data_dir, settings.key_type
        )

    @cached_property
    def gates(self) -> GateStore:
        from foreshard.stores.control.gates import MongoGateStore

        return MongoGateStore(self.mongo.control_database)

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

        return MongoMoveJournal(self.mongo.control_database, self.settings.migrate.lease_duration)

    @cached_property
    def migration_limits(self) -> MigrationLimitStore:
        from foreshard.ports.pacing import MigrationLimits
        from foreshard.stores.control.migration_limits import MongoMigrationLimits

        limits = self.settings.migrate
        return MongoMigrationLimits(
            self.mongo.control_database, MigrationLimits(limits.bytes_per_second, limits.documents_per_second)
        )

    @cached_property
    def verifications(self) -> VerificationProgressStore:
        from foreshard.stores.control.verifications import MongoVerificationProgress

        return MongoVerificationProgress(self.mongo.control_database)

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
    def page(self) -> PageStore:
        from foreshard.stores.control.page import MongoPageStore

        return MongoPageStore(self.mongo.control_database)

    @cached_property
    def conflicts(self) -> ConflictStore:
        from foreshard.stores.control.conflicts import MongoConflictStore

        return MongoConflictStore(self.mongo.control_database)

    @cached_property
    def task_outcomes(self) -> TaskOutcomeStore:
        from foreshard.stores.control.task_outcomes import MongoTaskOutcomeStore

        return MongoTaskOutcomeStore(self.mongo.control_database)

    @cached_property
    def retention(self) -> Retention:
        from foreshard.stores.retention import StoredRetention

        return StoredRetention(self.mongo.control_database, self.settings.data_dir)
