"""The rate of moves, measured from recent ones."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import timedelta

import numpy as np
from scipy.optimize import nnls

from foreshard.model import FloatArray

MOVE_TIME = timedelta(seconds=60)
"""The fixed duration of a move that is assumed until enough moves have been measured."""
RATE_WINDOW = timedelta(days=7)
"""Moves of this long a period are measured."""
FEWEST_SAMPLES = 5
"""With fewer moves than this the default rate applies."""
OUTLIER = 5.0
"""Moves that took more than this multiple of the first fit (paused, resumed, waiting) are ignored."""


@dataclass(frozen=True, slots=True)
class MigrationRate:
    """A move takes ``move_seconds`` + bytes ÷ ``bytes_per_second``; measured on ``measured`` moves (0: a default)."""

    move_seconds: float
    bytes_per_second: float
    measured: int = 0

    def seconds(self, size_bytes: float) -> float:
        """Return the duration of a move of this size."""
        return self.move_seconds + size_bytes / self.bytes_per_second


def measure_rate(moves: Sequence[tuple[float, float]], default: MigrationRate) -> MigrationRate:
    """Fit (bytes, seconds) of recent moves by non-negative least squares. Return ``default`` if they are too few.

    If the moves do not show a bandwidth (all small, or all of one size), the default bandwidth applies.
    """
    if len(moves) < FEWEST_SAMPLES:
        return default
    size, seconds = np.array(moves, np.float64).T
    fixed, per_byte = _fit(size, seconds)
    typical = seconds <= OUTLIER * np.maximum(fixed + per_byte * size, 1e-3)
    fixed, per_byte = _fit(size[typical], seconds[typical])
    rate = 1.0 / per_byte if per_byte > 0 else default.bytes_per_second
    return MigrationRate(fixed, rate, int(typical.sum()))


def _fit(size: FloatArray, seconds: FloatArray) -> tuple[float, float]:
    """Return seconds per move and per byte. The columns are scaled to similar size for numerical accuracy."""
    unit = max(float(size.max(initial=0.0)), 1.0)
    (fixed, per_unit), _ = nnls(np.stack([np.ones_like(size), size / unit], axis=1), seconds)
    return float(fixed), float(per_unit) / unit
