"""A routed collection: pymongo's verbs, each sent to the owner of the documents' key.

This is the asynchronous collection, and the core of the synchronous one (:mod:`foreshard.client._sync_collection`), which runs
it without an event loop.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from bson import ObjectId
from pymongo import InsertOne, UpdateMany
from pymongo.errors import BulkWriteError
from pymongo.results import BulkWriteResult, DeleteResult, InsertManyResult, InsertOneResult, UpdateResult

from foreshard.client._by_id import keyed_by_id
from foreshard.client._cursor import AsyncRoutedCursor
from foreshard.client._fences import FencedWriter
from foreshard.client._find import Find
from foreshard.client._outcomes import as_write_error, deleted_none, found_none, matched_none
from foreshard.client._partition_clients import checked_choices
from foreshard.client._read_collection import AsyncRoutedReads, Call, in_session
from foreshard.client._reads import Reader
from foreshard.client._records import Recorder, RequestScope
from foreshard.client._types import Document, Filter, Result, Update
from foreshard.client.bulk.bulk_write import BulkWrite
from foreshard.client.bulk.by_id import with_keys
from foreshard.client.bulk.requests import BulkItem, BulkKind, KeyRule, WriteRequest
from foreshard.client.writing.delete_batches import AT_ONCE, batch
from foreshard.model import ShardedCollection

if TYPE_CHECKING:
    from bson.codec_options import CodecOptions
    from pymongo.collection import Collection
    from pymongo.read_concern import ReadConcern
    from pymongo.read_preferences import _ServerMode
    from pymongo.write_concern import WriteConcern

    from foreshard.client.writing.fenced_deletes import AttemptToDelete

    Attempt = Callable[[Collection[Document]], Result]

INSERT, UPDATE, DELETE = "insert", "update", "delete"


class AsyncRoutedCollection(AsyncRoutedReads):
    """One sharded collection. Every verb takes pymongo's arguments, and ``request=`` for the access record.

    Reads that name no key go to every partition; such writes are refused, unless an ``_id`` tells the key. Also refused:
    ``bypass_document_validation=True`` (it would bypass the fence).
    """

    def __init__(self, sharded: ShardedCollection, reader: Reader, writer: FencedWriter, recorder: Recorder) -> None:
        super().__init__(sharded, reader, recorder)
        self.writer = writer
        self._rule = KeyRule(sharded)

    def with_options(
        self,
        codec_options: CodecOptions[Any] | None = None,
        read_preference: _ServerMode | None = None,
        write_concern: WriteConcern | None = None,
        read_concern: ReadConcern | None = None,
    ) -> AsyncRoutedCollection:
        """Return the same collection with other options; see ``checked_choices`` for the refused ones."""
        given = checked_choices(self.full_name, codec_options, read_preference, write_concern, read_concern)
        clients = self.reader.connections.with_options(given)
        reader, writer = replace(self.reader, connections=clients, opened={}), replace(self.writer, connections=clients)
        made = AsyncRoutedCollection(self._sharded, reader, writer, self.recorder)
        made.database = self.database
        return made

    # writes of one document

    @in_session
    async def insert_one(self, document: Document, *, request: Call = None, **options: Any) -> InsertOneResult:
        """Insert a document. It gets an ``_id`` if it has none."""
        self._check_options("insert_one", options)
        key = self._rule.of_document("insert_one", document)
        document.setdefault("_id", ObjectId())
        return await self._write("insert_one", INSERT, key, lambda c: c.insert_one(document, **options), request, inserts=True)

    @in_session
    async def update_one(
        self, filter: Filter, update: Update, upsert: bool = False, *, request: Call = None, **options: Any
    ) -> UpdateResult:
        """Update the first matching document of one key."""
        keyed = await keyed_by_id(self, "update_one", filter, options, update if upsert else None)
        if keyed is None:
            return UpdateResult({"n": 0, "nModified": 0, "updatedExisting": False}, True)
        key = self._key_to_update("update_one", keyed, update, options)
        narrow = self._rule.limit(keyed, key)
        return await self._write(
            "update_one", UPDATE, key, lambda c: c.update_one(narrow, update, upsert, **options), request, matched_none
        )

    @in_session
    async def replace_one(
        self,
        filter: Filter,
        replacement: Mapping[str, Any],
        upsert: bool = False,
        *,
        request: Call = None,
        **options: Any,
    ) -> UpdateResult:
        """Replace the first matching document of the replacement's key."""
        self._check_options("replace_one", options)
        key = self._rule.of_replacement("replace_one", filter, replacement, {**options, "upsert": upsert})
        narrow = self._rule.limit(filter, key)
        done = await self._write(
            "replace_one", UPDATE, key, lambda c: c.replace_one(narrow, replacement, upsert, **options), request, matched_none
        )
        if done.matched_count == 0:
            await self._check_other_keys("replace_one", filter, options)
        return done

    @in_session
    async def delete_one(self, filter: Filter, *, request: Call = None, **options: Any) -> DeleteResult:
        """Delete the first matching document of one key."""
        self._check_options("delete_one", options)
        keyed = await keyed_by_id(self, "delete_one", filter, options)
        if keyed is None:
            return DeleteResult({"n": 0}, True)
        key = self._rule.of_filter("delete_one", keyed, options)
        narrow = self._rule.limit(keyed, key)
        return await self._delete(
            "delete_one", key, lambda c, session: c.delete_one(narrow, session=session, **options), request, deleted_none
        )

    @in_session
    async def find_one_and_update(
        self, filter: Filter, update: Update, *, request: Call = None, **options: Any
    ) -> Document | None:
        """Update one document and return it (before the update, unless ``return_document`` is set)."""
        keyed = await keyed_by_id(self, "find_one_and_update", filter, options, update if options.get("upsert") else None)
        if keyed is None:
            return None
        key = self._key_to_update("find_one_and_update", keyed, update, options)
        narrow = self._rule.limit(keyed, key)
        return await self._write(
            "find_one_and_update",
            UPDATE,
            key,
            lambda c: c.find_one_and_update(narrow, update, **options),
            request,
            found_none(options),
        )

    @in_session
    async def find_one_and_replace(
        self, filter: Filter, replacement: Mapping[str, Any], *, request: Call = None, **options: Any
    ) -> Document | None:
        """Replace one document and return it."""
        self._check_options("find_one_and_replace", options)
        key = self._rule.of_replacement("find_one_and_replace", filter, replacement, options)
        narrow = self._rule.limit(filter, key)
        done = await self._write(
            "find_one_and_replace",
            UPDATE,
            key,
            lambda c: c.find_one_and_replace(narrow, replacement, **options),
            request,
            found_none(options),
        )
        if done is None:
            await self._check_other_keys("find_one_and_replace", filter, options)
        return done

    @in_session
    async def find_one_and_delete(self, filter: Filter, *, request: Call = None, **options: Any) -> Document | None:
        """Delete one document and return it."""
        self._check_options("find_one_and_delete", options)
        keyed = await keyed_by_id(self, "find_one_and_delete", filter, options)
        if keyed is None:
            return None
        key = self._rule.of_filter("find_one_and_delete", keyed, options)
        narrow = self._rule.limit(keyed, key)
        return await self._delete(
            "find_one_and_delete",
            key,
            lambda c, session: c.find_one_and_delete(narrow, session=session, **options),
            request,
            lambda found: found is None,
        )

    # writes of many documents

    @in_session
    async def insert_many(
        self, documents: Iterable[Document], ordered: bool = True, *, request: Call = None, **options: Any
    ) -> InsertManyResult:
        """Insert documents, each on the owner of its key."""
        listed = list(documents)
        if not listed:
            raise TypeError("documents must be a non-empty list")
        await self._bulk("insert_many", [InsertOne(document) for document in listed], ordered, request, options)
        return InsertManyResult([document["_id"] for document in listed], True)

    @in_session
    async def update_many(
        self, filter: Filter, update: Update, upsert: bool = False, *, request: Call = None, **options: Any
    ) -> UpdateResult:
        """Update the matching documents of the keys that the filter names."""
        own = {name: options.pop(name) for name in ("array_filters", "hint", "collation") if name in options}
        try:
            raw = await self._bulk("update_many", [UpdateMany(filter, update, upsert, **own)], True, request, options)
        except BulkWriteError as error:
            raise as_write_error(error) from error
        upserted = raw["upserted"][0]["_id"] if raw["upserted"] else None
        known = {"n": raw["nMatched"] + raw["nUpserted"], "nModified": raw["nModified"]}
        return UpdateResult({**known, "upserted": upserted} if raw["upserted"] else known, True)

    @in_session
    async def delete_many(self, filter: Filter, *, request: Call = None, **options: Any) -> DeleteResult:
        """Delete the matching documents of the keys that the filter names."""
        self._check_options("delete_many", options)
        total = 0
        for key in self._rule.of_filter_many("delete_many", filter, options):
            attempt, found = batch(self._rule.limit(filter, key), options), AT_ONCE
            while found == AT_ONCE:
                found, deleted = await self._delete("delete_many", key, attempt, request, lambda done: not any(done))
                total += deleted
        return DeleteResult({"n": total}, True)

    @in_session
    async def bulk_write(
        self, requests: Sequence[WriteRequest], ordered: bool = True, *, request: Call = None, **options: Any
    ) -> BulkWriteResult:
        """Run pymongo's write requests; see :mod:`foreshard.client.bulk.bulk_write` for the effect of fences."""
        if not requests:
            raise TypeError("requests must be a non-empty list")
        return BulkWriteResult(await self._bulk("bulk_write", requests, ordered, request, options), True)

    # internals

    def _key_to_update(self, operation: str, filter: Filter, update: Update, options: Mapping[str, Any]) -> str:
        self._check_options(operation, options)
        key = self._rule.of_filter(operation, filter, options)
        self._rule.check_update(operation, update, key)
        return key

    async def _check_other_keys(self, operation: str, filter: Filter, options: Mapping[str, Any]) -> None:
        """Raise if a replacement without a key in its filter has found nothing, but a document of another key matches."""
        if self.reader.keys_of(filter) is not None:
            return
        find = Find(dict(filter), {"_id": 1}, limit=1, options={"let": options.get("let")})
        async with self.cursor(AsyncRoutedCursor, find, None) as found:
            if await anext(found, None) is not None:
                raise self._rule.of_another_key(operation)

    async def _write(
        self,
        operation: str,
        verb: str,
        key: str,
        attempt: Attempt[Result],
        request: Call,
        missed: Callable[[Result], bool] = lambda _result: False,
        *,
        inserts: bool = False,
    ) -> Result:
        scope, started = self.recorder.current(request), self.recorder.start()
        result = await self.writer.write(operation, key, attempt, missed=missed, inserts=inserts)
        self.recorder.record(scope, (key,), verb, started)
        return result

    async def _delete(
        self, operation: str, key: str, attempt: AttemptToDelete[Result], request: Call, missed: Callable[[Result], bool]
    ) -> Result:
        scope, started = self.recorder.current(request), self.recorder.start()
        result = await self.writer.delete(operation, key, attempt, missed)
        self.recorder.record(scope, (key,), DELETE, started)
        return result

    async def _bulk(
        self, operation: str, requests: Sequence[WriteRequest], ordered: bool, request: Call, options: Mapping[str, Any]
    ) -> dict[str, Any]:
        self._check_options(operation, options)
        items = self._rule.items(operation, await with_keys(self, operation, requests))
        scope, started = self.recorder.current(request), self.recorder.start()
        done = await self._send_all(operation, items, ordered, options)
        self._record_items(scope, items, started)
        return done

    async def _send_all(
        self, operation: str, items: Sequence[BulkItem], ordered: bool, options: Mapping[str, Any]
    ) -> dict[str, Any]:
        return await BulkWrite(self.writer, operation, ordered=ordered, options=options).run(items)

    def _record_items(self, scope: RequestScope, items: Sequence[BulkItem], started: float) -> None:
        verbs = {BulkKind.INSERT: INSERT, BulkKind.DELETE: DELETE}
        by_verb: dict[str, list[str]] = {}
        for item in items:
            by_verb.setdefault(verbs.get(item.kind, UPDATE), []).append(item.key)
        for verb, keys in by_verb.items():
            self.recorder.record(scope, keys, verb, started)
