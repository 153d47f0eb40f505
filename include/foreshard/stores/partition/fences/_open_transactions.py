"""Whether an open transaction keeps a ``collMod`` from its lock, and how a ``collMod`` tries all the same.

A ``collMod`` queues behind every open transaction that has used the collection, and every later write queues behind the
``collMod``, those of other keys too. So it is not tried while such a transaction is open. Who may not see that tries for a few
milliseconds at a time, with long pauses.
"""

from __future__ import annotations

from datetime import timedelta
from typing import Any

from pymongo import MongoClient
from pymongo.errors import OperationFailure

LONG = timedelta(milliseconds=50)
"""A transaction that is open for longer is waited for. A ``collMod`` may queue behind shorter ones."""
SHORT_MS, LONGER_MS, LONGEST_MS = 20, 40, 300
PAUSES = 10
"""While it is not known that the lock is free, the pause after an attempt is this many times as long."""


def limit_ms(attempt: int, is_free: bool | None) -> int:
    """Return how long the n-th attempt may take, from 0. A server that is slow, but free, gets more and more time."""
    return min(LONGEST_MS, SHORT_MS * 2**attempt) if is_free else min(LONGER_MS, SHORT_MS + 10 * attempt)


def pause_seconds(limit: int, is_free: bool | None) -> float:
    """Return the pause after an attempt of ``limit`` ms."""
    return 0.0 if is_free else PAUSES * limit / 1000


def is_free(client: MongoClient[Any], namespace: str) -> bool | None:
    """Return whether no transaction is open for long that has used the collection; None if the server does not say."""
    try:
        holders = _holders(client.admin.command("lockInfo")["lockInfo"], namespace)
        if not holders:
            return True
        idle = {"type": "idleSession", "transaction.timeOpenMicros": {"$gt": LONG.total_seconds() * 1_000_000}}
        open_long = client.admin.aggregate([{"$currentOp": {"idleSessions": True, "allUsers": True}}, {"$match": idle}])
        sessions = [str(operation["lsid"]["id"].as_uuid()) for operation in open_long]
    except (OperationFailure, KeyError):
        return None
    return not any(session in holder for session in sessions for holder in holders)


def _holders(locks: list[dict[str, Any]], namespace: str) -> list[str]:
    """Return descriptions of the collection's lock's holders that no operation runs for. They name their session."""
    return [
        holder.get("debugInfo", "")
        for lock in locks
        if ": Collection, " in lock["resourceId"] and lock["resourceId"].endswith(f", {namespace}}}")
        for holder in lock["granted"]
        if "clientInfo" not in holder
    ]
