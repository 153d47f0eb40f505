"""Writes of many documents: sent in runs to the owners of their keys. After a fence's refusal, only the unapplied part is
resent.

A run is a sequence of requests of one kind for one partition. Ordered: runs follow the order of the requests, and the first
real error ends them; requests that change partition often are first sent together (:mod:`foreshard.client.bulk.together`).
Unordered: all partitions get their requests at once, and all errors are reported at the end. An ``UpdateMany`` is sent in a
transaction, or split into one ``UpdateOne`` per matching document, because the server does not report how far an update of many
had come when a fence refused it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import partial
from itertools import groupby, islice, zip_longest
from typing import Any

from pymongo.errors import BulkWriteError, ConnectionFailure, PyMongoError

from foreshard.client._fences import FencedWriter, Wait
from foreshard.client.bulk._bulk_outcome import (
    HOST_UNREACHABLE,
    LONGEST_RUN,
    BulkOutcome,
    not_sent,
    runs_of,
    single_updates,
)
from foreshard.client.bulk.requests import BulkItem, BulkKind, fits_one_message
from foreshard.client.bulk.together import MOST_TOGETHER, is_worthwhile, parts_of, send_together
from foreshard.client.routing.pymongo_errors import WriteFenced, WriteInDoubt
from foreshard.client.routing.routes import Operation, Route
from foreshard.client.writing.bulk_deletes import BulkDeletes
from foreshard.client.writing.matching import matching_ids
from foreshard.client.writing.write_errors import LEFT, REFUSED_BY_VALIDATOR, one_line
from foreshard.errors import AmbiguousWrite, KeyInTransit, Unreachable


class BulkWrite:
    """One bulk operation. ``run`` returns the result, or raises pymongo's ``BulkWriteError`` with the results so far."""

    def __init__(
        self, writer: FencedWriter, operation: str, *, ordered: bool, options: Mapping[str, Any] | None = None
    ) -> None:
        self._writer, self._operation, self._ordered = writer, operation, ordered
        self._options = dict(options or {})
        self._routes: dict[str, Route] = {}
        self._outcome = BulkOutcome()
        self._unreachable: Unreachable | None = None
        self._unreachable_partitions: set[str] = set()
        self._renewed: set[str] = set()
        self._together = True

    async def run(self, items: Sequence[BulkItem]) -> dict[str, Any]:
        """Write all items. Raise ``BulkWriteError``, :class:`AmbiguousWrite` or :class:`Unreachable`."""
        self._routes = await self._ask([item.key for item in items], fresh=False)
        pending = list(items)
        wait = Wait(self._writer, items[0].key) if items else None
        while pending and wait is not None:
            before = self._outcome.confirmed
            pending, waiting = await self._round(pending)
            if self._outcome.confirmed > before:
                wait = Wait(self._writer, pending[0].key) if pending else wait
            if waiting and not await self._move_on(waiting, wait):
                self._refuse_all(waiting, wait)
                break
        if (
            self._unreachable
            and not self._outcome.confirmed
            and all(e["code"] == HOST_UNREACHABLE for e in self._outcome.errors)
        ):
            raise self._unreachable  # nothing was written
        result = self._outcome.as_result()
        if self._outcome.errors or self._outcome.concerns:
            raise BulkWriteError(result)
        return result

    async def _ask(self, keys: Sequence[str], *, fresh: bool) -> dict[str, Route]:
        return await self._writer.router.routes(tuple(dict.fromkeys(keys)), Operation.WRITE, fresh=fresh)

    async def _round(self, pending: list[BulkItem]) -> tuple[list[BulkItem], list[BulkItem]]:
        """Send what can be sent. Return the items left, and those of them that a fence or an unreachable partition delays."""
        self._unreachable_partitions.clear()
        return await self._ordered_round(pending) if self._ordered else await self._unordered_round(pending)

    async def _ordered_round(self, pending: list[BulkItem]) -> tuple[list[BulkItem], list[BulkItem]]:
        chunk = pending[:MOST_TOGETHER]
        if self._together and is_worthwhile(chunk, self._routes):
            if await self._sent_together(chunk, pending[len(chunk) :]):
                return pending[len(chunk) :], []
            self._together = False
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
        self._outcome.refuse(run[at], error)
        return [], []

    async def _unordered_round(self, pending: list[BulkItem]) -> tuple[list[BulkItem], list[BulkItem]]:
        ready: list[BulkItem] = []
        waiting: list[BulkItem] = []
        for item in await self._after_updates_of_many(pending):
            smaller = await self._per_document(item) if item.kind is BulkKind.UPDATE_MANY else [item]
            ready += smaller or []
            waiting += [item] if smaller is None else []
        by_partition = [
            list(runs) for _, runs in groupby(runs_of(ready, self._routes), lambda run: self._routes[run[0].key].partition)
        ]
        waves = [[run for run in wave if run] for wave in zip_longest(*by_partition, fillvalue=[])]
        for number, wave in enumerate(waves):
            later = [item for after in waves[number + 1 :] for run in after for item in run]
            for run, failures in zip(wave, await self._send_wave(wave, later), strict=True):
                for at, error in failures:
                    if await self._retry(run[at], error):
                        waiting.append(run[at])
                    else:
                        self._outcome.refuse(run[at], error)
        return waiting, waiting

    async def _after_updates_of_many(self, pending: list[BulkItem]) -> list[BulkItem]:
        """Send the updates of many documents together, once. Return the requests that are left."""
        many = [item for item in pending if item.kind is BulkKind.UPDATE_MANY]
        others = [item for item in pending if item.kind is not BulkKind.UPDATE_MANY]
        if not many or not self._together:
            return pending
        self._together = False
        return others if await self._sent_together(many, others) else pending

    async def _send_wave(
        self, wave: Sequence[list[BulkItem]], later: Sequence[BulkItem]
    ) -> list[list[tuple[int, dict[str, Any]]]]:
        """Send one run to each of several partitions at once. Raise :class:`AmbiguousWrite` if answers were lost."""

        async def send(run: list[BulkItem]) -> list[tuple[int, dict[str, Any]]] | AmbiguousWrite:
            try:
                return await self._send(run, later)
            except AmbiguousWrite as lost:
                return lost

        done = await self._writer.router.mode.together([send(run) for run in wave])
        lost = [one for one in done if isinstance(one, AmbiguousWrite)]
        if lost:
            raise self._ambiguous(lost, later) from lost[0].__cause__
        return [one for one in done if not isinstance(one, AmbiguousWrite)]

    def _ambiguous(self, lost: Sequence[AmbiguousWrite], later: Sequence[BulkItem]) -> AmbiguousWrite:
        """Return one error for the runs whose answers were lost, once the others are done."""
        return WriteInDoubt(
            self._writer.sharded.namespace,
            self._operation,
            tuple(dict.fromkeys(key for one in lost for key in one.keys)),
            ", ".join(one.partition_id for one in lost),
            lost[0].cause,
            confirmed=self._outcome.confirmed,
            in_doubt=[index for one in lost for index in one.in_doubt],
            not_attempted=[item.index for item in later],
        )

    async def _sent_together(self, chunk: Sequence[BulkItem], later: Sequence[BulkItem]) -> bool:
        """Send requests in one transaction per partition. Return False if nothing was applied."""
        if any(item.kind is not BulkKind.INSERT for item in chunk) and await self._has_left(chunk):
            self._routes |= await self._ask([item.key for item in chunk], fresh=True)
        parts = parts_of(chunk, self._routes)
        if not await send_together(self._writer, parts, self._options):
            return False
        for part in parts:
            if part.error is None and part.raw is not None:
                self._outcome.add(part.raw, part.items)
        failed = [part for part in parts if part.error is not None]
        if failed:
            raise self._ambiguous([part.lost(self._writer.sharded.namespace, self._operation) for part in failed], later)
        return True

    async def _send(self, run: list[BulkItem], later: Sequence[BulkItem]) -> list[tuple[int, dict[str, Any]]]:
        """Send one run. Return (position in the run, server error) for each request that was not applied."""
        route = self._routes[run[0].key]
        if route.partition in self._unreachable_partitions:
            return not_sent(run)
        if run[0].kind is not BulkKind.INSERT and await self._has_left(run):
            return [(at, {"code": REFUSED_BY_VALIDATOR, "errInfo": LEFT}) for at in range(len(run))]
        try:
            await self._writer.doubts.check_collation(route.uri)
            keys = {item.key for item in run}
            if run[0].kind is BulkKind.DELETE:
                writer, add, noting = self._writer, self._outcome.add, partial(self._writer.noting, route)
                return await BulkDeletes(writer.deletes, route.uri, add, self._ordered, self._options, noting).send(run)
            requests = [item.request for item in run]
            done = await self._writer.timed(
                route, keys, lambda collection: collection.bulk_write(requests, ordered=self._ordered, **self._options)
            )
        except BulkWriteError as error:
            details: Mapping[str, Any] = error.details
            self._outcome.add(details, run)
            return [(entry["index"], entry) for entry in details.get("writeErrors", ())]
        except PyMongoError as error:
            return self._not_answered(error, run, later, route)
        self._outcome.add(done.bulk_api_result, run)
        return []

    async def _has_left(self, run: Sequence[BulkItem]) -> bool:
        """Whether a run must be routed again, since the table was old and a key has left its partition."""
        keys = {item.key for item in run} - self._renewed
        routes = [self._routes[key] for key in sorted(keys)]
        if not await self._writer.doubts.check_writes(self._operation, routes):
            return False
        self._renewed |= keys
        return True

    def _not_answered(
        self, error: PyMongoError, run: list[BulkItem], later: Sequence[BulkItem], route: Route
    ) -> list[tuple[int, dict[str, Any]]]:
        reported = self._writer.lost(error, self._operation, run[0].key, route)
        if isinstance(reported, Unreachable) and fits_one_message(run, self._writer.collection(route).codec_options):
            self._mark_unreachable(route)
            return not_sent(run)
        if not isinstance(reported, AmbiguousWrite | Unreachable):
            raise error
        raise WriteInDoubt(
            self._writer.sharded.namespace,
            self._operation,
            tuple(dict.fromkeys(item.key for item in run)),
            route.partition,
            one_line(error),
            confirmed=self._outcome.confirmed,
            in_doubt=[item.index for item in run],
            not_attempted=[item.index for item in later],
        ) from error

    def _mark_unreachable(self, route: Route) -> None:
        self._unreachable_partitions.add(route.partition)
        self._writer.router.avoid(route.partition)

    async def _retry(self, item: BulkItem, error: Mapping[str, Any]) -> bool:
        """Whether a request may be sent again: a fence refused it, or its partition was not found."""
        if error.get("code") == HOST_UNREACHABLE:
            return True
        return error.get("code") == REFUSED_BY_VALIDATOR and await self._writer.is_fence(
            error, self._routes[item.key], item.key
        )

    async def _move_on(self, waiting: Sequence[BulkItem], wait: Wait) -> bool:
        """Ask for the routes of the delayed keys, and pause if none has moved. Return False after the deadline."""
        if self._unreachable_partitions and wait.overdue():
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

    def _refuse_all(self, waiting: Sequence[BulkItem], wait: Wait) -> None:
        for item in waiting:
            route = self._routes[item.key]
            if route.partition in self._unreachable_partitions:
                self._unreachable = self._writer.unreachable(route)
                self._outcome.refuse(item, {"code": HOST_UNREACHABLE, "errmsg": f"not sent: {self._unreachable}"})
                continue
            reported = WriteFenced(self._writer.sharded.namespace, item.key, route.partition, wait.waited())
            self._outcome.refuse(item, {"code": REFUSED_BY_VALIDATOR, "errmsg": str(reported)})

    async def _per_document(self, item: BulkItem) -> list[BulkItem] | None:
        """Split an ``UpdateMany`` into one request per matching document. An upsert without a match stays one request.

        None if the partition did not answer.
        """
        every: Any = item.request
        if await self._has_left([item]):
            self._routes |= await self._ask([item.key], fresh=True)
        route = self._routes[item.key]
        try:
            ids = await matching_ids(self._writer.collection(route), every, self._options.get("let"))
        except ConnectionFailure:
            self._mark_unreachable(route)
            return None
        return single_updates(item, ids)
