"""The access log's gate."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import Protocol

import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc

from foreshard.model import HourCounts
from foreshard.observe.batches import ACCEPTED
from foreshard.observe.factorising import codes_of
from foreshard.observe.facts import facts_of
from foreshard.ports.gating import record_gate
from foreshard.stages._ports import WithGates, WithObserveSettings, WithRawHours, WithTallies
from foreshard.stages.judging.compared import before_of, hours_compared
from foreshard.stages.observe import LOOKED_AT

CHECKED_RECORDS = 200_000
"""The gate looks at about this many records of an hour, evenly spread. Totals are those of all records."""

_SHOWN = ("timestamp", "partitionable_key", "request_type", "cost")


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

    records = _Records.of(ports, hour)
    counted = {counts.hour: counts for counts in ports.tallies.counts(hours_compared(hour))}
    result = check_access_log(
        records.sample,
        hour,
        found=records.counts,
        quarantined=ports.raw_hours.reasons(hour),
        limits=ports.observe_settings,
        usual=before_of(hour, counted),
        docs=ports.data_docs,
    )
    result = record_gate(ports.gates, result)
    return GateSummary(hour, result.expectations, result.warnings)


@dataclass(frozen=True)
class _Records:
    """An hour's accepted records: their counts, and some of them, evenly spread, with texts as objects."""

    counts: HourCounts
    sample: pd.DataFrame

    @classmethod
    def of(cls, ports: AccessLogGatePorts, hour: datetime) -> _Records:
        raw = ports.raw_hours.describe(hour)
        look = _Look(max(1, raw.accepted // CHECKED_RECORDS))
        weights = {name: setting.weight for name, setting in ports.observe_settings.request_types.items()}
        facts = facts_of(map(look.at, ports.raw_hours.batches(hour, LOOKED_AT)), hour, weights, raw.source)
        frame: pd.DataFrame = pa.concat_tables(look.sample).to_pandas()
        sample = frame.astype(dict.fromkeys(("partitionable_key", "request_type"), object))
        return cls(HourCounts(hour, raw.accepted, len(look.keys), facts=facts), sample)


class _Look:
    """Takes every n-th record of batches, and the names of all keys."""

    def __init__(self, every: int) -> None:
        self._every, self._next = every, 0
        self.sample = [ACCEPTED.empty_table().select(_SHOWN)]
        self.keys = pa.array([], pa.string())

    def at(self, batch: pa.Table) -> pa.Table:
        """Look at a batch, and return it."""
        rows = range(self._next, len(batch), self._every)
        self._next = self._next + len(rows) * self._every - len(batch)
        self.sample.append(batch.select(_SHOWN).take(pa.array(rows, pa.int64())).cast(self.sample[0].schema))
        names = codes_of(batch.column("partitionable_key"))[1]
        self.keys = pc.unique(pa.concat_arrays([self.keys, pa.array(names, pa.string())]))
        return batch
