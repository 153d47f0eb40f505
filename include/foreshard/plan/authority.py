"""May this run act on live data? Decided from the hour that is being processed, never from how the run was started."""

from __future__ import annotations

from datetime import datetime


def may_act(hour: datetime, newest_counted: datetime | None, *, dry_run: bool = False, act_on_old_hours: bool = False) -> bool:
    """Whether the plan for ``hour`` may touch live placement: only the newest counted hour's may, or any if asked.

    A backfill of last week's hours thus plans without effect, while the hour that has just closed acts; ``newest_counted`` is
    None where nothing has been counted. ``dry_run`` forbids in any case.
    """
    if dry_run:
        return False
    return act_on_old_hours or newest_counted is None or hour >= newest_counted
