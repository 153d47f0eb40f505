"""Runs aggregations on one partition, or split over several.

Stages that look at one document at a time run on the partitions. The first stage that looks across documents, and all later
stages, run once over the documents that the partitions return, on a real server (``$documents``), so that they mean exactly
what MongoDB defines. If possible, that first stage also runs on the partitions, to return less: ``$sort``, ``$limit``,
``$count``, and ``$group`` with sums, counts, extremes and means.
"""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from bson.raw_bson import RawBSONDocument

from foreshard.client._driving import resolved
from foreshard.client._keys import keys_of_filter
from foreshard.client._merging import SLOW_SECONDS, Merged, Stream
from foreshard.client._reads import PartitionRead, Reader, ReadPlan
from foreshard.client._results import Opened
from foreshard.client._watching import watch
from foreshard.client.routing.routes import ReadPreference
from foreshard.errors import UnroutableOperation
from foreshard.model import ShardedCollection

Stage = Mapping[str, Any]

PER_DOCUMENT = frozenset(
    {"$match", "$project", "$addFields", "$set", "$unset", "$unwind", "$replaceRoot", "$replaceWith", "$redact"}
)
WRITING = frozenset({"$out", "$merge"})
BOUND_TO_ONE_SERVER = frozenset(
    {
        "$lookup", "$graphLookup", "$unionWith", "$geoNear", "$collStats", "$indexStats", "$changeStream", "$currentOp",
        "$search", "$searchMeta", "$vectorSearch", "$listSessions", "$planCacheStats", "$documents", "$sample",
    }
)  # fmt: skip
"""Stages that read more than their input documents, or that report on one server."""


@dataclass(frozen=True)
class Split:
    """``partition`` runs on each partition, ``merge`` over the returned documents (empty: they are concatenated)."""

    partition: tuple[Stage, ...]
    merge: tuple[Stage, ...]


def name_of(stage: Stage) -> str:
    """The stage's operator."""
    return next(iter(stage), "")


def obstacle(pipeline: Sequence[Stage], *, several: bool) -> str | None:
    """Return the first stage that can't run: one that writes or, over ``several`` partitions, one bound to a single server."""
    forbidden = WRITING | BOUND_TO_ONE_SERVER if several else WRITING
    for stage in pipeline:
        name = name_of(stage)
        if name in forbidden:
            return name
        if name == "$facet":
            inner = (obstacle(branch, several=several) for branch in stage[name].values())
            if found := next((name for name in inner if name), None):
                return found
    return None


def keys_of_pipeline(pipeline: Sequence[Stage], sharded: ShardedCollection) -> tuple[str, ...] | None:
    """The keys that the leading ``$match`` stages allow; None if they don't limit keys."""
    clauses = []
    for stage in pipeline:
        if name_of(stage) != "$match":
            break
        clauses.append(stage["$match"])
    return keys_of_filter({"$and": clauses}, sharded) if clauses else None


def split(pipeline: Sequence[Stage]) -> Split:
    """Decide where each stage runs."""
    at = next((i for i, stage in enumerate(pipeline) if name_of(stage) not in PER_DOCUMENT), len(pipeline))
    before, after = tuple(pipeline[:at]), tuple(pipeline[at:])
    if not after:
        return Split(before, ())
    name = name_of(after[0])
    if name == "$count":
        return _split_count(before, after)
    if name == "$group" and (halves := split_group(after[0]["$group"])):
        return Split((*before, halves[0]), (*halves[1], *after[1:]))
    return Split((*before, *_ahead(after)), after)


def split_group(group: Mapping[str, Any]) -> tuple[Stage, tuple[Stage, ...]] | None:
    """Return the partitions' ``$group`` and the stages that merge it; None if an accumulator can't be split."""
    part: dict[str, Any] = {"_id": group["_id"]}
    whole: dict[str, Any] = {"_id": "$_id"}
    means: dict[str, Any] = {}
    for field, accumulator in group.items():
        if field == "_id":
            continue
        name = name_of(accumulator)
        if name == "$count":
            part[field], whole[field] = {"$sum": 1}, {"$sum": f"${field}"}
        elif name in {"$sum", "$min", "$max"}:
            part[field], whole[field] = accumulator, {name: f"${field}"}
        elif name == "$avg":
            total, number = f"{field}__total", f"{field}__number"
            value = accumulator["$avg"]
            part[total], part[number] = {"$sum": value}, {"$sum": {"$cond": [{"$isNumber": [value]}, 1, 0]}}
            whole[total], whole[number] = {"$sum": f"${total}"}, {"$sum": f"${number}"}
            means[field] = {"$cond": [{"$eq": [f"${number}", 0]}, None, {"$divide": [f"${total}", f"${number}"]}]}
        else:
            return None
    merge: list[Stage] = [{"$group": whole}]
    if means:
        helpers = [name for name in whole if name.endswith(("__total", "__number")) and name not in group]
        merge += [{"$set": means}, {"$unset": helpers}]
    return {"$group": part}, tuple(merge)


