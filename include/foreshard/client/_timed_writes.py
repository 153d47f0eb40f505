"""Writes whose cluster time is remembered, so that the client reads them from no shadow that lacks them.

pymongo tells the time of an answer only through a session. So each write has one, as it would have an implicit one.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterable
from typing import TYPE_CHECKING, Any

from foreshard.client._driving import resolved
from foreshard.client._types import Result
from foreshard.client.sessions.session_clients import SessionCollection
from foreshard.model.cluster_time import ClusterTime

if TYPE_CHECKING:
    from pymongo.collection import Collection

    from foreshard.client._partition_clients import PartitionClients
    from foreshard.client.routing.router import Router
    from foreshard.client.routing.routes import Route
    from foreshard.model import ShardedCollection


async def timed_write(
    router: Router,
    connections: PartitionClients,
    sharded: ShardedCollection,
    route: Route,
    keys: Iterable[str],
    attempt: Callable[[Collection[dict[str, Any]]], Result | Awaitable[Result]],
) -> Result:
    """Run ``attempt`` on a route's collection, and note its time for ``keys``. After an error it may have been applied too."""
    session = connections.open_session(route.uri)
    own: Any = SessionCollection(connections.collection(route.uri, sharded), lambda: session)
    try:
        done: Any = attempt(own)
        result: Result = await resolved(done)
    finally:
        router.own_writes.note(*keys, at=answered_at(session, route.partition))
        await connections.release_session(session)
    return result


def answered_at(session: Any, partition: str) -> ClusterTime | None:
    """The cluster time of the last answer in a session; None if there was none, or no session."""
    time = session.operation_time if session is not None else None
    return None if time is None else ClusterTime(partition, time.time, time.inc)
