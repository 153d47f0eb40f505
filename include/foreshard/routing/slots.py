"""The first slot map: rendezvous hashing, weighted by capacity. Pure."""

from __future__ import annotations

import math
from collections.abc import Mapping

from xxhash import xxh3_64_intdigest

from foreshard.errors import NoSlotOwner
from foreshard.model import Placement, SlotMap
from foreshard.model.key_space import KeySpace, slot_unit


def rendezvous(name: str, weights: Mapping[str, float]) -> str:
    """Return the partition with the highest score for ``name``: weighted rendezvous hashing.

    The score is −weight ÷ ln(u). u in (0, 1) consists of the upper 53 bits of xxh3_64(name in UTF-8, seed = xxh3_64 of the
    partition id in UTF-8). A partition gets a share of the names proportional to its weight, and adding or removing a partition
    moves no name between the others. Source: Schindelhauer and Schomaker, "Weighted distributed hash tables" (SPAA 2005).
    Raise :class:`NoSlotOwner` if no partition has a positive weight.
    """
    usable = {partition: weight for partition, weight in weights.items() if weight > 0}
    if not usable:
        raise NoSlotOwner(tuple(weights))
    data = name.encode("utf-8", "surrogatepass")

    def score(partition: str) -> float:
        seed = xxh3_64_intdigest(partition.encode("utf-8", "surrogatepass"))
        uniform = ((xxh3_64_intdigest(data, seed) >> 11) + 0.5) * 2.0**-53
        return -usable[partition] / math.log(uniform)

    return max(sorted(usable), key=score)


def first_slots(space: KeySpace, weights: Mapping[str, float]) -> SlotMap:
    """Distribute the slots over partitions in proportion to their weights."""
    units = (slot_unit(slot) for slot in range(space.slots))
    return SlotMap(space, tuple(Placement(unit, rendezvous(f"slot {unit[1:]}", weights)) for unit in units))
