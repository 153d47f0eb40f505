"""The weights of a blend, per key: non-negative, summing to 1, and minimising the absolute error at past origins.

A key's own errors are few and noisy. They are pooled with the errors of all keys, and with the error of the keys' total, which
shows shared bias because noise averages out. The absolute error is minimised by iteratively reweighted least squares: a few
quadratic programs on the simplex, each solved for all keys at once by exponentiated gradient descent.
"""

from __future__ import annotations

import numpy as np

from foreshard.model import BoolArray, FloatArray

POOL = 0.5
"""Weight of the pooled errors relative to the key's own."""

TOGETHER = 0.3
"""Weight of the total's error within the pooled errors."""

_ROUNDS = 4
_STEPS = 80
_BLOCK = 256
"""Keys worked on at once, so that their errors stay in the processor's cache."""
_FLOOR = 0.05
"""Lower bound of an absolute error when it is used as a divisor, as a share of the typical error."""


def blend_weights(errors: FloatArray, known: BoolArray, pool: float = POOL, together: float = TOGETHER) -> FloatArray:
    """Return weights (K, C) from the ``errors`` (K, N, C) of C candidates at N past hours. Only ``known`` (K, N) ones count."""
    keys, hours, candidates = errors.shape
    weights: FloatArray = np.full((keys, candidates), 1.0 / candidates)
    if not keys or not hours or not known.any():
        return weights
    apart = np.where(known[None], errors.transpose(2, 0, 1), 0.0)
    counts = np.maximum(known.sum(axis=1), 1)
    scale = np.abs(apart).sum(axis=(0, 2)) / (counts * candidates)
    total = apart.sum(axis=1)[:, None]
    total = total / max(float(np.abs(total).mean()), 1e-300)
    scaled = apart / np.maximum(scale, 1e-300)[None, :, None]
    share: FloatArray = scale / max(float(scale.sum()), 1e-300)
    for _ in range(_ROUNDS):
        own = _reweighted(scaled, weights) / counts[:, None, None]
        common = np.einsum("k,kcd->cd", share, own)
        shared = _reweighted(total, (share[:, None] * weights).sum(axis=0)[None])[0] / hours
        matrix = (own + pool * (common + together * shared)) / (1.0 + pool * (1.0 + together))
        weights = _on_simplex(matrix, weights)
    return weights


def _reweighted(errors: FloatArray, weights: FloatArray) -> FloatArray:
    """Return second moments (K, C, C) of the errors (C, K, N), each hour divided by the absolute error of the current blend."""
    candidates, keys, _ = errors.shape
    matrix: FloatArray = np.empty((keys, candidates, candidates))
    for start in range(0, keys, _BLOCK):
        rows = slice(start, start + _BLOCK)
        part = errors[:, rows]
        importance = np.einsum("ckn,kc->kn", part, weights[rows])
        np.abs(importance, out=importance)
        np.divide(1.0, np.maximum(importance, _FLOOR, out=importance), out=importance)
        for one in range(candidates):
            weighted = part[one] * importance
            for other in range(one, candidates):
                matrix[rows, one, other] = matrix[rows, other, one] = np.einsum("kn,kn->k", weighted, part[other])
    return matrix


def _on_simplex(matrix: FloatArray, start: FloatArray) -> FloatArray:
    """Minimise wᵀMw over the simplex by exponentiated gradient, for matrices (K, C, C) and starts (K, C)."""
    keys, candidates = start.shape
    result: FloatArray = np.empty_like(start)
    for first in range(0, keys, _BLOCK):
        rows = slice(first, first + _BLOCK)
        normal = np.ascontiguousarray(matrix[rows].transpose(1, 2, 0))
        normal *= candidates / np.maximum(np.einsum("cck->k", normal), 1e-300)
        weights = np.ascontiguousarray(0.5 * start[rows].T + 0.5 / candidates)
        for _ in range(_STEPS):
            slope = (normal * weights).sum(axis=1)
            slope -= (slope * weights).sum(axis=0)
            weights *= np.exp(-2.0 * slope)
            weights /= weights.sum(axis=0)
        result[rows] = weights.T
    return result
