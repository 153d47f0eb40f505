"""The distinct values of a field: asked of every partition that a read goes to, and merged."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from foreshard.client._driving import resolved
from foreshard.client._merging import rank_of
from foreshard.client._read_plans import PartitionRead, ReadPlan
from foreshard.client._reads import Reader
from foreshard.client._types import Filter
from foreshard.client.aggregation.aggregate import over_documents


async def distinct_values(reader: Reader, plan: ReadPlan, key: str, filter: Filter, options: Mapping[str, Any]) -> list[Any]:
    """Return the distinct values of a field, in MongoDB's sort order."""
    collation = options.get("collation")

    async def one(part: PartitionRead) -> list[Any]:
        narrow = reader.filter_for(part, filter, collation)
        return await resolved(reader.collection(part).distinct(key, narrow, **options))

    listed = await reader.router.mode.together([one(part) for part in plan.parts])
    found = {rank_of(value): value for values in listed for value in values}
    values = [found[rank] for rank in sorted(found)]
    return values if collation is None or len(plan.parts) < 2 else await _merge(reader, plan, values, collation)


async def _merge(reader: Reader, plan: ReadPlan, values: Sequence[Any], collation: Any) -> list[Any]:
    """Return values without repetitions under the collation. A server compares them."""
    stages: list[Filter] = [{"$group": {"_id": "$v"}}, {"$sort": {"_id": 1}}]
    cursor = await over_documents(reader, plan, [{"v": value} for value in values], stages, {"collation": collation})
    return [row["_id"] for row in await resolved(cursor.to_list())]
