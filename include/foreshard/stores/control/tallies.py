"""Hourly tallies in the control database, stored by column. An hour is one document, or several of ``CHUNK_ROWS`` rows.

- ``tallied_hours {_id: hour, accesses, keys, cost, pairs, at}``: the counted hours, including those without accesses.
- ``key_load {_id: {hour, chunk}, hour, partitionable_key: […], location: […], request_type: […], count: […], cost: […],
  distinct_users: […]}``: rows sorted by key; ``first_key`` and ``last_key`` give a chunk's range.
- ``co_access {_id: {hour, chunk}, hour, key_a: […], key_b: […], weight: […], distinct_users: […], user_marks: [[…], …]}``.

An hour is replaced in one transaction, so a writer may be killed anywhere. Two writers of one hour conflict on its document in
``tallied_hours``, and the later one repeats its work. Reads use one snapshot.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from datetime import UTC, datetime
from typing import Any, TypeVar

import numpy as np
import pandas as pd
from pymongo import InsertOne
from pymongo.client_session import ClientSession
from pymongo.database import Database
from pymongo.errors import OperationFailure
from pymongo.read_preferences import ReadPreference

from foreshard.model import CO_ACCESS_COLUMNS, KEY_LOAD_COLUMNS, ONE_HOUR, HourCounts, HourTally
from foreshard.observe.co_access import empty_co_access, sum_hours, unite
from foreshard.observe.hours import hours_between
from foreshard.observe.tally import empty_key_load
from foreshard.stores.mongo_connections import Document

CHUNK_ROWS = 5_000
HOURS_AT_ONCE = 24
ROWS_PER_TRANSACTION = 200_000
_SNAPSHOT_UNAVAILABLE = 246
_Result = TypeVar("_Result")


class MongoTallyStore:
    """Stores hourly tallies. It never returns pairs of fewer than ``minimum_distinct_users`` users."""

    def __init__(self, database: Database[Document], minimum_distinct_users: int) -> None:
        self._database = database
        self._minimum_distinct_users = minimum_distinct_users
        self._hours, self._key_load, self._co_access = (database[n] for n in ("tallied_hours", "key_load", "co_access"))
        self._indexed = False

    def save(self, tallies: Sequence[HourTally]) -> None:
        """Replace the hour of each tally."""
        self._ensure_indexes()
        for batch in _batches(tallies):
            with self._database.client.start_session() as session:
                session.with_transaction(lambda active, batch=batch: self._replace(active, batch))  # type: ignore[misc]

    def hours(self, since: datetime, until: datetime) -> tuple[datetime, ...]:
        """Return the counted hours in [since, until), in order."""
        found = self._hours.find({"_id": {"$gte": since, "$lt": until}}, {"_id": 1}).sort("_id")
        return tuple(document["_id"] for document in found)

    def counts(self, hours: Sequence[datetime]) -> tuple[HourCounts, ...]:
        """Return the numbers of accesses and keys of the counted ``hours``, in order."""
        found = self._hours.find({"_id": {"$in": list(hours)}}).sort("_id")
        return tuple(HourCounts(document["_id"], document["accesses"], document["keys"]) for document in found)

    def latest(self) -> HourCounts | None:
        """Return the newest counted hour."""
        found = self._hours.find_one(sort=[("_id", -1)])
        return HourCounts(found["_id"], found.get("accesses", 0), found.get("keys", 0)) if found else None

    def key_load(self, since: datetime, until: datetime) -> pd.DataFrame:
        """Return rows with ``KEY_LOAD_COLUMNS``, sorted by hour and key."""
        return self._snapshot(lambda session: self._read(session, "key_load", since, until, KEY_LOAD_COLUMNS, empty_key_load()))

    def co_access(self, since: datetime, until: datetime) -> pd.DataFrame:
        """Return pairs summed over [since, until), heaviest first. It reads one day at a time to bound memory."""
        united = unite(empty_co_access())
        for start in hours_between(since, until)[::HOURS_AT_ONCE]:
            hourly = self.hourly_co_access(start, min(start + HOURS_AT_ONCE * ONE_HOUR, until))
            united = unite(pd.concat([united, hourly], ignore_index=True)) if len(hourly) else united
        return sum_hours(united, self._minimum_distinct_users)

    def hourly_co_access(self, since: datetime, until: datetime) -> pd.DataFrame:
        """Return rows with ``CO_ACCESS_COLUMNS``, including pairs of few users. Do not show them."""
        empty = empty_co_access()
        return self._snapshot(lambda session: self._read(session, "co_access", since, until, CO_ACCESS_COLUMNS, empty))

    def _ensure_indexes(self) -> None:
        if not self._indexed:
            for name in ("key_load", "co_access"):
                self._database[name].create_index("hour")
            self._indexed = True

    def _replace(self, session: ClientSession, tallies: Sequence[HourTally]) -> None:
        hours = [tally.hour for tally in tallies]
        now = datetime.now(UTC)
        self._hours.delete_many({"_id": {"$in": hours}}, session=session)
        self._hours.insert_many([_counts(tally, now) for tally in tallies], session=session)
        for collection, documents in (
            (self._key_load, [d for tally in tallies for d in _chunks(tally.hour, tally.key_load, "partitionable_key")]),
            (self._co_access, [d for tally in tallies for d in _chunks(tally.hour, tally.co_access, "key_a")]),
        ):
            collection.delete_many({"hour": {"$in": hours}}, session=session)
            if documents:
                collection.bulk_write([InsertOne(document) for document in documents], ordered=True, session=session)

    def _snapshot(self, read: Callable[[ClientSession], _Result]) -> _Result:
        """Read in one snapshot. Retry if a collection was created after the snapshot."""
        for attempt in range(5):
            try:
                with self._database.client.start_session(snapshot=True) as session:
                    return read(session)
            except OperationFailure as error:
                if error.code != _SNAPSHOT_UNAVAILABLE or attempt == 4:
                    raise
        raise AssertionError

    def _read(
        self,
        session: ClientSession,
        name: str,
        since: datetime,
        until: datetime,
        columns: Sequence[str],
        empty: pd.DataFrame,
    ) -> pd.DataFrame:
        collection = self._database.get_collection(name, read_preference=ReadPreference.PRIMARY)
        wanted = {"hour": {"$gte": since, "$lt": until}}
        documents = list(collection.find(wanted, session=session).sort("_id"))
        if not documents:
            return empty
        sizes = [len(document[columns[1]]) for document in documents]
        moments = pd.to_datetime([document["hour"] for document in documents], utc=True).as_unit("ns")
        frame: dict[str, Any] = {"hour": moments[np.repeat(np.arange(len(documents)), sizes)]}
        for column in columns[1:]:
            values: list[Any] = []
            for document in documents:
                values += document.pop(column)
            frame[column] = pd.Series(values, dtype=empty.dtypes[column])
        return pd.DataFrame(frame)


def _batches(tallies: Sequence[HourTally]) -> Iterator[list[HourTally]]:
    """Yield tallies in batches of about ``ROWS_PER_TRANSACTION`` rows."""
    batch: list[HourTally] = []
    rows = 0
    for tally in tallies:
        batch.append(tally)
        rows += len(tally.key_load) + len(tally.co_access)
        if rows >= ROWS_PER_TRANSACTION:
            yield batch
            batch, rows = [], 0
    if batch:
        yield batch


def _counts(tally: HourTally, now: datetime) -> Document:
    load = tally.key_load
    return {
        "_id": tally.hour,
        "accesses": int(load["count"].sum()),
        "keys": int(load["partitionable_key"].nunique()),
        "cost": float(load["cost"].sum()),
        "pairs": len(tally.co_access),
        "at": now,
    }


def _chunks(hour: datetime, frame: pd.DataFrame, first: str) -> Iterator[Document]:
    columns = {name: frame[name].tolist() for name in frame.columns if name != "hour"}
    for chunk, start in enumerate(range(0, len(frame), CHUNK_ROWS)):
        rows = {name: values[start : start + CHUNK_ROWS] for name, values in columns.items()}
        ends = {"first_key": rows[first][0], "last_key": rows[first][-1]}
        yield {"_id": {"hour": hour, "chunk": chunk}, "hour": hour, **ends, **rows}
