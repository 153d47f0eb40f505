"""Write a synthetic log, the rates it was drawn from, and its locations."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd

from foreshard.errors import ConfigurationError
from foreshard.lab.synthetic import KINDS, PLACES, START, synthesise


def write_synthetic_log(kind: str, output: Path, keys: int, days: int, seed: int) -> tuple[Path, Path, Path]:
    """Write the log to ``output``, with ``…-rates.parquet`` and ``…-locations.csv`` beside it. Return the three paths.

    The rates have the columns partitionable_key, hour, mean and sigma.
    """
    if kind not in KINDS:
        raise ConfigurationError("NAME", f"unknown synthetic log {kind!r}", f"use {', '.join(KINDS)}")
    if output.suffix != ".parquet":
        raise ConfigurationError("--output", f"{output.name} must end in .parquet", "rename it")
    made = synthesise(kind, keys, days, seed)
    output.parent.mkdir(parents=True, exist_ok=True)
    plain = dict.fromkeys(("partitionable_key", "user_id", "request_type", "location"), str)
    made.records.astype(plain).to_parquet(output, index=False)
    rates, places = (output.with_name(f"{output.stem}-{ending}") for ending in ("rates.parquet", "locations.csv"))
    hours = pd.date_range(START, periods=days * 24, freq="h")
    pd.DataFrame(
        {
            "partitionable_key": np.repeat(np.array(made.keys, dtype=object), len(hours)),
            "hour": np.tile(hours, keys),
            "mean": made.mean.astype(np.float32).reshape(-1),
            "sigma": made.sigma.astype(np.float32).reshape(-1),
        }
    ).to_parquet(rates, index=False)
    pd.DataFrame([(p.name, p.latitude, p.longitude) for p in PLACES], columns=["name", "latitude", "longitude"]).to_csv(
        places, index=False
    )
    return output, rates, places
