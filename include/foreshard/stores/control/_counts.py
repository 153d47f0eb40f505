"""Counts that several stores of the control database need."""

from __future__ import annotations

from typing import Any

from pymongo.collection import Collection


def count_by_state(collection: Collection[Any]) -> dict[str, int]:
    """Return state → number of documents."""
    return {row["_id"]: row["count"] for row in collection.aggregate([{"$sortByCount": "$state"}])}
