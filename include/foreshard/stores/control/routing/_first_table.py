"""Loads the first routing table, of any size, so that it appears as a whole or not at all.

1. The packed form (:mod:`._images`) is written in pieces. Each piece is one transaction that also bumps the loader's
lease (``routing_state {_id: "initialising", token, batches}``), so a superseded loader cannot add pieces. 2. One more
transaction writes the version document. From then on the table exists and sidecars answer from it. 3. The rows follow, one per
slot and listed key. Publications compare and change rows, so they wait until all rows are there (``loading`` in the version
document). Writing rows may be interrupted, repeated, and done by two loaders at once, because the rows are the same.
"""

from __future__ import annotations

import time
import uuid
from itertools import chain, islice

from pymongo.client_session import ClientSession
from pymongo.collection import Collection
from pymongo.database import Database
from pymongo.errors import BulkWriteError
from pymongo.read_concern import ReadConcern

from foreshard.errors import RoutingTableStands, TableLoadSuperseded
from foreshard.model import RoutingTable
from foreshard.stores.control._transactions import in_transaction
from foreshard.stores.control.routing._counts import TableCounts
from foreshard.stores.control.routing._documents import row_document, space_document
from foreshard.stores.control.routing._images import COLLECTION, pieces_of, published_image, table_of
from foreshard.stores.mongo_connections import Document

HEAD, INITIALISING = "table", "initialising"
LOAD_ROWS = 10_000
DUPLICATE_KEY = 11000
PATIENCE_SECONDS = 30.0


class FirstTable:
    """Publishes a table's first version into an empty control database."""

    def __init__(self, database: Database[Document]) -> None:
        self._database = database
        self._state: Collection[Document] = database.get_collection("routing_state", read_concern=ReadConcern("majority"))
        self._rows: Collection[Document] = database["routing_table"]
        self._images: Collection[Document] = database[COLLECTION]
        self._token = uuid.uuid4().hex

    def publish(self, table: RoutingTable) -> None:
        """Load and open ``table``. Do nothing if its version or a later one is published.

        Raise :class:`RoutingTableStands` if an earlier version is published, and :class:`TableLoadSuperseded` if another loader
        took over and did not finish.
        """
        if not in_transaction(self._database, lambda session: self._claim(session, table.version)):
            self._finish(table.version)
            return
        try:
            while in_transaction(self._database, self._clear):
                pass
            pieces = 0
            for piece in pieces_of(table, self._token):
                in_transaction(self._database, lambda session, piece=piece: self._load(session, [piece]))  # type: ignore[misc]
                pieces += 1
            in_transaction(self._database, lambda session: self._open(session, table, pieces))
        except TableLoadSuperseded:
            self._wait_for_other(table.version)
            return
        self._fill(table)

    def _stands(self, version: int, session: ClientSession | None = None) -> bool:
        state = self._database["routing_state"] if session else self._state
        head = state.find_one({"_id": HEAD}, {"version": 1}, session=session)
        if head is not None and head["version"] < version:
            raise RoutingTableStands(head["version"], version)
        return head is not None

    def _claim(self, session: ClientSession, version: int) -> bool:
        if self._stands(version, session):
            return False
        lease = {"$set": {"token": self._token, "batches": 0}}
        self._database["routing_state"].update_one({"_id": INITIALISING}, lease, upsert=True, session=session)
        return True

    def _renew(self, session: ClientSession) -> None:
        mine = {"_id": INITIALISING, "token": self._token}
        if not self._database["routing_state"].update_one(mine, {"$inc": {"batches": 1}}, session=session).matched_count:
            raise TableLoadSuperseded(self._database.name)

    def _clear(self, session: ClientSession) -> int:
        """Remove one batch of rows and pieces of a killed load. Return their number."""
        self._renew(session)
        count = 0
        for collection in (self._rows, self._images):
            left = [found["_id"] for found in collection.find({}, {"_id": 1}, session=session).limit(LOAD_ROWS)]
            if left:
                collection.delete_many({"_id": {"$in": left}}, session=session)
            count += len(left)
        return count

    def _load(self, session: ClientSession, pieces: list[Document]) -> None:
        self._renew(session)
        self._images.insert_many(pieces, session=session)

    def _open(self, session: ClientSession, table: RoutingTable, pieces: int) -> None:
        self._renew(session)
        space = space_document(table.slots.space)
        image = {"version": table.version, "pieces": pieces}
        head = {"_id": HEAD, "version": table.version, "identity": self._token, **space, "image": image}
        first = {"_id": table.version, "cause": "first table", "changes": [], "chunks": 0}
        counts = TableCounts.of_table(table).document()
        opened = {**head, "counts": counts, "published_at": table.published_at, "loading": True}
        self._database["routing_state"].insert_one(opened, session=session)
        self._database["routing_versions"].insert_one({**first, "published_at": table.published_at}, session=session)
        self._database["routing_state"].delete_one({"_id": INITIALISING}, session=session)

    def _fill(self, table: RoutingTable) -> None:
        """Write the missing rows, then allow publications."""
        self._rows.create_index("slot", sparse=True)
        placements, space = chain(table.slots.placements, table.placements.values()), table.slots.space
        while rows := [row_document(p, table.version, space) for p in islice(placements, LOAD_ROWS)]:
            try:
                self._rows.insert_many(rows, ordered=False)
            except BulkWriteError as error:
                if any(problem["code"] != DUPLICATE_KEY for problem in error.details["writeErrors"]):
                    raise
        opened = {"_id": HEAD, "version": table.version, "loading": True}
        self._database["routing_state"].update_one(opened, {"$unset": {"loading": 1}})

    def _finish(self, version: int) -> None:
        """Write the missing rows of a table whose loader was killed after opening it."""
        head = self._state.find_one({"_id": HEAD, "version": version, "loading": True})
        image = published_image(self._database, head) if head else None
        if image is not None:
            self._fill(table_of(image))

    def _wait_for_other(self, version: int) -> None:
        deadline = time.monotonic() + PATIENCE_SECONDS
        while not self._stands(version):
            if time.monotonic() > deadline:
                raise TableLoadSuperseded(self._database.name)
            time.sleep(0.1)
        self._finish(version)
