"""Documents and ids as BSON bytes: exact copies, hashable ids, and partitionable keys as BSON values and as text."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Any
from uuid import UUID

import bson
from bson import Binary, Code, Decimal128, Int64, ObjectId
from bson.binary import UUID_SUBTYPE, UuidRepresentation
from bson.codec_options import CodecOptions, DatetimeConversion
from bson.raw_bson import RawBSONDocument
from pymongo.collection import Collection
from pymongo.read_concern import ReadConcern

from foreshard.model import ShardedCollection
from foreshard.model.key_space import INT64, KeyType
from foreshard.ports.migration import DocumentId

RAW: CodecOptions[RawBSONDocument] = CodecOptions(
    document_class=RawBSONDocument, tz_aware=True, datetime_conversion=DatetimeConversion.DATETIME_AUTO
)
"""Decodes documents as the exact bytes that the server sent."""

UUID_BYTES = 16

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


def key_value(key: str, key_type: KeyType) -> Any:
    """Return the BSON value of a canonical key. Raise ``ValueError`` if the text is not of the type."""
    return VALUES[key_type](key)


def key_text(value: Any, key_type: KeyType) -> str | None:
    """Return the canonical text of a BSON value; None if it is not a key of this type.

    Every whole number is an integer key, whatever its BSON type, because MongoDB's queries and hash treat them as equal.
    """
    return TEXTS[key_type](value)


def key_text_of(document: Mapping[str, Any], collection: ShardedCollection) -> str | None:
    """Return the document's key as canonical text; None if it has no key of the collection's type."""
    return key_text(key_of(document, collection.key_field), collection.key_type)


def key_filter(collection: ShardedCollection, keys: Iterable[str]) -> dict[str, Any]:
    """Return the filter of all documents of these keys, which are canonical text."""
    values = [key_value(key, collection.key_type) for key in keys]
    return {collection.key_field: values[0] if len(values) == 1 else {"$in": values}}


def _uuid_value(key: str) -> Binary:
    return Binary.from_uuid(UUID(key), UuidRepresentation.STANDARD)


def _string_text(value: Any) -> str | None:
    return value if isinstance(value, str) and not isinstance(value, Code) else None


def _int_text(value: Any) -> str | None:
    if isinstance(value, Decimal128):
        number = value.to_decimal()
        value = int(number) if number.is_finite() and -19 <= number.adjusted() <= 19 and number == int(number) else None
    elif isinstance(value, float):
        value = int(value) if value.is_integer() else None
    return str(int(value)) if isinstance(value, int) and not isinstance(value, bool) and int(value) in INT64 else None


def _object_id_text(value: Any) -> str | None:
    return str(value) if isinstance(value, ObjectId) else None


def _uuid_text(value: Any) -> str | None:
    if isinstance(value, Binary) and value.subtype == UUID_SUBTYPE and len(value) == UUID_BYTES:
        value = UUID(bytes=bytes(value))
    return str(value) if isinstance(value, UUID) else None


VALUES: Mapping[KeyType, Callable[[str], Any]] = {
    KeyType.STRING: str,
    KeyType.INT: Int64,
    KeyType.OBJECT_ID: ObjectId,
    KeyType.UUID: _uuid_value,
}

TEXTS: Mapping[KeyType, Callable[[Any], str | None]] = {
    KeyType.STRING: _string_text,
    KeyType.INT: _int_text,
    KeyType.OBJECT_ID: _object_id_text,
    KeyType.UUID: _uuid_text,
}
