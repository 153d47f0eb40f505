"""Times without a zone: read in the zone of their source.

When clocks are turned back, an hour comes twice, and a time without a zone does not say which. Such times, and times that no
clock showed, are marked. The quarantine then names them.
"""

from __future__ import annotations

from typing import Any
from zoneinfo import ZoneInfo

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc

from foreshard.model import BoolArray
from foreshard.observe.clean import AMBIGUOUS_TIME

_ZONELESS = r"^\s*\d{4}-?\d\d-?\d\d(?:[T ]\d\d(?::?\d\d)?(?::?\d\d)?(?:[.,]\d+)?)?\s*$"
"""ISO 8601 without a zone. Numbers since 1970 have none of these forms."""


def has_zoneless(times: Any) -> bool:
    """Return whether a column of raw times (Arrow or pandas) has one without a zone."""
    if isinstance(times, pa.ChunkedArray):
        if pa.types.is_timestamp(times.type):
            return times.type.tz is None and times.null_count < len(times)
        return _is_text(times.type) and bool(pc.any(pc.match_substring_regex(times.cast(pa.string()), _ZONELESS)).as_py())
    return bool(_zoneless(times).any())


def in_zone(batch: pd.DataFrame | pa.Table, zone: ZoneInfo) -> pd.DataFrame | pa.Table:
    """Return the batch with its zoneless times in UTC. The others are marked in the column ``AMBIGUOUS_TIME``."""
    if isinstance(batch, pa.Table):
        times = batch.column("timestamp")
        if not has_zoneless(times):
            return batch
        made, ambiguous = _localised(times.to_pandas(), zone)
        place = batch.column_names.index("timestamp")
        kind = pa.string() if _is_text(times.type) else pa.timestamp("us", tz="UTC")
        batch = batch.set_column(place, "timestamp", pa.array(made, kind, from_pandas=True))
        return batch.append_column(AMBIGUOUS_TIME, pa.array(ambiguous)) if ambiguous.any() else batch
    if "timestamp" not in batch or not has_zoneless(batch["timestamp"]):
        return batch
    made, ambiguous = _localised(batch["timestamp"], zone)
    batch = batch.assign(timestamp=made)
    batch[AMBIGUOUS_TIME] = ambiguous
    return batch


def _localised(times: pd.Series[Any], zone: ZoneInfo) -> tuple[pd.Series[Any], BoolArray]:
    """Return the times with their zoneless ones in UTC, and which of these are ambiguous. Texts stay texts."""
    rows = _zoneless(times)
    naive = pd.to_datetime(times[rows], errors="coerce", format="ISO8601" if times.dtype == object else None)
    utc = naive.dt.tz_localize(zone, ambiguous="NaT", nonexistent="NaT").dt.tz_convert("UTC")
    ambiguous = np.zeros(len(times), np.bool_)
    ambiguous[rows] = (utc.isna() & naive.notna()).to_numpy()
    if times.dtype != object:
        return utc, ambiguous
    texts = utc.dt.strftime("%Y-%m-%dT%H:%M:%S.%f+00:00").to_numpy(dtype=object)
    made = times.to_numpy(dtype=object, copy=True)
    made[rows] = np.where(utc.isna().to_numpy(), made[rows], texts)
    return pd.Series(made, index=times.index, dtype=object), ambiguous


def _zoneless(times: pd.Series[Any]) -> BoolArray:
    if pd.api.types.is_datetime64_any_dtype(times.dtype):
        return np.full(len(times), getattr(times.dt, "tz", None) is None) & times.notna().to_numpy()
    if times.dtype != object:
        return np.zeros(len(times), np.bool_)
    is_text = times.map(lambda value: isinstance(value, str)).to_numpy(np.bool_)
    rows = np.zeros(len(times), np.bool_)
    rows[is_text] = times[is_text].str.fullmatch(_ZONELESS).to_numpy(np.bool_)
    return rows


def _is_text(kind: Any) -> bool:
    value = kind.value_type if pa.types.is_dictionary(kind) else kind
    return bool(pa.types.is_string(value) or pa.types.is_large_string(value))
