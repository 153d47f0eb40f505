"""Chooses which copy serves a read: the nearest one that is fresh enough and has room. Pure.

1. Leave out copies that are too stale for the request or do not answer. A limit given by the request is strict. The default
   limit is waived if the primary does not answer, because an old answer is then better than none (the reason says so).
2. Among the nearest copies (within ``NEAR_EQUAL_MS`` of each other), pick by two random choices: the less loaded one with a
   probability of ½ + ``TILT`` × the difference in utilisation. A deterministic choice would make all sidecars switch at once,
   since they all see the same, slightly old report.
3. The picked copy admits the read with a probability equal to its admission (:mod:`foreshard.routing.load_book`), which is 1
   below the room mark.
4. If it does not, try the other copies by ascending cost, each with the probability of its admission:

       cost (ms) = round trip + max(SERVICE_MS × utilisation ÷ (1 − utilisation), measured latency)

   The round trip is measured, or the great circle in fibre. The time at the server is the waiting time of an M/M/1 queue, with
at most ``HIGHEST_UTILISATION``, or the latency that the server itself reports for reads, whichever is longer.
5. If all copies are overloaded, draw one with a probability proportional to capacity × admission, which evens out utilisations.

An unknown load counts as a load at the room mark: neither idle nor overloaded.
"""

from __future__ import annotations

from collections.abc import Sequence
from random import Random

from foreshard.measure.distance import NEAR_EQUAL_MS
from foreshard.model import Placement
from foreshard.routing._copies import PlacedCopy, copies_of
from foreshard.routing.decision import PRIMARY, CopyView, RouteDecision, RouteRequest, RoutingContext
from foreshard.routing.load_book import LoadBook

SERVICE_MS = 2.0
HIGHEST_UTILISATION = 0.95
TILT = 0.5
LEAST_CHANCE = 0.05


def cost_ms(round_trip_ms: float, utilisation: float, latency_ms: float | None = None) -> float:
    """The cost of reading a copy: the round trip plus the time at its server."""
    busy = min(utilisation, HIGHEST_UTILISATION)
    return round_trip_ms + max(SERVICE_MS * busy / (1.0 - busy), latency_ms or 0.0)


def chance_of(one: float | None, other: float | None, mark: float) -> float:
    """The probability of choosing ``one`` of two near-equal copies, given their utilisations."""
    difference = (mark if other is None else other) - (mark if one is None else one)
    return min(1.0 - LEAST_CHANCE, max(LEAST_CHANCE, 0.5 + TILT * difference))


