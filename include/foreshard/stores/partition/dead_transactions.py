"""Ends transactions of Foreshard processes that have died. The server would keep them and their locks for a minute.

Only transactions of connections named ``LOOP`` are ended, never an app's, and only after they have been idle longer than these
processes ever are. A process that was only paused finds its transaction aborted and repeats it.
"""

from __future__ import annotations

from collections.abc import Callable
from datetime import timedelta
from typing import TypeVar

from pymongo import MongoClient
from pymongo.errors import ExecutionTimeout, OperationFailure, WTimeoutError

from foreshard.stores.mongo_connections import LOOP, Document

IDLE = timedelta(seconds=3)
PATIENCE_MS = 1_000
ATTEMPTS = 60

T = TypeVar("T")


def end_dead_transactions(client: MongoClient[Document]) -> int:
    """End these processes' transactions that were idle longer than ``IDLE``. Return their number."""
    idle = {
        "type": "idleSession",
        "appName": LOOP,
        "transaction.timeInactiveMicros": {"$gt": int(IDLE.total_seconds() * 1_000_000)},
    }
    try:
        found = list(client.admin.aggregate([{"$currentOp": {"idleSessions": True}}, {"$match": idle}]))
        for operation in found:
            client.admin.command("killSessions", [{"id": operation["lsid"]["id"]}])
    except OperationFailure:
        return 0
    return len(found)


def past_dead_transactions(client: MongoClient[Document], write: Callable[[int], T]) -> T:
    """Run ``write(maximum_ms)``. If it times out, end dead transactions and try again, so it must be able to run twice."""
    for attempt in range(ATTEMPTS):
        try:
            return write(PATIENCE_MS)
        except (ExecutionTimeout, WTimeoutError):
            end_dead_transactions(client)
            if attempt == ATTEMPTS - 1:
                raise
    raise AssertionError("unreachable")
