"""A deployment of real processes that a test may stop and start: databases, load reporter, sidecar."""

from __future__ import annotations

import json
import os
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import cached_property
from pathlib import Path

import httpx
from pymongo import MongoClient
from tests.slots import slot_map

from foreshard.model import Location, Partition, Placement, RoutingTable
from foreshard.settings import CollectionSetting, MigrateSettings, Settings
from foreshard.stack._process import ProcessSpec, start, stop, wait_until_ready
from foreshard.stack.mongod import Mongod
from foreshard.wiring import Wiring

FORESHARD = str(Path(sys.executable).parent / "foreshard")


@dataclass
class Deployment:
    """The first of ``mongods`` is the control database. ``database`` holds the control data and the app's ``things``."""

    mongods: tuple[Mongod, ...]
    folder: Path
    database: str
    sidecar_port: int
    kafka: str = "127.0.0.1:1"

    @cached_property
    def settings(self) -> Settings:
        collection = CollectionSetting(database=self.database, collection="things", key_field="k")
        return Settings(
            control_uri=self.mongods[0].uri,
            control_database=self.database,
            collections=(collection,),
            data_dir=self.folder / "data",
            kafka_bootstrap=self.kafka,
            user_key="s" * 32,
            migrate=MigrateSettings(batch_documents=100, source_kept="PT3S"),
        )

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.sidecar_port}"

    @property
    def routing(self) -> Path:
        return self.settings.data_dir / "routing"

    def publish(self, placements: dict[str, Placement]) -> None:
        """Register the partitions and publish a first table."""
        partitions = [Partition(m.name, m.name, 1e6, m.uri) for m in self.mongods[1:]]
        places = [Location(m.name, 37.0, -122.0 + 20 * n) for n, m in enumerate(self.mongods[1:])]
        with Wiring(self.settings) as wiring:
            wiring.registry.register(partitions, places)
            wiring.routing.initialise(RoutingTable(1, placements, slot_map(("alpha",), (1.0,)), datetime.now(UTC)))

    def start(self, name: str, *arguments: str) -> None:
        """Start ``foreshard name arguments`` unless it is running."""
        start(self.spec(name, *arguments))

    def start_sidecar(self) -> None:
        """Start the sidecar, and wait until it answers."""
        spec = self.spec("sidecar", "--port", str(self.sidecar_port))
        start(spec)
        wait_until_ready("sidecar", self.url, lambda: self.answers("/readyz"), spec, patience=60)

    def stop(self, name: str) -> None:
        """Stop a process started by ``start``."""
        stop(self.folder / name / f"{name}.pid")

    def log(self, name: str) -> str:
        """The output of a process."""
        return (self.folder / name / f"{name}.log").read_text()

    def spec(self, name: str, *arguments: str) -> ProcessSpec:
        environment = {
            **os.environ,
            "FORESHARD_CONTROL_URI": self.mongods[0].uri,
            "FORESHARD_CONTROL_DATABASE": self.database,
            "FORESHARD_DATA_DIR": str(self.settings.data_dir),
            "FORESHARD_COLLECTIONS": json.dumps([c.model_dump(mode="json") for c in self.settings.collections]),
            "FORESHARD_SIDECAR__LOAD_INTERVAL": "PT0.5S",
        }
        return ProcessSpec(name, (FORESHARD, name, *arguments), self.folder / name, environment)

    def answers(self, path: str) -> bool:
        try:
            return httpx.get(self.url + path, timeout=2).is_success
        except httpx.HTTPError:
            return False

    def route(self, key: str, op: str = "read", origin: str = "alpha") -> dict[str, object]:
        """The sidecar's answer."""
        return httpx.get(f"{self.url}/v1/route/{key}", params={"op": op, "from": origin}, timeout=5).json()

    def figure(self, name: str) -> float:
        """The sum of one of the sidecar's figures."""
        lines = httpx.get(self.url + "/metrics", timeout=5).text.splitlines()
        return sum(float(line.rsplit(" ", 1)[1]) for line in lines if line.startswith(f"foreshard_sidecar_{name}"))

    def stand(self, partition: str) -> MongoClient:
        """A plain client of a partition. Close it."""
        return MongoClient(next(m.uri for m in self.mongods if m.name == partition), tz_aware=True, w="majority")


def wait_until(condition: Callable[[], object], patience: float = 30.0) -> None:
    deadline = time.monotonic() + patience
    while not condition():
        assert time.monotonic() < deadline, "waited too long"
        time.sleep(0.05)
