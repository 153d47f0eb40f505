"""Writes that meet a fence: what a refusal means, and the loop that carries a write to the key's new place.

::

    attempt ──done──────────────────────────────────────────────► answer
      │  ▲
      │  └── the route changed, or the key is still fenced (pause) ──┐
      └─ error 121 ─► refresh the sidecar, ask for the route again ──┤
                                                                     ├─ deadline ► KeyInTransit (not applied)
                                                                     └─ same place, no fence ► the app's own rule: its error

A write that the server refused with 121 was not applied, so sending it again is safe. So is one that found no server to send
it to: it waits for the partition until the deadline, and is then :class:`foreshard.errors.Unreachable`. A write whose answer
was lost may have been applied; it is never sent again and reported as :class:`AmbiguousWrite` (pymongo itself has repeated it
once by then, under the same transaction number, which the server applies once).
"""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from datetime import timedelta
from typing import TYPE_CHECKING, Any, NoReturn, TypeVar

from pymongo.errors import ConnectionFailure, OperationFailure, PyMongoError, ServerSelectionTimeoutError, WriteConcernError

from foreshard.client._async_router import AsyncRouter
from foreshard.client._driving import settled
from foreshard.client._routes import Operation, Route
from foreshard.errors import AmbiguousWrite, KeyInTransit, Unreachable
from foreshard.model import ShardedCollection
from foreshard.stores.partition.fence_validator import read_options

if TYPE_CHECKING:
    from pymongo.collection import Collection

    from foreshard.client._partition_clients import PartitionClients

REFUSED_BY_VALIDATOR = 121
FIRST_PAUSE, LONGEST_PAUSE = 0.004, 0.1
_INTERRUPTED = frozenset({11600, 11602, 10107, 13435, 189, 91, 64, 50})
"""A shutdown, step-down, or time limit met the write on the server: it may have been applied."""

_Result = TypeVar("_Result")


def fenced(error: Mapping[str, Any], key_field: str) -> bool | None:
    """Whether the server's details of a 121 name the fence's clause; None where they say nothing (the server cuts long
    answers)."""
    details = (error.get("errInfo") or {}).get("details")
    if not details:
        return None
    return any(
        clause.get("index") == 0
        and clause.get("details", {}).get("operatorName") == "$nin"
        and key_field in (clause["details"].get("specifiedAs") or {})
        for clause in details.get("clausesNotSatisfied", ())
    )


def pauses(first: float = FIRST_PAUSE, longest: float = LONGEST_PAUSE) -> Iterator[float]:
    """Seconds to wait between attempts: doubling up to ``longest``, with jitter, so that waiting writers don't come at once."""
    pause = first
    while True:
        yield pause * random.uniform(0.5, 1.0)  # noqa: S311
        pause = min(2 * pause, longest)


