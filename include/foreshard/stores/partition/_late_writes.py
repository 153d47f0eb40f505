"""When documents were last written on a partition by anyone but the move itself, from its change stream."""

from __future__ import annotations

import time
from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Any

from pymongo import MongoClient
from pymongo.change_stream import ChangeStream
from pymongo.errors import OperationFailure

from foreshard.errors import Unreachable
from foreshard.model import ShardedCollection
from foreshard.ports.migration import DocumentId, Position
from foreshard.stores.mongo_connections import Document
from foreshard.stores.partition._move_feed import LOST, mark_of_event, start_at, transaction_of
from foreshard.stores.partition._move_lease import MoveLease
from foreshard.stores.raw_bson import id_bytes, id_value

PATIENCE_SECONDS = 30.0
UNKNOWN = datetime.max.replace(tzinfo=UTC)
"""Stands for every document where the oplog no longer reaches back: what stands is kept."""


def last_writes(
    client: MongoClient[Document],
    collection: ShardedCollection,
    ids: Sequence[DocumentId],
    since: Position,
    lease: MoveLease,
) -> dict[DocumentId, datetime]:
    """Id → wall clock of its last write between ``since`` and now, the move's own left out; absent where there is none."""
    mark = lease.mark()
    place = {"ns.db": collection.database, "ns.coll": collection.collection}
    wanted = {**place, "documentKey._id": {"$in": [id_value(i) for i in ids]}}
    pipeline: list[dict[str, Any]] = [
        {"$match": {"$or": [wanted, lease.events()]}},
        {"$set": {"mark": mark_of_event(lease)}},
        {"$unset": ["fullDocument", "updateDescription"]},
    ]
    try:
        with (
            client.start_session() as session,
            client.watch(pipeline, session=session, max_await_time_ms=50, **start_at(since, session)) as stream,
        ):
            return _read_up_to(mark, stream, lease)
    except OperationFailure as error:
        if error.code in LOST:
            return dict.fromkeys(ids, UNKNOWN)
        raise


def _read_up_to(mark: int, stream: ChangeStream[Document], lease: MoveLease) -> dict[DocumentId, datetime]:
    written: dict[DocumentId, datetime] = {}
    own: tuple[Any, int] | None = None
    deadline = time.monotonic() + PATIENCE_SECONDS
    while True:
        event = stream.try_next()
        if event is None:
            if time.monotonic() > deadline:
                raise Unreachable("change stream", "the move's target", "its writes are not acknowledged by a majority")
            continue
        identity = event["documentKey"]["_id"]
        if event["ns"] != dict(zip(("db", "coll"), lease.namespace, strict=True)):
            if own is None or transaction_of(event) != own:
                written[id_bytes(identity)] = event["wallTime"].replace(tzinfo=UTC)
        elif identity == lease.move_id:
            own = transaction_of(event)
        elif (event.get("mark") or 0) >= mark:
            return written
