"""Quieting Prophet and the optimiser behind it, both of which talk at every fit."""

from __future__ import annotations

import logging
from functools import cache


@cache
def silence() -> None:
    """Quiet cmdstanpy, its own way (a level set before its first fit is overwritten), and Prophet's hints; once per process."""
    import cmdstanpy

    cmdstanpy.disable_logging().__enter__()
    logging.getLogger("prophet").setLevel(logging.CRITICAL)
    import prophet  # noqa: F401  # sets its logger's level

    logging.getLogger("prophet").setLevel(logging.CRITICAL)
