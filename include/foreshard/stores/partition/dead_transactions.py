"""Transactions of the loop whose process has died: the server would keep them, and what they wrote locked, for a minute.

Only those of connections named ``LOOP`` are ever ended (never an app's), and only after they have been idle for longer than the
loop's own transactions ever are. A process that was merely asleep finds its transaction gone and runs it again.
"""

from __future__ import annotations

from collections.abc import Callable
from datetime import timedelta
from typing import TypeVar

from pymongo import MongoClient
from pymongo.errors import ExecutionTimeout, OperationFailure

from foreshard.stores.mongo_connections import LOOP, Document

IDLE = timedelta(seconds=3)
PATIENCE_MS = 2_000
ATTEMPTS = 30

T = TypeVar("T")


def end_dead_transactions(client: MongoClient[Document]) -> int:
    """End the loop's transactions that have been idle for longer than ``IDLE``; return how many there were."""
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
    """Run ``write(maximum_ms)``; where it is held up, end what is dead in its way and try again."""
    for attempt in range(ATTEMPTS):
        try:
            return write(PATIENCE_MS)
        except ExecutionTimeout:
            end_dead_transactions(client)
            if attempt == ATTEMPTS - 1:
                raise
    raise AssertionError("unreachable")