class ReadChoice:
    """The choice for one read. Copies are examined only as far as needed, unless the request asks for an explanation."""

    __slots__ = (
        "_book",
        "_context",
        "_copies",
        "_limit",
        "_mark",
        "_now",
        "_placement",
        "_random",
        "_request",
        "_strict",
        "_verdicts"
    )  # fmt: skip

    def __init__(
        self, request: RouteRequest, placement: Placement, context: RoutingContext, book: LoadBook, now: float, random: Random
    ) -> None:
        self._request, self._placement, self._context = request, placement, context
        self._book, self._now, self._random = book, now, random
        self._mark = book.rules.room_mark
        self._strict = request.max_staleness is not None
        self._limit = context.default_staleness if request.max_staleness is None else request.max_staleness
        self._copies = copies_of(placement, request.location, context)
        self._verdicts: dict[str, str] = {}

    def decide(self) -> RouteDecision:
        """Choose a copy."""
        usable = self._usable()
        if not usable:
            return self._without_usable_copy()
        near = usable[0].ms + NEAR_EQUAL_MS
        first = self._two_choices([self._view(copy) for copy in usable if copy.ms <= near])
        if self._admits(first):
            return self._nearest(first)
        views = [self._costed(copy) for copy in self._copies.in_order if copy in usable]
        others = [view for view in views if view.partition != first.partition]
        while others:
            least = min(copy.cost for copy in others)
            copy = self._two_choices([c for c in others if c.cost - least <= NEAR_EQUAL_MS])
            if self._admits(copy):
                return self._instead(first, copy)
            others.remove(copy)
        return self._drawn(first, views)

    def nearest(self) -> list[tuple[CopyView, RouteDecision]]:
        """The nearest copies, each with its decision. Empty if one of them does not answer or has an admission below 1.

        Freshness is not checked: the caller checks it for each read.
        """
        near = self._copies.by_distance[0].ms + NEAR_EQUAL_MS
        views = [self._view(copy) for copy in self._copies.by_distance if copy.ms <= near]
        simple = all(view.reachable and view.admission >= 1.0 for view in views)
        return [(view, self._nearest(view)) for view in views] if simple else []

    def primary_taken(self) -> tuple[CopyView, ...]:
        """The copies of a request that had no choice, for its explanation."""
        verdicts = ("taken" if copy.role == PRIMARY else "a shadow takes no writes" for copy in self._copies.in_order)
        return tuple(self._costed(c)._replace(verdict=v) for c, v in zip(self._copies.in_order, verdicts, strict=True))

    def _usable(self) -> list[PlacedCopy]:
        """The copies that answer and are fresh enough, by distance."""
        caught_up_at, key, now = self._context.caught_up_at, self._placement.key, self._now
        there = now + self._context.ahead
        found = []
        for copy in self._copies.by_distance:
            if copy.role != PRIMARY:
                caught_up = caught_up_at.get((key, copy.partition))
                if caught_up is None or there - caught_up > self._limit:
                    continue
            if self._book.reachable(copy.partition, now):
                found.append(copy)
        return found

    def _view(self, copy: PlacedCopy) -> CopyView:
        """A copy with its load, without its cost."""
        utilisation, reachable, admission, _, latency_ms = self._book.pressure(copy.partition, self._now)
        name, role, ms, measured, km, where = copy
        behind = self._behind(copy)
        return CopyView(name, role, ms, measured, km, behind, utilisation, reachable, admission, latency_ms, where=where)

    def _costed(self, copy: PlacedCopy) -> CopyView:
        view = self._view(copy)
        load = self._mark if view.utilisation is None else view.utilisation
        return view._replace(cost=cost_ms(view.ms, load, view.latency_ms))

    def _behind(self, copy: PlacedCopy) -> float | None:
        """Seconds that a copy is behind; None if unknown."""
        if copy.role == PRIMARY:
            return 0.0
        caught_up = self._context.caught_up_at.get((self._placement.key, copy.partition))
        return None if caught_up is None else max(0.0, self._now + self._context.ahead - caught_up)

    def _two_choices(self, group: Sequence[CopyView]) -> CopyView:
        """Draw two of the near-equal copies; choose between them, the less loaded one with the higher probability."""
        if len(group) == 1:
            return group[0]
        one, other = group if len(group) == 2 else self._random.sample(group, 2)
        return one if self._random.random() < chance_of(one.utilisation, other.utilisation, self._mark) else other

    def _admits(self, copy: CopyView) -> bool:
        if copy.admission >= 1.0 or self._random.random() < copy.admission:
            return True
        self._verdicts[copy.partition] = f"overloaded: is given {copy.admission:.0%} of its reads, not this one"
        return False

    def _overloaded(self, copy: CopyView) -> bool:
        return copy.utilisation is not None and copy.utilisation > self._mark

    def _nearest(self, copy: CopyView) -> RouteDecision:
        """Decide for the nearest usable copy. The reason names a nearer copy that was left out."""
        left = self._left_out(copy) if copy.ms - self._copies.by_distance[0].ms > NEAR_EQUAL_MS else None
        where = copy.where
        if left is not None and not left.reachable:
            code, sentence = "nearer_unreachable", f"{left.partition} is nearer, but does not answer; {where} does"
        elif left is not None:
            code, sentence = "nearer_stale", f"{left.partition} is nearer, but {_behind(left)}; {where} is fresh enough"
        elif self._overloaded(copy):
            code, sentence = "nearest_overloaded", f"{where} is the nearest copy; {self._share(copy)}"
        elif copy.utilisation is None:
            code, sentence = "nearest_load_unknown", f"{where} is the nearest copy; its load is unknown"
        else:
            code, sentence = "nearest_with_room", f"{where} is the nearest copy and has room at {copy.utilisation:.0%}"
        return self._decision(copy, code, sentence)

    def _left_out(self, copy: CopyView) -> CopyView:
        """A nearer copy; one that does not answer, if there is any."""
        nearer = [self._view(c) for c in self._copies.in_order if copy.ms - c.ms > NEAR_EQUAL_MS]
        return next((c for c in nearer if not c.reachable), nearer[0])

    def _instead(self, first: CopyView, copy: CopyView) -> RouteDecision:
        sentence = f"{first.partition} is nearer, but {_load(first)}; {copy.where} has room"
        relieved = first.partition if self._overloaded(first) and not self._overloaded(copy) else None
        return self._decision(copy, "nearer_overloaded", sentence)._replace(relieved=relieved)

    def _drawn(self, first: CopyView, usable: Sequence[CopyView]) -> RouteDecision:
        """No copy admitted the read: draw one so that utilisations even out."""
        capacity = [self._book.capacity(c.partition) for c in usable]
        weights = [size * c.admission for size, c in zip(capacity, usable, strict=True)]
        copy = self._random.choices(usable, weights)[0]
        if all(self._overloaded(c) for c in usable):
            level = sum(size * (c.utilisation or 0.0) for size, c in zip(capacity, usable, strict=True)) / sum(capacity)
            sentence = f"all {len(usable)} usable copies are overloaded ({level:.0%} on average); drawn: {copy.partition}"
            return self._decision(copy, "all_overloaded", sentence)._replace(level=level)
        if copy.partition == first.partition:
            return self._nearest(copy)
        return self._instead(first, copy)

    def _without_usable_copy(self) -> RouteDecision:
        """Decide if no copy both answers and is fresh enough."""
        primary, *shadows = (self._costed(copy) for copy in self._copies.in_order)
        late = [copy for copy in shadows if copy.reachable]
        if late and not self._strict:
            copy = min(late, key=lambda c: (c.staleness is None, c.staleness or 0.0, c.cost))
            sentence = f"the primary on {primary.partition} does not answer; {copy.partition} does, but {_behind(copy)}"
            return self._decision(copy, "primary_unreachable_stale_shadow", sentence)
        what = "and no copy is fresh enough" if late else "and neither does any other copy"
        sentence = f"the primary on {primary.partition} does not answer its reporter now, {what}"
        return self._decision(primary, "no_fresh_copy_reachable" if late else "no_copy_reachable", sentence)

    def _decision(self, copy: CopyView, code: str, sentence: str) -> RouteDecision:
        weighed: tuple[CopyView, ...] = ()
        if self._request.explain:
            weighed = tuple(self._costed(c)._replace(verdict=self._verdict(c, copy)) for c in self._copies.in_order)
        return RouteDecision(copy.partition, copy.role, self._placement.epoch, code, sentence + self._copies.note, weighed)

    def _verdict(self, copy: PlacedCopy, taken: CopyView) -> str:
        if copy.partition == taken.partition:
            return "taken"
        if not self._book.reachable(copy.partition, self._now):
            return "does not answer"
        behind = self._behind(copy)
        if behind is None or behind > self._limit:
            return _behind(self._view(copy))
        return self._verdicts.get(copy.partition, "not needed")

    @staticmethod
    def _share(copy: CopyView) -> str:
        return f"overloaded at {copy.utilisation:.0%}, it still gets {copy.admission:.0%} of its reads"


def _behind(copy: CopyView) -> str:
    return "how far behind is unknown" if copy.staleness is None else f"it is {copy.staleness:.1f} s behind"


def _load(copy: CopyView) -> str:
    return "it was overloaded when last heard of" if copy.utilisation is None else f"at {copy.utilisation:.0%} of its capacity"
