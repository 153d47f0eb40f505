"""Shared by the tests of shadows: a wiring on the real mongods and Kafka, with one collection per policy."""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any

from pymongo import MongoClient
from tests.slots import slot_map

from foreshard.model import Location, Partition, Placement, RoutingTable
from foreshard.ports.replication import Shadow
from foreshard.settings import CollectionSetting, MigrateSettings, Settings, ShadowSettings
from foreshard.stack.kafka import Kafka
from foreshard.stack.mongod import Mongod
from foreshard.stages.shadow import request_shadow
from foreshard.wiring import Wiring

PARTITIONS = ("alpha", "beta", "gamma")


def make_wiring(mongods: tuple[Mongod, ...], kafka: Kafka, name: str, **overrides: Any) -> Wiring:
    """Use ``name`` for the databases and topic. ``last`` keeps the last write, ``vector`` keeps siblings."""
    settings = Settings.load(
        control_uri=mongods[0].uri,
        control_database=name,
        kafka_bootstrap=kafka.bootstrap,
        replication_topic=f"{name}.replication",
        collections=(
            CollectionSetting(database=name, collection="last", key_field="key"),
            CollectionSetting(database=name, collection="vector", key_field="key", policy="vector_clock"),
        ),
        shadow=ShadowSettings(
            grace_period=timedelta(0), lease_duration=timedelta(seconds=2), apply_timeout=timedelta(seconds=30)
        ),
        migrate=MigrateSettings(source_kept=timedelta(0)),
        **overrides,
    )
    return Wiring(settings)


def settings_environment(settings: Settings) -> dict[str, str]:
    """The environment that gives another process the same settings."""
    return {
        "FORESHARD_CONTROL_URI": settings.control_uri.get_secret_value(),
        "FORESHARD_CONTROL_DATABASE": settings.control_database,
        "FORESHARD_KAFKA_BOOTSTRAP": settings.kafka_bootstrap,
        "FORESHARD_REPLICATION_TOPIC": settings.replication_topic,
        "FORESHARD_COLLECTIONS": json.dumps([collection.model_dump(mode="json") for collection in settings.collections]),
        "FORESHARD_SHADOW__GRACE_PERIOD": "PT0S",
    }


def lay_out(wiring: Wiring, mongods: tuple[Mongod, ...], placements: dict[str, str]) -> None:
    """Register the partitions and publish ``placements`` (key → primary)."""
    places = [Location(name, 37.0 + number, -122.0) for number, name in enumerate(PARTITIONS)]
    wiring.registry.register([Partition(m.name, m.name, 100.0, m.uri) for m in mongods[1:]], places)
    rule = slot_map(PARTITIONS, (1.0, 1.0, 1.0))
    rows = {key: Placement(key, primary) for key, primary in placements.items()}
    wiring.routing.initialise(RoutingTable(1, rows, rule, datetime.now(UTC)))


def ask(wiring: Wiring, key: str, target: str) -> Shadow:
    """Request a shadow as a person would."""
    return request_shadow(wiring, key, target, None, "a test asks for it")


def documents(client: MongoClient[Any], database: str, key: str, collection: str = "last") -> list[dict[str, Any]]:
    """The documents of a key, by id."""
    return sorted(client[database][collection].find({"key": key}), key=lambda document: str(document["_id"]))


def wait_until(condition: Callable[[], bool], what: str, patience: float = 30) -> None:
    """Wait for other threads. Fail with ``what`` if the condition does not become true."""
    deadline = time.monotonic() + patience
    while not condition():
        if time.monotonic() > deadline:
            raise AssertionError(f"in vain: {what}")
        time.sleep(0.02)
