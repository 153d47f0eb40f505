"""Writes to fenced keys: what a refusal means, and the loop that sends a write to the key's new owner.

::

    attempt ──done──────────────────────────────────────────────► answer
      │  ▲
      │  └── the route changed, or the key is still fenced (pause) ──┐
      └─ error 121 ─► refresh the sidecar, ask for the route again ──┤
                                                                     ├─ deadline ► KeyInTransit (not applied)
                                                                     └─ same owner, no fence ► the app's own error

A write that the server refused with 121 was not applied, so it is safe to send it again. The same holds for a write that found
no server: it waits for the partition until the deadline, then raises :class:`foreshard.errors.Unreachable`. A write whose
answer was lost may have been applied. It is not sent again, but reported as :class:`AmbiguousWrite`. (Before that, pymongo
itself has repeated it once under the same transaction number, which the server applies only once.)
"""

from __future__ import annotations

import random
from collections.abc import Awaitable, Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from datetime import timedelta
from functools import cached_property
from typing import TYPE_CHECKING, Any, NoReturn

from pymongo.errors import OperationFailure, PyMongoError, ServerSelectionTimeoutError

from foreshard.client._doubts import Doubts, fence_lists
from foreshard.client._driving import is_own_deadline, time_left
from foreshard.client._timed_writes import answered_at, timed_write
from foreshard.client._types import Result
from foreshard.client.routing.pymongo_errors import ServiceUnreachable, WriteFenced, WriteInDoubt
from foreshard.client.routing.router import AsyncRouter
from foreshard.client.routing.routes import Operation, Route
from foreshard.client.writing.fenced_deletes import AttemptToDelete, FencedDeletes
from foreshard.client.writing.write_errors import (
    REFUSED_BY_VALIDATOR,
    fenced,
    in_doubt,
    one_line,
    was_committing,
    was_never_sent,
)
from foreshard.errors import Unreachable
from foreshard.model import ShardedCollection

if TYPE_CHECKING:
    from pymongo.collection import Collection

    from foreshard.client._partition_clients import PartitionClients

FIRST_PAUSE, LONGEST_PAUSE = 0.004, 0.1


def pauses(first: float = FIRST_PAUSE, longest: float = LONGEST_PAUSE) -> Iterator[float]:
    """Seconds to wait between attempts. They double up to ``longest``, with jitter so that writers don't retry together."""
    pause = first
    while True:
        yield pause * random.uniform(0.5, 1.0)  # noqa: S311
        pause = min(2 * pause, longest)


