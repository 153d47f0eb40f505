"""Spread and upper quantile of a blended forecast, from the errors that it would have made.

The variance of an hour grows with its mean, ``φ·(mean + c)^α``: as counts do (α = 1), or as shares do (α = 2). The upper
quantile is that of a normal, a gamma or a negative binomial with this mean and variance: the normal one is wrong for small
counts, which are skewed and whole. Power and family are chosen by the pinball loss that they would have had, apart for keys
with small counts and for others.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cache

import numpy as np

from foreshard.forecast.series import IntArray
from foreshard.forecast.spread import normal_quantile
from foreshard.model import BoolArray, FloatArray

POWERS = (1.0, 1.5)
FLOOR_SHARE = 0.1
"""The constant c, as a share of the key's typical cost: a mean near zero is never certain."""

SMALL_COUNTS = (1.0, 8.0)
"""Bounds, in typical accesses per hour, between keys whose family is chosen together."""

ASKED_KEYS = 128
"""How many keys of a class are asked which family suits them."""

COUNTED_BELOW = 50.0
"""Accesses per hour from which a count is so nearly continuous that its quantile is taken from the gamma."""

_LEAST = 1e-12
_SHAPES = (1e-6, 1e8)
"""Bounds of the gamma's shape."""
Quantile = Callable[[FloatArray, FloatArray, FloatArray, float], FloatArray]


@dataclass(frozen=True)
class Spread:
    """Standard deviation and upper quantile (K, H), and what family and power was chosen for each key."""

    sigma: FloatArray
    upper: FloatArray
    families: tuple[str, ...]


def normal(mean: FloatArray, variance: FloatArray, unit: FloatArray, quantile: float) -> FloatArray:
    """Upper quantile of a normal; ``unit`` is not used."""
    del unit
    upper: FloatArray = mean + normal_quantile(quantile) * np.sqrt(variance)
    return upper


def gamma(mean: FloatArray, variance: FloatArray, unit: FloatArray, quantile: float) -> FloatArray:
    """Upper quantile of a gamma: skewed, never below zero; ``unit`` is not used.

    Quantile ÷ mean depends on the shape alone, so it is read from a table (relative error below 1e-5).
    """
    del unit
    shape = np.clip(mean**2 / np.maximum(variance, _LEAST**2), *_SHAPES)
    upper: FloatArray = np.where(mean > 0, mean * np.interp(np.log(shape), *_gamma_table(quantile)), 0.0)
    return upper


@cache
def _gamma_table(quantile: float) -> tuple[FloatArray, FloatArray]:
    """Logarithms of gamma shapes, and the quantile ÷ the mean of each."""
    from scipy.special import gammaincinv

    shapes = np.geomspace(*_SHAPES, 8192)
    return np.log(shapes), gammaincinv(shapes, quantile) / shapes


def negative_binomial(mean: FloatArray, variance: FloatArray, unit: FloatArray, quantile: float) -> FloatArray:
    """Upper quantile of ``unit`` times a negative binomial count (Poisson where the counts are not overdispersed)."""
    upper = gamma(mean, variance, unit, quantile)
    whole = np.broadcast_to(unit, mean.shape)
    small = (mean > 0) & (mean < COUNTED_BELOW * whole)
    count, step = mean[small] / whole[small], whole[small]
    upper[small] = step * _count_quantile(count, variance[small] / step**2, np.ceil(upper[small] / step), quantile)
    return upper


def _count_quantile(count: FloatArray, variance: FloatArray, guess: FloatArray, quantile: float) -> FloatArray:
    """The least whole number at which the distribution function reaches ``quantile``, searched from ``guess``."""
    from scipy.special import betainc

    spread = np.maximum(variance, count * (1.0 + 1e-6))
    success = count / spread
    size = np.maximum(count * success / (1.0 - success), 1e-9)

    def reached(value: FloatArray, of: BoolArray) -> BoolArray:
        enough: BoolArray = (value >= 0) & (betainc(size[of], np.maximum(value, 0.0) + 1.0, success[of]) >= quantile)
        return enough

    result, up = guess.copy(), np.ones(len(guess), dtype=np.bool_)
    while up.any():
        up[up] = ~reached(result[up], up)
        result[up] += 1.0
    down = np.ones(len(guess), dtype=np.bool_)
    while down.any():
        down[down] = reached(result[down] - 1.0, down)
        result[down] -= 1.0
    return result