@dataclass(frozen=True)
class FencedWriter:
    """Carries writes of one sharded collection to where their keys live; ``deadline`` in seconds."""

    router: AsyncRouter
    connections: PartitionClients
    sharded: ShardedCollection
    deadline: float

    async def write(
        self,
        operation: str,
        key: str,
        attempt: Callable[[Collection[dict[str, Any]]], _Result],
        *,
        missed: Callable[[_Result], bool] = lambda _result: False,
        passes_fence: bool = False,
    ) -> _Result:
        """Run ``attempt`` on the primary's collection until it is done; it must change at most one document.

        ``missed`` says whether a result may only mean that the key lives elsewhere by now (nothing matched): then the route is
        asked anew. ``passes_fence`` (a delete) is never sent by a kept route.
        """
        wait = Wait(self, key)
        route = await self.router.route(key, Operation.WRITE, fresh=passes_fence)
        while True:
            try:
                result = await settled(attempt(self.collection(route)))
            except PyMongoError as error:
                route = await self._after(error, operation, route, wait)
                continue
            if passes_fence or not missed(result):
                return result
            latest = await self.router.route(key, Operation.WRITE, fresh=True)
            if latest.same_owner(route):
                return result
            route = latest
            wait.check(route)

    def collection(self, route: Route) -> Collection[dict[str, Any]]:
        """The collection at the end of a route."""
        return self.connections.collection(route.uri, self.sharded)

    async def is_fence(self, error: Mapping[str, Any], route: Route, key: str) -> bool:
        """Whether a 121 came from the fence; where its details were cut, the collection's own options are read."""
        said = fenced(error, self.sharded.key_field)
        if said is not None:
            return said
        database = self.collection(route).database
        cursor = await settled(database.list_collections(filter={"name": self.sharded.collection}))
        found = next(iter(await settled(cursor.to_list())), {})
        return key in read_options(found.get("options", {}), self.sharded.key_field).keys

    def unreachable(self, route: Route) -> Unreachable:
        """The error for a route whose partition can't be reached; nothing was sent to it."""
        return unreachable(route.partition, self.connections.address(route.uri))

    def lost(self, error: PyMongoError, operation: str, key: str, route: Route) -> Exception:
        """What an error that is no refusal means for the app: not sent, in doubt, or simply its own error."""
        if isinstance(error, ServerSelectionTimeoutError):
            return self.unreachable(route)
        if in_doubt(error):
            return AmbiguousWrite(self.sharded.namespace, operation, (key,), route.partition, one_line(error))
        return error

    def report(self, error: PyMongoError, operation: str, key: str, route: Route) -> NoReturn:
        """Raise what ``lost`` says."""
        said = self.lost(error, operation, key, route)
        if said is error:
            raise error
        raise said from error

    async def _after(self, error: PyMongoError, operation: str, route: Route, wait: Wait) -> Route:
        """The route for the next attempt; raise what the app has to know."""
        if isinstance(error, ServerSelectionTimeoutError):
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
        """The partition was not found, so nothing was sent: look for it, or for the key elsewhere, until the deadline."""
        self.router.avoid(route.partition)
        if wait.overdue():
            raise self.unreachable(route) from error
        latest = await wait.reroute()
        if latest.same_owner(route):
            await wait.rest()
        return latest


class Wait:
    """One write's patience: refreshes, pauses, and the deadline, counted from the first refusal (of a partition that does not
    answer: from the write's beginning)."""

    def __init__(self, writer: FencedWriter, key: str) -> None:
        self._writer, self._key = writer, key
        self._pauses = pauses()
        self._created = writer.router.now()
        self._begun: float | None = None

    async def refresh(self) -> None:
        """Have the sidecar read the newest table; the first call starts the clock."""
        now = self._writer.router.now()
        self._begun = now if self._begun is None else self._begun
        await self._writer.router.refresh(now)

    async def reroute(self) -> Route:
        """Refresh the sidecar and ask it again."""
        await self.refresh()
        return await self._writer.router.route(self._key, Operation.WRITE, fresh=True)

    def waited(self) -> timedelta:
        """How long since the first refusal."""
        now = self._writer.router.now()
        self._begun = now if self._begun is None else self._begun
        return timedelta(seconds=now - self._begun)

    def overdue(self) -> bool:
        """Whether the deadline has passed since the write began."""
        return self._writer.router.now() - self._created >= self._writer.deadline

    def check(self, route: Route, cause: Exception | None = None) -> None:
        """Raise :class:`KeyInTransit` after the deadline."""
        waited = self.waited()
        if waited.total_seconds() > self._writer.deadline:
            raise KeyInTransit(self._writer.sharded.namespace, self._key, route.partition, waited) from cause

    async def pause(self, route: Route, cause: Exception | None = None) -> None:
        """Wait for the key's new owner to take it."""
        self.check(route, cause)
        await self.rest()

    async def rest(self) -> None:
        """Pause, longer each time."""
        await self._writer.router.mode.sleep(next(self._pauses))


def in_doubt(error: PyMongoError) -> bool:
    """Whether a write that ended so may have been applied all the same."""
    if isinstance(error, ConnectionFailure | WriteConcernError):
        return True
    return isinstance(error, OperationFailure) and error.code in _INTERRUPTED


def unreachable(partition: str, address: str) -> Unreachable:
    """The error for a partition that can't be reached; nothing was sent to it."""
    return Unreachable(f"partition {partition}", address, "start it or correct its address in the partition registry")


def one_line(error: Exception) -> str:
    """The error's kind and the first line of what it says, without pymongo's topology description."""
    text = str(error).splitlines()[0] if str(error) else ""
    return f"{type(error).__name__}: {text.split(' (configured timeouts')[0].split(', Timeout:')[0]}"
