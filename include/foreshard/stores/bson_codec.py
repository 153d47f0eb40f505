"""Documents and ids as BSON bytes: exact copies, hashable ids, and the key of a document."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import bson
from bson.codec_options import CodecOptions, DatetimeConversion
from bson.raw_bson import RawBSONDocument
from pymongo.collection import Collection
from pymongo.read_concern import ReadConcern

from foreshard.ports.migration import DocumentId

RAW: CodecOptions[RawBSONDocument] = CodecOptions(
    document_class=RawBSONDocument, tz_aware=True, datetime_conversion=DatetimeConversion.DATETIME_AUTO
)
"""Decodes documents as the exact bytes that the server sent."""

_DECODED: CodecOptions[dict[str, Any]] = CodecOptions(tz_aware=True, datetime_conversion=DatetimeConversion.DATETIME_AUTO)


class BsonDocumentCodec:
    """Implements :class:`foreshard.ports.documents.DocumentCodec`."""

    def encode(self, document: Mapping[str, Any]) -> bytes:
        """Return the document as BSON bytes."""
        return bson.encode(document, codec_options=_DECODED)

    def decode(self, body: bytes) -> dict[str, Any]:
        """Return the document of BSON bytes, with aware times."""
        return bson.decode(body, codec_options=_DECODED)


def exact(collection: Collection[Any]) -> Collection[RawBSONDocument]:
    """Return the collection with exact documents and majority reads."""
    return collection.with_options(codec_options=RAW, read_concern=ReadConcern("majority"))


def id_bytes(value: Any) -> DocumentId:
    """Return the BSON of ``{"_id": value}``."""
    return bson.encode({"_id": value}, codec_options=RAW)


def id_value(identity: DocumentId) -> Any:
    """Return the id that ``id_bytes`` has encoded, with its exact type."""
    return RawBSONDocument(identity, RAW)["_id"]


def identity_of(namespace: str, document_id: Any) -> bytes:
    """Return the BSON of ``{ns, id}``, which identifies a document in all collections (``_id`` of ``foreshard_versions``)."""
    return bson.encode({"ns": namespace, "id": document_id})


def key_of(document: Mapping[str, Any], key_field: str) -> Any:
    """Return the value of the (dotted) key field; None if it is absent or inside an array."""
    value: Any = document
    for part in key_field.split("."):
        if not isinstance(value, Mapping) or part not in value:
            return None
        value = value[part]
    return value
