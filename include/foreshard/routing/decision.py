"""The request, the context and the result of a routing decision. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from foreshard.measure.distance import Distances
from foreshard.model import Partition, RequestKind

PRIMARY, SHADOW = "primary", "shadow"


class RouteRequest(NamedTuple):
    """A request to route.

    ``location``: where the access comes from. ``max_staleness``: seconds that a read may be behind (None: the default).
    ``explain``: also return the copies that were considered.
    """

    key: str
    kind: RequestKind
    location: str | None = None
    max_staleness: float | None = None
    explain: bool = False


@dataclass(frozen=True, slots=True)
class RoutingContext:
    """What a decision depends on besides the table and the loads.

    ``caught_up_at``: (key, partition) → time up to which a shadow has all writes, by a clock that is at most ``ahead`` seconds
    ahead of the decision's. ``home_location``: replaces an unknown location (None: the primary's location).
    """

    partitions: Mapping[str, Partition]
    distances: Distances
    caught_up_at: Mapping[tuple[str, str], float] = field(default_factory=dict)
    default_staleness: float = 10.0
    home_location: str | None = None
    ahead: float = 0.0
    known_copies: dict[tuple[str, tuple[str, ...], str | None], Any] = field(
        init=False, default_factory=dict, compare=False, repr=False
    )
    """The cache of :func:`foreshard.routing._copies.copies_of`."""


class CopyView(NamedTuple):
    """One copy as a decision saw it.

    ``ms``: the round trip, ``measured`` or by the great circle of ``km`` (None if unknown). ``staleness`` in seconds (None if
    unknown). ``latency_ms``: the server's mean time for a read. ``cost``: see :func:`foreshard.routing._reads.cost_ms`.
    ``verdict``: why the copy was taken or not. ``where``: its description.
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
    """The copy that a request is sent to.

    ``code`` and ``sentence`` give the reason. ``copies`` are the considered copies, if the request asked for them. ``level``:
    the mean utilisation of the copies, if all were overloaded. ``relieved``: the overloaded partition whose read found room
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
