"""Hourly tallies: the counted hours in the control database, their rows in files (:mod:`foreshard.stores.files.tally_files`).

``tallied_hours {_id: hour, accesses, keys, cost, pairs, at, file, revision, facts: {…}}`` has the counted hours, including
those without accesses. ``file`` names the hour's files; equal key loads have the same ``revision``; ``facts`` are compared by
the gate. Saving an hour writes new files first, then replaces this document in one step, then deletes the files that it named
before. So a writer may be killed anywhere, and of two writers of one hour the later one counts.

Hours that an older Foreshard has tallied have no files. Their rows are in the collections ``key_load`` and ``co_access``, by
column, and are read from there until the hour is forgotten or tallied again.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from dataclasses import asdict
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, TypeVar
from uuid import uuid4

import pandas as pd
from pymongo.database import Database
from xxhash import xxh3_64_hexdigest

from foreshard.errors import CorruptLog
from foreshard.model import CO_ACCESS_COLUMNS, HOURS_PER_DAY, KEY_LOAD_COLUMNS, ONE_HOUR, HourCounts, HourFacts, HourTally
from foreshard.model.key_space import KeySpace, KeyType
from foreshard.observe.hours import day_after
from foreshard.observe.pairs.pair_sums import empty_co_access, sum_hours, unite
from foreshard.observe.tally import empty_key_load
from foreshard.observe.units import FINE_SLOT, coded, fine_slots
from foreshard.stores.files.tally_files import TallyFiles
from foreshard.stores.mongo_connections import Document

ATTEMPTS = 5
_Result = TypeVar("_Result")


class MongoTallyStore:
    """Stores hourly tallies. It never returns pairs of fewer than ``minimum_distinct_users`` users."""

    def __init__(
        self,
        database: Database[Document],
        minimum_distinct_users: int,
        data_dir: Path,
        key_type: KeyType = KeyType.STRING,
    ) -> None:
        self._minimum_distinct_users = minimum_distinct_users
        self._space = KeySpace(key_type)
        self._files = TallyFiles(data_dir, key_type)
        self._hours, self._key_load, self._co_access = (database[n] for n in ("tallied_hours", "key_load", "co_access"))

    def save(self, tallies: Sequence[HourTally]) -> None:
        """Replace the hour of each tally."""
        for tally in tallies:
            file = uuid4().hex[:16]
            revision = self._files.save(tally.hour, file, tally.key_load, tally.co_access)
            header = {**_header(tally), "file": file, "revision": revision}
            before = self._hours.find_one_and_replace({"_id": tally.hour}, header, upsert=True)
            if before is not None and before.get("file"):
                self._files.remove(tally.hour, before["file"])
            elif before is not None:
                self._key_load.delete_many({"hour": tally.hour})
                self._co_access.delete_many({"hour": tally.hour})

    def hours(self, since: datetime, until: datetime) -> tuple[datetime, ...]:
        """Return the counted hours in [since, until), in order."""
        found = self._hours.find({"_id": {"$gte": since, "$lt": until}}, {"_id": 1}).sort("_id")
        return tuple(document["_id"] for document in found)

    def counts(self, hours: Sequence[datetime]) -> tuple[HourCounts, ...]:
        """Return the numbers of accesses and keys of the counted ``hours``, in order."""
        return tuple(map(_counts, self._hours.find({"_id": {"$in": list(hours)}}).sort("_id")))

    def latest(self) -> HourCounts | None:
        """Return the newest counted hour."""
        return latest_tally(self._hours.database)

    def key_load(self, since: datetime, until: datetime) -> pd.DataFrame:
        """Return rows with ``KEY_LOAD_COLUMNS``, sorted by hour and key."""
        empty = empty_key_load()
        frames = [self._plain(hour) for hour in self.hours(since, until)]
        return pd.concat([empty, *frames], ignore_index=True).astype(empty.dtypes.to_dict()) if frames else empty

    def hour_load(self, hour: datetime, slots: Collection[int] | None = None) -> pd.DataFrame:
        """Return the rows of one hour with categorical texts and ``FINE_SLOT``. ``slots``: at least the rows of these."""
        return self._read(hour, lambda file: self._files.key_load(hour, file, slots), lambda: self._older_load(hour))

    def co_access(self, since: datetime, until: datetime) -> pd.DataFrame:
        """Return pairs summed over [since, until), heaviest first. Whole days are summed once and kept."""
        parts: list[pd.DataFrame] = []
        moment = since
        while moment < until:
            end = min(day_after(moment), until)
            whole = moment.hour == 0 and end - moment == HOURS_PER_DAY * ONE_HOUR
            parts.append(self._day(moment, end) if whole else self.hourly_co_access(moment, end).drop(columns="hour"))
            moment = end
        parts = [part for part in parts if len(part)] or [empty_co_access().drop(columns="hour")]
        return sum_hours(pd.concat(parts, ignore_index=True), self._minimum_distinct_users)

    def _day(self, day: datetime, end: datetime) -> pd.DataFrame:
        """Return the united pairs of a day, and keep them until one of its hours is tallied again."""
        files = self._hours.find({"_id": {"$gte": day, "$lt": end}}, {"file": 1}).sort("_id")
        tag = xxh3_64_hexdigest(" ".join(f"{found['_id']:%H}{found.get('file')}" for found in files).encode())
        united = self._files.day(day, tag)
        if united is None:
            united = unite(self.hourly_co_access(day, end))
            self._files.save_day(day, tag, united)
        return united

    def hourly_co_access(self, since: datetime, until: datetime) -> pd.DataFrame:
        """Return rows with ``CO_ACCESS_COLUMNS``, including pairs of few users. Do not show them."""
        empty = empty_co_access()
        frames = []
        for hour in self.hours(since, until):
            pairs = self._read(
                hour,
                lambda file, hour=hour: self._files.co_access(hour, file),  # type: ignore[misc]
                lambda hour=hour: _columns(self._co_access.find({"hour": hour}).sort("_id"), CO_ACCESS_COLUMNS[1:]),  # type: ignore[misc]
            )
            frames.append(pairs.assign(hour=pd.Timestamp(hour)))
        frames = [frame for frame in frames if len(frame)]
        return pd.concat(frames, ignore_index=True)[list(CO_ACCESS_COLUMNS)].astype(empty.dtypes.to_dict()) if frames else empty

    def _plain(self, hour: datetime) -> pd.DataFrame:
        rows = self.hour_load(hour).assign(hour=pd.Timestamp(hour)).astype(empty_key_load().dtypes.to_dict())
        return rows.sort_values(list(KEY_LOAD_COLUMNS[1:4]), ignore_index=True)[list(KEY_LOAD_COLUMNS)]

    def _read(self, hour: datetime, files: Callable[[str], _Result], older: Callable[[], _Result]) -> _Result:
        """Read the files that count. Retry if they are replaced between the two reads."""
        for attempt in range(ATTEMPTS):
            file = (self._hours.find_one({"_id": hour}, {"file": 1}) or {}).get("file")
            if file is None:
                return older()
            try:
                return files(file)
            except FileNotFoundError as error:
                if attempt == ATTEMPTS - 1:
                    raise CorruptLog(str(error.filename), "the tally's file is gone; tally the hour again") from error
        raise AssertionError

    def _older_load(self, hour: datetime) -> pd.DataFrame:
        frame = _columns(self._key_load.find({"hour": hour}).sort("_id"), KEY_LOAD_COLUMNS[1:])
        codes, names = coded(frame["partitionable_key"])
        slots = fine_slots(names.tolist(), self._space)
        types = {"count": "int64", "cost": "float64", "distinct_users": "int64"} | dict.fromkeys(
            KEY_LOAD_COLUMNS[1:4], "category"
        )
        return frame.assign(**{FINE_SLOT: slots[codes]}).astype(types)


def latest_tally(database: Database[Document]) -> HourCounts | None:
    """Return the newest counted hour."""
    found = database["tallied_hours"].find_one(sort=[("_id", -1)])
    return _counts(found) if found else None


def _counts(document: Document) -> HourCounts:
    revision = document.get("revision") or str(document.get("at", ""))
    return HourCounts(document["_id"], document.get("accesses", 0), document.get("keys", 0), revision, _facts(document))


def _facts(document: Document) -> HourFacts | None:
    found = document.get("facts")
    if not found:
        return None
    return HourFacts(**{**found, "minutes": tuple(found["minutes"]), "sketch": tuple(found["sketch"])})


def _header(tally: HourTally) -> Document:
    load = tally.key_load
    return {
        "_id": tally.hour,
        "accesses": int(load["count"].sum()),
        "keys": int(load["partitionable_key"].nunique()),
        "cost": float(load["cost"].sum()),
        "pairs": len(tally.co_access),
        "at": datetime.now(UTC),
        "facts": asdict(tally.facts) if tally.facts else None,
    }


def _columns(documents: Any, names: Sequence[str]) -> pd.DataFrame:
    """Return documents of columns as one frame."""
    values: dict[str, list[Any]] = {name: [] for name in names}
    for document in documents:
        for name in names:
            values[name] += document[name]
    return pd.DataFrame({name: pd.Series(column, dtype=object) for name, column in values.items()})
