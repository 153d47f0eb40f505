"""Looks at one hour: its records, what its gate found, and who accepted it. A refused hour is not counted, but is there."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from datetime import datetime
from typing import Protocol

import numpy as np
import pandas as pd
import pyarrow.compute as pc

from foreshard.errors import MissingStageResult
from foreshard.model import Acceptance, GateResult
from foreshard.ports.access_logs import RawHour
from foreshard.stages._ports import WithGates, WithRawHours
from foreshard.stages.observe import saved_hour

TEN_MINUTES = 6


class LookPorts(WithRawHours, WithGates, Protocol):
    """Reads the raw hour and its gate's result. Writes nothing."""


@dataclass(frozen=True, slots=True)
class HourLook:
    """An hour as its source gave it. ``raw`` is None if the retention has deleted it, ``gate`` if it was not judged.

    ``types``, ``keys`` (the most frequent) and ``reasons`` of the quarantine are numbers of records; ``tens`` are the accepted
    records in each ten minutes.
    """

    raw: RawHour | None
    gate: GateResult | None
    acceptance: Acceptance | None
    types: dict[str, int] = field(default_factory=dict)
    keys: dict[str, int] = field(default_factory=dict)
    reasons: dict[str, int] = field(default_factory=dict)
    tens: tuple[int, ...] = ()


def look_at_hour(ports: LookPorts, hour: datetime, most_keys: int) -> HourLook | None:
    """Return what is known about an hour that was read; None if nothing is."""
    raw, acceptance = saved_hour(ports, hour), ports.gates.acceptance("access_log", hour)
    try:
        gate = ports.gates.load("access_log", hour)
    except MissingStageResult:
        gate = None
    if raw is None:
        return HourLook(None, gate, acceptance) if gate is not None else None
    types, keys, tens = Counter[str](), Counter[str](), np.zeros(TEN_MINUTES, np.int64)
    for table in ports.raw_hours.batches(hour, ("timestamp", "partitionable_key", "request_type")):
        minutes = (table.column("timestamp").to_pandas() - pd.Timestamp(hour)) // pd.Timedelta(minutes=10)
        tens += np.bincount(np.clip(minutes.to_numpy(np.int64), 0, TEN_MINUTES - 1), minlength=TEN_MINUTES)
        for counter, name in ((types, "request_type"), (keys, "partitionable_key")):
            counter.update(_counted(table.column(name)))
    hottest = dict(_by_number(keys)[:most_keys])
    return HourLook(
        raw, gate, acceptance, dict(_by_number(types)), hottest, dict(ports.raw_hours.reasons(hour)), tuple(tens.tolist())
    )


def _counted(column: object) -> dict[str, int]:
    """Return how often each value occurs."""
    return {str(one["values"]): int(one["counts"]) for one in pc.value_counts(column).to_pylist()}


def _by_number(counts: Counter[str]) -> list[tuple[str, int]]:
    """Return the counts, the largest first."""
    return sorted(counts.items(), key=lambda pair: (-pair[1], pair[0]))
