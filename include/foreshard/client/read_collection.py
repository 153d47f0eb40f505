"""The reading verbs of a routed collection."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, TypeVar

from foreshard.client.aggregate import Aggregate
from foreshard.client.bson_order import rank_of
from foreshard.client.cursor import Find, RoutedCursor, sort_keys
from foreshard.client.merging import Document, part_limit
from foreshard.client.reads import Reader, ReadPlan
from foreshard.client.records import Recorder, Request
from foreshard.errors import UnroutableOperation
from foreshard.model import ShardedCollection

Filter = Mapping[str, Any]
Call = str | Request | None
Result = TypeVar("Result")

READ, SCAN = "read", "scan"


class RoutedReads:
    """Reads of one sharded collection: by key where the filter names keys, else over every partition."""

    def __init__(self, sharded: ShardedCollection, reader: Reader, recorder: Recorder) -> None:
        self._sharded, self._reader, self._recorder = sharded, reader, recorder

    @property
    def name(self) -> str:
        """The collection's name."""
        return self._sharded.collection

    def find(
        self,
        filter: Filter | None = None,
        projection: Mapping[str, Any] | Sequence[str] | None = None,
        skip: int = 0,
        limit: int = 0,
        sort: Any = None,
        *,
        request: Call = None,
        **options: Any,
    ) -> RoutedCursor:
        """The matching documents, as a cursor that may be sorted, limited and skipped before its first document is read."""
        self._check_options("find", options)
        said, started = self._recorder.current(request), self._recorder.start()
        find = Find(dict(filter or {}), projection, skip, abs(limit), sort_keys(sort), options)
        return RoutedCursor(self._reader, find, said.location, lambda plan: self._record_read(said, plan, started))

    def find_one(self, filter: Filter | None = None, *args: Any, **options: Any) -> Document | None:
        """The first matching document, or None. A filter that is no mapping is an ``_id``, as in pymongo."""
        if filter is not None and not isinstance(filter, Mapping):
            filter = {"_id": filter}
        with self.find(filter, *args, **options).limit(1) as found:
            return next(found, None)

    def count_documents(self, filter: Filter, *, request: Call = None, **options: Any) -> int:
        """How many documents match."""
        self._check_options("count_documents", options)
        skip, limit = int(options.pop("skip", 0)), int(options.pop("limit", 0))
        if limit:
            options["limit"] = part_limit(skip, limit)

        def count(plan: ReadPlan) -> int:
            total = sum(
                self._reader.collection(part).count_documents(self._reader.filter_for(part, filter), **options)
                for part in plan.parts
            )
            left = max(0, total - skip)
            return min(left, limit) if limit else left

        return self._read(filter, request, count, options.get("collation"))

    def distinct(self, key: str, filter: Filter | None = None, *, request: Call = None, **options: Any) -> list[Any]:
        """The distinct values of a field, in MongoDB's order of values."""
        self._check_options("distinct", options)

        def values(plan: ReadPlan) -> list[Any]:
            found: dict[Any, Any] = {}
            for part in plan.parts:
                narrow = self._reader.filter_for(part, filter or {})
                found.update(
                    (rank_of(value), value) for value in self._reader.collection(part).distinct(key, narrow, **options)
                )
            return [found[rank] for rank in sorted(found)]

        return self._read(filter or {}, request, values, options.get("collation"))

    def aggregate(self, pipeline: Sequence[Mapping[str, Any]], *, request: Call = None, **options: Any) -> Iterator[Document]:
        """Run a pipeline: whole on one partition where its first ``$match`` names keys of one, else on all and then as one."""
        self._check_options("aggregate", options)
        said, started = self._recorder.current(request), self._recorder.start()
        plan, documents = Aggregate(self._reader, pipeline, said.location, options).run()
        self._record_read(said, plan, started)
        return documents

    def _read(self, filter: Filter, request: Call, read: Callable[[ReadPlan], Result], collation: Any) -> Result:
        said, started = self._recorder.current(request), self._recorder.start()
        plan, result = self._reader.run(lambda: self._reader.plan(filter, said.location, collation), read)
        self._record_read(said, plan, started)
        return result

    def _record_read(self, said: Request, plan: ReadPlan, started: float) -> None:
        self._recorder.record(said, plan.keys, SCAN if plan.scattered else READ, started)

    def _check_options(self, operation: str, options: Mapping[str, Any]) -> None:
        if options.get("session") is not None:
            problem = "a session belongs to one replica set, and a key may move to another"
            raise UnroutableOperation(self._sharded.namespace, operation, problem, "leave session= out")
        if options.get("bypass_document_validation"):
            problem = "bypass_document_validation would pass the fence of a key that is being moved"
            raise UnroutableOperation(self._sharded.namespace, operation, problem, "leave it out")
