"""Whether a run may act on live data. The processed hour decides, not how the run was started."""

from __future__ import annotations

from datetime import datetime


def may_act(hour: datetime, newest_counted: datetime | None, *, dry_run: bool = False, act_on_old_hours: bool = False) -> bool:
    """Return whether the plan for ``hour`` may change live placement.

    It may for the newest counted hour, or with ``act_on_old_hours``.

    A backfill of last week therefore plans without effect. ``newest_counted`` is None if nothing has been counted. A
    ``dry_run`` never acts.
    """
    if dry_run:
        return False
    return act_on_old_hours or newest_counted is None or hour >= newest_counted
