"""Decides which stages of an aggregation run on the partitions, and which over what they return. Pure."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from foreshard.client._keys import keys_of_filter
from foreshard.client._merging import SORT_KEY
from foreshard.model import ShardedCollection

Stage = Mapping[str, Any]

ONE_TO_ONE = frozenset({"$project", "$addFields", "$set", "$unset", "$replaceRoot", "$replaceWith"})
PER_DOCUMENT = ONE_TO_ONE | {"$match", "$unwind", "$redact"}
KEEPING_SORT_KEYS = frozenset({"$set", "$addFields", "$unset", "$project"})
"""Stages behind a sort with which the server still returns sort keys."""
WRITING = frozenset({"$out", "$merge"})
JOINING = frozenset({"$lookup", "$graphLookup", "$unionWith"})
"""Stages that read a collection. A partition has only its part of it."""
BOUND_TO_ONE_SERVER = frozenset(
    {
        "$geoNear", "$collStats", "$indexStats", "$changeStream", "$currentOp",
        "$search", "$searchMeta", "$vectorSearch", "$listSessions", "$planCacheStats", "$documents", "$sample",
    }
)  # fmt: skip
"""Stages that need one index or one order over all documents, or that report on one server."""


@dataclass(frozen=True)
class Split:
    """``partition`` runs on each partition, ``merge`` over the returned documents (empty: they are concatenated)."""

    partition: tuple[Stage, ...]
    merge: tuple[Stage, ...]


@dataclass(frozen=True)
class Page:
    """``partition`` runs on each partition. Its results are merged by ``sort``, then skipped and limited (0: all)."""

    partition: tuple[Stage, ...]
    sort: tuple[tuple[str, Any], ...]
    skip: int
    limit: int


def name_of(stage: Stage) -> str:
    """The stage's operator."""
    return next(iter(stage), "")


def obstacle(pipeline: Sequence[Stage], *, several: bool) -> str | None:
    """Return the first stage that can't run: one that writes or joins or, over ``several`` partitions, is bound to a server."""
    forbidden = WRITING | JOINING | (BOUND_TO_ONE_SERVER if several else frozenset())
    for stage in pipeline:
        name = name_of(stage)
        if name in forbidden:
            return name
        if name == "$facet":
            inner = (obstacle(branch, several=several) for branch in stage[name].values())
            if found := next((name for name in inner if name), None):
                return found
    return None


def keys_of_pipeline(pipeline: Sequence[Stage], sharded: ShardedCollection) -> tuple[str, ...] | None:
    """The keys that the leading ``$match`` stages allow; None if they don't limit keys."""
    clauses = []
    for stage in pipeline:
        if name_of(stage) != "$match":
            break
        clauses.append(stage["$match"])
    return keys_of_filter({"$and": clauses}, sharded) if clauses else None


def page_of(pipeline: Sequence[Stage]) -> Page | None:
    """Return a pipeline as a page that is merged while it is read; None if it needs all documents at once.

    Such a pipeline looks at single documents, then skips and limits, and then only changes documents. It may sort what it has
    matched; behind other stages, the server returns no sort keys.
    """
    at = next((i for i, stage in enumerate(pipeline) if name_of(stage) not in PER_DOCUMENT), len(pipeline))
    before, after = tuple(pipeline[:at]), list(pipeline[at:])
    sort = after.pop(0) if after and name_of(after[0]) == "$sort" else None
    skip = limit = 0
    while after and name_of(after[0]) in {"$skip", "$limit"}:
        ((name, number),) = after.pop(0).items()
        if type(number) is not int or number < 0:
            return None
        if name == "$limit":
            limit = min(limit, number) if limit else number
        elif limit and number >= limit:
            return None
        else:
            skip, limit = skip + number, limit - number if limit else 0
    if any(name_of(stage) not in ONE_TO_ONE for stage in after):
        return None
    if sort is not None and not ({*map(name_of, before)} <= {"$match"} and {*map(name_of, after)} <= KEEPING_SORT_KEYS):
        return None
    first = ({"$limit": skip + limit},) if limit else ()
    if sort is None:
        return Page((*before, *first, *after), (), skip, limit)
    marked = {"$addFields": {SORT_KEY: {"$meta": "sortKey"}}}
    return Page((*before, sort, *first, *after, marked), tuple(sort["$sort"].items()), skip, limit)


def split(pipeline: Sequence[Stage]) -> Split:
    """Decide where each stage runs."""
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
    """Return the partitions' ``$group`` and the stages that merge it; None if an accumulator can't be split.

    The app's field names appear in the last stage only. Before it, results have numbered names, so that no helper can collide
    with a field.
    """
    part: dict[str, Any] = {}
    whole: dict[str, Any] = {}
    named: dict[str, Any] = {}

    def keep(accumulator: Mapping[str, Any], merge: str) -> str:
        name = f"r{len(part)}"
        part[name], whole[name] = accumulator, {merge: f"${name}"}
        return f"${name}"

    if "_id" not in group:
        return None
    for field, accumulator in group.items():
        if field == "_id":
            named[field] = "$_id"
            continue
        found = _halves(accumulator, keep)
        if found is None:
            return None
        named[field] = found
    return {"$group": {"_id": group["_id"], **part}}, ({"$group": {"_id": "$_id", **whole}}, {"$replaceWith": named})


def _halves(accumulator: Any, keep: Callable[[Mapping[str, Any], str], str]) -> Any:
    """Return the expression of one result over what ``keep`` names; None if the accumulator can't be split."""
    if not isinstance(accumulator, Mapping) or len(accumulator) != 1:
        return None
    ((name, value),) = accumulator.items()
    if name == "$count":
        return keep({"$sum": 1}, "$sum")
    if name in {"$sum", "$min", "$max"}:
        return keep(accumulator, name)
    if name != "$avg":
        return None
    total, number = keep({"$sum": value}, "$sum"), keep({"$sum": {"$cond": [{"$isNumber": [value]}, 1, 0]}}, "$sum")
    return {"$cond": [{"$eq": [number, 0]}, None, {"$divide": [total, number]}]}


def _split_count(before: tuple[Stage, ...], after: tuple[Stage, ...]) -> Split:
    field = after[0]["$count"]
    total: tuple[Stage, ...] = ({"$group": {"_id": None, "n": {"$sum": f"${field}"}}}, {"$replaceWith": {field: "$n"}})
    return Split((*before, after[0]), (*total, *after[1:]))


def _ahead(after: Sequence[Stage]) -> tuple[Stage, ...]:
    """The part of a leading ``$sort``, ``$skip`` and ``$limit`` that each partition can run too, to return less."""
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
