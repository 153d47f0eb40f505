"""Partition scores in the control database.

``scores {_id: {hour, partition_id}, hour, partition_id, lps, peak_hour, predicted_load, capacity, volume, complexity, keys,
utilisation: […]}``.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
from datetime import datetime

from pymongo import ASCENDING, DeleteMany, ReplaceOne
from pymongo.database import Database

from foreshard.errors import MissingStageResult
from foreshard.model import PartitionScore
from foreshard.stores.mongo_connections import Document


class MongoScoreStore:
    """Implements :class:`foreshard.ports.stages.ScoreStore`."""

    def __init__(self, database: Database[Document]) -> None:
        self._scores = database["scores"]

    def save(self, hour: datetime, scores: Sequence[PartitionScore]) -> None:
        """Replace the hour's scores. Scores of removed partitions are deleted last, so a reader always finds some."""
        self._scores.create_index([("hour", ASCENDING)], name="by_hour")
        names = [score.partition_id for score in scores]
        self._scores.bulk_write(
            [
                *(ReplaceOne({"_id": _id(score)}, {"_id": _id(score), **asdict(score)}, upsert=True) for score in scores),
                DeleteMany({"hour": hour, "partition_id": {"$nin": names}}),
            ]
        )

    def load(self, hour: datetime) -> tuple[PartitionScore, ...]:
        """Return the hour's scores by partition. Raise :class:`MissingStageResult` if there are none."""
        found = list(self._scores.find({"hour": hour}, {"_id": 0}).sort("partition_id", ASCENDING))
        if not found:
            raise MissingStageResult("partition scores", hour.isoformat(), "foreshard.stages.score.score_partitions")
        return tuple(PartitionScore(**{**document, "utilisation": tuple(document["utilisation"])}) for document in found)

    def latest(self) -> tuple[datetime, frozenset[str]] | None:
        """Return the newest scored hour and the partitions that have a score for it."""
        found = self._scores.find_one({}, {"hour": 1}, sort=[("hour", -1)])
        if found is None:
            return None
        return found["hour"], frozenset(self._scores.distinct("partition_id", {"hour": found["hour"]}))


def _id(score: PartitionScore) -> Document:
    return {"hour": score.hour, "partition_id": score.partition_id}
