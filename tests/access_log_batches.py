"""Reads what an access-log source yields."""

from __future__ import annotations

import pandas as pd
import pyarrow as pa


def frame_of(batch: pd.DataFrame | pa.Table) -> pd.DataFrame:
    """Return a batch as a frame. A source yields frames or Arrow tables, whichever is cheaper for it."""
    return batch.to_pandas() if isinstance(batch, pa.Table) else batch
