"""What the additive solver needs of the data."""

from __future__ import annotations

from dataclasses import dataclass

from foreshard.model import FloatArray


@dataclass(frozen=True)
class Moments:
    """The series' products with the solver's columns (K, P), their sums of squares (K,), and their number of observations."""

    products: FloatArray
    squares: FloatArray
    count: int

    def hinged(self, hinges: int) -> FloatArray:
        """The products with the changepoints' hinges."""
        return self.products[:, :hinges]

    def rotated(self, hinges: int) -> FloatArray:
        """The products with the rotated quadratic columns."""
        return self.products[:, hinges:]
