"""The synchronous routed collection. Every verb runs the asynchronous collection's code over pymongo's synchronous driver."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from pymongo import CursorType, IndexModel
from pymongo.errors import ConnectionFailure
from pymongo.results import BulkWriteResult, DeleteResult, InsertManyResult, InsertOneResult, UpdateResult

from foreshard.client._collection import AsyncRoutedCollection
from foreshard.client._cursor import RoutedCursor, cursor_options, sort_keys
from foreshard.client._driving import run
from foreshard.client._find import Find
from foreshard.client._read_collection import READ, Call
from foreshard.client._results import SyncResults
from foreshard.client._types import Document, Filter, Projection, Update
from foreshard.client.bulk.requests import WriteRequest
from foreshard.client.streams.change_stream import RoutedChangeStream
from foreshard.model.key_space import KeyType
from foreshard.stores.bson_codec import TEXTS

if TYPE_CHECKING:
    from bson.codec_options import CodecOptions
    from pymongo.read_concern import ReadConcern
    from pymongo.read_preferences import _ServerMode
    from pymongo.write_concern import WriteConcern


class RoutedCollection:
    """One sharded collection with pymongo's verbs, arguments and results.

    ``request=`` is a request type or a :class:`foreshard.client.RequestScope` for the access record. For what is refused, see
    :class:`foreshard.client._collection.AsyncRoutedCollection`.
    """

    def __init__(self, core: AsyncRoutedCollection) -> None:
        self._core = core
        self._reader, self._recorder, self._key_field = core.reader, core.recorder, core.reader.sharded.key_field
        key_type = core.reader.sharded.key_type
        self._text = None if key_type is KeyType.STRING else TEXTS[key_type]

    @property
    def name(self) -> str:
        """The collection's name."""
        return self._core.name

    @property
    def database(self) -> Any:
        """The client's database with this collection, a :class:`foreshard.client._database.RoutedDatabase`."""
        return self._core.database

    @property
    def full_name(self) -> str:
        """The names of the database and the collection."""
        return self._core.full_name

    @property
    def write_concern(self) -> WriteConcern:
        """The write concern of its writes."""
        return self._core.write_concern

    @property
    def read_concern(self) -> ReadConcern:
        """The read concern of its reads."""
        return self._core.read_concern

    @property
    def codec_options(self) -> CodecOptions[Any]:
        """How documents are read and written."""
        return self._core.codec_options

    def with_options(
        self,
        codec_options: CodecOptions[Any] | None = None,
        read_preference: _ServerMode | None = None,
        write_concern: WriteConcern | None = None,
        read_concern: ReadConcern | None = None,
    ) -> RoutedCollection:
        """Return the same collection with other options; see ``checked_choices`` for the refused ones."""
        return RoutedCollection(self._core.with_options(codec_options, read_preference, write_concern, read_concern))

    # reads

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
    ) -> RoutedCursor:
        """Return a cursor over the matching documents.

        It can be sorted, limited and skipped before its first document is read.
        """
        options |= cursor_options(no_cursor_timeout, cursor_type)
        find = Find(dict(filter or {}), projection, skip, abs(limit), sort_keys(sort), options)
        cursor = self._core.cursor(RoutedCursor, find, request)
        cursor.collection = self
        return cursor

    def find_one(
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
        if request is None and not options and type(filter) is dict and len(filter) == 1:
            key = filter.get(self._key_field)
            if self._text is not None:
                key = self._text(key)
            if type(key) is str and key:
                return self._find_one_of(key, filter, projection, skip, sort)
        return run(self._core.find_one(filter, projection, skip, sort=sort, request=request, **options))

    def _find_one_of(self, key: str, filter: Filter, projection: Projection, skip: int, sort: Any) -> Document | None:
        """``find_one`` of one key, the most frequent read, in as few steps as possible.

        If the partition does not answer, the core repeats it, with other copies.
        """
        recorder = self._recorder
        scope, started = recorder.current(), recorder.start()
        collection = self._reader.known_collection(key, scope.preference)
        if collection is not None:
            try:
                document = collection.find_one(filter, projection, skip=skip, sort=sort)
            except ConnectionFailure:
                pass
            else:
                recorder.record(scope, (key,), READ, started)
                return document
        return run(self._core.find_one(filter, projection, skip, sort=sort))

    def count_documents(self, filter: Filter, *, request: Call = None, **options: Any) -> int:
        """Return the number of matching documents."""
        return run(self._core.count_documents(filter, request=request, **options))

    def estimated_document_count(self, *, request: Call = None, **options: Any) -> int:
        """Return the exact number of documents. The servers' own estimates would include shadows and half-moved keys."""
        return run(self._core.estimated_document_count(request=request, **options))

    def distinct(self, key: str, filter: Filter | None = None, *, request: Call = None, **options: Any) -> list[Any]:
        """Return the distinct values of a field, in MongoDB's sort order."""
        return run(self._core.distinct(key, filter, request=request, **options))

    def aggregate(self, pipeline: Sequence[Mapping[str, Any]], *, request: Call = None, **options: Any) -> SyncResults:
        """Run a pipeline: on one partition if its first ``$match`` names only keys of that one, otherwise on all, merged."""
        return run(self._core.aggregated(SyncResults, pipeline, request, **options))

    def watch(
        self, pipeline: Sequence[Mapping[str, Any]] | None = None, full_document: str | None = None, **options: Any
    ) -> RoutedChangeStream:
        """Watch the changes on all partitions; see :mod:`foreshard.client.streams.change_stream`."""
        options["full_document"] = full_document
        return run(RoutedChangeStream(self._core.reader, pipeline, options).opened())

    # indexes

    def create_index(self, keys: Any, **options: Any) -> str:
        """Create an index on every partition, and return its name."""
        return run(self._core.create_index(keys, **options))

    def create_indexes(self, indexes: Sequence[IndexModel], **options: Any) -> list[str]:
        """Create indexes on every partition, and return their names."""
        return run(self._core.create_indexes(indexes, **options))

    def drop_index(self, index_or_name: Any, **options: Any) -> None:
        """Drop an index on every partition."""
        run(self._core.drop_index(index_or_name, **options))

    def index_information(self) -> dict[str, Any]:
        """Return the indexes, which must be the same on every partition."""
        return run(self._core.index_information())

    # writes of one document

    def insert_one(self, document: Document, *, request: Call = None, **options: Any) -> InsertOneResult:
        """Insert a document. It gets an ``_id`` if it has none."""
        return run(self._core.insert_one(document, request=request, **options))

    def update_one(
        self, filter: Filter, update: Update, upsert: bool = False, *, request: Call = None, **options: Any
    ) -> UpdateResult:
        """Update the first matching document of one key."""
        return run(self._core.update_one(filter, update, upsert, request=request, **options))

    def replace_one(
        self,
        filter: Filter,
        replacement: Mapping[str, Any],
        upsert: bool = False,
        *,
        request: Call = None,
        **options: Any,
    ) -> UpdateResult:
        """Replace the first matching document of the replacement's key."""
        return run(self._core.replace_one(filter, replacement, upsert, request=request, **options))

    def delete_one(self, filter: Filter, *, request: Call = None, **options: Any) -> DeleteResult:
        """Delete the first matching document of one key."""
        return run(self._core.delete_one(filter, request=request, **options))

    def find_one_and_update(self, filter: Filter, update: Update, *, request: Call = None, **options: Any) -> Document | None:
        """Update one document and return it (before the update, unless ``return_document`` is set)."""
        return run(self._core.find_one_and_update(filter, update, request=request, **options))

    def find_one_and_replace(
        self, filter: Filter, replacement: Mapping[str, Any], *, request: Call = None, **options: Any
    ) -> Document | None:
        """Replace one document and return it."""
        return run(self._core.find_one_and_replace(filter, replacement, request=request, **options))

    def find_one_and_delete(self, filter: Filter, *, request: Call = None, **options: Any) -> Document | None:
        """Delete one document and return it."""
        return run(self._core.find_one_and_delete(filter, request=request, **options))

    # writes of many documents

    def insert_many(
        self, documents: Iterable[Document], ordered: bool = True, *, request: Call = None, **options: Any
    ) -> InsertManyResult:
        """Insert documents, each on the owner of its key."""
        return run(self._core.insert_many(documents, ordered, request=request, **options))

    def update_many(
        self, filter: Filter, update: Update, upsert: bool = False, *, request: Call = None, **options: Any
    ) -> UpdateResult:
        """Update the matching documents of the keys that the filter names."""
        return run(self._core.update_many(filter, update, upsert, request=request, **options))

    def delete_many(self, filter: Filter, *, request: Call = None, **options: Any) -> DeleteResult:
        """Delete the matching documents of the keys that the filter names."""
        return run(self._core.delete_many(filter, request=request, **options))

    def bulk_write(
        self, requests: Sequence[WriteRequest], ordered: bool = True, *, request: Call = None, **options: Any
    ) -> BulkWriteResult:
        """Run pymongo's write requests; see :mod:`foreshard.client.bulk.bulk_write` for the effect of fences."""
        return run(self._core.bulk_write(requests, ordered, request=request, **options))
