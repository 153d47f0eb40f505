"""Forget what is old: raw hours, quarantine and series files; tallies; forecasts and scores. Plans and moves are kept."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Protocol

from foreshard.errors import ConfigurationError
from foreshard.model import hour_floor
from foreshard.stages._ports import WithForecastSettings, WithRetention

WEEKS_COMPARED = 4
"""The access log's gate looks back so far."""


class RetentionPorts(WithForecastSettings, WithRetention, Protocol):
    """Deletes old files, tallies, forecasts and scores."""


@dataclass(frozen=True, slots=True)
class RetentionSummary:
    """What was forgotten (or would be, in a dry run), by kind: files or documents."""

    files_before: datetime
    tallies_before: datetime
    forecasts_before: datetime
    forgotten: dict[str, int]
    dry_run: bool


def forget_old(
    ports: RetentionPorts,
    file_days: int,
    tally_days: int,
    forecast_days: int,
    dry_run: bool = False,
    now: datetime | None = None,
) -> RetentionSummary:
    """Delete what is older than so many days.

    Raise :class:`foreshard.errors.ConfigurationError` where the forecast or a gate still needs what would be deleted.
    """
    needed = max(ports.forecast_settings.history_days, 7 * WEEKS_COMPARED) + 1
    if tally_days < needed:
        raise ConfigurationError("tally_days", f"{tally_days} is less than the {needed} that forecasts read", "keep more")
    if min(file_days, forecast_days) < 1:
        raise ConfigurationError("file_days, forecast_days", "less than a day would forget hours in work", "keep more")
    hour = hour_floor(now or datetime.now(UTC))
    files, tallies, forecasts = (hour - timedelta(days=days) for days in (file_days, tally_days, forecast_days))
    forgotten = ports.retention.forget(files, tallies, forecasts, dry_run=dry_run)
    return RetentionSummary(files, tallies, forecasts, forgotten, dry_run)
