"""Reads that are still open on a partition (``$currentOp``), for a cleaner that lets them end first.

MongoDB's own range deleter waits for the cursors that were opened before it in the same way. Change streams don't
count, nor do the reads of movers. Without the privilege ``inprog``, no read is seen.
"""

from __future__ import annotations

from collections.abc import Collection
from datetime import UTC, datetime, timedelta
from typing import Any

from pymongo import MongoClient
from pymongo.errors import OperationFailure

from foreshard.stores.mongo_connections import Document
from foreshard.stores.partition.units.queries import MOVERS_READ

NOT_AUTHORISED = 13


def reads_opened_before(client: MongoClient[Document], namespaces: Collection[str], at: datetime) -> int:
    """Return the number of cursors and running reads on ``namespaces`` that were opened before ``at``."""
    age = max(timedelta(), datetime.now(UTC) - at)
    opened: dict[str, Any] = {
        "$or": [
            {"cursor.createdDate": {"$lt": at}},
            {
                "type": "op",
                "microsecs_running": {"$gt": age // timedelta(microseconds=1)},
                "$or": [{f"command.{name}": {"$exists": True}} for name in ("find", "aggregate", "distinct", "count")],
            },
        ]
    }
    pipeline: list[dict[str, Any]] = [
        {"$currentOp": {"allUsers": True, "idleCursors": True}},
        {
            "$match": {
                "ns": {"$in": list(namespaces)},
                "cursor.tailable": {"$ne": True},
                "cursor.originatingCommand.pipeline.0.$changeStream": {"$exists": False},
                "command.pipeline.0.$changeStream": {"$exists": False},
                "cursor.originatingCommand.comment": {"$ne": MOVERS_READ},
                "command.comment": {"$ne": MOVERS_READ},
                **opened,
            }
        },
        {"$count": "reads"},
    ]
    try:
        found = next(iter(client.admin.aggregate(pipeline)), None)
    except OperationFailure as error:
        if error.code != NOT_AUTHORISED:
            raise
        return 0
    return int(found["reads"]) if found else 0
