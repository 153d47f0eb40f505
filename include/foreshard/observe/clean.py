"""Separates valid records from invalid ones, and gives each invalid record a reason."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from datetime import UTC, datetime
from enum import StrEnum
from typing import Any

import numpy as np
import pandas as pd

from foreshard.model import ACCESS_LOG_COLUMNS, BoolArray
from foreshard.model.key_space import KeyType
from foreshard.observe.values import as_costs, as_keys, as_text, as_times, is_given

MAXIMUM_KEY_BYTES = 1024

EARLIEST = datetime(1980, 1, 1, tzinfo=UTC)
"""The earliest plausible time of a record, where no range of hours is asked for."""

MALFORMED = "malformed"
"""The column in which a source marks records that it could not decode (true). ``source`` has their position."""

AMBIGUOUS_TIME = "ambiguous_time"
"""The column in which :mod:`foreshard.observe.zones` marks times that no zone, or two of them, explain."""

SOURCE = "source"


class QuarantineReason(StrEnum):
    """Why a record was quarantined; the first reason that applies."""

    MALFORMED = "malformed"
    NUL_IN_TEXT = "nul_in_text"
    MISSING_KEY = "missing_key"
    UNREADABLE_KEY = "unreadable_key"
    KEY_OF_ANOTHER_TYPE = "key_of_another_type"
    AMBIGUOUS_TIME = "ambiguous_time"
    MISSING_TIME = "missing_time"
    UNPARSABLE_TIME = "unparsable_time"
    OUT_OF_HOUR = "out_of_hour"
    OUT_OF_RANGE = "out_of_range"
    MISSING_REQUEST_TYPE = "missing_request_type"
    UNKNOWN_REQUEST_TYPE = "unknown_request_type"
    UNPARSABLE_COST = "unparsable_cost"
    NEGATIVE_COST = "negative_cost"


@dataclass(frozen=True)
class Cleaned:
    """Records with the standard columns: ``accepted`` typed (UTC times, text, float costs), ``quarantined`` as text.

    ``quarantined`` has a ``reason``, and the ``source`` position if the log's source gave one. In both, ``user_id`` is raw and
    must be pseudonymised before it is saved.
    """

    accepted: pd.DataFrame
    quarantined: pd.DataFrame


def clean(
    frame: pd.DataFrame,
    since: datetime,
    until: datetime,
    request_types: Collection[str],
    key_type: KeyType = KeyType.STRING,
) -> Cleaned:
    """Check records against [since, until) and the known request types.

    Missing columns count as missing values; other columns are dropped. Records have no id, so two equal records are two
    accesses. Keys are text of at most ``MAXIMUM_KEY_BYTES`` bytes in UTF-8 that denotes a value of ``key_type``.
    Accepted keys are canonical.
    """
    raw = pd.DataFrame({name: column(frame, name) for name in ACCESS_LOG_COLUMNS})
    times = as_times(raw["timestamp"])
    costs, unreadable_cost = as_costs(raw["cost"])
    key, kind = as_text(raw["partitionable_key"], MAXIMUM_KEY_BYTES), as_text(raw["request_type"])
    user, location, session = (as_text(raw[name]) for name in ("user_id", "location", "session_id"))
    timeless = times.isna().to_numpy(dtype=np.bool_)
    keys = as_keys(key.values, key_type)
    faults: dict[QuarantineReason, BoolArray] = {
        QuarantineReason.MALFORMED: _flags(frame, MALFORMED),
        QuarantineReason.NUL_IN_TEXT: np.logical_or.reduce([text.nul for text in (key, kind, user, location, session)]),
        QuarantineReason.MISSING_KEY: ~key.given,
        QuarantineReason.UNREADABLE_KEY: key.values.isna().to_numpy(dtype=np.bool_),
        QuarantineReason.KEY_OF_ANOTHER_TYPE: keys.isna().to_numpy(dtype=np.bool_),
        QuarantineReason.AMBIGUOUS_TIME: _flags(frame, AMBIGUOUS_TIME),
        QuarantineReason.MISSING_TIME: _missing_among(raw["timestamp"], timeless),
        QuarantineReason.UNPARSABLE_TIME: timeless,
        QuarantineReason.OUT_OF_HOUR: ((times < since) | (times >= until)).to_numpy(dtype=np.bool_),
        QuarantineReason.MISSING_REQUEST_TYPE: ~kind.given,
        QuarantineReason.UNKNOWN_REQUEST_TYPE: ~kind.values.isin(list(request_types)).to_numpy(dtype=np.bool_),
        QuarantineReason.UNPARSABLE_COST: unreadable_cost,
        QuarantineReason.NEGATIVE_COST: (costs < 0).to_numpy(dtype=np.bool_),
    }
    reason = np.select(list(faults.values()), [str(name) for name in faults], default="")
    bad = reason != ""
    typed = pd.DataFrame(
        {
            "timestamp": times,
            "partitionable_key": keys,
            "user_id": user.values,
            "request_type": kind.values,
            "location": location.values,
            "session_id": session.values,
            "cost": costs,
        }
    )
    return Cleaned(typed[~bad].reset_index(drop=True), _quarantined(frame, raw, bad, reason))


def column(frame: pd.DataFrame, name: str) -> pd.Series[Any]:
    """Return one column of ``frame`` with a plain index; all missing if the frame does not have it."""
    if name in frame.columns:
        return frame[name].reset_index(drop=True)
    return pd.Series([None] * len(frame), name=name, dtype=object)


def _quarantined(
    frame: pd.DataFrame, raw: pd.DataFrame, bad: BoolArray, reason: np.ndarray[Any, np.dtype[np.str_]]
) -> pd.DataFrame:
    chosen = raw[bad]
    texts = {name: as_text(chosen[name].astype(object)).values for name in ACCESS_LOG_COLUMNS}
    source = as_text(column(frame, SOURCE)[bad]).values
    return pd.DataFrame({**texts, SOURCE: source, "reason": pd.Series(reason[bad], dtype=object)})


def _flags(frame: pd.DataFrame, mark: str) -> BoolArray:
    """Return the records that the source marked."""
    if mark not in frame.columns:
        return np.zeros(len(frame), dtype=np.bool_)
    flags: BoolArray = frame[mark].isin([True]).to_numpy(dtype=np.bool_)
    return flags


def _missing_among(values: pd.Series[Any], rows: BoolArray) -> BoolArray:
    """Return the ``rows`` that have no value."""
    missing = rows.copy()
    missing[rows] = ~is_given(values[rows])
    return missing
