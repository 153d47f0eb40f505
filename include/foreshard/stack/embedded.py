"""The embedded stack: control database, partitions, Kafka, Airflow and Foreshard's own processes, on one machine.

Everything is in one folder (default ``var/stack``): data, logs, process ids, ``stack.json`` with the ports, and
``secrets.json`` (mode 0600) with the secrets generated for this stack. ``down`` ends what ``up`` started and nothing else.
"""

from __future__ import annotations

import json
import os
import secrets
import sys
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from foreshard.errors import ConfigurationError
from foreshard.settings import CollectionSetting
from foreshard.stack._process import ProcessSpec, running_pid, start, stop, wait_until_ready
from foreshard.stack.airflow import Airflow, AirflowPorts
from foreshard.stack.kafka import Kafka, create_topic
from foreshard.stack.mongod import Mongod
from foreshard.stack.ports import PortPlan

Announce = Callable[[str], None]
SERVICES = ("sidecar", "reporter", "applier", "exporter")
"""Foreshard's own processes. Every stack runs them."""

APPS = ("riders",)
"""The example app. Only a stack that stays up runs it."""

COMMANDS: Mapping[str, tuple[str, ...]] = {
    "sidecar": ("sidecar",),
    "reporter": ("load", "report"),
    "applier": ("applier",),
    "exporter": ("exporter",),
    "riders": ("demo", "ride"),
}


