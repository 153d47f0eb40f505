"""Finds the owner of a key: its published placement, or the default rule if the table does not list it. Pure."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Mapping
from datetime import datetime
from functools import lru_cache
from types import MappingProxyType

from xxhash import xxh3_64_intdigest

from foreshard.errors import NoDefaultPartition, TableGap
from foreshard.model import DefaultRule, Placement, PlacementChange, RoutingTable
from foreshard.routing.packed import PackedPlacements

UNLISTED_EPOCH = 0
"""The epoch of a key that the table does not list."""

MERGE_SHARE = 8
"""Changes are kept over a table until they reach 1/``MERGE_SHARE`` of it; then both are merged."""


def locate(table: RoutingTable, key: str) -> Placement:
    """Return where ``key`` lives. An unlisted key is at epoch 0 on the partition that ``default_partition`` names."""
    listed = table.placements.get(key)
    return listed if listed is not None else Placement(key, default_partition(table.default_rule, key), (), UNLISTED_EPOCH)


def default_partition(rule: DefaultRule, key: str) -> str:
    """Return the partition with the highest score for ``key``: weighted rendezvous hashing.

    The score is −weight ÷ ln(u). u in (0, 1) consists of the upper 53 bits of xxh3_64(key in UTF-8, seed = xxh3_64 of the
    partition id in UTF-8). A partition gets a share of the keys proportional to its weight, and adding or removing a partition
    moves no key between the others. Source: Schindelhauer and Schomaker, "Weighted distributed hash tables" (SPAA 2005).
    Raise :class:`NoDefaultPartition` if no partition has a positive weight.
    """
    seeded = _seeded(rule)
    if len(seeded) == 1:
        return seeded[0][0]
    data = key.encode("utf-8", "surrogatepass")
    best, best_score = "", -1.0
    for partition, weight, seed in seeded:
        uniform = ((xxh3_64_intdigest(data, seed) >> 11) + 0.5) * 2.0**-53
        score = -weight / math.log(uniform)
        if score > best_score or (score == best_score and partition < best):
            best, best_score = partition, score
    return best


@lru_cache(maxsize=64)
def _seeded(rule: DefaultRule) -> tuple[tuple[str, float, int], ...]:
    seeded = tuple(
        (partition, weight, xxh3_64_intdigest(partition.encode("utf-8", "surrogatepass")))
        for partition, weight in zip(rule.partitions, rule.weights, strict=True)
        if weight > 0
    )
    if not seeded:
        raise NoDefaultPartition(rule.partitions)
    return seeded


def apply_changes(
    table: RoutingTable,
    changes: Iterable[PlacementChange],
    version: int,
    published_at: datetime,
    default_rule: DefaultRule | None = None,
) -> RoutingTable:
    """Return ``table`` at ``version``, in time proportional to the changes. The given table is not modified.

    Raise :class:`TableGap` unless ``version`` is the next one; the caller then reads the whole table.
    """
    if version != table.version + 1:
        raise TableGap(table.version, version)
    changed = {c.key: Placement(c.key, c.primary, c.shadows, c.new_epoch) for c in changes}
    placements = laid_over(table.placements, changed) if changed else table.placements
    return RoutingTable(version, placements, default_rule or table.default_rule, published_at)


def laid_over(placements: Mapping[str, Placement], changed: Mapping[str, Placement]) -> Mapping[str, Placement]:
    """Return ``placements`` with ``changed`` over them, without a copy."""
    if isinstance(placements, PackedPlacements):
        return placements.laid_over(changed)
    return LayeredPlacements.over(placements, changed)


class LayeredPlacements(Mapping[str, Placement]):
    """A few changed placements over many unchanged ones, so that a publication does not copy the table."""

    __slots__ = ("_added", "_base", "_changed")

    def __init__(self, base: Mapping[str, Placement], changed: Mapping[str, Placement]) -> None:
        self._base, self._changed = base, changed
        self._added = sum(key not in base for key in changed)

    @classmethod
    def over(cls, placements: Mapping[str, Placement], changed: Mapping[str, Placement]) -> Mapping[str, Placement]:
        """Put ``changed`` over ``placements``; merge both once there are many changes."""
        base, before = (placements._base, placements._changed) if isinstance(placements, cls) else (placements, {})
        together = {**before, **changed}
        if len(together) * MERGE_SHARE >= len(base):
            return MappingProxyType({**base, **together})
        return cls(base, together)

    def __getitem__(self, key: str) -> Placement:
        found = self._changed.get(key)
        return found if found is not None else self._base[key]

    def __iter__(self) -> Iterator[str]:
        yield from self._base
        yield from (key for key in self._changed if key not in self._base)

    def __len__(self) -> int:
        return len(self._base) + self._added
