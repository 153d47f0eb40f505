"""Sends the requests of an ordered bulk write to several partitions at once, without giving up their order.

Each partition gets its requests in one transaction. If all of them succeed, all transactions commit, and the order between
partitions has made no difference: the requests touch different documents. If one fails, all transactions abort, nothing was
applied, and the requests are sent again one after the other. An update of many documents is whole in a transaction too.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from itertools import groupby
from typing import TYPE_CHECKING, Any

from pymongo.errors import PyMongoError

from foreshard.client._driving import resolved
from foreshard.client._timed_writes import answered_at
from foreshard.client.bulk.requests import BulkItem, BulkKind
from foreshard.client.routing.pymongo_errors import WriteInDoubt
from foreshard.client.writing.write_errors import one_line
from foreshard.errors import AmbiguousWrite

if TYPE_CHECKING:
    from foreshard.client._fences import FencedWriter
    from foreshard.client.routing.routes import Route

MOST_TOGETHER = 5_000
"""Requests in one round of transactions, so that they are short."""
FEW_RUNS = 3
"""Up to so many runs are sent one after the other."""


@dataclass
class Part:
    """The requests of one partition, and how far they have come.

    ``raw``: the result in the form of pymongo's ``bulk_api_result``. ``error``: why it failed.
    """

    route: Route
    items: list[BulkItem]
    session: Any = None
    raw: Mapping[str, Any] | None = None
    error: PyMongoError | None = None

    def lost(self, namespace: str, operation: str) -> AmbiguousWrite:
        """The error for a commit that has failed."""
        keys = tuple(dict.fromkeys(item.key for item in self.items))
        cause = one_line(self.error) if self.error is not None else ""
        in_doubt = [item.index for item in self.items]
        return WriteInDoubt(namespace, operation, keys, self.route.partition, cause, in_doubt=in_doubt)


def parts_of(items: Sequence[BulkItem], routes: Mapping[str, Route]) -> list[Part]:
    """Return the requests by partition, each in its order."""
    found: dict[str, Part] = {}
    for item in items:
        route = routes[item.key]
        found.setdefault(route.partition, Part(route, [])).items.append(item)
    return list(found.values())


def is_worthwhile(items: Sequence[BulkItem], routes: Mapping[str, Route]) -> bool:
    """Whether requests are better sent together: they update many documents, or change partition often."""
    if any(item.kind is BulkKind.UPDATE_MANY for item in items):
        return True
    runs = groupby(items, key=lambda item: (routes[item.key].partition, item.kind))
    return sum(1 for _ in runs) > FEW_RUNS


async def send_together(writer: FencedWriter, parts: Sequence[Part], options: Mapping[str, Any]) -> bool:
    """Apply all requests, or none of them: then return False.

    A part whose commit fails has its ``error`` set; the others are committed.
    """
    together = writer.router.mode.together
    try:
        await together([_apply(writer, part, options) for part in parts])
        if any(part.error is not None for part in parts):
            await together([_abort(part) for part in parts])
            return False
        await together([_commit(part) for part in parts])
    finally:
        for part in parts:
            if part.session is not None:
                at, keys = answered_at(part.session, part.route.partition), {item.key for item in part.items}
                writer.router.router.own_writes.note(*keys, at=at)
                await resolved(part.session.end_session())
    return True


async def _apply(writer: FencedWriter, part: Part, options: Mapping[str, Any]) -> None:
    collection = writer.collection(part.route)
    try:
        if not writer.doubts.knows_collation:
            await writer.doubts.check_collation(part.route.uri)
        part.session = writer.connections.client(part.route.uri).start_session()
        await resolved(part.session.start_transaction(write_concern=collection.write_concern))
        requests = [item.request for item in part.items]
        done = await resolved(collection.bulk_write(requests, ordered=True, session=part.session, **options))
        deleted = {item.key for item in part.items if item.kind is BulkKind.DELETE}
        if deleted:
            await writer.deletes.refuse(part.route.uri, deleted)
        part.raw = done.bulk_api_result
    except PyMongoError as error:
        part.error = error


async def _abort(part: Part) -> None:
    if part.session is not None and part.session.in_transaction:
        with suppress(PyMongoError):
            await resolved(part.session.abort_transaction())


async def _commit(part: Part) -> None:
    try:
        await resolved(part.session.commit_transaction())
    except PyMongoError as error:
        part.error = error
