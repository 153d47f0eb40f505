"""One transaction: the partition that it has begun on, and what that partition's fences say of its keys.

The first operation binds the transaction to the partition of its key. A transaction that has used a collection holds its lock,
and a fence needs that lock for itself: so the fence of a collection is read once, after the first operation on it, and stays
the same until the transaction ends. If it refuses a key, the key is being moved or has moved away. Then the transaction aborts
with :class:`TransactionOvertaken`, which ``with_transaction`` repeats.
"""

from __future__ import annotations

import random
from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from pymongo.errors import BulkWriteError, OperationFailure, PyMongoError

from foreshard.client._driving import resolved
from foreshard.client._fences import LONGEST_PAUSE
from foreshard.client._timed_writes import answered_at
from foreshard.client._types import Result
from foreshard.client.routing.pymongo_errors import OperationRefused, TransactionOvertaken
from foreshard.client.routing.routes import Operation, Route
from foreshard.client.writing.write_errors import REFUSED_BY_VALIDATOR, fenced

if TYPE_CHECKING:
    from pymongo.client_session import ClientSession

    from foreshard.client.routing.router import AsyncRouter
    from foreshard.client.writing.held_fences import HeldFences
    from foreshard.model import ShardedCollection
    from foreshard.routing.fence_lists import FenceLists


@dataclass
class Transaction:
    """A transaction in progress. ``open_session``: returns the session of a partition's address. ``options``: of
    ``start_transaction``.
    """

    router: AsyncRouter
    open_session: Callable[[str], ClientSession]
    options: Mapping[str, Any]
    bound: Route | None = None
    session: ClientSession | None = None
    fences: dict[str, FenceLists] = field(default_factory=dict)
    keys: set[str] = field(default_factory=set)
    written: set[str] = field(default_factory=set)
    overtaken: TransactionOvertaken | None = None

    async def place(self, sharded: ShardedCollection, operation: str, keys: Iterable[str]) -> Route | None:
        """Return the route to the transaction's partition; None without keys. The first key chooses the partition.

        Raise :class:`OperationRefused` if a key lives on another partition, before anything is sent.
        """
        if self.overtaken is not None:
            raise self.overtaken
        named = tuple(dict.fromkeys(keys))
        if not named:
            return None
        routes: Mapping[str, Route] = await self.router.routes(named, Operation.WRITE)
        bound = self.bound or routes[named[0]]
        if any(route.partition != bound.partition for route in routes.values()):
            bound, routes = await self._asked_again(sharded, operation, named)
        if self.bound is None:
            self.bound, self.session = bound, self.open_session(bound.uri)
            await resolved(self.session.start_transaction(**self.options))
        await self._check_known(sharded, operation, routes)
        return bound

    async def _asked_again(
        self, sharded: ShardedCollection, operation: str, keys: Sequence[str]
    ) -> tuple[Route, Mapping[str, Route]]:
        """Ask for the newest routes, since the known ones lead to several partitions. Raise if these do too."""
        everything = tuple(dict.fromkeys([*self.keys, *keys]))
        await self.router.refresh(self.router.now())
        routes = await self.router.routes(everything, Operation.WRITE, fresh=True)
        bound = self.bound or routes[keys[0]]
        for key, route in routes.items():
            if route.partition == bound.partition:
                continue
            if key in self.keys:
                await self.abort(sharded, operation, key)
            problem = f"key {key!r} lives on {route.partition}, and the transaction is on {bound.partition}"
            raise OperationRefused(sharded.namespace, operation, problem, "name keys of one partition only")
        return bound, {key: routes[key] for key in keys}

    async def _check_known(self, sharded: ShardedCollection, operation: str, routes: Mapping[str, Route]) -> None:
        """Check keys before anything is sent.

        A collection that is new to the transaction is read as of its begin. A key that has moved here since is not in it.
        """
        lists, bound = self.fences.get(sharded.namespace), self.bound
        for key, route in routes.items():
            changed = bound is not None and route.table_version > bound.table_version
            if lists.refuses(key) if lists is not None else changed:
                await self.abort(sharded, operation, key)

    async def send(
        self,
        sharded: ShardedCollection,
        held: HeldFences,
        operation: str,
        keys: Iterable[str],
        act: Callable[[], Awaitable[Result]],
    ) -> Result:
        """Run an operation of the transaction, and check that its keys live on the partition. ``held``: the fences."""
        named = tuple(keys)
        self.keys.update(named)
        try:
            done = await act()
        except PyMongoError as error:
            if _refused_by_validator(error) and (key := await self._refused(sharded, held, named, error)):
                await self.abort(sharded, operation, key)
            raise
        if sharded.namespace not in self.fences and (key := await self._refused(sharded, held, named)):
            await self.abort(sharded, operation, key)
        return done

    async def _refused(
        self, sharded: ShardedCollection, held: HeldFences, keys: Iterable[str], error: PyMongoError | None = None
    ) -> str | None:
        """Return a key that the partition's fence refuses; None if there is none."""
        if self.bound is None:
            return None
        named = tuple(keys)
        if isinstance(error, OperationFailure) and fenced(error.details or {}, sharded.key_field):
            return next(iter(named), None)
        lists = self.fences[sharded.namespace] = await held.lists(self.bound.uri)
        return next((key for key in named if lists.refuses(key)), None)

    async def abort(self, sharded: ShardedCollection, operation: str, key: str) -> None:
        """Abort on the server, get a newer table, and raise :class:`TransactionOvertaken`.

        Pauses while the newest table has the key still here, so that a repetition does not come too early.
        """
        place = self.bound.partition if self.bound is not None else ""
        self.overtaken = TransactionOvertaken(sharded.namespace, operation, key, place)
        await self.end()
        await self.router.refresh(self.router.now())
        latest = await self.router.route(key, Operation.WRITE, fresh=True)
        if latest.partition == place:
            await self.router.mode.sleep(LONGEST_PAUSE * random.uniform(0.5, 1.0))  # noqa: S311
        raise self.overtaken

    async def end(self) -> None:
        """Abort on the server, if the transaction is still open there."""
        if self.session is not None and self.session.in_transaction:
            with suppress(PyMongoError):
                aborting: Any = self.session.abort_transaction
                await resolved(aborting())

    async def commit(self) -> None:
        """Commit. Raise ``overtaken`` if the transaction was aborted by a move. May be called again, as pymongo's."""
        if self.overtaken is not None:
            raise self.overtaken
        if self.session is not None:
            try:
                committing: Any = self.session.commit_transaction
                await resolved(committing())
            finally:
                place = self.bound.partition if self.bound is not None else ""
                self.router.router.own_writes.note(*self.written, at=answered_at(self.session, place))


def _refused_by_validator(error: PyMongoError) -> bool:
    if isinstance(error, BulkWriteError):
        return any(entry.get("code") == REFUSED_BY_VALIDATOR for entry in error.details.get("writeErrors", ()))
    return isinstance(error, OperationFailure) and error.code == REFUSED_BY_VALIDATOR
