"""The client's errors, each also the nearest of pymongo's, so that an app's handlers for pymongo catch them.

Their fields and lines are those of :mod:`foreshard.errors`. An app may catch either.
"""

from __future__ import annotations

from pymongo import errors as pymongo

from foreshard.errors import (
    AmbiguousWrite,
    ConfigurationError,
    KeyInTransit,
    KeyMovedInTransaction,
    KeyMovedWhileReading,
    RouteRefused,
    RoutingTableOld,
    UnknownPartition,
    Unreachable,
    UnroutableOperation,
)


class ServiceUnreachable(Unreachable, pymongo.ServerSelectionTimeoutError):
    """A partition, or the sidecar, was not found. Nothing was sent."""


class NoNewerTable(RoutingTableOld, pymongo.ServerSelectionTimeoutError):
    """The table is old, a key has left its partition, and its new one is not known. Nothing was sent."""


class PartitionUnregistered(UnknownPartition, pymongo.ServerSelectionTimeoutError):
    """A route leads to a partition that the registry does not have. Nothing was sent."""


class WriteInDoubt(AmbiguousWrite, pymongo.AutoReconnect):
    """The answer to a write was lost."""

    @property
    def timeout(self) -> bool:
        """Whether a deadline, the app's own for example, was the reason."""
        return self.cause.startswith(("NetworkTimeout", "ExecutionTimeout"))


class WriteFenced(KeyInTransit, pymongo.WriteError):
    """A fence has refused a write until the deadline. It was not applied."""

    @property
    def code(self) -> int:
        """The server's code for documents that a validator refuses."""
        return 121

    @property
    def timeout(self) -> bool:
        """A deadline is over."""
        return True


class CursorOvertaken(KeyMovedWhileReading, pymongo.CursorNotFound):
    """A cursor's documents were removed, because their key has moved."""

    @property
    def code(self) -> int:
        """The server's code for a cursor that it does not have any more."""
        return 43


class TransactionOvertaken(KeyMovedInTransaction, pymongo.OperationFailure):
    """A move has aborted a transaction. It has the label ``TransientTransactionError``."""

    def __init__(self, namespace: str, operation: str, key: str, partition_id: str) -> None:
        super().__init__(namespace, operation, key, partition_id)
        self._add_error_label("TransientTransactionError")

    @property
    def code(self) -> int:
        """The server's code for a transaction that does not exist any more."""
        return 251


class OperationRefused(UnroutableOperation, pymongo.InvalidOperation):
    """An operation can't be routed. Nothing was sent."""


class IndexesDiffer(UnroutableOperation, pymongo.OperationFailure):
    """The indexes of a collection are not the same on all partitions."""


class KeyRefused(RouteRefused, pymongo.InvalidOperation):
    """A key can't be routed. Nothing was sent."""


class ClientMisconfigured(ConfigurationError, pymongo.ConfigurationError):
    """The client can't be built, or does not know a collection."""