@dataclass(frozen=True)
class EmbeddedStack:
    """One stack in ``folder``. Its mongods are ``control`` and ``partition_ids``."""

    folder: Path
    project: Path
    ports: PortPlan
    partition_ids: tuple[str, ...]
    collections: tuple[CollectionSetting, ...]
    extra_environment: Mapping[str, str]

    @cached_property
    def mongods(self) -> tuple[Mongod, ...]:
        """The control database first, then the partitions in order."""
        names = ("control", *self.partition_ids)
        return tuple(
            Mongod(name, port, self.folder / "mongo" / name) for name, port in zip(names, self.ports.mongods, strict=True)
        )

    @cached_property
    def kafka(self) -> Kafka:
        """The broker."""
        return Kafka(self.ports.kafka, self.ports.kafka_controller, self.folder / "kafka")

    @cached_property
    def secrets(self) -> dict[str, str]:
        """The secrets generated for this stack: the key that pseudonymises users, Airflow's password and its API secret."""
        path = self.folder / "secrets.json"
        if not path.exists():
            self.folder.mkdir(parents=True, exist_ok=True)
            generated = {"user_key": secrets.token_hex(32), "password": secrets.token_urlsafe(9), "api": secrets.token_hex(32)}
            descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
            with os.fdopen(descriptor, "w") as file:
                json.dump(generated, file)
        loaded: dict[str, str] = json.loads(path.read_text())
        return loaded

    @cached_property
    def environment(self) -> dict[str, str]:
        """The ``FORESHARD_…`` settings of every process of this stack."""
        return {
            "FORESHARD_CONTROL_URI": self.mongods[0].uri,
            "FORESHARD_KAFKA_BOOTSTRAP": self.kafka.bootstrap,
            "FORESHARD_DATA_DIR": str(self.folder / "data"),
            "FORESHARD_USER_KEY": self.secrets["user_key"],
            "FORESHARD_COLLECTIONS": json.dumps([c.model_dump(mode="json") for c in self.collections]),
            "FORESHARD_SIDECAR__PORT": str(self.ports.sidecar),
            "FORESHARD_SIDECAR__METRICS_PORT": str(self.ports.exporter),
            **self.extra_environment,
        }

    @cached_property
    def airflow(self) -> Airflow:
        """The standalone Airflow."""
        ports = AirflowPorts(self.ports.airflow, self.ports.worker_logs, self.ports.triggerer_logs)
        key, password = self.secrets["api"], self.secrets["password"]
        return Airflow(ports, self.folder / "airflow", self.project, password, key, self.environment)

    @property
    def sidecar_url(self) -> str:
        """The sidecar's address."""
        return f"http://127.0.0.1:{self.ports.sidecar}"

    def up_databases(self, announce: Announce) -> None:
        """Start the mongods and Kafka, and create the topics."""
        self._save()
        for mongod in self.mongods:
            announce(f"mongod {mongod.name} on port {mongod.port}")
            mongod.start()
        announce(f"Kafka on port {self.kafka.port}")
        self.kafka.start()
        for topic in ("foreshard.access", "foreshard.replication"):
            create_topic(self.kafka.bootstrap, topic)

    def up_services(self, announce: Announce) -> None:
        """Start the sidecar, load reporter, applier and exporter. Wait until those with a port answer."""
        for name in SERVICES:
            announce(name)
            start(self.service(name))
        for name, url in (("sidecar", f"{self.sidecar_url}/healthz"), ("exporter", self.exporter_url)):
            wait_until_ready(name, url, lambda url=url: _answers(url), self.service(name), patience=60)  # type: ignore[misc]

    def up_app(self, name: str) -> None:
        """Start the example app. It runs until the stack is stopped."""
        start(self.service(name))

    @property
    def exporter_url(self) -> str:
        """The address of the exporter's metrics."""
        return f"http://127.0.0.1:{self.ports.exporter}/metrics"

    def service(self, name: str) -> ProcessSpec:
        """Return the command of one of Foreshard's own processes."""
        command = (str(Path(sys.executable).parent / "foreshard"), *COMMANDS[name])
        return ProcessSpec(name, command, self.folder / "services", {**os.environ, **self.environment})

    def down(self, announce: Announce) -> int:
        """End every process that this stack started, consumers first. Return their number."""
        stopped = 0
        if self.airflow.stop():
            announce("Airflow")
            stopped += 1
        for name in (*APPS, *SERVICES):
            if stop(self.service(name).pid_path):
                announce(name)
                stopped += 1
        if self.kafka.stop():
            announce("Kafka")
            stopped += 1
        for mongod in reversed(self.mongods):
            if mongod.stop():
                announce(f"mongod {mongod.name}")
                stopped += 1
        return stopped

    def status(self) -> Iterator[tuple[str, int | None, str]]:
        """Yield (process, its id or None if it is not running, its address), in start order."""
        for mongod in self.mongods:
            yield f"mongod {mongod.name}", running_pid(mongod.spec.pid_path), f"127.0.0.1:{mongod.port}"
        yield "Kafka", running_pid(self.kafka.folder / "kafka.pid"), self.kafka.bootstrap
        yield "Airflow", running_pid(self.airflow.spec.pid_path), self.airflow.url
        addresses = {"sidecar": self.sidecar_url, "exporter": self.exporter_url}
        for name in (*SERVICES, *APPS):
            yield name, running_pid(self.service(name).pid_path), addresses.get(name, "")

    def _save(self) -> None:
        self.folder.mkdir(parents=True, exist_ok=True)
        state = {
            "ports": self.ports.as_dict(),
            "partition_ids": self.partition_ids,
            "collections": [c.model_dump(mode="json") for c in self.collections],
            "extra_environment": dict(self.extra_environment),
        }
        (self.folder / "stack.json").write_text(json.dumps(state, indent=1))


def load_stack(folder: Path, project: Path) -> EmbeddedStack:
    """Return the stack that was started in ``folder``. Raise :class:`ConfigurationError` if there is none."""
    try:
        state = json.loads((folder / "stack.json").read_text())
    except FileNotFoundError:
        raise ConfigurationError("stack folder", f"no stack was started in {folder}", "run make up first") from None
    ports = state["ports"]
    return EmbeddedStack(
        folder,
        project,
        PortPlan(tuple(ports.pop("mongods")), **ports),
        tuple(state["partition_ids"]),
        tuple(CollectionSetting(**c) for c in state["collections"]),
        state["extra_environment"],
    )


def project_root() -> Path:
    """Return the checkout with ``dags/`` and ``plugins/``. Raise :class:`ConfigurationError` if there is none."""
    for candidate in (Path.cwd(), Path(__file__).resolve().parents[3]):
        if (candidate / "dags").is_dir() and (candidate / "plugins").is_dir():
            return candidate
    raise ConfigurationError("working directory", "no dags/ and plugins/ here", "run this in the Foreshard checkout")


def _answers(url: str) -> bool:
    import httpx

    try:
        return httpx.get(url, timeout=2).is_success
    except httpx.HTTPError:
        return False
