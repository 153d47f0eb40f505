"""Reads across a move: how a read notices that its partition has removed documents of its keys.

A cursor reads on at the source after a switch, whose copy is kept for a while. When a further batch arrives, the cleaner's
announcements are read on the same partition (:mod:`foreshard.stores.partition.units.removed_units`). If one is newer than the
route of the read, documents may be missing in the batch, so it is dropped. A ``find`` by ``_id``, or in any order, then goes on
at the new owner (:class:`foreshard.client._find.Given`). Other reads raise
:class:`foreshard.errors.KeyMovedWhileReading`.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable

from pymongo.errors import OperationFailure

from foreshard.client._doubts import removed_units
from foreshard.client._read_plans import PartitionRead
from foreshard.client._reads import Reader
from foreshard.client.routing.pymongo_errors import CursorOvertaken
from foreshard.client.routing.routes import Operation


def watch(reader: Reader, part: PartitionRead) -> Callable[[], Awaitable[None]] | None:
    """Return the check of one part of a read: it raises :class:`KeyMovedWhileReading`. None if nothing of the part can move."""
    if not part.epochs and part.home is None:
        return None

    async def check() -> None:
        moved = await _removed(reader, part)
        if moved:
            key = min(moved)
            raise CursorOvertaken(reader.sharded.namespace, key, part.partition, moved[key])

    return check


async def _removed(reader: Reader, part: PartitionRead) -> dict[str, int]:
    """Return the part's units whose documents the partition has removed. If that can't be read: the keys that have moved."""
    try:
        return await removed_units(reader.connections, part, reader.sharded)
    except OperationFailure:
        if part.home is not None:
            raise
        await reader.router.refresh(reader.router.now())
        routes = await reader.router.routes(tuple(part.epochs), Operation.WRITE, fresh=True)
        return {key: route.epoch for key, route in routes.items() if route.epoch > part.epochs[key]}
