"""Hourly tallies as Parquet: ``tally/date=YYYY-MM-DD/hour=HH.FILE.parquet`` and ``co-access/…`` beside it.

Every saved tally has files of its own, so that a reader never sees half of one and half of another. The control database names
the files that count (:mod:`foreshard.stores.control.tallies`).

Key load is sorted by the keys' slots, then by key, in row groups of a few thousand rows. A few slots can therefore be read
without the rest of the hour.
"""

from __future__ import annotations

import os
from collections.abc import Collection, Sequence
from datetime import datetime
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import xxhash

from foreshard.errors import CorruptLog
from foreshard.model.key_space import KeySpace, KeyType
from foreshard.observe.units import FINE_SLOT, coded, fine_slots

_TEXTS = ("partitionable_key", "location", "request_type")
LOAD = pa.schema(
    [
        (FINE_SLOT, pa.uint16()),
        *((name, pa.string()) for name in _TEXTS),
        ("count", pa.int64()),
        ("cost", pa.float64()),
        ("distinct_users", pa.int64()),
    ]
)
_PAIRS = pa.schema(
    [
        ("key_a", pa.string()),
        ("key_b", pa.string()),
        ("weight", pa.int64()),
        ("distinct_users", pa.int64()),
        ("user_marks", pa.list_(pa.int32())),
    ]
)
_TAG = b"foreshard.tallies"
KEY_TYPE = b"foreshard.key_type"
_SMALLEST_GROUP, _MOST_GROUPS = 4_096, 1_024


