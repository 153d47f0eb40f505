"""Which counted hours an hour is compared with."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime, timedelta
from typing import TYPE_CHECKING

from foreshard.model import ONE_HOUR, HourCounts

if TYPE_CHECKING:
    from foreshard.quality.before import Before

WEEKS_COMPARED = 4
HOURS_COMPARED = 48
"""The hours before whose records must not be this hour's again, besides the same hour of each day of ``WEEKS_COMPARED``."""


def hours_compared(hour: datetime) -> list[datetime]:
    """Return the hours that ``hour`` is compared with, in order."""
    return sorted({*_days(hour), *_near(hour)})


def before_of(
    hour: datetime, counted: Mapping[datetime, HourCounts], seen: Mapping[datetime, HourCounts] | None = None
) -> Before:
    """Return those of the ``counted`` hours that ``hour`` is compared with. ``seen``: also refused and later ones."""
    from foreshard.quality.before import Before

    others = hours_compared(hour)
    later = [hour + after * ONE_HOUR for after in range(1, HOURS_COMPARED + 1)]
    besides = [at for at in others if at not in counted] + later
    chosen = ((counted, _days(hour)[6::7]), (counted, _days(hour)), (counted, others), (seen or {}, besides))
    return Before(*([known[at] for at in hours if at in known] for known, hours in chosen))


def _days(hour: datetime) -> list[datetime]:
    return [hour - timedelta(days=back) for back in range(1, 7 * WEEKS_COMPARED + 1)]


def _near(hour: datetime) -> list[datetime]:
    return [hour - back * ONE_HOUR for back in range(1, HOURS_COMPARED + 1)]
