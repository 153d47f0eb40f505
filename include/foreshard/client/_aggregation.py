"""Takes an aggregation apart for documents that stand on several partitions: what each partition does, and what makes one of
it.

Stages that look at one document at a time run on the partitions. The first stage that looks across documents, and all after
it, run once over what the partitions returned, on a real server (``$documents``), so that their meaning is MongoDB's own.
Where it can be, that stage runs on the partitions as well, to return less: ``$sort``, ``$limit``, ``$count``, and ``$group``
with sums, counts, extremes and means. Pure.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from foreshard.client._keys import keys_of_filter

Stage = Mapping[str, Any]

PER_DOCUMENT = frozenset(
    {"$match", "$project", "$addFields", "$set", "$unset", "$unwind", "$replaceRoot", "$replaceWith", "$redact"}
)
WRITING = frozenset({"$out", "$merge"})
BOUND_TO_ONE_SERVER = frozenset(
    {
        "$lookup", "$graphLookup", "$unionWith", "$geoNear", "$collStats", "$indexStats", "$changeStream", "$currentOp",
        "$search", "$searchMeta", "$vectorSearch", "$listSessions", "$planCacheStats", "$documents", "$sample",
    }
)  # fmt: skip
"""Stages that read more than the documents that come to them, or whose answer is about one server."""


@dataclass(frozen=True)
class Split:
    """``partition`` runs on each partition, ``merge`` over the returned documents (empty: they only follow one another)."""

    partition: tuple[Stage, ...]
    merge: tuple[Stage, ...]


def name_of(stage: Stage) -> str:
    """The stage's operator."""
    return next(iter(stage), "")


def obstacle(pipeline: Sequence[Stage], *, several: bool) -> str | None:
    """The first stage that a routed aggregation can't run: one that writes or, over ``several`` partitions, one bound to a
    server."""
    forbidden = WRITING | BOUND_TO_ONE_SERVER if several else WRITING
    for stage in pipeline:
        name = name_of(stage)
        if name in forbidden:
            return name
        if name == "$facet":
            inner = (obstacle(branch, several=several) for branch in stage[name].values())
            if found := next((name for name in inner if name), None):
                return found
    return None


def keys_of_pipeline(pipeline: Sequence[Stage], key_field: str) -> tuple[str, ...] | None:
    """The keys that the leading ``$match`` stages allow; None where they don't limit them."""
    clauses = []
    for stage in pipeline:
        if name_of(stage) != "$match":
            break
        clauses.append(stage["$match"])
    return keys_of_filter({"$and": clauses}, key_field) if clauses else None


def split(pipeline: Sequence[Stage]) -> Split:
    """Where each stage runs."""
    at = next((i for i, stage in enumerate(pipeline) if name_of(stage) not in PER_DOCUMENT), len(pipeline))
    before, after = tuple(pipeline[:at]), tuple(pipeline[at:])
    if not after:
        return Split(before, ())
    name = name_of(after[0])
    if name == "$count":
        return _split_count(before, after)
    if name == "$group" and (halves := split_group(after[0]["$group"])):
        return Split((*before, halves[0]), (*halves[1], *after[1:]))
    return Split((*before, *_ahead(after)), after)


def split_group(group: Mapping[str, Any]) -> tuple[Stage, tuple[Stage, ...]] | None:
    """The partitions' ``$group`` and what makes one group of theirs; None where an accumulator can't be taken apart."""
    part: dict[str, Any] = {"_id": group["_id"]}
    whole: dict[str, Any] = {"_id": "$_id"}
    means: dict[str, Any] = {}
    for field, accumulator in group.items():
        if field == "_id":
            continue
        name = name_of(accumulator)
        if name == "$count":
            part[field], whole[field] = {"$sum": 1}, {"$sum": f"${field}"}
        elif name in {"$sum", "$min", "$max"}:
            part[field], whole[field] = accumulator, {name: f"${field}"}
        elif name == "$avg":
            total, number = f"{field}__total", f"{field}__number"
            value = accumulator["$avg"]
            part[total], part[number] = {"$sum": value}, {"$sum": {"$cond": [{"$isNumber": [value]}, 1, 0]}}
            whole[total], whole[number] = {"$sum": f"${total}"}, {"$sum": f"${number}"}
            means[field] = {"$cond": [{"$eq": [f"${number}", 0]}, None, {"$divide": [f"${total}", f"${number}"]}]}
        else:
            return None
    merge: list[Stage] = [{"$group": whole}]
    if means:
        helpers = [name for name in whole if name.endswith(("__total", "__number")) and name not in group]
        merge += [{"$set": means}, {"$unset": helpers}]
    return {"$group": part}, tuple(merge)


def _split_count(before: tuple[Stage, ...], after: tuple[Stage, ...]) -> Split:
    field = after[0]["$count"]
    total: tuple[Stage, ...] = ({"$group": {"_id": None, field: {"$sum": f"${field}"}}}, {"$unset": "_id"})
    return Split((*before, after[0]), (*total, *after[1:]))


def _ahead(after: Sequence[Stage]) -> tuple[Stage, ...]:
    """What of a leading ``$sort``, ``$skip`` and ``$limit`` each partition can do as well, to return no more than is needed."""
    stages = list(after)
    sort: tuple[Stage, ...] = ()
    if name_of(stages[0]) == "$sort":
        sort = (stages.pop(0),)
    skip = 0
    while stages and name_of(stages[0]) == "$skip":
        skip += stages.pop(0)["$skip"]
    if stages and name_of(stages[0]) == "$limit":
        return (*sort, {"$limit": skip + stages[0]["$limit"]})
    return ()
