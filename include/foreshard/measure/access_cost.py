"""About what one access of a key costs, as far as its hourly costs tell."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt


def smallest_costs(costs: npt.NDArray[np.floating[Any]]) -> npt.NDArray[np.floating[Any]]:
    """Return each key's smallest hourly cost above 0 (about that of one access); infinity if there is none."""
    return np.asarray(np.where(costs > 0, costs, np.inf).min(axis=1, initial=np.inf))
