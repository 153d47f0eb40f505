"""The results of a bulk write, and the runs that it is sent in. Pure."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import groupby, islice
from threading import Lock
from typing import Any

from pymongo import UpdateOne

from foreshard.client._types import Filter
from foreshard.client.bulk.requests import BulkItem, BulkKind
from foreshard.client.routing.routes import Route

LONGEST_RUN = 1_000
HOST_UNREACHABLE = 6
COUNTS = ("nInserted", "nMatched", "nModified", "nRemoved", "nUpserted")


@dataclass
class BulkOutcome:
    """The results and errors of a bulk write, in the form of pymongo's ``bulk_api_result``."""

    counts: dict[str, int] = field(default_factory=lambda: dict.fromkeys(COUNTS, 0))
    upserted: list[dict[str, Any]] = field(default_factory=list)
    errors: list[dict[str, Any]] = field(default_factory=list)
    concerns: list[dict[str, Any]] = field(default_factory=list)
    adding: Lock = field(default_factory=Lock)

    def add(self, raw: Mapping[str, Any], run: Sequence[BulkItem]) -> None:
        """Add the result of one run."""
        with self.adding:
            for name in COUNTS:
                self.counts[name] += raw.get(name, 0)
            self.upserted += [{**entry, "index": run[entry["index"]].index} for entry in raw.get("upserted", ())]
            self.concerns += raw.get("writeConcernErrors", ())

    def refuse(self, item: BulkItem, error: Mapping[str, Any]) -> None:
        """Add the error of a request that was not applied."""
        self.errors.append({**error, "index": item.index})

    @property
    def confirmed(self) -> int:
        """Number of documents that were certainly written or matched."""
        return sum(self.counts[name] for name in COUNTS if name != "nModified")

    def as_result(self) -> dict[str, Any]:
        """The result as pymongo reports it."""
        by_index = sorted(self.errors, key=lambda error: error["index"])
        upserted = sorted(self.upserted, key=lambda entry: entry["index"])
        return {**self.counts, "upserted": upserted, "writeErrors": by_index, "writeConcernErrors": self.concerns}


def runs_of(items: Sequence[BulkItem], routes: Mapping[str, Route]) -> Iterator[list[BulkItem]]:
    """Group requests by partition and kind, at most ``LONGEST_RUN`` each, so that a lost answer leaves few in doubt."""
    ranked = sorted(items, key=lambda item: (routes[item.key].partition, item.kind))
    for _, group in groupby(ranked, key=lambda item: (routes[item.key].partition, item.kind)):
        while run := list(islice(group, LONGEST_RUN)):
            yield run


def single_updates(item: BulkItem, ids: Sequence[Any]) -> list[BulkItem]:
    """Return an ``UpdateMany`` as one request per matching document. An upsert without a match stays one request."""
    every: Any = item.request

    def update(filter: Filter, *, upsert: bool = False) -> BulkItem:
        request = UpdateOne(filter, every._doc, upsert=upsert, array_filters=every._array_filters)
        return BulkItem(item.index, item.key, BulkKind.UPDATE, request)

    if not ids and every._upsert:
        return [update(every._filter, upsert=True)]
    return [update({"$and": [{"_id": id_}, every._filter]}) for id_ in ids]


def not_sent(run: Sequence[BulkItem]) -> list[tuple[int, dict[str, Any]]]:
    """The failures of a run whose partition was not found."""
    return [(at, {"code": HOST_UNREACHABLE}) for at in range(len(run))]
