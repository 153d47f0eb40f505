"""Hours that a log cannot mean: a few records whose time is far from that of all others, from a broken clock or a wrong unit.

An import covers all hours between a log's first and its last. One record of the year 1999 would make 200,000 hours.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime, timedelta

import pandas as pd
import pyarrow as pa

from foreshard.model import ACCESS_LOG_COLUMNS
from foreshard.observe.clean import SOURCE, QuarantineReason

LONGEST_GAP = timedelta(days=31)
"""A log without an access for longer than this is in two parts."""
SMALLEST_SHARE = 0.001
"""A part of a log with a smaller share of its records is far off."""


def far_hours(counts: Mapping[datetime, int]) -> tuple[list[datetime], list[datetime]]:
    """Return the hours of the small parts of a log before, and behind, its others. ``counts``: hour → records."""
    parts: list[list[datetime]] = []
    for hour in sorted(counts):
        if parts and hour - parts[-1][-1] <= LONGEST_GAP:
            parts[-1].append(hour)
        else:
            parts.append([hour])
    least = SMALLEST_SHARE * sum(counts.values())
    large = [number for number, part in enumerate(parts) if sum(counts[hour] for hour in part) >= least]
    early = [hour for part in parts[: large[0]] for hour in part] if large else []
    late = [hour for part in parts[large[-1] + 1 :] for hour in part] if large else []
    return early, late


def out_of_range(accepted: pa.Table) -> pd.DataFrame:
    """Return clean records, with pseudonyms, as quarantined ones."""
    frame = accepted.to_pandas()
    texts = {name: frame[name].astype(object).where(frame[name].notna(), None) for name in ACCESS_LOG_COLUMNS}
    texts["timestamp"] = frame["timestamp"].map(lambda moment: moment.isoformat())
    texts["cost"] = texts["cost"].map(lambda cost: None if cost is None else str(cost))
    return pd.DataFrame({**texts, SOURCE: None, "reason": str(QuarantineReason.OUT_OF_RANGE)})
