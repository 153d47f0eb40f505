"""The score stage: forecasts and the published table → LPS per partition → ``scores``, and PredictedLoad in the registry."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING

import numpy as np

from foreshard.measure.lps import access_volume, require_capacities, score_profile
from foreshard.measure.serving import partition_load
from foreshard.stages.snapshot import load_ground

if TYPE_CHECKING:
    from foreshard.model import PartitionScore
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
    scores, correlation = scores_now(wiring, hour)
    wiring.scores.save(hour, scores)
    wiring.registry.set_predicted_load({score.partition_id: score.predicted_load for score in scores})
    worst = max(scores, key=lambda score: score.lps)
    return ScoreSummary(
        hour=hour,
        partitions=len(scores),
        worst=worst.partition_id,
        worst_lps=round(worst.lps, 4),
        over_high_water=tuple(score.partition_id for score in scores if score.lps > wiring.settings.plan.high_water),
        error_correlation=round(correlation, 4),
    )


def refresh_predicted_load(wiring: Wiring, hour: datetime) -> dict[str, float]:
    """Set each partition's predicted load to what it is under the table as published now; return LPS per partition.

    The hour's saved scores stay as they are: they are what its plan was made from.
    """
    scores, _ = scores_now(wiring, hour)
    wiring.registry.set_predicted_load({score.partition_id: score.predicted_load for score in scores})
    return {score.partition_id: score.lps for score in scores}


def scores_now(wiring: Wiring, hour: datetime) -> tuple[tuple[PartitionScore, ...], float]:
    """The scores under the table as it is published now, from the forecasts of ``hour``, and the errors' correlation."""
    ground = load_ground(wiring, hour)
    capacity = require_capacities(ground.partitions)
    count = len(ground.partitions)
    shadows = ground.published_shadows()
    profile, shares = partition_load(ground.demand, ground.primary, shadows, capacity, ground.distance_km, ground.rule)
    volume = access_volume(ground.demand, ground.profiles.access_cost, ground.primary, shares, count)
    keys = np.bincount(ground.primary, minlength=count).tolist()
    scores = score_profile(hour, ground.partitions, profile, volume, keys, ground.rule)
    return scores, ground.rule.correlation
