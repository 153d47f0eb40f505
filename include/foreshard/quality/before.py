"""The counted hours that the gate compares an hour with."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from foreshard.model import HourCounts


@dataclass(frozen=True, slots=True)
class Before:
    """Counted hours to compare with: the same hour of earlier ``weeks`` and of the ``days`` before, and ``others`` nearby.

    Hours ``besides`` them are refused ones or later ones. They only tell whether hours repeat by schedule.
    """

    weeks: Sequence[HourCounts] = ()
    days: Sequence[HourCounts] = ()
    others: Sequence[HourCounts] = ()
    besides: Sequence[HourCounts] = ()
