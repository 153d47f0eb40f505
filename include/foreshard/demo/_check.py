"""Compares the writes that were acknowledged to the example app with the databases."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from pymongo import MongoClient

from foreshard.demo._app import Acknowledged
from foreshard.demo.demo_layout import DATABASE
from foreshard.model import RoutingTable
from foreshard.routing.table import locate


@dataclass(frozen=True, slots=True)
class AppCheck:
    """Counts of acknowledged writes and of those missing on the primaries. A write with a lost answer may have happened."""

    acknowledged: int
    missing_trips: tuple[str, ...]
    wrong_counters: tuple[str, ...]
    ambiguous: int
    failed: tuple[str, ...]

    @property
    def missing(self) -> int:
        """The number of acknowledged writes (or counters) that are missing."""
        return len(self.missing_trips) + len(self.wrong_counters)


def check_app(
    acknowledged: Acknowledged,
    initial: Mapping[str, Mapping[str, int]],
    table: RoutingTable,
    clients: Mapping[str, MongoClient[dict[str, Any]]],
) -> AppCheck:
    """Look for every acknowledged write on the partition that ``table`` names. ``initial`` is each station's first counters."""
    owners = _trip_owners(acknowledged, clients)
    missing = tuple(sorted(trip for trip in acknowledged.trips if trip not in owners))
    wrong = _wrong_counters(acknowledged, initial, table, clients)
    return AppCheck(acknowledged.writes, missing, wrong, len(acknowledged.ambiguous), tuple(acknowledged.failed))


def _trip_owners(acknowledged: Acknowledged, clients: Mapping[str, MongoClient[dict[str, Any]]]) -> set[str]:
    found: set[str] = set()
    wanted = sorted(acknowledged.trips)
    for client in clients.values():
        for start in range(0, len(wanted), 5_000):
            batch = wanted[start : start + 5_000]
            found.update(d["_id"] for d in client[DATABASE]["trips"].find({"_id": {"$in": batch}}, {"_id": 1}))
    return found


def _wrong_counters(
    acknowledged: Acknowledged,
    initial: Mapping[str, Mapping[str, int]],
    table: RoutingTable,
    clients: Mapping[str, MongoClient[dict[str, Any]]],
) -> tuple[str, ...]:
    doubtful = Counter(note.split(" ", 1)[0] for note in acknowledged.ambiguous)
    wrong = []
    for station, counters in initial.items():
        document = clients[locate(table, station).primary][DATABASE]["stations"].find_one({"_id": station}) or {}
        for name in ("checkouts", "returns"):
            expected = counters[name] + getattr(acknowledged, name)[station]
            surplus = document.get(name, 0) - expected
            if not 0 <= surplus <= doubtful.total():
                wrong.append(f"{station}: {name} {document.get(name)} instead of {expected}")
    return tuple(wrong)
