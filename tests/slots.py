"""Slot maps for tests."""

from __future__ import annotations

from functools import lru_cache

from foreshard.model import SlotMap
from foreshard.model.key_space import DEFAULT_SLOTS, KeySpace
from foreshard.routing.slots import first_slots


@lru_cache(maxsize=64)
def slot_map(names: tuple[str, ...], weights: tuple[float, ...], slots: int = DEFAULT_SLOTS) -> SlotMap:
    """Return the first slot map over these partitions. It is kept, because tests make the same few over and over."""
    return first_slots(KeySpace(slots=slots), dict(zip(names, weights, strict=True)))
