"""Transactions in the control database."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeVar

from pymongo.client_session import ClientSession
from pymongo.database import Database
from pymongo.read_concern import ReadConcern
from pymongo.write_concern import WriteConcern

from foreshard.stores.mongo_connections import Document

T = TypeVar("T")


def in_transaction(database: Database[Document], transact: Callable[[ClientSession], T]) -> T:
    """Run ``transact`` in one majority transaction on a snapshot. The driver repeats it on transient errors."""
    with database.client.start_session() as session:
        return session.with_transaction(transact, read_concern=ReadConcern("snapshot"), write_concern=WriteConcern("majority"))
