"""Named sessions for writing transactions, so that those of a killed process can be ended.

A process that dies inside a transaction leaves it open on the server for up to a minute (``transactionLifetimeLimitSeconds``),
and the documents that it wrote stay locked. So each session is listed on the partition before its first write: ``shadow_writers
{_id: session id, at}`` in the bookkeeping database. A process that takes over ends the listed sessions of all others. For a
live process that is an aborted transaction, which it repeats.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from typing import ClassVar

from pymongo import MongoClient
from pymongo.client_session import ClientSession
from pymongo.write_concern import WriteConcern

from foreshard.stores.mongo_connections import Document

WRITERS = "shadow_writers"


class WriterSessions:
    """Sessions of one client. The driver reuses sessions, so few are listed."""

    _listed: ClassVar[set[bytes]] = set()
    """Ids of this process's sessions, over all clients (they are unique)."""

    def __init__(self, client: MongoClient[Document], bookkeeping_database: str) -> None:
        self._client = client
        self._writers = client[bookkeeping_database].get_collection(WRITERS, write_concern=WriteConcern("majority"))

    @contextmanager
    def session(self) -> Iterator[ClientSession]:
        """Return a listed session."""
        with self._client.start_session() as session:
            name = session.session_id["id"]
            if bytes(name) not in self._listed:
                self._writers.update_one({"_id": name}, {"$set": {"at": datetime.now(UTC)}}, upsert=True)
                self._listed.add(bytes(name))
            yield session

    def end_others(self) -> int:
        """End the listed sessions of all other processes and their open transactions. Return their number."""
        others = [found["_id"] for found in self._writers.find() if bytes(found["_id"]) not in self._listed]
        if others:
            self._client.admin.command("killSessions", [{"id": name} for name in others])
            self._writers.delete_many({"_id": {"$in": others}})
        return len(others)
