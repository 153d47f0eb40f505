"""What a decision is asked, what it knows, and what it answers. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from foreshard.measure.distance import Distances
from foreshard.model import Partition, RequestKind

PRIMARY, SHADOW = "primary", "shadow"


class RouteRequest(NamedTuple):
    """``location``: where the access comes from; ``max_staleness``: seconds that a read may be behind (None: the default).

    ``explain`` asks for the copies that were weighed.
    """

    key: str
    kind: RequestKind
    location: str | None = None
    max_staleness: float | None = None
    explain: bool = False


@dataclass(frozen=True, slots=True)
class RoutingContext:
    """What a decision knows of the world besides the table and the loads.

    ``caught_up_at``: (key, partition) → the moment (seconds since 1970) until which a shadow holds all writes;
    ``home_location``: what stands in for an unknown location (None: the primary's location).
    """

    partitions: Mapping[str, Partition]
    distances: Distances
    caught_up_at: Mapping[tuple[str, str], float] = field(default_factory=dict)
    default_staleness: float = 10.0
    home_location: str | None = None
    known_copies: dict[tuple[str, tuple[str, ...], str | None], Any] = field(
        init=False, default_factory=dict, compare=False, repr=False
    )
    """What :func:`foreshard.routing._copies.copies_of` has found out so far."""


class CopyView(NamedTuple):
    """One copy as a decision saw it; ``staleness`` in seconds, None where unknown; ``verdict`` says what became of it,
    ``where`` names it.

    ``ms``: the round trip there, ``measured`` or by the great circle of ``km`` (None where unknown); ``cost``: see
    :func:`foreshard.routing._reads.cost_ms`; ``latency_ms``: what its server takes for a read.
    """

    partition: str
    role: str
    ms: float
    measured: bool
    km: float | None
    staleness: float | None
    utilisation: float | None
    reachable: bool
    admission: float
    latency_ms: float | None = None
    cost: float = 0.0
    verdict: str = ""
    where: str = ""


class RouteDecision(NamedTuple):
    """The copy that a request is sent to; ``code`` and ``sentence`` are the reason, ``copies`` what was weighed (where asked).

    ``level``: the mean utilisation of the copies where all were overloaded; ``relieved``: the partition whose read found room
    elsewhere.
    """

    partition: str
    role: str
    epoch: int
    code: str
    sentence: str
    copies: tuple[CopyView, ...] = ()
    level: float | None = None
    relieved: str | None = None
