"""What goes wrong with the routing table, its publications and its file."""

from __future__ import annotations

from collections.abc import Sequence

from foreshard.errors.foundation import ForeshardError


class StaleEpoch(ForeshardError):
    """A publication was made from an old epoch of a key; the table was left as it was."""

    def __init__(self, key: str, expected: int, actual: int) -> None:
        super().__init__(f"key {key!r} is at epoch {actual}, not {expected}; read the table again and retry")
        self.key, self.expected, self.actual = key, expected, actual


class InvalidChange(ForeshardError):
    """A publication with a row that makes no sense; the table was left as it was."""

    def __init__(self, key: str, problem: str) -> None:
        super().__init__(f"change of key {key!r}: {problem}; nothing was published")
        self.key, self.problem = key, problem


class NoRoutingTable(ForeshardError):
    """The control database holds no published routing table."""

    def __init__(self, database: str) -> None:
        super().__init__(f"no routing table is published in database {database!r}; initialise one first")
        self.database = database


class RoutingTableStands(ForeshardError):
    """A first table was to be published where another one stands."""

    def __init__(self, version: int, wanted: int) -> None:
        super().__init__(
            f"a routing table stands at version {version}; version {wanted} can't replace it: publish changes instead"
        )
        self.version, self.wanted = version, wanted


class TableLoadSuperseded(ForeshardError):
    """Another process took over the loading of the first table; this one stopped."""

    def __init__(self, database: str) -> None:
        super().__init__(
            f"another process loads the first routing table of database {database!r}; wait for it or run this again"
        )
        self.database = database


class TableStillLoading(ForeshardError):
    """The first table answers, but its rows are still being written, and changes are made to rows."""

    def __init__(self, database: str) -> None:
        super().__init__(
            f"the rows of the first routing table of database {database!r} are still being written; wait, or run it again"
        )
        self.database = database


class TableGap(ForeshardError):
    """A publication that does not follow the table it was to be applied to."""

    def __init__(self, version: int, publication: int) -> None:
        super().__init__(f"publication {publication} does not follow routing table version {version}; read the whole table")
        self.version, self.publication = version, publication


class UnknownVersion(ForeshardError):
    """A version of the routing table that was never published."""

    def __init__(self, version: int, first: int, current: int) -> None:
        super().__init__(f"routing table version {version} is not known; choose one from {first} to {current}")
        self.version, self.first, self.current = version, first, current


class CorruptRoutingFile(ForeshardError):
    """A saved routing table that is not what was written; it is not used."""

    def __init__(self, path: str, problem: str) -> None:
        super().__init__(f"routing file {path}: {problem}; refused, and the one before is used where there is one")
        self.path, self.problem = path, problem


class TableNotPackable(ForeshardError):
    """A table that its packed form can't hold."""

    def __init__(self, problem: str) -> None:
        super().__init__(f"the routing table can't be packed: {problem}; correct it and publish again")
        self.problem = problem


class NoDefaultPartition(ForeshardError):
    """The default rule names no partition with a positive weight, so that unlisted keys live nowhere."""

    def __init__(self, partitions: Sequence[str]) -> None:
        super().__init__(f"default rule has no partition with a weight above 0 (of {len(partitions)}); publish a default rule")
        self.partitions = tuple(partitions)


class RouteRefused(ForeshardError):
    """The sidecar refused to route a key."""

    def __init__(self, key: str, status: int, problem: str) -> None:
        super().__init__(
            f"route of key {key[:80]!r}: the sidecar answered {status} ({problem}); correct the key or the request"
        )
        self.key, self.status, self.problem = key, status, problem
