"""The score stage: forecasts and the published table → LPS per partition → ``scores``, and PredictedLoad in the registry."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING

import numpy as np

from foreshard.load import partition_load
from foreshard.score.lps import access_volume, require_capacities, score_profile
from foreshard.stages.snapshot import load_ground

if TYPE_CHECKING:
    from foreshard.wiring import Wiring


@dataclass(frozen=True, slots=True)
class ScoreSummary:
    """How many partitions were scored, the worst of them, and which pass the high-water mark."""

    hour: datetime
    partitions: int
    worst: str
    worst_lps: float
    over_high_water: tuple[str, ...]
    error_correlation: float


def score_partitions(wiring: Wiring, hour: datetime) -> ScoreSummary:
    """Score every partition under the published table; replaces the hour's scores and each partition's predicted load.

    Raise :class:`foreshard.errors.MissingStageResult` without forecasts, :class:`foreshard.errors.UnusableCapacity` for a
    partition that cannot be scored.
    """
    ground = load_ground(wiring, hour)
    capacity = require_capacities(ground.partitions)
    count = len(ground.partitions)
    shadows = ground.published_shadows()
    profile, shares = partition_load(ground.demand, ground.primary, shadows, capacity, ground.distance_km, ground.rule)
    volume = access_volume(ground.demand, ground.profiles.access_cost, ground.primary, shares, count)
    keys = np.bincount(ground.primary, minlength=count).tolist()
    scores = score_profile(hour, ground.partitions, profile, volume, keys, ground.rule)
    wiring.scores.save(hour, scores)
    wiring.registry.set_predicted_load({score.partition_id: score.predicted_load for score in scores})
    worst = max(scores, key=lambda score: score.lps)
    return ScoreSummary(
        hour=hour,
        partitions=count,
        worst=worst.partition_id,
        worst_lps=round(worst.lps, 4),
        over_high_water=tuple(score.partition_id for score in scores if score.lps > wiring.settings.plan.high_water),
        error_correlation=round(ground.rule.correlation, 4),
    )
