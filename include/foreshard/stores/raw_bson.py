"""Documents as the bytes of their BSON: exact copies, ids that can be hashed, and whose key a document carries."""

from __future__ import annotations

from typing import Any

import bson
from bson.codec_options import CodecOptions, DatetimeConversion
from bson.raw_bson import RawBSONDocument

from foreshard.ports.migration import DocumentId

RAW: CodecOptions[RawBSONDocument] = CodecOptions(
    document_class=RawBSONDocument, datetime_conversion=DatetimeConversion.DATETIME_AUTO
)


def id_bytes(value: Any) -> DocumentId:
    """The BSON of ``{"_id": value}``."""
    return bson.encode({"_id": value}, codec_options=RAW)


def id_value(identity: DocumentId) -> Any:
    """The id again, with its exact type."""
    return RawBSONDocument(identity, RAW)["_id"]


def key_of(document: RawBSONDocument, key_field: str) -> Any:
    """What stands in the (dotted) key field; None where it is absent or lies in an array."""
    value: Any = document
    for part in key_field.split("."):
        if not isinstance(value, RawBSONDocument) or part not in value:
            return None
        value = value[part]
    return value
