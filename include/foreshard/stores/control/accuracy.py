"""Forecast accuracy (``forecast_accuracy``): one document per hour at the end of a forecast's horizon.

``{_id: "2014-12-31T23", hour, made_for, models: [{model, …figures}]}``: the forecast was made for ``made_for`` and its horizon
ended with ``hour``. ``figures`` are those of :class:`foreshard.forecast.accuracy.Accuracy` and the number of ``keys``. The
model ``all`` covers every key. Documents are replaced whole.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any

from pymongo import DESCENDING
from pymongo.database import Database

ModelAccuracies = Mapping[str, Mapping[str, float | None]]


class MongoAccuracyStore:
    """Implements :class:`foreshard.ports.stages.AccuracyStore`."""

    def __init__(self, database: Database[dict[str, Any]]) -> None:
        self._accuracy = database["forecast_accuracy"]

    def save(self, hour: datetime, made_for: datetime, models: ModelAccuracies) -> None:
        name = f"{hour.astimezone(UTC):%Y-%m-%dT%H}"
        listed = [{"model": model, **figures} for model, figures in models.items()]
        self._accuracy.replace_one({"_id": name}, {"hour": hour, "made_for": made_for, "models": listed}, upsert=True)

    def latest(self, count: int = 1, until: datetime | None = None) -> list[tuple[datetime, ModelAccuracies]]:
        chosen = {} if until is None else {"hour": {"$lte": until}}
        found = self._accuracy.find(chosen).sort("hour", DESCENDING).limit(count)
        return [(one["hour"], {entry.pop("model"): entry for entry in one["models"]}) for one in found]