def _split_count(before: tuple[Stage, ...], after: tuple[Stage, ...]) -> Split:
    field = after[0]["$count"]
    total: tuple[Stage, ...] = ({"$group": {"_id": None, field: {"$sum": f"${field}"}}}, {"$unset": "_id"})
    return Split((*before, after[0]), (*total, *after[1:]))


def _ahead(after: Sequence[Stage]) -> tuple[Stage, ...]:
    """The part of a leading ``$sort``, ``$skip`` and ``$limit`` that each partition can run too, to return less."""
    stages = list(after)
    sort: tuple[Stage, ...] = ()
    if name_of(stages[0]) == "$sort":
        sort = (stages.pop(0),)
    skip = 0
    while stages and name_of(stages[0]) == "$skip":
        skip += stages.pop(0)["$skip"]
    if stages and name_of(stages[0]) == "$limit":
        return (*sort, {"$limit": skip + stages[0]["$limit"]})
    return ()


LARGEST_MERGE_BYTES = 15_000_000
"""The size limit of one command, less some room for the pipeline."""


class Aggregate:
    """One aggregation."""

    def __init__(
        self, reader: Reader, pipeline: Sequence[Stage], preference: ReadPreference, options: Mapping[str, Any]
    ) -> None:
        self._reader, self._pipeline, self._preference, self._options = reader, list(pipeline), preference, dict(options)

    async def run(self) -> Opened:
        """Open the read and fetch its first documents."""
        self._check(several=False)
        keys = None if self._options.get("collation") else keys_of_pipeline(self._pipeline, self._reader.sharded)
        _, opened = await self._reader.run(lambda: self._reader.plan(keys, self._first_match(), self._preference), self._read)
        return opened

    def _first_match(self) -> Mapping[str, Any]:
        first = self._pipeline[0] if self._pipeline else {}
        match: Mapping[str, Any] = first.get("$match", {})
        return match

    async def _read(self, plan: ReadPlan) -> Opened:
        if len(plan.parts) == 1:
            (part,) = plan.parts
            cursor = await self._open(part, self._narrowed(part, self._pipeline))
            stream = await Stream(cursor, watch(self._reader, part)).start()
            return Opened(self._reader, plan, stream, [cursor])
        self._check(several=True)
        halves = split(self._pipeline)
        raw = bool(halves.merge)
        cursors = await self._reader.router.mode.together(
            [self._open(part, self._narrowed(part, halves.partition), raw=raw) for part in plan.parts]
        )
        watched = zip(cursors, plan.parts, strict=True)
        together = Merged([Stream(cursor, watch(self._reader, part)) for cursor, part in watched], (), 0, 0)
        return await self._merged(plan, halves, together) if halves.merge else Opened(self._reader, plan, together, cursors)

    async def _open(self, part: PartitionRead, pipeline: Sequence[Stage], *, raw: bool = False) -> Any:
        collection = self._reader.collection(part)
        if raw:
            collection = collection.with_options(
                codec_options=collection.codec_options.with_options(document_class=RawBSONDocument)
            )
        begun = time.monotonic()
        opened = await resolved(collection.aggregate(list(pipeline), **self._options))
        check = watch(self._reader, part) if time.monotonic() - begun > SLOW_SECONDS else None
        if check is not None:
            await check()
        return opened

    def _narrowed(self, part: PartitionRead, pipeline: Sequence[Stage]) -> list[Stage]:
        """The pipeline, limited to the part's keys. A leading ``$match`` stays first, as ``$text`` requires."""
        if part.keys is None:
            return list(pipeline)
        if pipeline and name_of(pipeline[0]) == "$match":
            return [{"$match": self._reader.filter_for(part, pipeline[0]["$match"])}, *pipeline[1:]]
        return [{"$match": self._reader.filter_for(part, {})}, *pipeline]

    async def _merged(self, plan: ReadPlan, halves: Split, documents: Merged) -> Opened:
        collected: list[Any] = []
        size = 0
        while (document := await documents.next()) is not None:
            size += len(document.raw)  # type: ignore[attr-defined]  # a RawBSONDocument
            if size > LARGEST_MERGE_BYTES:
                problem = f"the partitions returned more than {LARGEST_MERGE_BYTES // 10**6} MB to merge"
                raise self._refuse(problem, "narrow it: $match keys, or $project and $group first")
            collected.append(document)
        uri = plan.parts[0].uri if plan.parts else (await self._reader.router.partitions())[0].uri
        options = {name: value for name, value in self._options.items() if name != "hint"}
        database = self._reader.connections.client(uri)[self._reader.sharded.database]
        stages = [{"$documents": {"$literal": collected}}, *halves.merge]
        cursor = await resolved(database.aggregate(stages, **options))
        return Opened(self._reader, plan, Stream(cursor), [cursor])

    def _check(self, *, several: bool) -> None:
        found = obstacle(self._pipeline, several=several)
        if found is None:
            return
        if found in BOUND_TO_ONE_SERVER:
            raise self._refuse(f"{found} can't run over several partitions", "let the first $match name one key")
        raise self._refuse(f"{found} bypasses the routing", "read the result and write it with insert_many or bulk_write")

    def _refuse(self, problem: str, remedy: str) -> UnroutableOperation:
        return UnroutableOperation(self._reader.sharded.namespace, "aggregate", problem, remedy)
