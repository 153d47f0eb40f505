"""Inserts exact documents past the validator, without decoding them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from bson.raw_bson import RawBSONDocument
from pymongo.client_session import ClientSession
from pymongo.collection import Collection
from pymongo.errors import BulkWriteError

from foreshard.ports.migration import RawDocument
from foreshard.stores.bson_codec import RAW


def insert(collection: Collection[Any], documents: Sequence[RawDocument], session: ClientSession) -> None:
    """Insert the documents in one command. Raise ``BulkWriteError`` like ``insert_many``, which decodes every document."""
    reply = collection.database.command(
        "insert",
        collection.name,
        documents=[RawBSONDocument(document.raw, RAW) for document in documents],
        bypassDocumentValidation=True,
        session=session,
    )
    if reply.get("writeErrors"):
        raise BulkWriteError(reply)
