"""Runs aggregations on one partition, or split over several.

Stages that look at one document at a time run on the partitions. The first stage that looks across documents, and all later
stages, run once over the documents that the partitions return, on a real server (``$documents``), so that they mean exactly
what MongoDB defines. If possible, that first stage also runs on the partitions, to return less: ``$sort``, ``$limit``,
``$count``, and ``$group`` with sums, counts, extremes and means.
"""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from typing import Any

from bson.raw_bson import RawBSONDocument

from foreshard.client._driving import resolved
from foreshard.client._merging import SLOW_SECONDS, Merged, Stream
from foreshard.client._read_plans import PartitionRead, ReadPlan
from foreshard.client._reads import Reader, mixes_keys
from foreshard.client._results import Opened
from foreshard.client._watching import watch
from foreshard.client.aggregation.splitting import (
    BOUND_TO_ONE_SERVER,
    JOINING,
    Split,
    Stage,
    keys_of_pipeline,
    name_of,
    obstacle,
    page_of,
    split,
)
from foreshard.client.routing.pymongo_errors import OperationRefused
from foreshard.client.routing.routes import ReadPreference
from foreshard.errors import UnroutableOperation

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
        collation = self._options.get("collation")
        mixed = mixes_keys(collation, self._reader.sharded)
        keys = None if mixed else keys_of_pipeline(self._pipeline, self._reader.sharded)
        _, opened = await self._reader.run(
            lambda: self._reader.plan(keys, self._first_match(), self._preference, self._options), self._read
        )
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
        page = page_of(self._pipeline)
        if page is not None:
            cursors = await self._open_all(plan, page.partition, self._page_codec())
            merged = Merged(self._streams(plan, cursors), page.sort, page.skip, page.limit)
            return Opened(self._reader, plan, merged, cursors)
        halves = split(self._pipeline)
        cursors = await self._open_all(plan, halves.partition, {"document_class": RawBSONDocument})
        return await self._merged(plan, halves, Merged(self._streams(plan, cursors), (), 0, 0))

    def _streams(self, plan: ReadPlan, cursors: Sequence[Any]) -> list[Stream]:
        watched = zip(cursors, plan.parts, strict=True)
        return [Stream(cursor, watch(self._reader, part)) for cursor, part in watched]

    def _page_codec(self) -> dict[str, Any]:
        """A collation's sort keys are not valid UTF-8."""
        return {"unicode_decode_error_handler": "surrogateescape"} if self._options.get("collation") is not None else {}

    async def _open_all(self, plan: ReadPlan, pipeline: Sequence[Stage], codec: Mapping[str, Any]) -> list[Any]:
        openings = [self._open(part, self._narrowed(part, pipeline), codec) for part in plan.parts]
        return await self._reader.router.mode.together(openings)

    async def _open(self, part: PartitionRead, pipeline: Sequence[Stage], codec: Mapping[str, Any] | None = None) -> Any:
        collection = self._reader.collection(part)
        if codec:
            collection = collection.with_options(codec_options=collection.codec_options.with_options(**codec))
        begun = time.monotonic()
        opened = await resolved(collection.aggregate(list(pipeline), **self._options))
        check = watch(self._reader, part) if time.monotonic() - begun > SLOW_SECONDS else None
        if check is not None:
            await check()
        return opened

    def _narrowed(self, part: PartitionRead, pipeline: Sequence[Stage]) -> list[Stage]:
        """The pipeline, limited to the part's keys. A leading ``$match`` stays first, as ``$text`` requires."""
        if not part.is_limited:
            return list(pipeline)
        collation = self._options.get("collation")
        if pipeline and name_of(pipeline[0]) == "$match":
            return [{"$match": self._reader.filter_for(part, pipeline[0]["$match"], collation)}, *pipeline[1:]]
        return [{"$match": self._reader.filter_for(part, {}, collation)}, *pipeline]

    async def _merged(self, plan: ReadPlan, halves: Split, documents: Merged) -> Opened:
        collected: list[Any] = []
        size = 0
        while (document := await documents.next()) is not None:
            size += len(document.raw)  # type: ignore[attr-defined]  # a RawBSONDocument
            if size > LARGEST_MERGE_BYTES:
                problem = f"the partitions returned more than {LARGEST_MERGE_BYTES // 10**6} MB to merge"
                raise self._refuse(problem, "narrow it: $match keys, or $project and $group first")
            collected.append(document)
        options = {name: value for name, value in self._options.items() if name != "hint"}
        cursor = await over_documents(self._reader, plan, collected, halves.merge, options)
        return Opened(self._reader, plan, Stream(cursor), [cursor])

    def _check(self, *, several: bool) -> None:
        found = obstacle(self._pipeline, several=several)
        if found is None:
            return
        if found in JOINING:
            raise self._refuse(
                f"{found} would read one partition's part of a collection", "read both sides and join them in the app"
            )
        if found in BOUND_TO_ONE_SERVER:
            raise self._refuse(f"{found} can't run over several partitions", "let the first $match name one key")
        raise self._refuse(f"{found} bypasses the routing", "read the result and write it with insert_many or bulk_write")

    def _refuse(self, problem: str, remedy: str) -> UnroutableOperation:
        return OperationRefused(self._reader.sharded.namespace, "aggregate", problem, remedy)


async def over_documents(
    reader: Reader, plan: ReadPlan, documents: Sequence[Any], stages: Sequence[Stage], options: Mapping[str, Any]
) -> Any:
    """Run stages over documents on one of the partitions. Return the cursor."""
    uri = plan.parts[0].uri if plan.parts else (await reader.router.partitions())[0].uri
    database = reader.connections.client(uri)[reader.sharded.database]
    return await resolved(database.aggregate([{"$documents": {"$literal": list(documents)}}, *stages], **options))
