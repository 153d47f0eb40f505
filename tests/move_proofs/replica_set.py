"""A replica set of three mongods on this machine, whose primary can be asked to step down."""

from __future__ import annotations

import os
import signal
import time
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from pymongo import MongoClient
from pymongo.errors import PyMongoError

from foreshard.stack._process import ProcessSpec, free_port, running_pid, start, stop
from foreshard.stack.mongod import mongod_binary

ELECTION_MS = 1_000
TTL_SECONDS = 1
"""The TTL monitors of these servers run this often."""


@dataclass(frozen=True)
class ReplicaSet:
    """A replica set of one or three members. One member answers on its own, like the demo's mongods."""

    name: str
    ports: tuple[int, ...]
    folder: Path

    @classmethod
    def make(cls, name: str, members: int, folder: Path) -> ReplicaSet:
        """Start and initiate a set."""
        made = cls(name, tuple(free_port() for _ in range(members)), folder)
        made.start()
        hosts = [{"_id": n, "host": f"127.0.0.1:{port}"} for n, port in enumerate(made.ports)]
        settings = {"electionTimeoutMillis": ELECTION_MS, "heartbeatIntervalMillis": 200}
        with MongoClient(f"mongodb://127.0.0.1:{made.ports[0]}/?directConnection=true") as client:
            client.admin.command("replSetInitiate", {"_id": name, "members": hosts, "settings": settings})
        made.wait_until_writable()
        return made

    @property
    def uri(self) -> str:
        """The address for clients."""
        hosts = ",".join(f"127.0.0.1:{port}" for port in self.ports)
        return f"mongodb://{hosts}/?replicaSet={self.name}"

    def start(self) -> None:
        """Start every member that is not running."""
        for port in self.ports:
            start(self._spec(port))
        for port in self.ports:
            with MongoClient(f"mongodb://127.0.0.1:{port}/?directConnection=true") as client:
                client.admin.command("ping")

    def stop(self) -> None:
        """End every member."""
        for port in self.ports:
            stop(self._spec(port).pid_path)

    def kill(self) -> None:
        """End every member by SIGKILL, at once."""
        for port in self.ports:
            pid = running_pid(self._spec(port).pid_path)
            if pid is not None:
                os.kill(pid, signal.SIGKILL)
        self.stop()

    def step_down(self) -> None:
        """Let the primary step down. Another member takes over, or the same one after a second."""
        with MongoClient(self.uri, serverSelectionTimeoutMS=5_000) as client, suppress(PyMongoError):
            client.admin.command("replSetStepDown", 2, secondaryCatchUpPeriodSecs=1)

    def wait_until_writable(self) -> None:
        """Wait for a primary that takes writes."""
        deadline = time.monotonic() + 60
        with MongoClient(self.uri, w="majority", serverSelectionTimeoutMS=1_000) as client:
            while True:
                try:
                    client["waiting"]["waiting"].update_one({"_id": 0}, {"$inc": {"n": 1}}, upsert=True)
                    return
                except PyMongoError:
                    assert time.monotonic() < deadline, f"{self.name} has no primary"
                    time.sleep(0.05)

    def _spec(self, port: int) -> ProcessSpec:
        folder = self.folder / f"{self.name}-{port}"
        (folder / "data").mkdir(parents=True, exist_ok=True)
        command = (
            str(mongod_binary()), "--replSet", self.name, "--port", str(port), "--bind_ip", "127.0.0.1",
            "--dbpath", str(folder / "data"), "--wiredTigerCacheSizeGB", "0.25", "--oplogSize", "128", "--nounixsocket",
            "--setParameter", "diagnosticDataCollectionEnabled=false", "--setParameter", f"ttlMonitorSleepSecs={TTL_SECONDS}",
            "--setParameter", "shutdownTimeoutMillisForSignaledShutdown=200",
        )  # fmt: skip
        return ProcessSpec(f"{self.name}-{port}", command, folder)
