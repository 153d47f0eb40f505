"""The read verbs of a routed collection."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import replace
from functools import wraps
from typing import TYPE_CHECKING, Any, TypeVar, cast

from pymongo import CursorType, IndexModel

from foreshard.client._cursor import AsyncRoutedCursor, FindResults, cursor_options, sort_keys
from foreshard.client._driving import resolved
from foreshard.client._find import Find
from foreshard.client._indexes import PartitionIndexes
from foreshard.client._keys import key_of_document
from foreshard.client._merging import part_limit
from foreshard.client._read_plans import PartitionRead, ReadPlan
from foreshard.client._reads import Reader
from foreshard.client._records import Recorder, RequestScope
from foreshard.client._results import AsyncResults, LazyResults
from foreshard.client._types import Document, Filter, Projection, Result
from foreshard.client.aggregation.aggregate import Aggregate
from foreshard.client.aggregation.distinct import distinct_values
from foreshard.client.routing.pymongo_errors import OperationRefused
from foreshard.client.streams.change_stream import AsyncRoutedChangeStream
from foreshard.model import ShardedCollection

if TYPE_CHECKING:
    from bson.codec_options import CodecOptions
    from pymongo.read_concern import ReadConcern
    from pymongo.write_concern import WriteConcern

Call = str | RequestScope | None
CursorKind = TypeVar("CursorKind", bound=FindResults)
ResultsKind = TypeVar("ResultsKind", bound=LazyResults)

READ, SCAN = "read", "scan"
Verb = TypeVar("Verb", bound=Callable[..., Any])


def in_session(verb: Verb) -> Verb:
    """A verb that takes ``session=``: it is then run by the collection's view in that session."""

    @wraps(verb)
    def call(self: Any, *arguments: Any, **options: Any) -> Any:
        session = options.pop("session", None)
        if session is None:
            return verb(self, *arguments, **options)
        return getattr(view_in(self, session), verb.__name__)(*arguments, **options)

    return cast("Verb", call)


def view_in(collection: AsyncRoutedReads, session: Any) -> Any:
    """Return the collection's view in a session. Raise :class:`OperationRefused` for a session of pymongo's."""
    if not hasattr(session, "view_of"):
        problem = "a session of pymongo's belongs to one replica set"
        raise OperationRefused(collection.full_name, "session=", problem, "use start_session() of the routed client")
    return session.view_of(collection)


