"""Loads the example app's data: one document per station and per trip, on the partition that the table names."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from itertools import islice
from typing import Any

import pandas as pd
from pymongo import MongoClient

from foreshard.demo._sample import Sample
from foreshard.demo.demo_layout import DATABASE
from foreshard.model import RoutingTable
from foreshard.routing.table import locate

BATCH = 2_000
Document = dict[str, Any]


def station_documents(sample: Sample, until: pd.Timestamp) -> list[Document]:
    """Yield one document per station of the log, with its counters at ``until``."""
    before = sample.accesses[sample.accesses["timestamp"] < until]
    counts = Counter(zip(before["partitionable_key"], before["request_type"], strict=True))
    described = {row["name"]: row for row in sample.stations.drop_duplicates("name").to_dict("records")}
    return [_station(name, described.get(name, {}), counts) for name in sorted(sample.accesses["partitionable_key"].unique())]


def trip_documents(sample: Sample, until: pd.Timestamp) -> Iterator[Document]:
    """Yield one document per trip that began before ``until``. Its key is the station where it began."""
    trips = sample.trips[sample.trips["started_at"] < until]
    for session, station, started, end_station, ended in trips.itertuples():
        over = not pd.isna(ended) and ended < until
        yield {
            "_id": session,
            "station": station,
            "started_at": started.to_pydatetime(),
            "end_station": end_station if over else None,
            "ended_at": ended.to_pydatetime() if over else None,
        }


def load_documents(
    documents: Iterable[Document],
    collection: str,
    table: RoutingTable,
    clients: dict[str, MongoClient[Document]],
    progress: Callable[[int], None],
) -> int:
    """Insert the documents on their keys' partitions, in unordered parallel batches. Return their number."""
    total = 0
    stream = iter(documents)
    with ThreadPoolExecutor(max_workers=2) as pool:
        while batch := list(islice(stream, BATCH * 4)):
            by_partition: dict[str, list[Document]] = defaultdict(list)
            for document in batch:
                by_partition[locate(table, document["station"]).primary].append(document)
            for partition, mine in by_partition.items():
                pool.submit(clients[partition][DATABASE][collection].insert_many, mine, ordered=False).result()
            total += len(batch)
            progress(len(batch))
    return total


def create_indexes(clients: dict[str, MongoClient[Document]]) -> None:
    """Index both collections by their partitionable key, as every sharded collection needs."""
    for client in clients.values():
        for collection in ("stations", "trips"):
            client[DATABASE][collection].create_index("station")


def _station(name: str, described: Mapping[Any, Any], counts: Counter[tuple[str, str]]) -> Document:
    return {
        "_id": name,
        "station": name,
        "city": described.get("landmark"),
        "latitude": described.get("lat"),
        "longitude": described.get("long"),
        "docks": described.get("dock_count"),
        "checkouts": counts[name, "checkout"],
        "returns": counts[name, "return"],
    }
