"""The only place that builds stores from settings. Importing it builds nothing; each store is built when it is first used."""

from __future__ import annotations

from foreshard.settings import Settings
from foreshard.wiring._logs import LogWiring
from foreshard.wiring._partitions import PartitionWiring


class Wiring(PartitionWiring, LogWiring):
    """Every port of one process, bound to its store. Close it to close the stores' connections."""

    def __init__(self, settings: Settings | None = None) -> None:
        self.settings = settings or Settings.load()

    def close(self) -> None:
        """Close the connections that are open."""
        if "mongo" in self.__dict__:
            self.mongo.close()

    def __enter__(self) -> Wiring:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()
