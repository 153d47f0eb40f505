"""The numbers of slots and listed keys per partition, in the version document: nothing has to group the table to know them."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from typing import Any

from foreshard.model import Placement, RoutingTable
from foreshard.model.key_space import slot_number
from foreshard.stores.mongo_connections import Document

UnitChange = tuple[Placement | None, Placement | None]
"""A unit's placement before and after a change; None: not listed."""


class TableCounts:
    """Partition → number of slots, and partition → number of listed keys."""

    def __init__(self, slots: Mapping[str, int], listed: Mapping[str, int]) -> None:
        self.slots, self.listed = Counter(slots), Counter(listed)

    @classmethod
    def of_table(cls, table: RoutingTable) -> TableCounts:
        """Count a whole table."""
        slots = Counter(placement.primary for placement in table.slots.placements)
        return cls(slots, Counter(placement.primary for placement in table.placements.values()))

    @classmethod
    def of_head(cls, head: Mapping[str, Any]) -> TableCounts:
        """Read them from the version document."""
        rows = head.get("counts", ())
        return cls({r["partition"]: r["slots"] for r in rows}, {r["partition"]: r["listed"] for r in rows})

    def document(self) -> list[Document]:
        """Return them for the version document. Ids are values, because field names cannot contain every character."""
        names = sorted(name for name in self.slots.keys() | self.listed.keys() if self.slots[name] or self.listed[name])
        return [{"partition": name, "slots": self.slots[name], "listed": self.listed[name]} for name in names]

    def after(self, steps: Iterable[UnitChange]) -> TableCounts:
        """Return the counts after changes."""
        counts = TableCounts(self.slots, self.listed)
        for before, after in steps:
            for placement, difference in ((before, -1), (after, 1)):
                if placement is not None:
                    counted = counts.listed if slot_number(placement.key) is None else counts.slots
                    counted[placement.primary] += difference
        return counts
