"""Errors of the routed client."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import timedelta

from foreshard.errors.foundation import ForeshardError


class AmbiguousWrite(ForeshardError):
    """The answer to a write was lost. The write may have been applied; it was not sent again.

    For writes of many documents, ``confirmed`` is the number that was certainly written; ``in_doubt`` and ``not_attempted`` are
    indexes into the requests.
    """

    def __init__(
        self,
        namespace: str,
        operation: str,
        keys: Sequence[str],
        partition_id: str,
        cause: str,
        *,
        confirmed: int = 0,
        in_doubt: Sequence[int] = (0,),
        not_attempted: Sequence[int] = (),
    ) -> None:
        shown = ", ".join(repr(key) for key in keys[:3]) + (f" and {len(keys) - 3} more" if len(keys) > 3 else "")
        super().__init__(
            f"{operation} on {namespace} for key {shown}: the answer of partition {partition_id} was lost ({cause}); "
            "read the documents back before writing again"
        )
        self.namespace, self.operation, self.keys, self.partition_id = namespace, operation, tuple(keys), partition_id
        self.cause, self.confirmed = cause, confirmed
        self.in_doubt, self.not_attempted = tuple(in_doubt), tuple(not_attempted)


class KeyInTransit(ForeshardError):
    """A key's fence refused a write until the client's deadline. The write was not applied."""

    def __init__(self, namespace: str, key: str, partition_id: str, waited: timedelta) -> None:
        super().__init__(
            f"write for key {key!r} in {namespace}: refused by its fence on partition {partition_id} for "
            f"{waited.total_seconds():.1f} s, not applied; retry, or see foreshard moves for a stuck move"
        )
        self.namespace, self.key, self.partition_id, self.waited = namespace, key, partition_id, waited


class KeyMovedWhileReading(ForeshardError):
    """A key or slot moved while a read was open, and its old partition has removed documents that were not read yet.

    ``key`` names the unit; ``epoch`` is the epoch of its new owner.
    """

    def __init__(self, namespace: str, key: str, partition_id: str, epoch: int) -> None:
        super().__init__(
            f"read of {namespace}: {_unit(key)} has moved away from partition {partition_id}, which has removed its "
            "documents; read again, or sort by _id: such a read goes on by itself"
        )
        self.namespace, self.key, self.partition_id, self.epoch = namespace, key, partition_id, epoch


class KeyMovedInTransaction(ForeshardError):
    """A key of a transaction is being moved, or has moved away. The transaction was aborted, and nothing of it was applied."""

    def __init__(self, namespace: str, operation: str, key: str, partition_id: str) -> None:
        super().__init__(
            f"{operation} on {namespace}: {_unit(key)} is leaving partition {partition_id}, so the transaction was aborted; "
            "repeat the whole transaction, as with_transaction does"
        )
        self.namespace, self.operation, self.key, self.partition_id = namespace, operation, key, partition_id


class RoutingTableOld(ForeshardError):
    """A key or slot has left the partition where the client's table has it, and no newer table exists.

    Nothing was written. ``key`` names the unit.
    """

    def __init__(self, namespace: str, operation: str, key: str, partition_id: str) -> None:
        super().__init__(
            f"{operation} on {namespace}: {_unit(key)} has left partition {partition_id}, and the routing table is old; start "
            "the sidecar, or restore its connection to the control database"
        )
        self.namespace, self.operation, self.key, self.partition_id = namespace, operation, key, partition_id


class UnroutableOperation(ForeshardError):
    """An operation that the client can't route. Nothing was sent."""

    def __init__(self, namespace: str, operation: str, problem: str, remedy: str) -> None:
        super().__init__(f"{operation} on {namespace}: {problem}; {remedy}")
        self.namespace, self.operation, self.problem, self.remedy = namespace, operation, problem, remedy


def _unit(unit: str) -> str:
    """A unit for people. A slot's name begins with a control character."""
    return f"slot {unit[1:]}" if unit.startswith("\x1f") else f"key {unit!r}"
