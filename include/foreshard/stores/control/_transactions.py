"""Transactions in the control database."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import TypeVar

from pymongo.client_session import ClientSession
from pymongo.database import Database
from pymongo.read_concern import ReadConcern
from pymongo.write_concern import WriteConcern

from foreshard.stores.mongo_connections import Document
from foreshard.stores.partition.dead_transactions import end_dead_transactions

T = TypeVar("T")
LOOK_EVERY = 0.25
"""Seconds between two looks for dead transactions, while a transaction is repeated."""


def in_transaction(database: Database[Document], transact: Callable[[ClientSession], T]) -> T:
    """Run ``transact`` in one majority transaction on a snapshot. The driver repeats it on transient errors.

    A dead process's transaction would hold its locks for a minute, so repeated attempts look for it and end it.
    """
    looked = time.monotonic()

    def attempt(session: ClientSession) -> T:
        nonlocal looked
        if time.monotonic() - looked > LOOK_EVERY:
            end_dead_transactions(database.client)
            looked = time.monotonic()
        return transact(session)

    with database.client.start_session() as session:
        return session.with_transaction(attempt, read_concern=ReadConcern("snapshot"), write_concern=WriteConcern("majority"))
