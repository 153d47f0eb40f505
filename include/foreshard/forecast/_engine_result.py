"""The result type of all engines."""

from __future__ import annotations

from dataclasses import dataclass

from foreshard.model import BoolArray, FloatArray


@dataclass(frozen=True)
class EngineForecast:
    """Mean and sigma (keys, H), and which keys are ``done`` (keys,). ``upper``, ``labels`` and
    ``correlation`` (of two keys' errors, 0 to 1) are None if not provided.

    A key that is not done gets a fallback; its row is ignored.
    """

    mean: FloatArray
    sigma: FloatArray
    done: BoolArray
    upper: FloatArray | None = None
    labels: tuple[str, ...] | None = None
    correlation: float | None = None
