"""The access log's gate."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import Protocol

import pandas as pd
import pyarrow as pa

from foreshard.model import HourCounts
from foreshard.observe.facts import facts_of
from foreshard.observe.tally import TALLIED, codes_of
from foreshard.ports.gating import record_gate
from foreshard.stages._ports import WithGates, WithObserveSettings, WithRawHours, WithTallies
from foreshard.stages.judging.compared import before_of, hours_compared
from foreshard.stages.observe import with_codes

CHECKED_RECORDS = 200_000
"""The gate looks at about this many records of an hour, evenly spread. Totals are those of all records."""

_LOOKED_AT = ("timestamp", "partitionable_key", "request_type", "cost")


class AccessLogGatePorts(WithObserveSettings, WithRawHours, WithTallies, WithGates, Protocol):
    """Reads the raw hour and older tallies. Writes the gate's result."""


@dataclass(frozen=True, slots=True)
class GateSummary:
    """What the gate let pass: the ``warnings`` are lines for people, those of accepted failures among them."""

    hour: datetime
    expectations: int
    warnings: tuple[str, ...]


def gate_access_log(ports: AccessLogGatePorts, hour: datetime) -> GateSummary:
    """Check the raw hour against the same hour of the previous weeks and days. Of many records a sample is checked.

    Raise :class:`foreshard.errors.GateFailed` if it must not be counted, and no person has accepted what is wrong with it.
    """
    from foreshard.quality.gates import check_access_log

    table = with_codes(ports.raw_hours.columns(hour, ("timestamp", *TALLIED)))
    counted = {counts.hour: counts for counts in ports.tallies.counts(hours_compared(hour))}
    result = check_access_log(
        _sample(table),
        hour,
        found=_found(ports, hour, table),
        quarantined=ports.raw_hours.reasons(hour),
        limits=ports.observe_settings,
        usual=before_of(hour, counted),
        docs=ports.data_docs,
    )
    result = record_gate(ports.gates, result)
    return GateSummary(hour, result.expectations, result.warnings)


def _found(ports: AccessLogGatePorts, hour: datetime, table: pa.Table) -> HourCounts:
    weights = {name: setting.weight for name, setting in ports.observe_settings.request_types.items()}
    facts = facts_of(table, table.column("timestamp"), hour, weights, ports.raw_hours.describe(hour).source)
    return HourCounts(hour, len(table), len(codes_of(table.column("partitionable_key"))[1]), facts=facts)


def _sample(table: pa.Table) -> pd.DataFrame:
    """Return evenly spread records as a frame, with texts as objects."""
    every = max(1, len(table) // CHECKED_RECORDS)
    chosen = table.select(_LOOKED_AT)
    chosen = chosen if every == 1 else chosen.take(pa.array(range(0, len(table), every), pa.int64()))
    frame: pd.DataFrame = chosen.to_pandas()
    return frame.astype(dict.fromkeys(("partitionable_key", "request_type"), object))
