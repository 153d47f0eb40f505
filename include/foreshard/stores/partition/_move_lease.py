"""The lease of a move on a partition: ``move_leases {_id: move_id, lease, batches}``. Each transaction of the move bumps it.

A mover that takes over a move first writes its higher lease here (``claim``). A batch of the previous mover has either
committed before, or it meets a write conflict, or it finds another lease and aborts.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar

from pymongo import MongoClient, ReturnDocument
from pymongo.client_session import ClientSession
from pymongo.errors import DuplicateKeyError
from pymongo.read_concern import ReadConcern
from pymongo.write_concern import WriteConcern

from foreshard.errors import MoveSuperseded
from foreshard.stores.mongo_connections import Document
from foreshard.stores.partition.dead_transactions import past_dead_transactions
from foreshard.stores.partition.own_transactions import LEASES

T = TypeVar("T")


class MoveLease:
    """One mover's lease on one move on one partition. ``database`` holds the lease documents there."""

    def __init__(self, client: MongoClient[Document], database: str, move_id: str) -> None:
        self._client, self.move_id = client, move_id
        self.namespace = (database, LEASES)
        self._leases = client[database].get_collection(LEASES, write_concern=WriteConcern("majority"))
        self._number = 0

    def claim(self, number: int) -> None:
        """Write the lease ``number``. Raise :class:`MoveSuperseded` if there is a higher one."""
        change = {"$set": {"lease": number}, "$inc": {"batches": 1}}
        try:
            past_dead_transactions(
                self._client,
                lambda limit: self._leases.find_one_and_update(
                    {"_id": self.move_id, "lease": {"$lte": number}}, change, upsert=True, maxTimeMS=limit
                ),
            )
        except DuplicateKeyError as error:
            raise MoveSuperseded(self.move_id, number) from error
        self._number = number

    def bump(self, session: ClientSession) -> int:
        """Count one more batch inside a transaction and return the count. Raise :class:`MoveSuperseded` to abort it."""
        entry = self._leases.find_one_and_update(
            {"_id": self.move_id, "lease": self._number},
            {"$inc": {"batches": 1}},
            return_document=ReturnDocument.AFTER,
            session=session,
        )
        if entry is None:
            raise MoveSuperseded(self.move_id, self._number)
        return int(entry["batches"])

    def guard(self, session: ClientSession) -> None:
        """Like ``bump``, without the count."""
        self.bump(session)

    def transact(self, work: Callable[[ClientSession], T]) -> T:
        """Run ``work`` in a transaction that bumps the lease first. The driver repeats it on transient errors."""

        def guarded(session: ClientSession) -> T:
            self.bump(session)
            return work(session)

        with self._client.start_session() as session:
            return session.with_transaction(
                guarded, read_concern=ReadConcern("snapshot"), write_concern=WriteConcern("majority")
            )

    def mark(self) -> int:
        """Write a mark and return its number. In the change stream it comes after everything written before it.

        The stream shows it once a majority has it, and a server that waits for a majority is quick to get one.
        """
        entry: Document = self._leases.find_one_and_update(  # type: ignore[assignment]
            {"_id": self._mark_id}, {"$inc": {"batches": 1}}, upsert=True, return_document=ReturnDocument.AFTER
        )
        return int(entry["batches"])

    def events(self, *, of_all: bool = False) -> dict[str, Any]:
        """Return a filter for the change events of the lease and its marks; with ``of_all``, of all moves' leases and marks."""
        database, collection = self.namespace
        ids = {} if of_all else {"documentKey._id": {"$in": [self.move_id, self._mark_id]}}
        return {"ns.db": database, "ns.coll": collection, **ids}

    def is_mark(self, identity: str) -> bool:
        """Return whether a document of the leases is this move's mark."""
        return identity == self._mark_id

    @property
    def _mark_id(self) -> str:
        return f"{self.move_id}/mark"