class AsyncRoutedReads:
    """Reads of one sharded collection: by key if the filter names keys, otherwise over all partitions."""

    def __init__(self, sharded: ShardedCollection, reader: Reader, recorder: Recorder) -> None:
        self._sharded, self.reader, self.recorder = sharded, reader, recorder
        self.database: Any = None
        """The client's database with this collection."""

    @property
    def name(self) -> str:
        """The collection's name."""
        return self._sharded.collection

    @property
    def full_name(self) -> str:
        """The names of the database and the collection."""
        return self._sharded.namespace

    @property
    def write_concern(self) -> WriteConcern:
        """The write concern of its writes."""
        found: WriteConcern = self.reader.connections.option("write_concern")
        return found

    @property
    def read_concern(self) -> ReadConcern:
        """The read concern of its reads."""
        found: ReadConcern = self.reader.connections.option("read_concern")
        return found

    @property
    def codec_options(self) -> CodecOptions[Any]:
        """How documents are read and written."""
        found: CodecOptions[Any] = self.reader.connections.option("codec_options")
        return found

    @in_session
    async def create_index(self, keys: Any, **options: Any) -> str:
        """Create an index on every partition, and return its name. A unique one must have the key field."""
        self._check_options("create_index", options)
        return await PartitionIndexes(self.reader).create(keys, options)

    async def create_indexes(self, indexes: Sequence[IndexModel], **options: Any) -> list[str]:
        """Create indexes on every partition, and return their names."""
        return await PartitionIndexes(self.reader).create_several(indexes, options)

    @in_session
    async def drop_index(self, index_or_name: Any, **options: Any) -> None:
        """Drop an index on every partition."""
        self._check_options("drop_index", options)
        await PartitionIndexes(self.reader).drop(index_or_name, options)

    async def index_information(self) -> dict[str, Any]:
        """Return the indexes, which must be the same on every partition."""
        return await PartitionIndexes(self.reader).information()

    def find(
        self,
        filter: Filter | None = None,
        projection: Projection = None,
        skip: int = 0,
        limit: int = 0,
        no_cursor_timeout: bool = False,
        cursor_type: int = CursorType.NON_TAILABLE,
        sort: Any = None,
        *,
        request: Call = None,
        **options: Any,
    ) -> AsyncRoutedCursor:
        """Return a cursor over the matching documents.

        It can be sorted, limited and skipped before its first document is read.
        """
        options |= cursor_options(no_cursor_timeout, cursor_type)
        find = Find(dict(filter or {}), projection, skip, abs(limit), sort_keys(sort), options)
        cursor = self.cursor(AsyncRoutedCursor, find, request)
        cursor.collection = self
        return cursor

    def cursor(self, kind: type[CursorKind], find: Find, request: Call) -> CursorKind:
        """Return a cursor of this kind. It is opened when its first document is read."""
        if find.options.get("session") is not None:
            rest = {name: value for name, value in find.options.items() if name != "session"}
            view: AsyncRoutedReads = view_in(self, find.options["session"])
            return view.cursor(kind, replace(find, options=rest), request)
        self._check_options("find", find.options)
        scope, started = self.recorder.current(request), self.recorder.start()

        def returned(document: Document) -> None:
            key = key_of_document(document, self._sharded)
            if key is not None:
                self.recorder.record(scope, (key,), SCAN, self.recorder.start())

        return kind(self.reader, find, scope.preference, lambda plan: self._record_read(scope, plan, started), returned)

    @in_session
    async def find_one(
        self,
        filter: Filter | Any = None,
        projection: Projection = None,
        skip: int = 0,
        *,
        sort: Any = None,
        request: Call = None,
        **options: Any,
    ) -> Document | None:
        """Return the first matching document, or None. A filter that is not a mapping is an ``_id``, as in pymongo."""
        if filter is not None and not isinstance(filter, Mapping):
            filter = {"_id": filter}
        keys = self.reader.keys_of(filter or {}, options.get("collation"))
        if keys is None or len(keys) != 1:
            find = Find(dict(filter or {}), projection, skip, 1, sort_keys(sort), options)
            async with self.cursor(AsyncRoutedCursor, find, request) as found:
                return await anext(found, None)
        if options:
            self._check_options("find_one", options)
        scope, started = self.recorder.current(request), self.recorder.start()
        document = await self.reader.one(
            keys[0],
            scope.preference,
            lambda collection: collection.find_one(filter, projection, skip=skip, sort=sort, **options),
        )
        self.recorder.record(scope, keys, READ, started)
        return document

    @in_session
    async def count_documents(self, filter: Filter, *, request: Call = None, **options: Any) -> int:
        """Return the number of matching documents."""
        self._check_options("count_documents", options)
        skip, limit = int(options.pop("skip", 0)), int(options.pop("limit", 0))
        if limit:
            options["limit"] = part_limit(skip, limit)

        async def count(plan: ReadPlan) -> int:
            async def one(part: PartitionRead) -> int:
                narrow = self.reader.filter_for(part, filter, options.get("collation"))
                return await resolved(self.reader.collection(part).count_documents(narrow, **options))

            total = sum(await self.reader.router.mode.together([one(part) for part in plan.parts]))
            left = max(0, total - skip)
            return min(left, limit) if limit else left

        return await self._read(filter, options, request, count)

    @in_session
    async def estimated_document_count(self, *, request: Call = None, **options: Any) -> int:
        """Return the exact number of documents. The servers' own estimates would include shadows and half-moved keys."""
        return await self.count_documents({}, request=request, **options)

    @in_session
    async def distinct(self, key: str, filter: Filter | None = None, *, request: Call = None, **options: Any) -> list[Any]:
        """Return the distinct values of a field, in MongoDB's sort order."""
        self._check_options("distinct", options)

        async def distinct(plan: ReadPlan) -> list[Any]:
            return await distinct_values(self.reader, plan, key, filter or {}, options)

        return await self._read(filter or {}, options, request, distinct)

    async def aggregate(self, pipeline: Sequence[Mapping[str, Any]], *, request: Call = None, **options: Any) -> AsyncResults:
        """Run a pipeline: on one partition if its first ``$match`` names only keys of that one, otherwise on all, merged."""
        return await self.aggregated(AsyncResults, pipeline, request, **options)

    @in_session
    async def aggregated(
        self, kind: type[ResultsKind], pipeline: Sequence[Mapping[str, Any]], request: Call, **options: Any
    ) -> ResultsKind:
        """Run a pipeline. Return results of this kind, already opened."""
        self._check_options("aggregate", options)
        scope, started = self.recorder.current(request), self.recorder.start()
        results = await kind(Aggregate(self.reader, pipeline, scope.preference, options).run).started()
        self._record_read(scope, results.plan, started)
        return results

    async def watch(
        self, pipeline: Sequence[Mapping[str, Any]] | None = None, full_document: str | None = None, **options: Any
    ) -> AsyncRoutedChangeStream:
        """Watch the changes on all partitions; see :mod:`foreshard.client.streams.change_stream`.

        ``pipeline``: ``$match`` stages. ``options`` of pymongo's ``watch``, without those of one replica set.
        """
        return await AsyncRoutedChangeStream(self.reader, pipeline, {**options, "full_document": full_document}).opened()

    async def _read(
        self,
        filter: Filter,
        options: Mapping[str, Any],
        request: Call,
        read: Callable[[ReadPlan], Awaitable[Result]],
    ) -> Result:
        keys = self.reader.keys_of(filter, options.get("collation"))
        scope, started = self.recorder.current(request), self.recorder.start()
        plan, result = await self.reader.run(lambda: self.reader.plan(keys, filter, scope.preference, options), read)
        self._record_read(scope, plan, started)
        return result

    def _record_read(self, scope: RequestScope, plan: ReadPlan, started: float) -> None:
        """Record the keys that a read names. One that names none is recorded by the documents that it returns."""
        self.recorder.record(scope, plan.keys, READ, started)

    def _check_options(self, operation: str, options: Mapping[str, Any]) -> None:
        if options.get("bypass_document_validation") or options.get("bypassDocumentValidation"):
            problem = "bypass_document_validation would bypass the fence of a key that is being moved"
            raise OperationRefused(self._sharded.namespace, operation, problem, "omit it")
