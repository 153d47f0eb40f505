"""Weights of a blend: per key, on the simplex, by the absolute errors that the candidates have made at past origins.

A key's own errors are few and noisy, so they are pooled with all keys' errors, and with the error of the keys' total, in which
noise averages out and a shared bias does not. The absolute error is minimised by reweighted least squares: a few quadratic
programs on the simplex, each solved by exponentiated gradient, all keys at once.
"""

from __future__ import annotations

import numpy as np

from foreshard.model import BoolArray, FloatArray

POOL = 0.5
"""How much all keys' errors count, against the key's own."""

TOGETHER = 0.3
"""How much the error of the keys' total counts within the pooled part."""

_ROUNDS = 4
_STEPS = 80
_FLOOR = 0.05
"""Absolute errors below this share of the typical one are weighed as if they were this large."""


def blend_weights(errors: FloatArray, known: BoolArray, pool: float = POOL, together: float = TOGETHER) -> FloatArray:
    """Weights (K, C) from ``errors`` (K, N, C) of C candidates at N past hours, where ``known`` (K, N)."""
    keys, hours, candidates = errors.shape
    weights: FloatArray = np.full((keys, candidates), 1.0 / candidates)
    if not keys or not hours or not known.any():
        return weights
    masked = np.where(known[:, :, None], errors, 0.0)
    counts = np.maximum(known.sum(axis=1), 1)
    scale = np.abs(masked).sum(axis=(1, 2)) / (counts * candidates)
    scaled = masked / np.maximum(scale, 1e-300)[:, None, None]
    total = masked.sum(axis=0)
    total = total / max(float(np.abs(total).mean()), 1e-300)
    share: FloatArray = scale / max(float(scale.sum()), 1e-300)
    for _ in range(_ROUNDS):
        own = _reweighted(scaled, weights) / counts[:, None, None]
        common = np.einsum("k,kcd->cd", share, own)
        shared = _reweighted(total[None], (share[:, None] * weights).sum(axis=0)[None])[0] / hours
        matrix = (own + pool * (common + together * shared)) / (1.0 + pool * (1.0 + together))
        weights = _on_simplex(matrix, weights)
    return weights


def _reweighted(errors: FloatArray, weights: FloatArray) -> FloatArray:
    """Second moments (K, C, C) of the errors, each hour divided by the present blend's absolute error."""
    blended = np.abs((errors @ weights[:, :, None])[:, :, 0])
    matrix: FloatArray = (errors / np.maximum(blended, _FLOOR)[:, :, None]).transpose(0, 2, 1) @ errors
    return matrix


def _on_simplex(matrix: FloatArray, start: FloatArray) -> FloatArray:
    """Minimise wᵀMw over the simplex by exponentiated gradient."""
    candidates = matrix.shape[1]
    size = np.trace(matrix, axis1=1, axis2=2)[:, None] / candidates
    weights: FloatArray = 0.5 * start + 0.5 / candidates
    normal = matrix / np.maximum(size, 1e-300)[:, :, None]
    for _ in range(_STEPS):
        slope = (normal @ weights[:, :, None])[:, :, 0]
        weights = weights * np.exp(-2.0 * (slope - (slope * weights).sum(axis=1, keepdims=True)))
        weights /= weights.sum(axis=1, keepdims=True)
    return weights
