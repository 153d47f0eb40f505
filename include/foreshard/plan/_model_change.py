"""A change to the placement model, with the figures needed to undo it."""

from __future__ import annotations

from dataclasses import dataclass

from foreshard.measure.demand import LoadProfile
from foreshard.model import FloatArray, IntArray


@dataclass(frozen=True, slots=True)
class ModelChange:
    """A move of ``keys`` from ``source`` to ``target``, or with empty ``members`` a shadow that was added or removed there.

    ``rows`` are the partitions whose load changed. The other fields are their figures before the change.
    """

    keys: IntArray
    source: int
    target: int
    rows: IntArray
    unshadowed_load: LoadProfile
    profile: LoadProfile
    utilisation: FloatArray
    lps: FloatArray
    risk: FloatArray
    co_accesses: FloatArray
    members: tuple[IntArray, ...] = ()
