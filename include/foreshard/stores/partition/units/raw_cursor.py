"""A cursor of a ``find`` command whose documents stay in the bytes of the server's answers.

pymongo makes an object of each document, also in ``find_raw_batches``, which takes longer than all the rest of reading. An
answer is ``{cursor: {firstBatch: [documents], id, ns}, ok, …}``, or ``nextBatch``; the array is the first field in all versions
of the server (https://www.mongodb.com/docs/manual/reference/command/find/).
"""

from __future__ import annotations

from collections.abc import Generator, Mapping
from typing import Any

import bson
from bson import Int64
from bson.raw_bson import RawBSONDocument
from pymongo.client_session import ClientSession
from pymongo.collection import Collection

from foreshard.stores.bson_codec import RAW
from foreshard.stores.partition.units.raw_batches import INT32, array_of

ARRAY, FIRST_FIELD = 0x04, 4


def raw_answers(
    collection: Collection[Any], session: ClientSession, command: Mapping[str, Any], size: int
) -> Generator[bytes, None, None]:
    """Yield the documents found, as BSON arrays of at most ``size`` documents. ``command`` has the fields of a ``find``.

    These are majority reads, causally after what ``session`` has read.
    """
    concern: dict[str, Any] = {"level": "majority"}
    if session.operation_time is not None:
        concern["afterClusterTime"] = session.operation_time
    begin = {"find": collection.name, **command, "batchSize": size, "readConcern": concern}
    array, cursor = _answer(collection, session, begin)
    try:
        yield array
        while cursor:
            array, cursor = _answer(
                collection, session, {"getMore": Int64(cursor), "collection": collection.name, "batchSize": size}
            )
            yield array
    finally:
        if cursor:
            collection.database.command({"killCursors": collection.name, "cursors": [Int64(cursor)]}, session=session)


def _answer(collection: Collection[Any], session: ClientSession, command: dict[str, Any]) -> tuple[bytes, int]:
    """Return the array of documents and the cursor's id, which is 0 at the end."""
    answer = collection.database.command(command, session=session, codec_options=RAW)
    return parted(answer["cursor"])


def parted(cursor: RawBSONDocument) -> tuple[bytes, int]:
    """Return the array of a ``cursor`` field, and its id."""
    raw = bytes(cursor.raw)
    start = raw.index(b"\0", FIRST_FIELD) + 1
    if raw[FIRST_FIELD] != ARRAY:
        return array_of(cursor["nextBatch"] if "nextBatch" in cursor else cursor["firstBatch"]), int(cursor["id"])
    end = start + INT32.unpack_from(raw, start)[0]
    rest = raw[end:]
    return raw[start:end], int(bson.decode(INT32.pack(len(rest) + FIRST_FIELD) + rest)["id"])
