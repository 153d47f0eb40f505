"""Rewrites a routing table of an earlier release, which had no slots.

Such a table lists keys one by one, and a *default rule* places all others: ``routing_state.default_rule {partitions,
weights}``, rendezvous hashing of each key. With one partition in the rule, every slot is on that partition, and nothing moves:
the table is read and rewritten by itself, at the first publication. With several partitions, the keys of one slot are on
different ones, so no slot map describes them: the owner must first bring the unlisted keys together, or list them.
"""

from __future__ import annotations

import uuid
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any

from pymongo import UpdateOne
from pymongo.client_session import ClientSession
from pymongo.database import Database

from foreshard.errors import TableNotUpgradable
from foreshard.model import Placement, RoutingTable, SlotMap
from foreshard.model.key_space import KeySpace, slot_unit
from foreshard.stores.control._transactions import in_transaction
from foreshard.stores.control.routing._counts import TableCounts
from foreshard.stores.control.routing._documents import placement_of, row_document, space_document
from foreshard.stores.control.routing._first_table import HEAD, LOAD_ROWS
from foreshard.stores.mongo_connections import Document

CAUSE = "rewritten with slots"


def old_slots(database: Database[Document], head: Mapping[str, Any]) -> SlotMap:
    """Return the slots that stand for an old table's default rule. Raise :class:`TableNotUpgradable` if none do."""
    rule = head["default_rule"]
    partitions = [name for name, weight in zip(rule["partitions"], rule["weights"], strict=True) if weight > 0]
    if len(partitions) != 1:
        raise TableNotUpgradable(database.name, partitions)
    space = KeySpace()
    return SlotMap(space, tuple(Placement(slot_unit(slot), partitions[0]) for slot in range(space.slots)))


class TableUpgrade:
    """Rewrites the table of one control database. It may be interrupted, repeated, and done by two processes at once."""

    def __init__(self, database: Database[Document]) -> None:
        self._database = database

    def run(self) -> bool:
        """Rewrite an old table. Return False if there is none. Raise :class:`TableNotUpgradable`."""
        head = self._database["routing_state"].find_one({"_id": HEAD})
        if head is None or "slots" in head:
            return False
        slots = old_slots(self._database, head)
        self._give_slots(slots.space)
        self._database["routing_table"].create_index("slot", sparse=True)
        in_transaction(self._database, lambda session: self._rewrite(session, head, slots))
        return True

    def _give_slots(self, space: KeySpace) -> None:
        """Write each listed key's slot into its row."""
        rows, some = self._database["routing_table"], []
        for row in rows.find({"slot": {"$exists": False}}, {"_id": 1}, batch_size=LOAD_ROWS):
            some.append(UpdateOne({"_id": row["_id"]}, {"$set": {"slot": space.slot_of(row["_id"])}}))
            if len(some) == LOAD_ROWS:
                rows.bulk_write(some, ordered=False)
                some = []
        if some:
            rows.bulk_write(some, ordered=False)

    def _rewrite(self, session: ClientSession, head: Mapping[str, Any], slots: SlotMap) -> None:
        """Write the slots' rows and the version document. Followers read the table again, because its identity is new."""
        state, now, version = self._database["routing_state"], datetime.now(UTC), int(head["version"]) + 1
        found = self._database["routing_table"].find({}, {"primary": 1, "shadows": 1, "epoch": 1}, session=session)
        listed = {row["_id"]: placement_of(row) for row in found}
        counts = TableCounts.of_table(RoutingTable(version, listed, slots, now)).document()
        fields = {**space_document(slots.space), "version": version, "identity": uuid.uuid4().hex, "counts": counts}
        change = {"$set": {**fields, "published_at": now}, "$unset": {"default_rule": 1, "image": 1}}
        mine = {"_id": HEAD, "version": head["version"], "slots": {"$exists": False}}
        if not state.update_one(mine, change, session=session).matched_count:
            return
        rows = [row_document(placement, version, slots.space) for placement in slots.placements]
        self._database["routing_table"].insert_many(rows, session=session)
        document = {"_id": version, "cause": CAUSE, "published_at": now, "changes": [], "chunks": 0}
        self._database["routing_versions"].insert_one(document, session=session)
