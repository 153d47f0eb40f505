"""The synthetic installation of the scale benchmark: heavy-tailed keys with a daily rhythm, as stored tallies and as one log.

Everything follows from the seed. History is written as the tally stage would have saved it, an hour at a time.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq

from foreshard.model.key_space import KeySpace, KeyType
from foreshard.observe.units import fine_slots
from foreshard.stores.files.tally_files import KEY_TYPE, LOAD, TallyFiles

HOUR = datetime(2026, 3, 1, 8, tzinfo=UTC)
PLACES, KINDS, WRITE_SHARE = 16, ("read", "write"), 0.15
SESSION, LINKED = 4, 0.3
HOT_PAIRS = 3_000
RECORDS_AT_ONCE = 1_000_000
UTILISATION = 0.5


@dataclass(frozen=True)
class World:
    """``keys`` keys with ``per_key`` accesses an hour on average. Key n has rank n; its rate falls with rank^−0.9."""

    keys: int
    per_key: float
    partitions: int
    days: int

    @cached_property
    def names(self) -> np.ndarray[Any, Any]:
        """The keys, hottest first."""
        return np.array([f"item {number * 7_919 % 10**9:09d}" for number in range(self.keys)], object)

    @cached_property
    def rates(self) -> np.ndarray[Any, Any]:
        """Accesses per hour of each key."""
        weight = (np.arange(self.keys) + 20.0) ** -0.9
        return weight / weight.sum() * self.keys * self.per_key

    @cached_property
    def home(self) -> np.ndarray[Any, Any]:
        """Each key's location."""
        return np.random.default_rng(1).integers(0, PLACES, self.keys).astype(np.int32)

    @property
    def capacity(self) -> float:
        """Each partition's capacity in cost/s, so that all are half used on average."""
        return float(self.rates.sum() * (1 + WRITE_SHARE) / 3600 / self.partitions / UTILISATION)

    def history(self) -> list[datetime]:
        """The hours before ``HOUR``, oldest first."""
        return [HOUR - timedelta(hours=back) for back in range(self.days * 24, 0, -1)]

    @cached_property
    def _sorted(self) -> tuple[np.ndarray[Any, Any], np.ndarray[Any, Any]]:
        """The order of the keys by slot and name, and their fine slots in this order."""
        slots = fine_slots(self.names.tolist(), KeySpace())
        order = np.lexsort((self.names.astype(str), slots))
        return order, slots[order]

    def write_hours(self, hours: Iterable[datetime], data_dir: Path, collection: Any) -> None:
        """Save tallies of these hours."""
        order, slots = self._sorted
        files = TallyFiles(data_dir)
        names, places = pa.array(self.names[order], pa.string()), pa.array([f"city {n}" for n in range(PLACES)])
        schema = LOAD.with_metadata({KEY_TYPE: KeyType.STRING.encode()})
        for hour in hours:
            random = np.random.default_rng(int(hour.timestamp()))
            rate = self.rates[order] * self._rhythm(hour, order)
            counts = np.stack([random.poisson(rate * share) for share in (1 - WRITE_SHARE, WRITE_SHARE)], axis=1)
            row, kind = np.nonzero(counts)
            count = counts[row, kind].astype(np.int64)
            columns = [
                pa.array(slots[row], pa.uint16()),
                _texts(row, names),
                _texts(self.home[order][row], places),
                _texts(kind, pa.array(KINDS)),
                *(pa.array(values) for values in (count, count * (1.0 + kind), np.minimum(count, 50))),
            ]
            table = pa.table(columns, schema=schema)
            file = f"{int(hour.timestamp()):016x}"
            files.write(hour, file, table, self._pairs(random))
            header = {"accesses": int(count.sum()), "keys": len(np.unique(row)), "cost": 0.0, "pairs": HOT_PAIRS, "at": hour}
            collection.replace_one({"_id": hour}, {**header, "file": file, "revision": file}, upsert=True)

    def write_log(self, path: Path) -> int:
        """Write the log of ``HOUR`` and return its number of records."""
        random = np.random.default_rng(2)
        records = int(self.keys * self.per_key)
        cumulative = np.cumsum(self.rates * self._rhythm(HOUR, np.arange(self.keys)))
        names = pa.array(self.names, pa.string())
        users = pa.array([f"user-{number}" for number in range(max(1, self.keys))], pa.string())
        places, kinds = pa.array([f"city {n}" for n in range(PLACES)]), pa.array(KINDS)
        writer = None
        for start in range(0, records, RECORDS_AT_ONCE):
            number = np.arange(start, min(start + RECORDS_AT_ONCE, records))
            key = np.searchsorted(cumulative, random.random(len(number)) * cumulative[-1]).clip(0, self.keys - 1)
            first = key[np.arange(len(key)) // SESSION * SESSION]
            key = np.where(random.random(len(key)) < LINKED, np.minimum(first + number % SESSION, self.keys - 1), key)
            micros = (number * (3600 * 10**6 / records)).astype("timedelta64[us]")
            moved = random.random(len(key)) < 0.2
            place = np.where(moved, random.integers(0, PLACES, len(key)), self.home[key])
            table = pa.table(
                {
                    "timestamp": pa.array(
                        np.datetime64(HOUR.replace(tzinfo=None), "us") + micros, pa.timestamp("us", tz="UTC")
                    ),
                    "partitionable_key": _texts(key, names),
                    "user_id": _texts(number // SESSION * 48_271 % len(users), users),
                    "request_type": _texts(random.random(len(key)) < WRITE_SHARE, kinds),
                    "location": _texts(place, places),
                    "session_id": pa.array(number // SESSION),
                }
            )
            writer = writer or pq.ParquetWriter(path, table.schema, compression="zstd")
            writer.write_table(table)
        if writer is not None:
            writer.close()
        return records

    def _rhythm(self, hour: datetime, keys: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
        """Each key's share of its mean rate at this hour of the day; peaks differ by location."""
        return 1.0 + 0.6 * np.sin(2 * np.pi * (hour.hour / 24 + self.home[keys] / PLACES))

    def _pairs(self, random: np.random.Generator) -> pd.DataFrame:
        a = random.integers(0, min(self.keys - 5, 2_000), HOT_PAIRS)
        names = np.sort(np.stack([self.names[a], self.names[a + 1 + random.integers(0, 3, HOT_PAIRS)]]), axis=0)
        marks = np.sort(random.integers(0, 2**31, (HOT_PAIRS, 8)), axis=1).tolist()
        weight = random.integers(5, 50, HOT_PAIRS)
        return pd.DataFrame(
            {"key_a": names[0], "key_b": names[1], "weight": weight, "distinct_users": 8, "user_marks": marks}
        ).drop_duplicates(["key_a", "key_b"])


def _texts(codes: Any, names: pa.Array) -> pa.Array:
    return pa.DictionaryArray.from_arrays(pa.array(np.asarray(codes).astype(np.int32)), names).cast(pa.string())
