"""The app's changes of one collection on one partition.

The stream is of the whole replica set, since it also reads the events by which Foreshard's own transactions are known
(:mod:`foreshard.stores.partition.own_transactions`). Their changes are left out: copies of a move, its removals, and what
appliers write to shadows. A position has, beside the server's token, the transaction that is being left out there.
"""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import Any

from foreshard.client._driving import resolved
from foreshard.client._types import Document
from foreshard.model import ShardedCollection
from foreshard.stores.partition.own_transactions import GUARDS, LEASES

MOST_AT_ONCE = 1_000
"""Events that are read at once, before other partitions' events are handed on."""

StreamPosition = Mapping[str, Any]


POSITIVE = frozenset({"$eq", "$in", "$gt", "$gte", "$lt", "$lte"})


def watched(
    sharded: ShardedCollection, bookkeeping: str, matches: Sequence[Mapping[str, Any]], *, looked_up: bool
) -> list[dict[str, Any]]:
    """The pipeline of one partition's stream. ``matches``: the app's conditions on its events.

    If they need a document that is ``looked_up``, updates whose document was not found are read too: it may have moved.
    """
    apps = {"ns.db": sharded.database, "ns.coll": sharded.collection}
    own = {"ns.db": bookkeeping, "ns.coll": {"$in": [LEASES, GUARDS]}}
    wanted: list[Mapping[str, Any]] = [own, {"$and": [apps, *matches]}]
    if looked_up and need_documents(matches):
        wanted.append({**apps, "operationType": "update", "fullDocument": None})
    return [{"$match": {"$or": wanted}}]


def need_documents(matches: Sequence[Mapping[str, Any]]) -> bool:
    """Whether an event without a document surely does not match: a field of it must have a value."""
    return any(
        name.startswith("fullDocument.") and _is_positive(condition) for match in matches for name, condition in match.items()
    )


def _is_positive(condition: Any) -> bool:
    if not isinstance(condition, Mapping):
        return condition is not None
    listed = condition.get("$in", ())
    return POSITIVE.issuperset(condition) and None not in condition.values() and None not in listed


def lacks_document(event: Mapping[str, Any]) -> bool:
    """Whether an update's document was looked up and not found."""
    return event["operationType"] == "update" and event.get("fullDocument", event) is None


class PartitionStream:
    """One partition's stream. ``wants``: whether an event is handed on.

    ``read_at``: when the events that wait were read. ``empty_at``: when there were none. ``position``: after the last event
    that was taken.
    """

    def __init__(
        self,
        partition: str,
        stream: Any,
        bookkeeping: str,
        left_out: Any,
        wants: Callable[[Document], Awaitable[bool]],
    ) -> None:
        self.partition, self._stream, self._bookkeeping, self._wants = partition, stream, bookkeeping, wants
        self._left_out = left_out
        self._waiting: deque[tuple[Document, Any]] = deque()
        self.read_at, self.empty_at = 0.0, float("-inf")
        self.position = self._here()

    @property
    def head(self) -> Document | None:
        """The event that was read and is taken next."""
        return self._waiting[0][0] if self._waiting else None

    async def fill(self) -> None:
        """Read the events that the server has, at most one batch of the app's, unless some wait already."""
        if self._waiting:
            return
        for _ in range(MOST_AT_ONCE):
            event = await resolved(self._stream.try_next())
            if event is None:
                self.empty_at = time.monotonic()
                self.position = self._here()
                return
            if not self._is_own(event) and await self._wants(event):
                self._waiting.append((event, self._left_out))
            elif not self._waiting:
                self.position = self._here()
            if self._waiting and not self._stream._cursor._has_next():  # the batch has no public accessor
                break
        self.read_at = time.monotonic()

    def take(self) -> Document:
        """Hand the head on."""
        event, left_out = self._waiting.popleft()
        self.position = {"partition": self.partition, "token": event["_id"], "left_out": left_out}
        return event

    async def close(self) -> None:
        """Close the server's cursor."""
        await resolved(self._stream.close())

    def _here(self) -> StreamPosition:
        return {"partition": self.partition, "token": self._stream.resume_token, "left_out": self._left_out}

    def _is_own(self, event: Mapping[str, Any]) -> bool:
        """Whether an event is Foreshard's. The first event of each of its transactions is one of the bookkeeping."""
        transaction = [event["lsid"]["id"], event["txnNumber"]] if "txnNumber" in event else None
        place = event.get("ns", {})
        if place.get("db") == self._bookkeeping and place.get("coll") in (LEASES, GUARDS):
            self._left_out = transaction
            return True
        return transaction is not None and transaction == self._left_out
