"""Spread and upper quantile of a forecast, from the errors that it would have made in the past.

The variance of an hour is ``φ·(mean + c)^α``; α = 1 suits counts, larger powers suit rates. The upper quantile is that of a
normal, gamma or negative binomial distribution with this mean and variance. (A normal is wrong for small counts, which are
skewed and integer.) Power and family are those with the least pinball loss in the past. They are chosen separately for keys
with small, medium and large counts.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cache

import numpy as np

from foreshard.forecast.spread import normal_quantile
from foreshard.model import BoolArray, FloatArray, IntArray

POWERS = (1.0, 1.5)
FLOOR_SHARE = 0.1
"""The constant c, as a share of the key's typical cost. It keeps the variance above 0 for means near 0."""

SMALL_COUNTS = (1.0, 8.0)
"""Bounds, in typical accesses per hour, between the classes of keys that share a family."""

SAMPLED_KEYS = 128
"""The number of keys per class on which power and family are chosen."""

COUNTED_BELOW = 50.0
"""Accesses per hour above which counts are nearly continuous, so that their quantile is taken from the gamma."""

_LEAST = 1e-12
_SHAPES = (1e-6, 1e8)
"""Bounds of the gamma's shape parameter."""

Quantile = Callable[[FloatArray, FloatArray, FloatArray, float], FloatArray]


@dataclass(frozen=True)
class Spread:
    """Standard deviation and upper quantile (K, H), and the family chosen for each key."""

    sigma: FloatArray
    upper: FloatArray
    families: tuple[str, ...]


def normal(mean: FloatArray, variance: FloatArray, unit: FloatArray, quantile: float) -> FloatArray:
    """Return the upper quantile of a normal; ``unit`` is not used."""
    del unit
    upper: FloatArray = mean + normal_quantile(quantile) * np.sqrt(variance)
    return upper


def gamma(mean: FloatArray, variance: FloatArray, unit: FloatArray, quantile: float) -> FloatArray:
    """Return the upper quantile of a gamma, which is skewed and never below zero; ``unit`` is not used.

    Quantile ÷ mean depends only on the shape, so it is interpolated in a table (relative error below 1e-5).
    """
    del unit
    shape = np.clip(mean**2 / np.maximum(variance, _LEAST**2), *_SHAPES)
    upper: FloatArray = np.where(mean > 0, mean * np.interp(np.log(shape), *_gamma_table(quantile)), 0.0)
    return upper


@cache
def _gamma_table(quantile: float) -> tuple[FloatArray, FloatArray]:
    """Logarithms of gamma shapes, and quantile ÷ mean for each."""
    from scipy.special import gammaincinv

    shapes = np.geomspace(*_SHAPES, 8192)
    return np.log(shapes), gammaincinv(shapes, quantile) / shapes


def negative_binomial(mean: FloatArray, variance: FloatArray, unit: FloatArray, quantile: float) -> FloatArray:
    """Return the upper quantile of ``unit`` times a negative binomial count; Poisson if the counts are not overdispersed."""
    upper = gamma(mean, variance, unit, quantile)
    units = np.broadcast_to(unit, mean.shape)
    small = (mean > 0) & (mean < COUNTED_BELOW * units)
    count, step = mean[small] / units[small], units[small]
    upper[small] = step * _count_quantile(count, variance[small] / step**2, np.ceil(upper[small] / step), quantile)
    return upper


def _count_quantile(count: FloatArray, variance: FloatArray, guess: FloatArray, quantile: float) -> FloatArray:
    """Return the least integer at which the distribution function reaches ``quantile``, searched from ``guess``."""
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
    """Return the pinball loss: q·(actual − upper) above the quantile, (1 − q)·(upper − actual) below it."""
    loss: FloatArray = np.maximum(quantile * (actual - upper), (1.0 - quantile) * (upper - actual))
    return loss


def measured_spread(
    mean: FloatArray, past: FloatArray, actual: FloatArray, known: BoolArray, unit: FloatArray, quantile: float
) -> Spread:
    """Return the spread of ``mean`` (K, H), from ``past`` forecasts and ``actual`` costs, both (K, N), at the ``known`` hours.

    ``unit`` (K,) is the cost of one access.
    """
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
    """Return variances of the forecast (K, H) and of past forecasts (K, N) for one power. The factor φ is fitted per key."""
    bases = _power(mean + floor, power), _power(past + floor, power)
    total = np.where(known, bases[1], 0.0).sum(axis=1)
    factor = (squares.sum(axis=1) / np.maximum(total, 1e-300))[:, None]
    return factor * bases[0], factor * bases[1]


def _power(base: FloatArray, power: float) -> FloatArray:
    """``base`` to a power that is a multiple of ½. Square roots are several times faster than powers."""
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
    """Return the power and family with the least pinball loss at past hours, over a sample of the keys."""
    sample = rows[:: max(1, len(rows) // SAMPLED_KEYS)]
    scale = np.maximum(typical[sample], _LEAST)[:, None]
    losses = {}
    for power, (_, before) in variances.items():
        for name, family in FAMILIES.items():
            upper = np.maximum(family(past[sample], before[sample], unit[sample, None], quantile), past[sample])
            loss = pinball(actual[sample], upper, quantile) / scale
            losses[power, name] = float(np.where(known[sample], loss, 0.0).sum())
    return min(losses, key=losses.__getitem__)
