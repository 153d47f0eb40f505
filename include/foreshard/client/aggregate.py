"""Runs an aggregation on one partition, or on several and then as one; the taking apart is
:mod:`foreshard.client.aggregation`'s."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from itertools import chain
from typing import Any

from bson.raw_bson import RawBSONDocument
from pymongo.errors import ConnectionFailure

from foreshard.client.aggregation import BOUND_TO_ONE_SERVER, Split, Stage, keys_of_pipeline, name_of, obstacle, split
from foreshard.client.merging import Document
from foreshard.client.reads import Part, Reader, ReadPlan
from foreshard.errors import UnroutableOperation

LARGEST_MERGE_BYTES = 15_000_000
"""What fits into one command, with room for the pipeline."""


class Aggregate:
    """One aggregation of an app."""

    def __init__(self, reader: Reader, pipeline: Sequence[Stage], location: str | None, options: Mapping[str, Any]) -> None:
        self._reader, self._pipeline, self._location, self._options = reader, list(pipeline), location, dict(options)

    def run(self) -> tuple[ReadPlan, Iterator[Document]]:
        """The plan and the documents; the first of them are fetched already."""
        self._check(several=False)
        keys = None if self._options.get("collation") else keys_of_pipeline(self._pipeline, self._reader.sharded.key_field)
        return self._reader.run(lambda: self._reader.plan_keys(keys, self._first_match(), self._location), self._read)

    def _first_match(self) -> Mapping[str, Any]:
        first = self._pipeline[0] if self._pipeline else {}
        match: Mapping[str, Any] = first.get("$match", {})
        return match

    def _read(self, plan: ReadPlan) -> Iterator[Document]:
        if len(plan.parts) == 1:
            (part,) = plan.parts
            return self._guarded(self._open(part, self._narrowed(part, self._pipeline)), plan)
        self._check(several=True)
        halves = split(self._pipeline)
        cursors = (self._open(part, self._narrowed(part, halves.partition), raw=bool(halves.merge)) for part in plan.parts)
        if not halves.merge:
            return self._guarded(chain.from_iterable(list(cursors)), plan)
        return self._merged(plan, halves, chain.from_iterable(cursors))

    def _open(self, part: Part, pipeline: Sequence[Stage], *, raw: bool = False) -> Iterator[Any]:
        collection = self._reader.collection(part)
        if raw:
            collection = collection.with_options(
                codec_options=collection.codec_options.with_options(document_class=RawBSONDocument)
            )
        cursor = collection.aggregate(list(pipeline), **self._options)
        found: Iterator[Any] = iter(cursor)
        return found

    def _narrowed(self, part: Part, pipeline: Sequence[Stage]) -> list[Stage]:
        """The pipeline for the part's keys; their condition joins a leading ``$match``, which may have to stay first
        (``$text``)."""
        if part.keys is None:
            return list(pipeline)
        if pipeline and name_of(pipeline[0]) == "$match":
            return [{"$match": self._reader.filter_for(part, pipeline[0]["$match"])}, *pipeline[1:]]
        return [{"$match": self._reader.filter_for(part, {})}, *pipeline]

    def _merged(self, plan: ReadPlan, halves: Split, documents: Iterator[Any]) -> Iterator[Document]:
        collected, size = [], 0
        for document in documents:
            size += len(document.raw)
            if size > LARGEST_MERGE_BYTES:
                problem = f"the partitions returned more than {LARGEST_MERGE_BYTES // 10**6} MB to merge"
                raise self._refuse(problem, "narrow it: $match keys, or $project and $group first")
            collected.append(document)
        place = plan.parts[0] if plan.parts else self._reader.router.partitions()[0]
        options = {name: value for name, value in self._options.items() if name != "hint"}
        database = self._reader.connections.client(place.uri)[self._reader.sharded.database]
        merged: Iterator[Document] = iter(
            database.aggregate([{"$documents": {"$literal": collected}}, *halves.merge], **options)
        )
        return self._guarded(merged, plan)

    def _guarded(self, documents: Iterator[Document], plan: ReadPlan) -> Iterator[Document]:
        try:
            yield from documents
        except ConnectionFailure as error:
            raise self._reader.failed(error, plan) from error

    def _check(self, *, several: bool) -> None:
        found = obstacle(self._pipeline, several=several)
        if found is None:
            return
        if found in BOUND_TO_ONE_SERVER:
            raise self._refuse(f"{found} can't run over several partitions", "let the first $match name one key")
        raise self._refuse(f"{found} writes past the routing", "read the result and write it with insert_many or bulk_write")

    def _refuse(self, problem: str, remedy: str) -> UnroutableOperation:
        return UnroutableOperation(self._reader.sharded.namespace, "aggregate", problem, remedy)
