"""Writes of many documents: sent in runs to where their keys live, and of a run that a fence cut short only what was not
applied.

A run is a stretch of requests of one kind for one partition. Ordered: runs follow the requests' order and the first real
error ends them. Unordered: each partition gets its requests, and every error is reported at the end. ``UpdateMany`` is taken
apart into one ``UpdateOne`` per matching document, because the server does not say how far an update of many had come when a
fence met it.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from itertools import groupby, islice
from typing import Any

import bson
from bson.codec_options import CodecOptions
from pymongo import DeleteMany, DeleteOne, InsertOne, ReadPreference, ReplaceOne, UpdateMany, UpdateOne
from pymongo.errors import BulkWriteError, ConnectionFailure, PyMongoError

from foreshard.client._driving import settled
from foreshard.client._fences import REFUSED_BY_VALIDATOR, FencedWriter, Wait, one_line
from foreshard.client._routes import Operation, Route
from foreshard.errors import AmbiguousWrite, KeyInTransit, Unreachable

WriteRequest = InsertOne[Any] | UpdateOne | UpdateMany | ReplaceOne[Any] | DeleteOne | DeleteMany

LONGEST_RUN = 1_000
HOST_UNREACHABLE = 6
LARGEST_MESSAGE = 24_000_000
"""Bytes; half of what a server takes in one message."""
COUNTS = ("nInserted", "nMatched", "nModified", "nRemoved", "nUpserted")


class BulkKind(StrEnum):
    """What the server does a run of at once."""

    INSERT = "insert"
    UPDATE = "update"
    UPDATE_MANY = "update_many"
    DELETE = "delete"


@dataclass(frozen=True, slots=True)
class BulkItem:
    """One request, already limited to ``key``; ``index`` is its place in the app's list."""

    index: int
    key: str
    kind: BulkKind
    request: WriteRequest


@dataclass
class Tally:
    """What was done and what was not, as pymongo's ``bulk_api_result`` says it."""

    counts: dict[str, int] = field(default_factory=lambda: dict.fromkeys(COUNTS, 0))
    upserted: list[dict[str, Any]] = field(default_factory=list)
    errors: list[dict[str, Any]] = field(default_factory=list)
    concerns: list[dict[str, Any]] = field(default_factory=list)

    def add(self, raw: Mapping[str, Any], run: Sequence[BulkItem]) -> None:
        """Add what one run did."""
        for name in COUNTS:
            self.counts[name] += raw.get(name, 0)
        self.upserted += [{**entry, "index": run[entry["index"]].index} for entry in raw.get("upserted", ())]
        self.concerns += raw.get("writeConcernErrors", ())

    def refuse(self, item: BulkItem, error: Mapping[str, Any]) -> None:
        """Note a request that was not applied."""
        self.errors.append({**error, "index": item.index})

    @property
    def confirmed(self) -> int:
        """How many documents were certainly written or matched."""
        return sum(self.counts[name] for name in COUNTS if name != "nModified")

    def as_result(self) -> dict[str, Any]:
        """As pymongo has it."""
        by_index = sorted(self.errors, key=lambda error: error["index"])
        upserted = sorted(self.upserted, key=lambda entry: entry["index"])
        return {**self.counts, "upserted": upserted, "writeErrors": by_index, "writeConcernErrors": self.concerns}


