"""Delete old data: raw hours, quarantine and series files; tallies; forecasts and scores. Plans and moves are kept."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Protocol

from foreshard.errors import ConfigurationError
from foreshard.model import hour_floor
from foreshard.stages._ports import WithForecastSettings, WithRetention

WEEKS_COMPARED = 4
"""The access log's gate compares an hour with the same hour of this many weeks before."""


class RetentionPorts(WithForecastSettings, WithRetention, Protocol):
    """Deletes old files, tallies, forecasts and scores."""


@dataclass(frozen=True, slots=True)
class RetentionSummary:
    """The numbers of deleted files and documents by kind; in a dry run, of those that would be deleted."""

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
    """Delete files, tallies and forecasts that are older than the given numbers of days.

    Raise :class:`foreshard.errors.ConfigurationError` if a forecast or a gate still reads tallies that would be deleted.
    """
    needed = max(ports.forecast_settings.history_days, 7 * WEEKS_COMPARED) + 1
    if tally_days < needed:
        raise ConfigurationError(
            "tally_days", f"{tally_days} is less than the {needed} days that forecasts and gates read", "keep more"
        )
    if min(file_days, forecast_days) < 1:
        raise ConfigurationError("file_days, forecast_days", "less than a day would delete hours in use", "keep at least 1")
    hour = hour_floor(now or datetime.now(UTC))
    files, tallies, forecasts = (hour - timedelta(days=days) for days in (file_days, tally_days, forecast_days))
    forgotten = ports.retention.forget(files, tallies, forecasts, dry_run=dry_run)
    return RetentionSummary(files, tallies, forecasts, forgotten, dry_run)
