"""The access log's gate, and a person's acceptance of an hour that it refused."""

from __future__ import annotations

from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from typing import Protocol

import pandas as pd
import pyarrow as pa

from foreshard.errors import HourRefused
from foreshard.model import ONE_HOUR, Acceptance, GateResult, HourCounts
from foreshard.observe.facts import facts_of
from foreshard.observe.tally import TALLIED, codes_of
from foreshard.ports.gating import record_gate
from foreshard.stages._ports import WithGates, WithObserveSettings, WithRawHours, WithTallies
from foreshard.stages.observe import with_codes

GATE = "access_log"
WEEKS_COMPARED = 4
CHECKED_RECORDS = 200_000
"""The gate looks at about this many records of an hour, evenly spread. Totals are those of all records."""

HOURS_COMPARED = 48
"""The hours before whose records must not be this hour's again, besides the same hour of each day of ``WEEKS_COMPARED``."""

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
    from foreshard.quality.before import Before
    from foreshard.quality.gates import check_access_log

    table = with_codes(ports.raw_hours.columns(hour, ("timestamp", *TALLIED)))
    days = [hour - timedelta(days=back) for back in range(1, 7 * WEEKS_COMPARED + 1)]
    weeks = days[6::7]
    near = [hour - back * ONE_HOUR for back in range(1, HOURS_COMPARED + 1)]
    counted = {counts.hour: counts for counts in ports.tallies.counts(sorted({*days, *near}))}
    compared = Before(*([counted[at] for at in hours if at in counted] for hours in (weeks, days, sorted({*days, *near}))))
    result = check_access_log(
        _sample(table),
        hour,
        found=_found(ports, hour, table),
        quarantined=ports.raw_hours.reasons(hour),
        limits=ports.observe_settings,
        usual=compared,
        docs=ports.data_docs,
    )
    result = _accepted(result, ports.gates.acceptance(GATE, hour))
    record_gate(ports.gates, result)
    return GateSummary(hour, result.expectations, result.warnings)


def accept_hour(ports: WithGates, hour: datetime, by: str, because: str) -> Acceptance:
    """Save that ``by`` accepts what the gate found wrong with the hour, ``because`` of a reason. The gate then lets it pass.

    Raise :class:`HourRefused` without a reason or a name, or if the gate did not refuse the hour.
    """
    by, because = " ".join(by.split()), " ".join(because.split())
    if not because or not by:
        missing = "--because '…'" if not because else "--by NAME"
        raise HourRefused(hour, "is accepted only by a named person with a reason", f"give {missing}")
    found = ports.gates.load(GATE, hour)
    if found.passed:
        raise HourRefused(hour, "was not refused by its gate", "there is nothing to accept")
    acceptance = Acceptance(by, because, datetime.now(UTC), found.failures)
    ports.gates.accept(GATE, hour, acceptance)
    return acceptance


def _accepted(result: GateResult, acceptance: Acceptance | None) -> GateResult:
    """Return the result with its failures as warnings, if a person has accepted each of them."""
    if acceptance is None or not result.failures or not set(result.failures) <= set(acceptance.failures):
        return result
    said = f"accepted by {acceptance.by} ({acceptance.because})"
    lines = tuple(f"{said}: {line}" for line in result.failures)
    return replace(result, passed=True, failures=(), warnings=(*lines, *result.warnings))


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