class BulkWrite:
    """One bulk operation; ``run`` returns the result or raises pymongo's ``BulkWriteError`` with the results so far."""

    def __init__(
        self, writer: FencedWriter, operation: str, *, ordered: bool, options: Mapping[str, Any] | None = None
    ) -> None:
        self._writer, self._operation, self._ordered = writer, operation, ordered
        self._options = dict(options or {})
        self._routes: dict[str, Route] = {}
        self._tally = Tally()
        self._unreachable: Unreachable | None = None
        self._silent: set[str] = set()

    async def run(self, items: Sequence[BulkItem]) -> dict[str, Any]:
        """Write all items; raise ``BulkWriteError``, :class:`AmbiguousWrite` or :class:`Unreachable`."""
        deleting = any(item.kind is BulkKind.DELETE for item in items)
        self._routes = await self._ask([item.key for item in items], fresh=deleting)
        pending = list(items)
        wait = Wait(self._writer, items[0].key) if items else None
        while pending and wait is not None:
            before = self._tally.confirmed
            pending, waiting = await self._round(pending)
            if self._tally.confirmed > before:
                wait = Wait(self._writer, pending[0].key) if pending else wait
            if waiting and not await self._move_on(waiting, wait):
                self._give_up(waiting, wait)
                break
        if self._unreachable and not self._tally.confirmed and all(e["code"] == HOST_UNREACHABLE for e in self._tally.errors):
            raise self._unreachable  # nothing at all was done
        result = self._tally.as_result()
        if self._tally.errors or self._tally.concerns:
            raise BulkWriteError(result)
        return result

    async def _ask(self, keys: Sequence[str], *, fresh: bool) -> dict[str, Route]:
        return await self._writer.router.routes(tuple(dict.fromkeys(keys)), Operation.WRITE, fresh=fresh)

    async def _round(self, pending: list[BulkItem]) -> tuple[list[BulkItem], list[BulkItem]]:
        """Send what can be sent; return what is left to do and, among it, what a fence or a silent partition holds up."""
        self._silent.clear()
        return await self._ordered_round(pending) if self._ordered else await self._unordered_round(pending)

    async def _ordered_round(self, pending: list[BulkItem]) -> tuple[list[BulkItem], list[BulkItem]]:
        if pending[0].kind is BulkKind.UPDATE_MANY:
            smaller = await self._per_document(pending[0])
            return ([*smaller, *pending[1:]], []) if smaller is not None else (pending, pending[:1])
        first = pending[0]
        partition = self._routes[first.key].partition
        run: list[BulkItem] = []
        for item in islice(pending, LONGEST_RUN):
            if item.kind is not first.kind or self._routes[item.key].partition != partition:
                break
            run.append(item)
        failures = await self._send(run, pending[len(run) :])
        if not failures:
            return pending[len(run) :], []
        at, error = failures[0]
        if await self._retry(run[at], error):
            return pending[at:], [run[at]]
        self._tally.refuse(run[at], error)
        return [], []

    async def _unordered_round(self, pending: list[BulkItem]) -> tuple[list[BulkItem], list[BulkItem]]:
        ready: list[BulkItem] = []
        waiting: list[BulkItem] = []
        for item in pending:
            smaller = await self._per_document(item) if item.kind is BulkKind.UPDATE_MANY else [item]
            ready += smaller or []
            waiting += [item] if smaller is None else []
        runs = list(self._runs(ready))
        for number, run in enumerate(runs):
            for at, error in await self._send(run, [item for later in runs[number + 1 :] for item in later]):
                if await self._retry(run[at], error):
                    waiting.append(run[at])
                else:
                    self._tally.refuse(run[at], error)
        return waiting, waiting

    def _runs(self, items: list[BulkItem]) -> Iterator[list[BulkItem]]:
        """Requests by partition and kind, at most ``LONGEST_RUN`` at once, so that a lost answer leaves few in doubt."""
        ranked = sorted(items, key=lambda item: (self._routes[item.key].partition, item.kind))
        for _, group in groupby(ranked, key=lambda item: (self._routes[item.key].partition, item.kind)):
            while run := list(islice(group, LONGEST_RUN)):
                yield run

    async def _send(self, run: list[BulkItem], later: Sequence[BulkItem]) -> list[tuple[int, dict[str, Any]]]:
        """Send one run; return (place in the run, the server's error) of each request that was not applied."""
        route = self._routes[run[0].key]
        if route.partition in self._silent:
            return _not_sent(run)
        requests = [item.request for item in run]
        try:
            done = await settled(self._writer.collection(route).bulk_write(requests, ordered=self._ordered, **self._options))
        except BulkWriteError as error:
            details: Mapping[str, Any] = error.details
            self._tally.add(details, run)
            return [(entry["index"], entry) for entry in details.get("writeErrors", ())]
        except PyMongoError as error:
            return self._not_answered(error, run, later, route)
        self._tally.add(done.bulk_api_result, run)
        return []

    def _not_answered(
        self, error: PyMongoError, run: list[BulkItem], later: Sequence[BulkItem], route: Route
    ) -> list[tuple[int, dict[str, Any]]]:
        said = self._writer.lost(error, self._operation, run[0].key, route)
        if isinstance(said, Unreachable) and fits_one_message(run, self._writer.collection(route).codec_options):
            self._went_silent(route)
            return _not_sent(run)
        if not isinstance(said, AmbiguousWrite | Unreachable):
            raise error
        raise AmbiguousWrite(
            self._writer.sharded.namespace,
            self._operation,
            tuple(dict.fromkeys(item.key for item in run)),
            route.partition,
            one_line(error),
            confirmed=self._tally.confirmed,
            in_doubt=[item.index for item in run],
            not_attempted=[item.index for item in later],
        ) from error

    def _went_silent(self, route: Route) -> None:
        self._silent.add(route.partition)
        self._writer.router.avoid(route.partition)

    async def _retry(self, item: BulkItem, error: Mapping[str, Any]) -> bool:
        """Whether a request may be sent again later: a fence refused it, or its partition was not found."""
        if error.get("code") == HOST_UNREACHABLE:
            return True
        return error.get("code") == REFUSED_BY_VALIDATOR and await self._writer.is_fence(
            error, self._routes[item.key], item.key
        )

    async def _move_on(self, waiting: Sequence[BulkItem], wait: Wait) -> bool:
        """Ask where the keys live that were held up, and wait where they still live there; False after the deadline."""
        if self._silent and wait.overdue():
            return False
        await wait.refresh()
        latest = await self._ask([item.key for item in waiting], fresh=True)
        moved = any(not route.same_owner(self._routes[key]) for key, route in latest.items())
        self._routes |= latest
        try:
            if moved:
                wait.check(self._routes[waiting[0].key])
            else:
                await wait.pause(self._routes[waiting[0].key])
        except KeyInTransit:
            return False
        return True

    def _give_up(self, waiting: Sequence[BulkItem], wait: Wait) -> None:
        for item in waiting:
            route = self._routes[item.key]
            if route.partition in self._silent:
                self._unreachable = self._writer.unreachable(route)
                self._tally.refuse(item, {"code": HOST_UNREACHABLE, "errmsg": f"not sent: {self._unreachable}"})
                continue
            said = KeyInTransit(self._writer.sharded.namespace, item.key, route.partition, wait.waited())
            self._tally.refuse(item, {"code": REFUSED_BY_VALIDATOR, "errmsg": str(said)})

    async def _per_document(self, item: BulkItem) -> list[BulkItem] | None:
        """One request per document that matches now; an upsert that matches none stays one request. None: the partition did
        not answer."""
        every: Any = item.request
        route = self._routes[item.key]
        primary = self._writer.collection(route).with_options(read_preference=ReadPreference.PRIMARY)
        found = primary.find(every._filter, {"_id": 1})
        if every._hint is not None:
            found = found.hint(every._hint if isinstance(every._hint, str) else list(every._hint.items()))
        try:
            ids = [document["_id"] for document in await settled(found.to_list())]
        except ConnectionFailure:
            self._went_silent(route)
            return None
        options = {"array_filters": every._array_filters}
        if not ids and every._upsert:
            return [
                BulkItem(item.index, item.key, BulkKind.UPDATE, UpdateOne(every._filter, every._doc, upsert=True, **options))
            ]
        return [
            BulkItem(
                item.index, item.key, BulkKind.UPDATE, UpdateOne({"$and": [{"_id": id_}, every._filter]}, every._doc, **options)
            )
            for id_ in ids
        ]


def fits_one_message(run: Sequence[BulkItem], codec: CodecOptions[Any]) -> bool:
    """Whether pymongo sends a run in one message. It sends a larger one in several, and then a server that is not found does
    not mean that nothing was sent."""
    size = 0
    for item in run:
        size += sum(len(bson.encode({"": part}, codec_options=codec)) for part in written(item.request))
        if size > LARGEST_MESSAGE:
            return False
    return True


def written(request: Any) -> tuple[Any, ...]:
    """What of a request goes over the wire, about."""
    if isinstance(request, InsertOne):
        return (request._doc,)
    return (request._filter, getattr(request, "_doc", None))


def _not_sent(run: Sequence[BulkItem]) -> list[tuple[int, dict[str, Any]]]:
    return [(at, {"code": HOST_UNREACHABLE}) for at in range(len(run))]
