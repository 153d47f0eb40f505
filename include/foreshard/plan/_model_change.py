"""A change to the outlook of a plan, with all that it takes to take it back."""

from __future__ import annotations

from dataclasses import dataclass

from foreshard.measure.demand import LoadProfile
from foreshard.model import FloatArray, IntArray


@dataclass(frozen=True, slots=True)
class ModelChange:
    """One change and what it replaced: ``rows`` are the partitions whose load it changed, the rest their figures before.

    ``keys`` were on ``source`` and went to ``target`` (with an empty ``members``: as a shadow that came or went).
    """

    keys: IntArray
    source: int
    target: int
    rows: IntArray
    whole: LoadProfile
    profile: LoadProfile
    utilisation: FloatArray
    lps: FloatArray
    risk: FloatArray
    uses: FloatArray
    members: tuple[IntArray, ...] = ()
