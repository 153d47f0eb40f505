"""How fast moves go, measured from those that were made lately."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from scipy.optimize import nnls

from foreshard.model import FloatArray

FEWEST_SAMPLES = 5
"""Fewer moves than this say nothing about the rate; the default stands."""
OUTLIER = 5.0
"""Moves that took this many times what the first fit says (paused, resumed, waiting for something) are left out."""


@dataclass(frozen=True, slots=True)
class MigrationRate:
    """A move takes ``move_seconds`` and its bytes ÷ ``bytes_per_second``; ``measured`` moves say so (0: it is a default)."""

    move_seconds: float = 60.0
    bytes_per_second: float = 5.0 * 2**20
    measured: int = 0

    def seconds(self, size_bytes: float) -> float:
        """How long a move of this size takes."""
        return self.move_seconds + size_bytes / self.bytes_per_second


def measure_rate(moves: Sequence[tuple[float, float]], default: MigrationRate) -> MigrationRate:
    """Fit (bytes, seconds) of recent moves by least squares, neither part negative; ``default`` where they are too few.

    A part that the moves don't show (all of them small, or all of one size) is taken from the moves as a whole.
    """
    if len(moves) < FEWEST_SAMPLES:
        return default
    size, seconds = np.array(moves, np.float64).T
    fixed, per_byte = _fit(size, seconds)
    usual = seconds <= OUTLIER * np.maximum(fixed + per_byte * size, 1e-3)
    fixed, per_byte = _fit(size[usual], seconds[usual])
    rate = 1.0 / per_byte if per_byte > 0 else default.bytes_per_second
    return MigrationRate(fixed, rate, int(usual.sum()))


def _fit(size: FloatArray, seconds: FloatArray) -> tuple[float, float]:
    """Seconds per move and per byte; the two columns are scaled alike, so that neither drowns in rounding."""
    unit = max(float(size.max(initial=0.0)), 1.0)
    (fixed, per_unit), _ = nnls(np.stack([np.ones_like(size), size / unit], axis=1), seconds)
    return float(fixed), float(per_unit) / unit
