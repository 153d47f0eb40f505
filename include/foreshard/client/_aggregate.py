"""Runs an aggregation on one partition, or on several and then as one; the taking apart is
:mod:`foreshard.client._aggregation`'s."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from bson.raw_bson import RawBSONDocument

from foreshard.client._aggregation import BOUND_TO_ONE_SERVER, Split, Stage, keys_of_pipeline, name_of, obstacle, split
from foreshard.client._driving import settled
from foreshard.client._merging import Merged, Stream
from foreshard.client._reads import PartitionRead, Reader, ReadPlan
from foreshard.client._results import Opened
from foreshard.client._routes import ReadPreference
from foreshard.errors import UnroutableOperation

LARGEST_MERGE_BYTES = 15_000_000
"""What fits into one command, with room for the pipeline."""


class Aggregate:
    """One aggregation of an app."""

    def __init__(self, reader: Reader, pipeline: Sequence[Stage], wish: ReadPreference, options: Mapping[str, Any]) -> None:
        self._reader, self._pipeline, self._wish, self._options = reader, list(pipeline), wish, dict(options)

    async def run(self) -> Opened:
        """The read, opened: its first documents are fetched already."""
        self._check(several=False)
        keys = None if self._options.get("collation") else keys_of_pipeline(self._pipeline, self._reader.sharded.key_field)
        _, opened = await self._reader.run(lambda: self._reader.plan(keys, self._first_match(), self._wish), self._read)
        return opened

    def _first_match(self) -> Mapping[str, Any]:
        first = self._pipeline[0] if self._pipeline else {}
        match: Mapping[str, Any] = first.get("$match", {})
        return match

    async def _read(self, plan: ReadPlan) -> Opened:
        if len(plan.parts) == 1:
            (part,) = plan.parts
            cursor = await self._open(part, self._narrowed(part, self._pipeline))
            return Opened(self._reader, plan, await Stream(cursor).start(), [cursor])
        self._check(several=True)
        halves = split(self._pipeline)
        raw = bool(halves.merge)
        cursors = await self._reader.router.mode.together(
            [self._open(part, self._narrowed(part, halves.partition), raw=raw) for part in plan.parts]
        )
        if not halves.merge:
            together = Merged([await Stream(cursor).start() for cursor in cursors], (), 0, 0)
            return Opened(self._reader, plan, together, cursors)
        return await self._merged(plan, halves, Merged([Stream(cursor) for cursor in cursors], (), 0, 0))

    async def _open(self, part: PartitionRead, pipeline: Sequence[Stage], *, raw: bool = False) -> Any:
        collection = self._reader.collection(part)
        if raw:
            collection = collection.with_options(
                codec_options=collection.codec_options.with_options(document_class=RawBSONDocument)
            )
        return await settled(collection.aggregate(list(pipeline), **self._options))

    def _narrowed(self, part: PartitionRead, pipeline: Sequence[Stage]) -> list[Stage]:
        """The pipeline for the part's keys; their condition joins a leading ``$match``, which may have to stay first
        (``$text``)."""
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
        cursor = await settled(database.aggregate(stages, **options))
        return Opened(self._reader, plan, Stream(cursor), [cursor])

    def _check(self, *, several: bool) -> None:
        found = obstacle(self._pipeline, several=several)
        if found is None:
            return
        if found in BOUND_TO_ONE_SERVER:
            raise self._refuse(f"{found} can't run over several partitions", "let the first $match name one key")
        raise self._refuse(f"{found} writes past the routing", "read the result and write it with insert_many or bulk_write")

    def _refuse(self, problem: str, remedy: str) -> UnroutableOperation:
        return UnroutableOperation(self._reader.sharded.namespace, "aggregate", problem, remedy)
