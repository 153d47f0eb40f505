"""Options for moves, and the result of a search for one."""

from __future__ import annotations

from dataclasses import dataclass

GIBIBYTE = float(2**30)


@dataclass(frozen=True, slots=True)
class Effort:
    """The extent of a search: the number of keys that are tried as ``seeds``, and of seeds that are ``grown`` into clumps."""

    seeds: int = 48
    grown: int = 6


FULL_EFFORT = Effort()


@dataclass(frozen=True, slots=True)
class MoveOption:
    """A move of ``keys`` (the hot key first) to ``target``.

    ``worth`` is the risk removed, less the ``price`` of moves and bytes. ``value`` also includes ``crossing``, the change in
    co-accesses per hour that cross partitions, and ``distance_km``, the change in the mean distance to the readers.
    """

    keys: tuple[int, ...]
    target: int
    price: float
    worth: float
    value: float
    crossing: float
    distance_km: float
    size_bytes: float


@dataclass(frozen=True, slots=True)
class MoveSearch:
    """The best option, or the obstacle: ``limit_reached``, ``nothing_movable``, ``no_target_fits`` or ``gain_too_small``."""

    best: MoveOption | None
    obstacle: str = ""
