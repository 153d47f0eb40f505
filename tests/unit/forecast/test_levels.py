"""The levels that carry a daily shape."""

from __future__ import annotations

import numpy as np

from foreshard.forecast.hourly._levels import Levels

UNIT = np.ones(5)


def learnt(actual: list[float]) -> Levels:
    """Levels after a day as expected at 10 accesses a key, and these shares of it in the hours after; then a night."""
    levels, expected = Levels(5), np.full(5, 10.0)
    for share in [1.0] * 24 + actual:
        levels.learn(share * expected, expected, expected, UNIT)
    return levels


def test_the_level_of_all_keys_follows_hours_with_load() -> None:
    assert learnt([0.5] * 6).together(1)[0] < 0.6


def test_hours_without_load_say_nothing_about_the_level_of_all_keys() -> None:
    levels, none = learnt([0.5] * 6), np.zeros(5)
    for _ in range(12):
        levels.learn(none, none, none, UNIT)
    assert levels.together(1)[0] > 0.85
