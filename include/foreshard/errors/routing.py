"""Errors of the routing table, its publications and its file."""

from __future__ import annotations

from collections.abc import Sequence

from foreshard.errors.foundation import ForeshardError


class StaleEpoch(ForeshardError):
    """A change was based on an old epoch of a key. The table was not changed."""

    def __init__(self, key: str, expected: int, actual: int) -> None:
        super().__init__(f"key {key!r} is at epoch {actual}, not {expected}; read the table again and retry")
        self.key, self.expected, self.actual = key, expected, actual


class InvalidChange(ForeshardError):
    """A change has an invalid row. The table was not changed."""

    def __init__(self, key: str, problem: str) -> None:
        super().__init__(f"change of key {key!r}: {problem}; nothing was published")
        self.key, self.problem = key, problem


class NoRoutingTable(ForeshardError):
    """The control database has no routing table."""

    def __init__(self, database: str) -> None:
        super().__init__(f"database {database!r} has no routing table; publish one with foreshard table init")
        self.database = database


class RoutingTableStands(ForeshardError):
    """A first table can't be published because there is one already."""

    def __init__(self, version: int, wanted: int) -> None:
        super().__init__(
            f"there is a routing table at version {version}, so version {wanted} can't be published; publish changes instead"
        )
        self.version, self.wanted = version, wanted


class TableLoadSuperseded(ForeshardError):
    """Another process loads the first table. This one stopped."""

    def __init__(self, database: str) -> None:
        super().__init__(f"another process is loading the first routing table of database {database!r}; wait for it, or retry")
        self.database = database


class TableStillLoading(ForeshardError):
    """The first table can be read, but not changed, because its rows are still being written."""

    def __init__(self, database: str) -> None:
        super().__init__(
            f"the rows of the first routing table of database {database!r} are still being written; wait, and retry"
        )
        self.database = database


class TableGap(ForeshardError):
    """A publication that does not directly follow the table's version."""

    def __init__(self, version: int, publication: int) -> None:
        super().__init__(f"publication {publication} does not follow routing table version {version}; read the whole table")
        self.version, self.publication = version, publication


class UnknownVersion(ForeshardError):
    """A version of the routing table that does not exist."""

    def __init__(self, version: int, first: int, current: int) -> None:
        super().__init__(f"there is no routing table version {version}; choose one from {first} to {current}")
        self.version, self.first, self.current = version, first, current


class CorruptRoutingFile(ForeshardError):
    """A damaged routing file. It is not used."""

    def __init__(self, path: str, problem: str) -> None:
        super().__init__(f"routing file {path}: {problem}; it is refused, and the previous one is used if there is one")
        self.path, self.problem = path, problem


class TableNotPackable(ForeshardError):
    """A routing table that exceeds the limits of the packed format."""

    def __init__(self, problem: str) -> None:
        super().__init__(f"the routing table can't be packed: {problem}; correct it and publish again")
        self.problem = problem


class NoSlotOwner(ForeshardError):
    """No partition has a positive weight, so the slots have no owner."""

    def __init__(self, partitions: Sequence[str]) -> None:
        super().__init__(
            f"none of the {len(partitions)} partitions for unlisted keys has a capacity above 0; name a partition that has one"
        )
        self.partitions = tuple(partitions)


class SlotIsMoving(ForeshardError):
    """A key would be listed or delisted while its slot is moved. The table was not changed."""

    def __init__(self, key: str, slot: int, move_id: str) -> None:
        super().__init__(f"key {key!r}: move {move_id} moves its slot {slot}; retry when that move has ended")
        self.key, self.slot, self.move_id = key, slot, move_id


class TooManyListedKeys(ForeshardError):
    """A publication would list more keys than allowed. The table was not changed."""

    def __init__(self, listed: int, limit: int) -> None:
        super().__init__(
            f"{listed:,} keys would be listed, at most {limit:,} may be; "
            "move whole slots, or raise FORESHARD_PLAN__MAXIMUM_LISTED"
        )
        self.listed, self.limit = listed, limit


class TableNeedsUpgrade(ForeshardError):
    """The published table is of an earlier release and has no slots yet."""

    def __init__(self, database: str) -> None:
        super().__init__(f"the routing table of database {database!r} has no slots; run `foreshard table upgrade`")
        self.database = database


class TableNotUpgradable(ForeshardError):
    """A table of an earlier release hashes unlisted keys over several partitions, which no slot map describes."""

    def __init__(self, database: str, partitions: Sequence[str]) -> None:
        super().__init__(
            f"the routing table of database {database!r} hashes unlisted keys over {len(partitions)} partitions; "
            "slots can't describe that: see docs/operations.md, Upgrading"
        )
        self.database, self.partitions = database, tuple(partitions)


class RouteRefused(ForeshardError):
    """A key or a request that can't be routed."""

    def __init__(self, key: str, status: int, problem: str) -> None:
        super().__init__(f"key {key[:80]!r} was refused with status {status}: {problem}; correct the key or the request")
        self.key, self.status, self.problem = key, status, problem
