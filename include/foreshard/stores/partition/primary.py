"""One partition as the primary of a document whose conflict is being resolved.

The version vector that the resolution covers is recorded in ``foreshard_versions`` of the primary, so that capture gives it to
every later version of the document. Otherwise the next ordinary write would be concurrent with the resolved versions again.
"""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

from bson.raw_bson import RawBSONDocument
from pymongo import MongoClient
from pymongo.client_session import ClientSession
from pymongo.errors import OperationFailure
from pymongo.write_concern import WriteConcern

from foreshard.consistency.versions import Version
from foreshard.errors import ReplicaRefused
from foreshard.model import ShardedCollection
from foreshard.stores.bson_codec import RAW, exact, identity_of, key_filter
from foreshard.stores.mongo_connections import Document
from foreshard.stores.partition.own_transactions import VERSIONS
from foreshard.stores.version_documents import version_document

FENCED = 121


class MongoPrimaryStore:
    """Implements :class:`foreshard.ports.replicas.PrimaryStore`. It writes like an app: a fenced key is refused."""

    def __init__(self, client: MongoClient[Document]) -> None:
        self._client = client

    def document(self, collection: ShardedCollection, document_id: Any) -> bytes | None:
        found = exact(self._client[collection.database][collection.collection]).find_one({"_id": document_id})
        return bytes(found.raw) if found is not None else None

    def write_resolution(
        self, collection: ShardedCollection, key: str, document_id: Any, body: bytes | None, seen: Version
    ) -> tuple[int, int]:
        """Write ``body`` (None: delete) and record what it covers, in one transaction. Return its cluster time."""
        database = self._client[collection.database]
        record = {
            "_id": RawBSONDocument(identity_of(collection.namespace, document_id), RAW), "key": key, "deleted": body is None,
            "version": version_document(seen), "siblings": [], "at": datetime.now(UTC),
        }  # fmt: skip

        def attempt(session: ClientSession) -> None:
            mine = {"_id": document_id, **key_filter(collection, [key])}
            documents = database[collection.collection]
            if body is None:
                documents.delete_one(mine, session=session)
            else:
                documents.replace_one(mine, RawBSONDocument(body, RAW), upsert=True, session=session)
            database[VERSIONS].replace_one({"_id": record["_id"]}, record, upsert=True, session=session)

        with self._client.start_session() as session:
            try:
                session.with_transaction(attempt, write_concern=WriteConcern("majority"))
            except OperationFailure as error:
                if error.code == FENCED:
                    raise ReplicaRefused(f"key {key!r} is fenced there (a move is under way): retry") from error
                raise
            time = session.operation_time
        if time is None:
            raise ReplicaRefused("the server gave no time for the resolution")
        return time.time, time.inc
