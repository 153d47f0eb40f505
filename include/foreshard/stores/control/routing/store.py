"""The routing table in the control database.

- ``routing_table``: one row per slot, ``{_id: slot unit, primary, shadows: [], epoch, version}``, and one per listed key,
  ``{_id: key, primary, shadows, epoch, version, slot, why}``; ``version`` changed it last.
- ``routing_state {_id: "table", version, identity, key_type, slots, counts: [{partition, slots, listed}], published_at}``: the
  version document. Every publication raises it first, inside its transaction, so publications follow each other without gaps.
  The table exists once this document exists. ``loading`` is true until all rows are there (:mod:`._first_table`), and
  ``image`` names the packed form (:mod:`._images`).
- ``routing_versions {_id: version, cause, published_at, changes: [{key, primary, shadows, expected_epoch, new_epoch, delist,
  why, before: {primary, shadows, epoch}}], chunks}``: one publication. Many changes are stored in ``routing_changes {_id:
  {version, chunk}, changes}`` instead. The first version lists no changes: followers read the table.
- ``sidecars {_id, version, reported_at}``: which sidecar answers from which version, by the database's clock.

A table of an earlier release has no slots; :mod:`._upgrade` reads it and rewrites it.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from datetime import datetime
from typing import Any

from pymongo import ReturnDocument
from pymongo.client_session import ClientSession
from pymongo.database import Database
from pymongo.read_concern import ReadConcern

from foreshard.errors import NoRoutingTable, TableNeedsUpgrade
from foreshard.measure.collector_pause import collector_paused
from foreshard.model import Placement, PlacementChange, RoutingTable
from foreshard.model.key_space import KeySpace, slot_number, slot_unit
from foreshard.ports.routing import Publication, PublishedImage
from foreshard.stores.control._transactions import in_transaction
from foreshard.stores.control.routing._counts import TableCounts
from foreshard.stores.control.routing._documents import (
    before_of,
    change_of,
    chunk_id,
    placement_of,
    slot_map_of,
    space_of,
)
from foreshard.stores.control.routing._first_table import HEAD, LOAD_ROWS, FirstTable
from foreshard.stores.control.routing._images import COLLECTION, pieces_of, published_image, table_of
from foreshard.stores.control.routing._publication import PublicationTransaction, Within, check
from foreshard.stores.control.routing._upgrade import TableUpgrade, old_slots
from foreshard.stores.mongo_connections import Document
from foreshard.watch.state import TableStatus

UNLIMITED = 2**63


class MongoRoutingStore:
    """Implements :class:`foreshard.ports.routing.RoutingStore`."""

    def __init__(self, database: Database[Document], maximum_listed: int = UNLIMITED) -> None:
        self._database, self._maximum_listed = database, maximum_listed
        durable = ReadConcern("majority")
        self._rows = database.get_collection("routing_table", read_concern=durable)
        self._state = database.get_collection("routing_state", read_concern=durable)
        self._versions = database.get_collection("routing_versions", read_concern=durable)
        self._chunks = database.get_collection("routing_changes", read_concern=durable)
        self._sidecars = database.get_collection("sidecars", read_concern=durable)

    def initialise(self, table: RoutingTable) -> None:
        FirstTable(self._database).publish(table)

    def version(self) -> int:
        return self.head()[0]

    def head(self) -> tuple[int, str]:
        """Return the current version and the table's identity, which stays through its versions; (0, "") if nothing is
        published.
        """
        head = self._state.find_one({"_id": HEAD}, {"version": 1, "identity": 1})
        return (int(head["version"]), str(head["identity"])) if head else (0, "")

    def space(self) -> KeySpace:
        head = self._state.find_one({"_id": HEAD}, {"key_type": 1, "slots": 1})
        if head is None:
            raise NoRoutingTable(self._database.name)
        return space_of(head) if "slots" in head else KeySpace()

    def placement(self, unit: str) -> Placement:
        return self.placements((unit,))[unit]

    def placements(self, units: Collection[str]) -> dict[str, Placement]:
        head = self._state.find_one({"_id": HEAD})
        if head is None:
            raise NoRoutingTable(self._database.name)
        space, old = (space_of(head), None) if "slots" in head else (KeySpace(), old_slots(self._database, head))
        homes = {unit: slot_unit(space.slot_of(unit)) for unit in units if slot_number(unit) is None}
        found = self._database["routing_table"].find({"_id": {"$in": list({*units, *homes.values()})}})
        rows = {row["_id"]: placement_of(row) for row in found}
        if old is not None:
            rows = {placement.key: placement for placement in old.placements} | rows
        return {unit: rows.get(unit) or _at_home(unit, rows[homes[unit]]) for unit in units}

    def listed_in(self, slots: Collection[int]) -> tuple[Placement, ...]:
        self._require_slots()
        return tuple(placement_of(row) for row in self._rows.find({"slot": {"$in": list(slots)}}).sort("_id", 1))

    def why_listed(self, key: str) -> str:
        row = self._rows.find_one({"_id": key}, {"why": 1})
        return str(row.get("why") or "") if row else ""

    def _require_slots(self) -> None:
        head = self._state.find_one({"_id": HEAD}, {"slots": 1})
        if head is not None and "slots" not in head:
            raise TableNeedsUpgrade(self._database.name)

    def upgrade(self) -> bool:
        return TableUpgrade(self._database).run()

    def current(self) -> RoutingTable:
        with self._database.client.start_session(snapshot=True) as session:
            head = self._database["routing_state"].find_one({"_id": HEAD}, session=session)
            if head is None:
                raise NoRoutingTable(self._database.name)
            image = published_image(self._database, head) if head.get("loading") and "slots" in head else None
            if image is not None:
                return table_of(image)
            listed: dict[str, Placement] = {}
            slots: dict[int, Placement] = {}
            with collector_paused():
                for row in self._database["routing_table"].find({}, session=session, batch_size=LOAD_ROWS):
                    placement, slot = placement_of(row), slot_number(row["_id"])
                    if slot is None:
                        listed[placement.key] = placement
                    else:
                        slots[slot] = placement
        found = slot_map_of(space_of(head), slots) if "slots" in head else old_slots(self._database, head)
        return RoutingTable(int(head["version"]), listed, found, head["published_at"])

    def image(self) -> PublishedImage | None:
        head = self._state.find_one({"_id": HEAD})
        return published_image(self._database, head) if head and "slots" in head else None

    def repack(self) -> int:
        version, identity = self.head()
        standing = self.image()
        if standing is not None and standing.version == version:
            return version
        table = self.current()
        self._database[COLLECTION].delete_many({"_id.identity": identity, "_id.version": table.version})
        pieces = list(pieces_of(table, identity))
        self._database[COLLECTION].insert_many(pieces)
        mine = {"_id": HEAD, "identity": identity, "image.version": {"$not": {"$gt": table.version}}}
        self._state.update_one(mine, {"$set": {"image": {"version": table.version, "pieces": len(pieces)}}})
        self._database[COLLECTION].delete_many({"_id.identity": identity, "_id.version": {"$lt": version}})
        return table.version

    def since(self, version: int) -> tuple[Publication, ...]:
        found = list(self._versions.find({"_id": {"$gt": version}}).sort("_id", 1))
        return tuple(self.publication(document) for document in found)

    def publication(self, document: Mapping[str, Any]) -> Publication:
        """Read one document of ``routing_versions`` (from a query or a change stream) and its chunks."""
        changes = list(document["changes"])
        if document["chunks"]:
            ids = [chunk_id(document["_id"], n) for n in range(document["chunks"])]
            stored = sorted(self._chunks.find({"_id": {"$in": ids}}), key=lambda d: int(d["_id"]["chunk"]))
            changes = [change for chunk in stored for change in chunk["changes"]]
        return Publication(
            int(document["_id"]),
            tuple(change_of(change) for change in changes),
            str(document["cause"]),
            document["published_at"],
            tuple(before_of(change) for change in changes),
        )

    def publish(
        self, changes: Sequence[PlacementChange], cause: str, *, within: Within | None = None, move_id: str = ""
    ) -> int:
        """Apply all changes in one transaction. Return the new version, or the current one without changes.

        ``within(session, version)`` runs in the same transaction, and again if the driver repeats it. Raise :class:`StaleEpoch`
        if a unit is not at its expected epoch, and :class:`InvalidChange` if a row is inconsistent.
        """
        if not changes:
            return self.version()
        check(changes)

        def transact(session: ClientSession) -> int:
            return PublicationTransaction(self._database, session, self._maximum_listed, move_id).run(changes, cause, within)

        try:
            return in_transaction(self._database, transact)
        except TableNeedsUpgrade:
            if not self.upgrade():
                raise
            return in_transaction(self._database, transact)

    def acknowledge(self, sidecar_id: str, version: int) -> datetime:
        change = {"$set": {"version": version}, "$currentDate": {"reported_at": True}}
        found = self._sidecars.find_one_and_update(
            {"_id": sidecar_id}, change, upsert=True, return_document=ReturnDocument.AFTER
        )
        assert found is not None  # noqa: S101 (an upsert returns its document)
        reported_at: datetime = found["reported_at"]
        return reported_at

    def withdraw(self, sidecar_id: str) -> None:
        self._sidecars.delete_one({"_id": sidecar_id})

    def acknowledged(self, version: int, *, heard_since: datetime) -> tuple[int, int]:
        heard = [int(s["version"]) for s in self._sidecars.find({"reported_at": {"$gte": heard_since}}, {"version": 1})]
        return sum(answering >= version for answering in heard), len(heard)

    def status(self, heard_since: datetime) -> TableStatus:
        """Return the figures that the exporter shows; sidecars count if they were heard since ``heard_since``."""
        head = self._state.find_one({"_id": HEAD}) or {}
        version, heard = int(head.get("version", 0)), {"reported_at": {"$gte": heard_since}}
        return TableStatus(
            version,
            head.get("published_at"),
            TableCounts.of_head(head).listed.total(),
            self._sidecars.count_documents(heard),
            self._sidecars.count_documents({**heard, "version": {"$lt": version}}),
        )

    def counts(self) -> tuple[dict[str, int], dict[str, int]]:
        head = self._state.find_one({"_id": HEAD}, {"counts": 1}) or {}
        counts = TableCounts.of_head(head)
        return dict(+counts.slots), dict(+counts.listed)


def _at_home(key: str, home: Placement) -> Placement:
    return Placement(key, home.primary, (), home.epoch)
