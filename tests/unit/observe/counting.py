"""Counts frames of clean records by the engine in this process."""

from __future__ import annotations

from collections.abc import Mapping

import pandas as pd

from foreshard.model import KEY_LOAD_COLUMNS
from foreshard.observe.batches import accepted_table
from foreshard.observe.engines import FrameEngine, PolarsFrames
from foreshard.observe.tally import TALLIED, empty_key_load, tally

POLARS = PolarsFrames()


def tally_of(frame: pd.DataFrame, weights: Mapping[str, float], engine: FrameEngine = POLARS) -> pd.DataFrame:
    """Return the tally of records, sorted, with texts as objects."""
    found = tally(engine.coded(accepted_table(frame).select(["timestamp", *TALLIED])), engine, weights)
    return found.astype(empty_key_load().dtypes.to_dict()).sort_values(list(KEY_LOAD_COLUMNS[:4]), ignore_index=True)
