"""What every engine returns."""

from __future__ import annotations

from dataclasses import dataclass

from foreshard.model import BoolArray, FloatArray


@dataclass(frozen=True)
class EngineForecast:
    """Mean and sigma (keys, H); which keys are ``done`` (keys,); where the engine has its own, the upper quantile and labels.

    A key that is not done is served by a fallback; what stands in its row is not read.
    """

    mean: FloatArray
    sigma: FloatArray
    done: BoolArray
    upper: FloatArray | None = None
    labels: tuple[str, ...] | None = None