FAMILIES: dict[str, Quantile] = {"normal": normal, "gamma": gamma, "negative_binomial": negative_binomial}


def pinball(actual: FloatArray, upper: FloatArray, quantile: float) -> FloatArray:
    """The loss that a quantile minimises: quantile × what came above, (1 − quantile) × what it lay above."""
    loss: FloatArray = np.maximum(quantile * (actual - upper), (1.0 - quantile) * (upper - actual))
    return loss


def measured_spread(
    mean: FloatArray, past: FloatArray, actual: FloatArray, known: BoolArray, unit: FloatArray, quantile: float
) -> Spread:
    """Spread of ``mean`` (K, H) from ``past`` forecasts and what came, both (K, N) where ``known``; ``unit`` (K,)."""
    known_count = np.maximum(known.sum(axis=1), 1)
    squares = np.where(known, (actual - past) ** 2, 0.0)
    typical = np.where(known, np.maximum(actual, past), 0.0).sum(axis=1) / known_count
    floor = (FLOOR_SHARE * typical + 1e-9 * unit)[:, None]
    variances = {power: _variance(mean, past, squares, known, floor, power) for power in POWERS}
    level = typical / unit
    classes = np.digitize(level, SMALL_COUNTS)
    sigma, upper = np.zeros_like(mean), np.zeros_like(mean)
    chosen = np.full(len(mean), "normal", dtype=object)
    for kind in np.unique(classes):
        rows = np.flatnonzero(classes == kind)
        power, family = _best(variances, past, actual, known, typical, unit, quantile, rows)
        variance = variances[power][0][rows]
        sigma[rows] = np.sqrt(variance)
        upper[rows] = FAMILIES[family](mean[rows], variance, unit[rows, None], quantile)
        chosen[rows] = family
    return Spread(sigma, np.maximum(upper, mean), tuple(chosen))


def _variance(
    mean: FloatArray, past: FloatArray, squares: FloatArray, known: BoolArray, floor: FloatArray, power: float
) -> tuple[FloatArray, FloatArray]:
    """Variances of the forecast (K, H) and of the past ones (K, N) under one power; the errors fit one factor per key."""
    bases = _power(mean + floor, power), _power(past + floor, power)
    total = np.where(known, bases[1], 0.0).sum(axis=1)
    factor = (squares.sum(axis=1) / np.maximum(total, 1e-300))[:, None]
    return factor * bases[0], factor * bases[1]


def _power(base: FloatArray, power: float) -> FloatArray:
    """``base`` to a power that is a multiple of one half; roots are several times faster than powers."""
    result: FloatArray = base ** int(power)
    return result * np.sqrt(base) if power % 1 else result


def _best(
    variances: dict[float, tuple[FloatArray, FloatArray]],
    past: FloatArray,
    actual: FloatArray,
    known: BoolArray,
    typical: FloatArray,
    unit: FloatArray,
    quantile: float,
    rows: IntArray,
) -> tuple[float, str]:
    """The power and family with the least pinball loss at past hours; some keys are asked."""
    asked = rows[:: max(1, len(rows) // ASKED_KEYS)]
    scale = np.maximum(typical[asked], _LEAST)[:, None]
    losses = {}
    for power, (_, before) in variances.items():
        for name, family in FAMILIES.items():
            upper = np.maximum(family(past[asked], before[asked], unit[asked, None], quantile), past[asked])
            loss = pinball(actual[asked], upper, quantile) / scale
            losses[power, name] = float(np.where(known[asked], loss, 0.0).sum())
    return min(losses, key=losses.__getitem__)
