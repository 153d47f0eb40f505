from datetime import UTC, datetime

import numpy as np

from foreshard.model import ForecastBatch
from foreshard.plan.input.scoring_input import align_forecasts

HOUR = datetime(2024, 3, 10, 7, tzinfo=UTC)


def test_forecasts_are_put_in_the_order_of_the_keys_and_missing_ones_are_zero():
    mean, sigma = np.array([[1.0, -2.0], [3.0, 4.0]]), np.array([[0.5, 0.5], [-1.0, 1.0]])
    batch = ForecastBatch(HOUR, 0.9, ("c", "a"), mean, sigma, mean, ("m", "m"))
    aligned = align_forecasts(batch, ("a", "b", "c"))
    assert aligned[0].tolist() == [[3.0, 4.0], [0.0, 0.0], [1.0, 0.0]]
    assert aligned[1].tolist() == [[0.0, 1.0], [0.0, 0.0], [0.5, 0.5]]
