"""Recent moves and current shadows, as a plan sees them."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime


@dataclass(frozen=True, slots=True)
class RecentMove:
    """A move from the journal. If it is ``pending``, its key will be on ``target``; else it was switched ``at`` that time."""

    key: str
    source: str
    target: str
    pending: bool
    at: datetime


@dataclass(frozen=True, slots=True)
class CurrentShadow:
    """A shadow that is being made, serves, or is ``leaving``; a leaving one cannot be requested until it is gone.

    ``hour`` is the hour of the plan that requested it, None if a person did; ``why`` is the reason given.
    """

    shadow_id: str
    key: str
    target: str
    why: str
    hour: datetime | None
    leaving: bool = False
