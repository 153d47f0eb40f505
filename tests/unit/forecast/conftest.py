"""Series with known shapes for the forecast room's tests."""

from __future__ import annotations

from datetime import UTC, datetime

import numpy as np
import pytest

HOUR = datetime(2026, 3, 1, 23, tzinfo=UTC)
"""A Sunday's last hour; 28 days before it start on a Monday."""


@pytest.fixture(scope="session")
def daily_costs() -> np.ndarray:
    """Four keys × 672 hours: a daily wave with a weekend dip and Poisson noise, at levels 5, 20, 80 and 320 per hour."""
    random = np.random.default_rng(7)
    hours = np.arange(672)
    wave = 1.0 + 0.9 * np.sin((hours % 24 - 6) / 24 * 2 * np.pi)
    weekend = np.where(hours // 24 % 7 >= 5, 0.4, 1.0)
    return random.poisson(np.array([[5.0], [20.0], [80.0], [320.0]]) * wave * weekend).astype(np.float64)


@pytest.fixture(scope="session")
def degenerate_series(daily_costs: np.ndarray) -> dict[str, np.ndarray]:
    """A good series, and series that no model can serve or that are hard on numbers."""
    return {
        "good": daily_costs[2],
        "zero": np.zeros(672),
        "constant": np.full(672, 7.0),
        "point": np.r_[np.zeros(671), 3.0],
        "nan": np.full(672, np.nan),
        "infinite": np.where(np.arange(672) == 600, np.inf, daily_costs[1]),
        "huge": daily_costs[1] * 1e15,
    }
