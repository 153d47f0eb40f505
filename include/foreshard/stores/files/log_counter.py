"""Counts an access log in files by hour, key and location, without a database.

Files are read and cleaned like those of an import, so a backtest counts the records that an import would count. Request types
without a weight are counted too.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pandas as pd

from foreshard.errors import CorruptLog
from foreshard.model import hour_floor
from foreshard.model.key_space import KeyType
from foreshard.observe.clean import EARLIEST, QuarantineReason, clean, column
from foreshard.observe.values import as_text
from foreshard.ports.access_logs import CountedLog
from foreshard.stores.files.access_log import read_batches
from foreshard.stores.files.log_tables import PLAIN, SourceForm

_ASSUMED_COST = 1.0
"""The cost of an access whose request type has no weight and whose record has no cost. The lab uses it too."""
_BY = ["hour", "partitionable_key", "location"]


class LogFileCounter:
    """Implements :class:`foreshard.ports.access_logs.LogCounter`. ``weights`` are the costs of the request types."""

    def __init__(self, weights: Mapping[str, float], key_type: KeyType = KeyType.STRING, source: SourceForm = PLAIN) -> None:
        self._weights, self._key_type, self._source = dict(weights), key_type, source

    def count(self, path: Path) -> CountedLog:
        return count_log(path, self._weights, key_type=self._key_type, source=self._source)


def count_log(
    path: Path,
    weights: Mapping[str, float],
    now: datetime | None = None,
    key_type: KeyType = KeyType.STRING,
    source: SourceForm = PLAIN,
) -> CountedLog:
    """Count a log. A record costs its own ``cost`` if it has one, else the weight of its request type, else 1.

    Records that an import would quarantine are left out and counted by reason, unless only their request type is unknown.
    Raise :class:`foreshard.errors.CorruptLog` if the log cannot be read or contains nothing to count.
    """
    loads: list[pd.DataFrame] = []
    left_out: Counter[str] = Counter()
    assumed: Counter[str] = Counter()
    until = (now or datetime.now(UTC)) + timedelta(hours=1)
    for frame in read_batches(path, source):
        types = set(as_text(column(frame, "request_type")).values.dropna())
        cleaned = clean(frame, EARLIEST, until, types, key_type)
        left_out.update(cleaned.quarantined["reason"])
        loads.append(_load(cleaned.accepted, weights, assumed))
    if not any(len(load) for load in loads):
        found = ", ".join(f"{reason} {number:,}" for reason, number in sorted(left_out.items())) or "it has none"
        raise CorruptLog(str(path), f"none of its {sum(left_out.values())} records can be counted ({found})")
    load = _summed(loads)
    first, last = hour_floor(load["hour"].iloc[0]), hour_floor(load["hour"].iloc[-1])
    return CountedLog(load, first, last, _in_words(left_out), dict(assumed))


def _load(accepted: pd.DataFrame, weights: Mapping[str, float], assumed: Counter[str]) -> pd.DataFrame:
    weight = accepted["request_type"].map(dict(weights)).astype("float64")
    unknown = accepted.loc[weight.isna() & accepted["cost"].isna(), "request_type"].value_counts()
    assumed.update({str(name): int(count) for name, count in unknown.items()})
    rows = pd.DataFrame(
        {
            "hour": accepted["timestamp"].dt.floor("h"),
            "partitionable_key": accepted["partitionable_key"],
            "location": accepted["location"].fillna(""),
            "cost": accepted["cost"].fillna(weight).fillna(_ASSUMED_COST),
        }
    )
    return _summed([rows])


def _summed(loads: Iterable[pd.DataFrame]) -> pd.DataFrame:
    load = pd.concat([load for load in loads if len(load)] or list(loads)[:1], ignore_index=True)
    return load.groupby(_BY, sort=True, observed=True)["cost"].sum().reset_index()


def _in_words(left_out: Counter[str]) -> dict[str, int]:
    """Return the reasons as words."""
    words = {str(QuarantineReason.OUT_OF_HOUR): f"before {EARLIEST.year} or in the future"}
    return {words.get(reason, reason.replace("_", " ")): number for reason, number in left_out.items()}
