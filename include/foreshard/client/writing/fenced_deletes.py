"""Deletes that a fence stops. A collection's validator stops inserts and updates; it does not see deletes.

A delete runs in a transaction, and the fence is read while the transaction is open::

    delete (the transaction has the collection's lock now) ─► read the fence ─┬─ it refuses a key ─► abort, error 121
                                                                              └─ otherwise ─► commit

A fence is a ``collMod``, which waits for the collection's lock. So a fence that is not there while the transaction is open
takes effect after the commit, and a move that imposes it finds the delete in the oplog before the fence. A delete that the
fence refuses has no effect, like any other write. The lock's holders are in the MongoDB manual ("FAQ: Concurrency").
"""

from __future__ import annotations

import time
from collections.abc import Awaitable, Callable, Collection, Iterator
from contextlib import suppress
from typing import TYPE_CHECKING, Any

from pymongo import ReadPreference
from pymongo.errors import OperationFailure, PyMongoError, ServerSelectionTimeoutError, WriteError

from foreshard.client._driving import resolved
from foreshard.client._types import Result
from foreshard.client.writing.write_errors import LEFT, REFUSED_BY_VALIDATOR

if TYPE_CHECKING:
    from pymongo.collection import Collection as MongoCollection

    from foreshard.client._partition_clients import PartitionClients
    from foreshard.client.writing.held_fences import HeldFences
    from foreshard.model import ShardedCollection

LONGEST_RETRIES = 120.0
"""Seconds for which a delete that conflicts with another transaction is repeated, as in pymongo's ``with_transaction``."""

AttemptToDelete = Callable[["MongoCollection[dict[str, Any]]", Any], Result]
"""Deletes on a partition's collection, in a session. It may return an awaitable, with the asynchronous driver."""


class DeletesFenced(WriteError):
    """A fence refuses deletes of ``keys``. Nothing was applied."""

    def __init__(self, keys: Collection[str]) -> None:
        self.keys = frozenset(keys)
        super().__init__(f"the fence refuses deletes of {min(keys)!r}", REFUSED_BY_VALIDATOR, {"errInfo": LEFT})


class FencedDeletes:
    """Runs deletes of one sharded collection. ``pauses()``: seconds between two attempts."""

    def __init__(
        self,
        connections: PartitionClients,
        sharded: ShardedCollection,
        fences: HeldFences,
        sleep: Callable[[float], Awaitable[None]],
        pauses: Callable[[], Iterator[float]],
    ) -> None:
        self._connections, self._sharded, self._fences = connections, sharded, fences
        self._sleep, self._pauses = sleep, pauses

    async def run(
        self,
        uri: str,
        keys: Collection[str],
        attempt: AttemptToDelete[Result],
        answered: Callable[[Any], None] = lambda _session: None,
    ) -> Result:
        """Run a delete of documents of ``keys`` on a partition, and return its result. ``answered`` gets its session.

        Raise :class:`DeletesFenced`, and apply nothing, if a fence refuses one of the keys. A delete without an
        acknowledgement (``w=0``) runs without a transaction, and nobody learns what became of it.
        """
        collection = self._connections.collection(uri, self._sharded)
        if not collection.write_concern.acknowledged:
            answered(None)
            return await resolved(attempt(collection, None))
        ends = time.monotonic() + LONGEST_RETRIES
        for pause in self._pauses():
            try:
                return await self._once(uri, collection, keys, attempt, answered)
            except PyMongoError as error:
                if not is_conflict(error) or time.monotonic() > ends:
                    raise
            await self._sleep(pause)
        raise AssertionError("pauses do not end")

    async def refuse(self, uri: str, keys: Collection[str]) -> None:
        """Raise :class:`DeletesFenced` if the fence on a partition refuses keys. Call it in a transaction."""
        lists = await self._fences.lists(uri)
        refused = [key for key in keys if lists.refuses(key)]
        if refused:
            raise DeletesFenced(refused)

    async def _once(
        self,
        uri: str,
        collection: MongoCollection[dict[str, Any]],
        keys: Collection[str],
        attempt: AttemptToDelete[Result],
        answered: Callable[[Any], None],
    ) -> Result:
        session: Any = self._connections.client(uri).start_session()
        try:
            await resolved(
                session.start_transaction(write_concern=collection.write_concern, read_preference=ReadPreference.PRIMARY)
            )
            result = await resolved(attempt(collection, session))
            await self.refuse(uri, keys)
            await resolved(session.commit_transaction())
            return result
        finally:
            if session.in_transaction:
                with suppress(PyMongoError):
                    await resolved(session.abort_transaction())
            answered(session)
            await resolved(session.end_session())


def is_conflict(error: PyMongoError) -> bool:
    """Whether a transaction had no effect and may be repeated: it has met another one, or a lock, or lost its server."""
    if isinstance(error, ServerSelectionTimeoutError) or (error.timeout and not isinstance(error, OperationFailure)):
        return False
    return error.has_error_label("TransientTransactionError")