class TallyFiles:
    """Writes and reads the files of an hour's tally. The keys' slots follow from ``key_type``."""

    def __init__(self, data_dir: Path, key_type: KeyType = KeyType.STRING) -> None:
        self._load, self._pairs, self._days = (data_dir / name for name in ("tally", "co-access", "co-access-days"))
        self._space = KeySpace(key_type)

    def save(self, hour: datetime, file: str, key_load: pd.DataFrame, pairs: pd.DataFrame) -> str:
        """Write both files and make them durable. Return a digest of the key load."""
        table, digest = self._sorted(key_load)
        self.write(hour, file, table, pairs)
        return digest

    def write(self, hour: datetime, file: str, sorted_load: pa.Table, pairs: pd.DataFrame) -> None:
        """Write key load that has the columns of ``LOAD`` and is sorted already."""
        rows = max(_SMALLEST_GROUP, -(-len(sorted_load) // _MOST_GROUPS))
        _write(_path(self._load, hour, file), sorted_load, rows)
        self._write_pairs(_path(self._pairs, hour, file), pairs, {})

    def key_load(self, hour: datetime, file: str, slots: Collection[int] | None = None) -> pd.DataFrame:
        """Return the hour's rows with categorical texts and ``FINE_SLOT``, sorted by slot and key.

        ``slots`` (of ``MOST_SLOTS``): return at least the rows of these. Raise ``FileNotFoundError``.
        """
        with _open(_path(self._load, hour, file), _TEXTS) as opened:
            groups = list(range(opened.num_row_groups))
            if slots is not None:
                groups = [number for number in groups if _holds(opened.metadata.row_group(number), slots)]
            table = opened.read_row_groups(groups) if groups else _nothing()
            key_type = (opened.schema_arrow.metadata or {}).get(KEY_TYPE, b"").decode()
        frame: pd.DataFrame = table.unify_dictionaries().to_pandas()
        if key_type != self._space.key_type:
            codes, names = coded(frame["partitionable_key"])
            frame[FINE_SLOT] = fine_slots(names.tolist(), self._space)[codes]
        return frame

    def co_access(self, hour: datetime, file: str) -> pd.DataFrame:
        """Return the hour's pairs, including those of few users. Raise ``FileNotFoundError``."""
        return _pairs_of(_path(self._pairs, hour, file))

    def save_day(self, day: datetime, tag: str, united: pd.DataFrame) -> None:
        """Save the united pairs of a whole day. ``tag`` names the tallies that they come from."""
        self._write_pairs(_path(self._days, day, "day"), united, {_TAG: tag.encode()})

    def day(self, day: datetime, tag: str) -> pd.DataFrame | None:
        """Return the united pairs of a whole day; None if they do not come from the tallies of this ``tag``."""
        path = _path(self._days, day, "day")
        if not path.exists() or (pq.read_schema(path).metadata or {}).get(_TAG, b"").decode() != tag:
            return None
        return _pairs_of(path)

    def _write_pairs(self, path: Path, pairs: pd.DataFrame, metadata: dict[bytes, bytes]) -> None:
        names = [name for name in _PAIRS.names if name != "user_marks"]
        columns = [pa.array(pairs[name], _PAIRS.field(name).type) for name in names]
        marks = pa.array(pairs["user_marks"].tolist(), _PAIRS.field("user_marks").type)
        _write(path, pa.table([*columns, marks], schema=_PAIRS.with_metadata(metadata)), None)

    def remove(self, hour: datetime, file: str) -> None:
        """Delete the files of a tally that was replaced."""
        for folder in (self._load, self._pairs):
            _path(folder, hour, file).unlink(missing_ok=True)

    def _sorted(self, key_load: pd.DataFrame) -> tuple[pa.Table, str]:
        """Return the rows sorted by slot and key, with their digest. Equal rows give equal digests, in any order."""
        hashed = xxhash.xxh3_64()
        codes, names = coded(key_load["partitionable_key"])
        slots = fine_slots(names.tolist(), self._space) if len(names) else np.zeros(0, np.uint16)
        ranks: list[npt.NDArray[Any]] = [np.lexsort((names.astype(str), slots))]
        columns = [(codes, names), *(coded(key_load[name]) for name in _TEXTS[1:])]
        ranks += [np.argsort(texts.astype(str), kind="stable") for _, texts in columns[1:]]
        ranked = [_places(rank)[local].astype(np.int32) for rank, (local, _) in zip(ranks, columns, strict=True)]
        order = np.lexsort(ranked[::-1])
        arrays = [pa.array(slots[codes][order], pa.uint16())]
        for rank, place, (_, texts) in zip(ranks, ranked, columns, strict=True):
            arrays.append(pa.DictionaryArray.from_arrays(place[order], pa.array(texts[rank], pa.string())).cast(pa.string()))
            hashed.update("\0".join(texts[rank].tolist()).encode("utf-8", "surrogatepass"))
            hashed.update(place[order].tobytes())
        for name in LOAD.names[4:]:
            values = key_load[name].to_numpy()[order]
            arrays.append(pa.array(values, LOAD.field(name).type))
            hashed.update(values.tobytes())
        schema = LOAD.with_metadata({KEY_TYPE: self._space.key_type.encode()})
        return pa.table(arrays, schema=schema), hashed.hexdigest()


def _places(order: npt.NDArray[Any]) -> npt.NDArray[Any]:
    """Return each element's place in ``order``."""
    places = np.empty(len(order), np.int64)
    places[order] = np.arange(len(order))
    return places


def _nothing() -> pa.Table:
    """Return no rows, with texts as dictionaries."""
    text = pa.dictionary(pa.int32(), pa.string())
    return pa.schema([(field.name, text if field.name in _TEXTS else field.type) for field in LOAD]).empty_table()


def _path(root: Path, hour: datetime, file: str) -> Path:
    return root / f"date={hour:%Y-%m-%d}" / f"hour={hour:%H}.{file}.parquet"


def _pairs_of(path: Path) -> pd.DataFrame:
    with _open(path) as opened:
        table = opened.read()
    frame: pd.DataFrame = table.drop_columns(["user_marks"]).to_pandas()
    return frame.assign(user_marks=pd.Series(table.column("user_marks").to_pylist(), dtype=object))


def _open(path: Path, texts: Sequence[str] = ()) -> Any:
    try:
        return pq.ParquetFile(path, read_dictionary=list(texts))
    except FileNotFoundError:
        raise
    except (OSError, pa.ArrowException) as error:
        raise CorruptLog(str(path), "it can't be read; tally the hour again") from error


def _holds(group: Any, slots: Collection[int]) -> bool:
    """Return whether a row group may have rows of these slots."""
    statistics = group.column(0).statistics
    if statistics is None or not statistics.has_min_max:
        return True
    wanted = np.fromiter(slots, np.int64, len(slots))
    return bool(((wanted >= statistics.min) & (wanted <= statistics.max)).any())


def _write(path: Path, table: pa.Table, rows: int | None) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_suffix(".part")
    try:
        with partial.open("wb") as file:
            pq.write_table(table, file, compression="zstd", row_group_size=rows)
            file.flush()
            os.fsync(file.fileno())
        partial.replace(path)
    finally:
        partial.unlink(missing_ok=True)
