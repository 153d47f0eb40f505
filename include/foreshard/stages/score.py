"""The score stage: forecasts and the routing table → the LPS of each partition, and its predicted load."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING, Protocol

import numpy as np

from foreshard.measure.lps import access_volume, require_capacities, score_profile
from foreshard.measure.serving import partition_load
from foreshard.stages._ports import WithScores
from foreshard.stages.snapshot import ScoringPorts, load_scoring_input

if TYPE_CHECKING:
    from foreshard.model import PartitionScore


class ScorePorts(ScoringPorts, WithScores, Protocol):
    """Reads what scoring reads. Writes scores, and each partition's predicted load."""


@dataclass(frozen=True, slots=True)
class ScoreSummary:
    """The number of scored partitions, the highest LPS, and the partitions above the high-water mark."""

    hour: datetime
    partitions: int
    worst: str
    worst_lps: float
    over_high_water: tuple[str, ...]
    error_correlation: float


def score_partitions(ports: ScorePorts, hour: datetime) -> ScoreSummary:
    """Score every partition under the published table. Replace the hour's scores and each partition's predicted load.

    Raise :class:`foreshard.errors.MissingStageResult` without forecasts, and :class:`foreshard.errors.UnusableCapacity` for a
    partition without a usable capacity.
    """
    scores, correlation = scores_now(ports, hour)
    ports.scores.save(hour, scores)
    ports.registry.set_predicted_load({score.partition_id: score.predicted_load for score in scores})
    worst = max(scores, key=lambda score: score.lps)
    return ScoreSummary(
        hour=hour,
        partitions=len(scores),
        worst=worst.partition_id,
        worst_lps=round(worst.lps, 4),
        over_high_water=tuple(score.partition_id for score in scores if score.lps > ports.plan_settings.high_water),
        error_correlation=round(correlation, 4),
    )


def refresh_predicted_load(ports: ScoringPorts, hour: datetime) -> dict[str, float]:
    """Set each partition's predicted load for the current routing table. Return the LPS of each partition.

    The hour's saved scores are not replaced, because its plan was made from them.
    """
    scores, _ = scores_now(ports, hour)
    ports.registry.set_predicted_load({score.partition_id: score.predicted_load for score in scores})
    return {score.partition_id: score.lps for score in scores}


def scores_now(ports: ScoringPorts, hour: datetime) -> tuple[tuple[PartitionScore, ...], float]:
    """Return the scores under the current routing table, and the correlation of the forecast errors."""
    inputs = load_scoring_input(ports, hour)
    capacity = require_capacities(inputs.partitions)
    count = len(inputs.partitions)
    shadows = inputs.published_shadows()
    profile, shares = partition_load(inputs.demand, inputs.primary, shadows, capacity, inputs.distance_km, inputs.rule)
    volume = access_volume(inputs.demand, inputs.profiles.access_cost, inputs.primary, shares, count)
    keys = np.bincount(inputs.primary, minlength=count).tolist()
    scores = score_profile(hour, inputs.partitions, profile, volume, keys, inputs.rule)
    return scores, inputs.rule.correlation
