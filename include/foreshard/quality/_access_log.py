"""The expectations of the gate ``access_log``: an hour's records, before they are counted."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import replace
from datetime import datetime
from statistics import median

import numpy as np
import pandas as pd

from foreshard.model import ONE_HOUR, HourCounts
from foreshard.quality import _hour_facts as hour_facts
from foreshard.quality._suite import Expectation, Suite, below, between, figure, known, not_null, of_values, warns
from foreshard.quality._usual import may_be_a_holiday, same_source
from foreshard.quality.before import Before
from foreshard.settings import ObserveSettings

FEWEST_BAD = 5
"""Fewer quarantined records than this never stop an hour: one bad record of five says little about the log."""

BUSY_HOUR = 50
"""Accesses from which an hour counts as busy. At a steady rate, an hour with this many expected accesses is never empty."""


def suites(
    frame: pd.DataFrame, found: HourCounts, quarantined: Mapping[str, int], limits: ObserveSettings, before: Before
) -> tuple[Suite, ...]:
    """Return the suites ``records`` (each accepted record in ``frame``), ``hour`` (totals) and ``usual`` (other hours).

    ``frame`` may be a sample of the ``found`` records; the claims and failures then say so.
    """
    records = _of_sample(_records(frame, found.hour, limits), len(frame), found.accesses)
    return tuple(suite for suite in (records, *totals(found, quarantined, limits, before)) if suite.expectations)


def totals(found: HourCounts, quarantined: Mapping[str, int], limits: ObserveSettings, before: Before) -> tuple[Suite, ...]:
    """Return the suites of totals, ``hour`` and ``usual``: one row each."""
    usual = same_source(found, before.weeks)
    compared = hour_facts.expectations(found, quarantined, usual, same_source(found, before.days), before, BUSY_HOUR)
    return _hour(found, sum(quarantined.values()), limits, usual, before.days), of_values("usual", compared)


def _of_sample(suite: Suite, checked: int, records: int) -> Suite:
    if checked == records:
        return suite
    note = f" (in a sample of {checked:,} of {records:,} records)"
    noted = (replace(one, claim=one.claim + note, failure=one.failure + note) for one in suite.expectations)
    return replace(suite, expectations=tuple(noted))


def minimum_accesses(usual: Sequence[HourCounts], share: float) -> int:
    """Return the fewest plausible accesses: ``share`` of the median if the hour was busy in every earlier week, else 0."""
    counts = [counted.accesses for counted in usual]
    if not counts or min(counts) < BUSY_HOUR:
        return 0
    return math.ceil(share * median(counts))


def minimum_keys(usual: Sequence[HourCounts], accesses: int, share: float) -> int:
    """Return the fewest plausible distinct keys for this number of accesses: ``share`` of the median."""
    counts = [counted.keys for counted in usual if counted.accesses >= BUSY_HOUR]
    return math.ceil(share * min(median(counts), accesses)) if counts else 0


def _records(frame: pd.DataFrame, hour: datetime, limits: ObserveSettings) -> Suite:
    moments = pd.to_datetime(frame["timestamp"], utc=True)
    costs = frame["cost"] if "cost" in frame else pd.Series(np.nan, index=frame.index)
    view = pd.DataFrame(
        {
            "partitionable_key": frame["partitionable_key"].to_numpy(),
            "request_type": frame["request_type"].to_numpy(),
            "seconds_into_the_hour": ((moments - pd.Timestamp(hour)) / pd.Timedelta(seconds=1)).to_numpy(dtype=np.float64),
            "cost": pd.to_numeric(costs, errors="coerce").to_numpy(dtype=np.float64),
        }
    )
    seconds = ONE_HOUR.total_seconds()
    return Suite(
        "records",
        view,
        (
            not_null("partitionable_key", "{bad} of {all} records have no partitionable key"),
            not_null("seconds_into_the_hour", "{bad} of {all} records have no time"),
            below(
                "seconds_into_the_hour",
                seconds,
                "every record's time is in the hour",
                "{bad} of {all} records are outside the hour (seconds after its start: {examples})",
            ),
            known(
                "request_type",
                tuple(limits.request_types),
                "{bad} of {all} records have an unknown request type ({examples}); add it to observe.request_types",
            ),
            between("cost", 0, None, "no cost is negative", "{bad} of {all} records have a negative cost ({examples})"),
        ),
    )


def _hour(
    found: HourCounts, quarantined: int, limits: ObserveSettings, usual: Sequence[HourCounts], days: Sequence[HourCounts]
) -> Suite:
    accepted, keys = found.accesses, found.keys
    records = accepted + quarantined
    share = quarantined / records if records else 0.0
    fewest = minimum_accesses(usual, limits.minimum_usual_share)
    fewest_keys = minimum_keys(usual, accepted, limits.minimum_key_share)
    usually = figure(median(counted.accesses for counted in usual)) if usual else "nothing"
    usual_keys = figure(median(counted.keys for counted in usual)) if usual else "nothing"
    highest = limits.maximum_quarantined_share
    view = pd.DataFrame({"accesses": [accepted], "keys": [keys], "quarantined_share": [share]})
    on_bad = warns if quarantined < FEWEST_BAD else _stops
    on_few = warns if may_be_a_holiday(days, BUSY_HOUR) else _stops
    expectations: tuple[Expectation, ...] = (
        on_bad(
            between(
                "quarantined_share",
                0,
                highest,
                f"at most {figure(highest)} of the records are quarantined",
                f"quarantined share {figure(share)} > {figure(highest)} ({quarantined:,} of {records:,} records)",
            )
        ),
        on_few(
            between(
                "accesses",
                fewest,
                None,
                f"at least {fewest:,} accesses (this hour of earlier weeks had {usually})",
                f"{accepted:,} accesses < {fewest:,}: this hour of earlier weeks had {usually}; is the log's source down?",
            )
        ),
        between(
            "keys",
            fewest_keys,
            None,
            f"at least {fewest_keys:,} distinct keys (this hour of earlier weeks had {usual_keys})",
            f"{keys:,} distinct keys < {fewest_keys:,}: this hour of earlier weeks had {usual_keys}",
        ),
    )
    return Suite("hour", view, expectations)


def _stops(expectation: Expectation) -> Expectation:
    return expectation
