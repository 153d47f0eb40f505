"""Forecasts in MongoDB (``forecasts``), packed: 180,000 keys take a few hundred documents.

There are two kinds of documents. The hour's header ``{_id: "2014-12-31T23", chunks: n, models: {chunk: [[model, keys], …]}}``
says how many chunks it has, and how many keys of each chunk a model forecast, so that figures need no look at every key. A part
``{_id: "2014-12-31T23/chunk/part", hour, chunk, part, parts, quantile, horizon, keys: [...], models: [...], correlation, mean,
sigma, upper: Binary}`` holds up to ``PART_VALUES`` values of one chunk. Its arrays are little-endian float64, packed by zlib,
keys × horizon in row order. ``correlation``: of the chunk's errors. The parts of a chunk are replaced together.
"""

from __future__ import annotations

import zlib
from collections import Counter
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any

import numpy as np
from pymongo import ASCENDING
from pymongo.database import Database

from foreshard.errors import MissingStageResult
from foreshard.model import FloatArray, ForecastBatch

PART_VALUES = 100_000
"""Key-hours per part: 3 arrays of at most 0.8 MB each, far below MongoDB's 16 MB per document."""

_PRODUCER = "foreshard forecast hour"


class MongoForecastStore:
    """Implements :class:`foreshard.ports.stages.ForecastStore`."""

    def __init__(self, database: Database[dict[str, Any]]) -> None:
        self._database = database
        self._forecasts = database["forecasts"]

    def begin(self, hour: datetime, chunks: int) -> None:
        """Set the hour's number of chunks and delete the chunks beyond it."""
        self._forecasts.create_index([("hour", ASCENDING), ("chunk", ASCENDING)])
        self._forecasts.delete_many({"hour": hour, "chunk": {"$gte": chunks}})
        self._forecasts.update_one({"_id": _name(hour)}, {"$set": {"chunks": chunks}}, upsert=True)

    def save_chunk(self, chunk: int, batch: ForecastBatch) -> None:
        """Replace one chunk."""
        rows = max(1, PART_VALUES // max(1, batch.mean.shape[1]))
        starts = range(0, max(1, len(batch.keys)), rows)
        parts = [_part(batch, chunk, part, len(starts), slice(start, start + rows)) for part, start in enumerate(starts)]
        counted = {"$set": {f"models.{chunk}": [list(pair) for pair in sorted(Counter(batch.models).items())]}}
        with self._database.client.start_session() as session:

            def replace(session: Any) -> None:
                self._forecasts.delete_many({"hour": batch.hour, "chunk": chunk}, session=session)
                self._forecasts.insert_many(parts, session=session)
                self._forecasts.update_one({"_id": _name(batch.hour)}, counted, session=session)

            session.with_transaction(replace)

    def load(self, hour: datetime) -> ForecastBatch:
        header = self._forecasts.find_one({"_id": _name(hour)})
        if header is None:
            raise MissingStageResult("forecasts", hour.isoformat(), _PRODUCER)
        parts = list(self._forecasts.find({"hour": hour}).sort([("chunk", ASCENDING), ("part", ASCENDING)]))
        missing = sorted(set(range(header["chunks"])) - {part["chunk"] for part in parts})
        if missing:
            shown = ", ".join(map(str, missing[:5])) + ("…" if len(missing) > 5 else "")
            raise MissingStageResult(f"forecast chunks {shown}", hour.isoformat(), _PRODUCER)
        if not parts:
            return ForecastBatch(hour, 0.5, (), np.zeros((0, 0)), np.zeros((0, 0)), np.zeros((0, 0)), ())
        return ForecastBatch(
            hour=hour,
            quantile=parts[0]["quantile"],
            keys=tuple(key for part in parts for key in part["keys"]),
            mean=_joined(parts, "mean"),
            sigma=_joined(parts, "sigma"),
            upper=_joined(parts, "upper"),
            models=tuple(model for part in parts for model in part["models"]),
            correlation=_correlation(parts),
        )

    def latest_hour(self) -> datetime | None:
        """Return the newest hour with forecasts."""
        found = self._forecasts.find_one({"hour": {"$type": "date"}}, {"hour": 1}, sort=[("hour", -1)])
        return found["hour"] if found else None

    def count_models(self, hour: datetime) -> dict[str, int]:
        """Return model → number of keys that it forecast for ``hour``."""
        header = self._forecasts.find_one({"_id": _name(hour)}) or {}
        counts: Counter[str] = Counter()
        for chunk, models in header.get("models", {}).items():
            if int(chunk) < header["chunks"]:
                counts.update(dict(models))
        return dict(counts)


def _name(hour: datetime) -> str:
    return f"{hour.astimezone(UTC):%Y-%m-%dT%H}"


def _part(batch: ForecastBatch, chunk: int, part: int, parts: int, rows: slice) -> dict[str, Any]:
    return {
        "_id": f"{_name(batch.hour)}/{chunk}/{part}",
        "hour": batch.hour,
        "chunk": chunk,
        "part": part,
        "parts": parts,
        "quantile": batch.quantile,
        "horizon": batch.mean.shape[1],
        "keys": list(batch.keys[rows]),
        "models": list(batch.models[rows]),
        "correlation": batch.correlation,
        **{name: _packed(getattr(batch, name)[rows]) for name in ("mean", "sigma", "upper")},
    }


def _correlation(parts: list[dict[str, Any]]) -> float | None:
    """Return the mean correlation of the chunks, weighted by keys; those without one, such as fallbacks, do not count."""
    known = [(part["correlation"], len(part["keys"])) for part in parts if part.get("correlation") is not None]
    keys = sum(count for _, count in known)
    return sum(value * count for value, count in known) / keys if keys else None


def _packed(values: FloatArray) -> bytes:
    return zlib.compress(np.ascontiguousarray(values, dtype="<f8").tobytes(), level=1)


def _joined(parts: list[dict[str, Any]], name: str) -> FloatArray:
    return np.concatenate([_unpacked(part, name) for part in parts])


def _unpacked(part: Mapping[str, Any], name: str) -> FloatArray:
    values = np.frombuffer(zlib.decompress(part[name]), dtype="<f8").astype(np.float64)
    return values.reshape(len(part["keys"]), part["horizon"])
