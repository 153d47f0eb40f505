"""Which copy serves a read: the nearest one that is fresh enough and has room. Pure.

1. Copies that are too stale for the request, or that do not answer, are left out. The limit of a request is strict; the
   default limit gives way where the primary does not answer, since an old answer is better than none then (and it says so).
2. Among the nearest ones (within ``NEAR_EQUAL_MS`` of each other) one is chosen by two random choices, the less loaded of
   them with the higher chance: chance = ½ + ``TILT`` × difference in utilisation. A certain choice would make all sidecars
   jump at once, since they all see the same, slightly old report.
3. It is taken with the chance of its admission (:mod:`foreshard.routing.load_book`), 1 below the mark.
4. Otherwise the other copies are asked in the order of their cost, each with the chance of its admission:

       cost (ms) = round trip + max(SERVICE_MS × utilisation ÷ (1 − utilisation), measured latency)

   that is, the way there and back (measured, or the great circle in fibre) plus the time there: the waiting in a single queue
   (M/M/1) at ``HIGHEST_UTILISATION`` at most, or what the server itself says its reads take, where that is more.
5. Where all of them are overloaded, one is drawn in proportion to capacity × admission, which evens out their utilisation.

An unknown load counts as a load at the mark: neither idle nor overloaded.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from random import Random

from foreshard.model import Placement
from foreshard.routing.decision import PRIMARY, SHADOW, CopyView, Decision, RouteRequest, Surroundings
from foreshard.routing.distance import MS_PER_KM, RoundTrip
from foreshard.routing.load_book import LoadBook

SERVICE_MS = 2.0
HIGHEST_UTILISATION = 0.95
NEAR_EQUAL_MS = 0.25
TILT = 0.5
LEAST_CHANCE = 0.05
FAR = RoundTrip(MS_PER_KM * 20_100.0, False, None)
"""Farther than any place on Earth: the way to a partition whose location is unknown."""


def cost_ms(round_trip_ms: float, utilisation: float, latency_ms: float | None = None) -> float:
    """The cost of a copy: the way there and back, and the time there."""
    busy = min(utilisation, HIGHEST_UTILISATION)
    return round_trip_ms + max(SERVICE_MS * busy / (1.0 - busy), latency_ms or 0.0)


class ReadChoice:
    """The choice for one read; every copy gets a verdict, so that the decision can be explained."""

    def __init__(
        self, request: RouteRequest, placement: Placement, around: Surroundings, book: LoadBook, now: float, random: Random
    ) -> None:
        self._request, self._placement, self._around = request, placement, around
        self._book, self._now, self._random = book, now, random
        self._mark = book.rules.room_mark
        self._strict = request.max_staleness is not None
        self._limit = around.default_staleness if request.max_staleness is None else request.max_staleness
        self._origin, self._note = self._place()
        self._copies = {
            name: self._view(name)
            for name in (placement.primary, *placement.shadows)
            if name == placement.primary or name in around.partitions
        }
        self._verdicts: dict[str, str] = {}

    def decide(self) -> Decision:
        """Choose."""
        usable = [copy for copy in self._copies.values() if copy.reachable and self._fresh(copy)]
        if not usable:
            return self._without_choice()
        nearest = min(copy.ms for copy in usable)
        first = self._two_choices([c for c in usable if c.ms - nearest <= NEAR_EQUAL_MS])
        if self._admits(first):
            return self._nearest(first)
        others = [copy for copy in usable if copy is not first]
        while others:
            least = min(copy.cost for copy in others)
            copy = self._two_choices([c for c in others if c.cost - least <= NEAR_EQUAL_MS])
            if self._admits(copy):
                return self._instead(first, copy)
            others.remove(copy)
        return self._drawn(first, usable)

    def primary_taken(self) -> tuple[CopyView, ...]:
        """The copies of a request that had no choice."""
        return tuple(
            c._replace(verdict="taken" if c.role == PRIMARY else "a shadow takes no writes") for c in self._copies.values()
        )

    def _place(self) -> tuple[str, str]:
        """The location to measure from, and what to say where it is not the request's."""
        asked = self._request.location
        if asked is not None and asked in self._around.distances:
            return asked, ""
        primary = self._around.partitions.get(self._placement.primary)
        instead = self._around.home_location or (primary.geographic_location if primary else "")
        why = "no location given" if asked is None else f"location {asked!r} is unknown"
        return instead, f" ({why}: taken as {instead or 'nowhere'})"

    def _view(self, name: str) -> CopyView:
        at = self._book.pressure(name, self._now)
        partition = self._around.partitions.get(name)
        trip = self._around.distances.round_trip(self._origin, partition.geographic_location) if partition else None
        ms, measured, km = trip or FAR
        cost = cost_ms(ms, self._mark if at.utilisation is None else at.utilisation, at.latency_ms)
        role, staleness = (PRIMARY, 0.0) if name == self._placement.primary else (SHADOW, self._behind(name))
        load = (at.utilisation, at.reachable, at.admission, at.latency_ms)
        return CopyView(name, role, ms, measured, km, staleness, *load, cost)

    def _behind(self, name: str) -> float | None:
        """Seconds that a shadow is behind."""
        caught_up = self._around.caught_up_at.get((self._placement.key, name))
        return None if caught_up is None else max(0.0, self._now - caught_up)

    def _fresh(self, copy: CopyView) -> bool:
        return copy.staleness is not None and copy.staleness <= self._limit

    def _two_choices(self, group: Sequence[CopyView]) -> CopyView:
        """Two random ones of near-equals, of which the less loaded has the higher chance."""
        if len(group) == 1:
            return group[0]
        one, other = self._random.sample(group, 2)
        difference = (self._mark if other.utilisation is None else other.utilisation) - (
            self._mark if one.utilisation is None else one.utilisation
        )
        chance = min(1.0 - LEAST_CHANCE, max(LEAST_CHANCE, 0.5 + TILT * difference))
        return one if self._random.random() < chance else other

    def _admits(self, copy: CopyView) -> bool:
        if copy.admission >= 1.0 or self._random.random() < copy.admission:
            return True
        self._verdicts[copy.partition] = f"overloaded: is given {copy.admission:.0%} of its reads, not this one"
        return False

    def _overloaded(self, copy: CopyView) -> bool:
        return copy.utilisation is not None and copy.utilisation > self._mark

    def _nearest(self, copy: CopyView) -> Decision:
        """The nearest usable copy; the reason names what is nearer and was left out."""
        nearer = [c for c in self._copies.values() if copy.ms - c.ms > NEAR_EQUAL_MS]
        left = next((c for c in nearer if not c.reachable), None) or next(iter(nearer), None)
        where = f"{copy.partition} ({copy.role}, {_far(copy)})"
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

    def _instead(self, first: CopyView, copy: CopyView) -> Decision:
        sentence = f"{first.partition} is nearer, but {_load(first)}; {copy.partition} ({copy.role}, {_far(copy)}) has room"
        relieved = first.partition if self._overloaded(first) and not self._overloaded(copy) else None
        return replace(self._decision(copy, "nearer_overloaded", sentence), relieved=relieved)

    def _drawn(self, first: CopyView, usable: Sequence[CopyView]) -> Decision:
        """No copy took the read by its admission: one is drawn, so that the utilisations even out."""
        capacity = [self._book.capacity(c.partition) for c in usable]
        weights = [size * c.admission for size, c in zip(capacity, usable, strict=True)]
        copy = self._random.choices(usable, weights)[0]
        if all(self._overloaded(c) for c in usable):
            level = sum(size * (c.utilisation or 0.0) for size, c in zip(capacity, usable, strict=True)) / sum(capacity)
            sentence = f"all {len(usable)} usable copies are overloaded ({level:.0%} on average); drawn: {copy.partition}"
            return replace(self._decision(copy, "all_overloaded", sentence), level=level)
        if copy is first:
            return self._nearest(copy)
        return self._instead(first, copy)

    def _without_choice(self) -> Decision:
        """No copy is both fresh enough and answers."""
        primary = self._copies[self._placement.primary]
        late = [c for c in self._copies.values() if c.reachable and c is not primary]
        if late and not self._strict:
            copy = min(late, key=lambda c: (c.staleness is None, c.staleness or 0.0, c.cost))
            sentence = f"the primary on {primary.partition} does not answer; {copy.partition} does, but {_behind(copy)}"
            return self._decision(copy, "primary_unreachable_stale_shadow", sentence)
        what = "and no copy is fresh enough" if late else "and neither does any other copy"
        sentence = f"the primary on {primary.partition} does not answer its reporter now, {what}"
        return self._decision(primary, "no_fresh_copy_reachable" if late else "no_copy_reachable", sentence)

    def _decision(self, copy: CopyView, code: str, sentence: str) -> Decision:
        weighed = self._copies.values() if self._request.explain else ()
        copies = tuple(c._replace(verdict=self._verdict(c, copy)) for c in weighed)
        return Decision(copy.partition, copy.role, self._placement.epoch, code, sentence + self._note, copies)

    def _verdict(self, copy: CopyView, taken: CopyView) -> str:
        if copy is taken:
            return "taken"
        if not copy.reachable:
            return "does not answer"
        if not self._fresh(copy):
            return _behind(copy)
        return self._verdicts.get(copy.partition, "not needed")

    @staticmethod
    def _share(copy: CopyView) -> str:
        return f"overloaded at {copy.utilisation:.0%}, it still gets {copy.admission:.0%} of its reads"


def _far(copy: CopyView) -> str:
    if copy.measured:
        return f"{copy.ms:.1f} ms"
    return "distance unknown" if copy.km is None else f"{copy.km:.0f} km"


def _behind(copy: CopyView) -> str:
    return "how far behind is unknown" if copy.staleness is None else f"it is {copy.staleness:.1f} s behind"


def _load(copy: CopyView) -> str:
    return "it was overloaded when last heard of" if copy.utilisation is None else f"at {copy.utilisation:.0%} of its capacity"