@dataclass(frozen=True)
class FencedWriter:
    """Sends writes of one sharded collection to the owners of their keys. ``deadline`` in seconds."""

    router: AsyncRouter
    connections: PartitionClients
    sharded: ShardedCollection
    doubts: Doubts
    """What is checked while the table may be old."""
    deadline: float

    @cached_property
    def deletes(self) -> FencedDeletes:
        """Runs deletes, which a validator does not stop."""
        return FencedDeletes(self.connections, self.sharded, self.doubts.held, self.router.mode.sleep, pauses)

    async def write(
        self,
        operation: str,
        key: str,
        attempt: Callable[[Collection[dict[str, Any]]], Result],
        *,
        missed: Callable[[Result], bool] = lambda _result: False,
        inserts: bool = False,
    ) -> Result:
        """Run ``attempt`` on the primary's collection until it succeeds. It must change at most one document.

        ``missed``: whether a result may be due to a key that has moved away (nothing matched); the route is then asked for
        again. ``inserts``: the fence stops the write wherever it is sent; other writes may find nothing on a partition that the
        key has left.
        """

        async def send(route: Route) -> Result:
            return await self.timed(route, (key,), attempt)

        return await self._persist(operation, key, send, missed, inserts=inserts)

    async def delete(
        self, operation: str, key: str, attempt: AttemptToDelete[Result], missed: Callable[[Result], bool]
    ) -> Result:
        """Run a delete on the primary's collection until no fence stops it. Arguments as for ``write``."""

        async def send(route: Route) -> Result:
            return await self.deletes.run(route.uri, (key,), attempt, self.noting(route, (key,)))

        return await self._persist(operation, key, send, missed, inserts=False)

    async def _persist(
        self,
        operation: str,
        key: str,
        send: Callable[[Route], Awaitable[Result]],
        missed: Callable[[Result], bool],
        *,
        inserts: bool,
    ) -> Result:
        wait = Wait(self, key)
        route = await self.router.route(key, Operation.WRITE)
        if not inserts and await self.doubts.check_writes(operation, [route]):
            route = await self.router.route(key, Operation.WRITE, fresh=True)
        while True:
            try:
                if not self.doubts.knows_collation:
                    await self.doubts.check_collation(route.uri)
                result = await send(route)
            except PyMongoError as error:
                route = await self._after(error, operation, route, wait)
                continue
            if not missed(result):
                return result
            latest = await self.router.route(key, Operation.WRITE, fresh=True)
            if latest.same_owner(route):
                return result
            route = latest
            wait.check(route)

    async def timed(
        self, route: Route, keys: Iterable[str], attempt: Callable[[Collection[dict[str, Any]]], Result | Awaitable[Result]]
    ) -> Result:
        """Run ``attempt`` on a route's collection, and remember its time for the client's own reads."""
        return await timed_write(self.router.router, self.connections, self.sharded, route, keys, attempt)

    def noting(self, route: Route, keys: Iterable[str]) -> Callable[[Any], None]:
        """Return what is told of the session in which a write of ``keys`` was answered, or may have been applied."""
        return lambda session: self.router.router.own_writes.note(*keys, at=answered_at(session, route.partition))

    def collection(self, route: Route) -> Collection[dict[str, Any]]:
        """The collection that a route leads to."""
        return self.connections.collection(route.uri, self.sharded)

    async def is_fence(self, error: Mapping[str, Any], route: Route, key: str) -> bool:
        """Whether an error 121 came from the fence. Without details in the error, reads the collection's options."""
        is_fenced = fenced(error, self.sharded.key_field)
        if is_fenced is not None:
            return is_fenced
        lists = await fence_lists(self.connections, route.uri, self.sharded)
        return lists.refuses(key)

    def unreachable(self, route: Route) -> Unreachable:
        """The error for a route whose partition can't be reached. Nothing was sent."""
        return unreachable(route.partition, self.connections.address(route.uri))

    def lost(self, error: PyMongoError, operation: str, key: str, route: Route) -> Exception:
        """Return the error to report for a failed attempt: not sent, in doubt, or ``error`` itself."""
        if isinstance(error, ServerSelectionTimeoutError) and not was_committing(error):
            return error if is_own_deadline(error) else self.unreachable(route)
        if in_doubt(error):
            return WriteInDoubt(self.sharded.namespace, operation, (key,), route.partition, one_line(error))
        return error

    def report(self, error: PyMongoError, operation: str, key: str, route: Route) -> NoReturn:
        """Raise the error that ``lost`` returns."""
        reported = self.lost(error, operation, key, route)
        if reported is error:
            raise error
        raise reported from error

    async def _after(self, error: PyMongoError, operation: str, route: Route, wait: Wait) -> Route:
        """Return the route for the next attempt, or raise the error to report."""
        if was_never_sent(error):
            wait.give_up(route, error)
            raise error
        if isinstance(error, ServerSelectionTimeoutError) and not is_own_deadline(error) and not was_committing(error):
            return await self._after_silence(error, route, wait)
        if not isinstance(error, OperationFailure) or error.code != REFUSED_BY_VALIDATOR:
            self.report(error, operation, route.key, route)
        latest = await wait.reroute()
        if not latest.same_owner(route):
            wait.check(latest, error)
            return latest
        if not await self.is_fence(error.details or {}, route, route.key):
            raise error
        await wait.pause(route, error)
        return latest

    async def _after_silence(self, error: ServerSelectionTimeoutError, route: Route, wait: Wait) -> Route:
        """The partition was not found and nothing was sent: look for it, or for a new owner of the key, until the deadline."""
        self.router.avoid(route.partition)
        if wait.overdue():
            raise self.unreachable(route) from error
        latest = await wait.reroute()
        if latest.same_owner(route):
            await wait.rest()
        return latest


class Wait:
    """The refreshes, pauses and deadline of one write.

    The deadline counts from the first refusal. If the partition does not answer, it counts from the start of the write.
    """

    def __init__(self, writer: FencedWriter, key: str) -> None:
        self._writer, self._key = writer, key
        self._pauses = pauses()
        self._created = writer.router.now()
        self._begun: float | None = None

    async def refresh(self) -> None:
        """Make the sidecar read the newest table. The first call starts the deadline."""
        now = self._writer.router.now()
        self._begun = now if self._begun is None else self._begun
        await self._writer.router.refresh(now)

    async def reroute(self) -> Route:
        """Refresh the sidecar, then ask it for the route."""
        await self.refresh()
        return await self._writer.router.route(self._key, Operation.WRITE, fresh=True)

    def waited(self) -> timedelta:
        """Time since the first refusal."""
        now = self._writer.router.now()
        self._begun = now if self._begun is None else self._begun
        return timedelta(seconds=now - self._begun)

    def overdue(self) -> bool:
        """Whether the deadline, counted from the start of the write, has passed."""
        return self._writer.router.now() - self._created >= self._writer.deadline

    def check(self, route: Route, cause: Exception | None = None) -> None:
        """Raise :class:`KeyInTransit` if the deadline, or the app's own, has passed."""
        waited, left = self.waited(), time_left()
        if waited.total_seconds() > self._writer.deadline or (left is not None and left <= 0):
            raise WriteFenced(self._writer.sharded.namespace, self._key, route.partition, waited) from cause

    def give_up(self, route: Route, cause: Exception) -> None:
        """Raise :class:`KeyInTransit` if the key's fence has refused the write."""
        if self._begun is not None:
            raise WriteFenced(self._writer.sharded.namespace, self._key, route.partition, self.waited()) from cause

    async def pause(self, route: Route, cause: Exception | None = None) -> None:
        """Pause, or raise :class:`KeyInTransit` if the deadline has passed."""
        self.check(route, cause)
        await self.rest()

    async def rest(self) -> None:
        """Pause, for longer each time."""
        await self._writer.router.mode.sleep(next(self._pauses))


def unreachable(partition: str, address: str) -> Unreachable:
    """The error for a partition that can't be reached. Nothing was sent."""
    return ServiceUnreachable(f"partition {partition}", address, "start it or correct its address in the partition registry")
