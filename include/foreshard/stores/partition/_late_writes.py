"""When documents were last written on a partition by anyone except the move itself, from the partition's change stream."""

from __future__ import annotations

import time
from collections.abc import Sequence
from datetime import UTC, datetime

from pymongo import MongoClient
from pymongo.errors import OperationFailure

from foreshard.errors import Unreachable
from foreshard.model import ShardedCollection
from foreshard.ports.migration import DocumentId, Position
from foreshard.stores.bson_codec import id_bytes, id_value
from foreshard.stores.mongo_connections import Document
from foreshard.stores.partition._change_stream import HISTORY_LOST, LeaseStream
from foreshard.stores.partition._move_lease import MoveLease

PATIENCE_SECONDS = 30.0
AWAIT_MS = 50
UNKNOWN = datetime.max.replace(tzinfo=UTC)
"""The time of the last write if the oplog no longer reaches back far enough: every document here counts as newer."""


def last_writes(
    client: MongoClient[Document],
    collection: ShardedCollection,
    ids: Sequence[DocumentId],
    since: Position,
    lease: MoveLease,
) -> dict[DocumentId, datetime]:
    """Return id → wall clock of its last write after ``since``, without the move's own writes. Unwritten ids are absent."""
    mark = lease.mark()
    place = {"ns.db": collection.database, "ns.coll": collection.collection}
    wanted = [{**place, "documentKey._id": {"$in": [id_value(identity) for identity in ids]}}]
    try:
        with client.start_session() as session:
            stream = LeaseStream(client, session, wanted, lease, since, await_ms=AWAIT_MS)
            try:
                return _read_up_to(mark, stream)
            finally:
                stream.close()
    except OperationFailure as error:
        if error.code in HISTORY_LOST:
            return dict.fromkeys(ids, UNKNOWN)
        raise


def _read_up_to(mark: int, stream: LeaseStream) -> dict[DocumentId, datetime]:
    written: dict[DocumentId, datetime] = {}
    deadline = time.monotonic() + PATIENCE_SECONDS
    while stream.mark < mark:
        event = stream.read()
        if event is None:
            if time.monotonic() > deadline:
                raise Unreachable("change stream", "the move's target", "a majority does not acknowledge its writes")
        elif not stream.is_of_lease(event) and not stream.is_own(event):
            written[id_bytes(event["documentKey"]["_id"])] = event["wallTime"].replace(tzinfo=UTC)
    return written
