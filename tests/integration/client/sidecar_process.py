"""A real sidecar process over a real control database, and settings for clients beside it. Imported as fixtures."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

import httpx
import pytest
from tests.slots import slot_map

from foreshard.model import Location, Partition, Placement, PlacementChange, RoutingTable
from foreshard.settings import CollectionSetting, Settings
from foreshard.stack._process import ProcessSpec, free_port, start, stop, wait_until_ready
from foreshard.stores.control.registry import MongoPartitionRegistry
from foreshard.stores.control.routing.store import MongoRoutingStore


@pytest.fixture
def settings(mongods, unique_name, tmp_path: Path) -> Settings:
    collection = CollectionSetting(database=unique_name, collection="things", key_field="station")
    return Settings(
        control_uri=mongods[0].uri,
        control_database=unique_name,
        collections=(collection,),
        data_dir=tmp_path / "data",
        user_key="s" * 32,
    )


@pytest.fixture
def store(control, unique_name, mongods) -> MongoRoutingStore:
    """A table with key k on alpha, and its partitions."""
    partitions = tuple(Partition(m.name, "Home", 100.0, m.uri) for m in mongods[1:])
    MongoPartitionRegistry(control[unique_name]).register(partitions, [Location("Home", 37.0, -122.0)])
    made = MongoRoutingStore(control[unique_name])
    rule = slot_map(("alpha",), (1.0,))
    made.initialise(RoutingTable(1, {"k": Placement("k", "alpha")}, rule, datetime.now(UTC)))
    return made


@pytest.fixture
def sidecar_control(settings) -> str:
    """The address by which the sidecar reaches the control database."""
    return settings.control_uri.get_secret_value()


@pytest.fixture
def sidecar(settings, store, sidecar_control: str, tmp_path: Path) -> Iterator[tuple[str, ProcessSpec]]:
    port = free_port()
    environment = {
        **os.environ,
        "FORESHARD_CONTROL_URI": sidecar_control,
        "FORESHARD_CONTROL_DATABASE": settings.control_database,
        "FORESHARD_DATA_DIR": str(settings.data_dir),
        "FORESHARD_COLLECTIONS": json.dumps([c.model_dump(mode="json") for c in settings.collections]),
    }
    command = (str(Path(sys.executable).parent / "foreshard"), "sidecar", "--port", str(port))
    spec = ProcessSpec("sidecar", command, tmp_path / "sidecar", environment)
    start(spec)
    url = f"http://127.0.0.1:{port}"
    try:
        wait_until_ready("sidecar", url, lambda: ready(url), spec, patience=60)
        yield url, spec
    finally:
        stop(spec.pid_path)


def ready(url: str) -> bool:
    try:
        return httpx.get(f"{url}/readyz", timeout=2).is_success
    except httpx.HTTPError:
        return False


def switch(store: MongoRoutingStore, key: str, target: str) -> None:
    table = store.current()
    epoch = table.placements[key].epoch
    store.publish([PlacementChange(key, target, (), epoch, epoch + 1)], "test")
