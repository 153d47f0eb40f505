"""Time that no jump of the wall clock changes, and the name of the machine's run in which monotonic times can be compared."""

from __future__ import annotations

import time
from functools import cache
from pathlib import Path

_STARTED = time.time() - time.monotonic()
BOOT_ID = Path("/proc/sys/kernel/random/boot_id")


def steady_time() -> float:
    """Seconds since 1970, by the wall clock when this process began, and by the monotonic clock since then."""
    return _STARTED + time.monotonic()


@cache
def boot() -> str:
    """A name that all processes of this machine share until it restarts. "" if the system does not say."""
    try:
        return BOOT_ID.read_text().strip()
    except OSError:
        return ""
