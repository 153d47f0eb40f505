"""A simulated world for the routing decision: sidecars in several places route reads, and partitions report their loads late.

Requests, clocks and reports are simulated; the decision is the real one. Each sidecar learns of a report after its own delay,
and reports are smoothed as the load reporter smooths them.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime
from random import Random
from weakref import WeakKeyDictionary

import numpy as np
from scipy.optimize import linprog

from foreshard.measure.distance import Distances
from foreshard.model import Location, Partition, PartitionLoad, Placement, RequestKind
from foreshard.routing.decide import decide
from foreshard.routing.decision import RouteRequest, RoutingContext
from foreshard.routing.load_book import LoadBook, LoadRules
from foreshard.routing.near import NearChoice, near_choice

STEP = 0.25
START = 1_700_000_000.0
WINDOW = 10
"""Seconds over which a partition's utilisation is averaged before the worst one is taken."""
LOADS = LoadRules(room_mark=0.8, expiry=15.0, time_scale=1.0)
PLACES = (
    Location("Dublin", 53.35, -6.26),
    Location("Frankfurt", 50.11, 8.68),
    Location("Virginia", 38.95, -77.45),
    Location("Oregon", 45.52, -122.68),
)

Policy = Callable[[RouteRequest, Placement, RoutingContext, LoadBook, float, Random], str]


def by_decision(
    request: RouteRequest, placement: Placement, context: RoutingContext, book: LoadBook, now: float, random: Random
) -> str:
    """The decision itself, with the sidecar's bookkeeping."""
    made = decide(request, placement, context, book, now, random)
    book.sent(made.partition, 1.0, now)
    if made.level is not None:
        book.all_overloaded((placement.primary, *placement.shadows), made.level)
    if made.relieved is not None:
        book.relieved(made.relieved)
    return made.partition


class Prepared:
    """The decision as an app's client makes it.

    Choices among near copies with room are prepared for one step, and the requests they serve count as load after it.
    """

    def __init__(self) -> None:
        self._choices: WeakKeyDictionary[LoadBook, tuple[float, dict[tuple[str, str | None], NearChoice | None]]]
        self._choices = WeakKeyDictionary()

    def __call__(
        self, request: RouteRequest, placement: Placement, context: RoutingContext, book: LoadBook, now: float, random: Random
    ) -> str:
        """The copy."""
        if not placement.shadows:
            return by_decision(request, placement, context, book, now, random)
        asked = (placement.key, request.location)
        choices = self._standing(book, now)
        if asked not in choices:
            choices[asked] = near_choice(request, placement, context, book, now, dict.fromkeys(context.partitions, ("", "")))
        choice = choices[asked]
        taken = choice.take(placement.key, now, random) if choice is not None else None
        return taken.partition if taken is not None else by_decision(request, placement, context, book, now, random)

    def _standing(self, book: LoadBook, now: float) -> dict[tuple[str, str | None], NearChoice | None]:
        since, choices = self._choices.get(book, (now, {}))
        if since != now:
            for copy in (copy for choice in choices.values() if choice is not None for copy in choice.copies):
                book.sent(copy.partition, float(copy.sent), now)
            choices = {}
        self._choices[book] = (now, choices)
        return choices


def nearest_only(
    request: RouteRequest, placement: Placement, context: RoutingContext, book: LoadBook, now: float, random: Random
) -> str:
    """The nearest copy, regardless of load."""
    copies = (placement.primary, *placement.shadows)
    return min(copies, key=lambda name: _ms(request, name, context))


def least_loaded(
    request: RouteRequest, placement: Placement, context: RoutingContext, book: LoadBook, now: float, random: Random
) -> str:
    """The copy with the lowest reported load."""
    copies = (placement.primary, *placement.shadows)
    return min(copies, key=lambda name: book.pressure(name, now).utilisation or 0.0)


def random_of_two(
    request: RouteRequest, placement: Placement, context: RoutingContext, book: LoadBook, now: float, random: Random
) -> str:
    """The less loaded of two random copies, by their reports."""
    copies = (placement.primary, *placement.shadows)
    two = random.sample(copies, min(2, len(copies)))
    return min(two, key=lambda name: book.pressure(name, now).utilisation or 0.0)


POLICIES: dict[str, Policy] = {
    "decision": by_decision,
    "decision, prepared": Prepared(),
    "nearest only": nearest_only,
    "least loaded": least_loaded,
    "random of two": random_of_two,
}


def _ms(request: RouteRequest, name: str, context: RoutingContext) -> float:
    trip = context.distances.round_trip(request.location or "", context.partitions[name].geographic_location)
    return trip.ms if trip else math.inf


class Simulated:
    """The interface that :func:`simulate` needs. ``origins``: the places of the sidecars, with the same number at each."""

    capacities: dict[str, float]
    places: tuple[Location, ...]
    origins: tuple[str, ...]
    sidecars: int
    report_every: float
    smoothing: float
    seed: int

    def partitions(self) -> dict[str, Partition]:
        """Every partition by name."""
        raise NotImplementedError

    def placements(self) -> list[Placement]:
        """Every key's copies."""
        raise NotImplementedError

    def arrivals(self, draw: np.random.Generator, second: float) -> np.ndarray:
        """The number of reads of each (origin, key) in the step that begins at ``second``."""
        raise NotImplementedError

    def delays(self, random: Random) -> list[float]:
        """Seconds after which each sidecar learns of a report."""
        raise NotImplementedError

    def unmovable(self, name: str) -> float:
        """A partition's load per second besides the routed reads."""
        return 0.0


@dataclass(frozen=True)
class World(Simulated):
    """Two partitions per place; the most read keys have shadows.

    ``load``: reads per second before the spike, as a share of the total capacity. ``spike``: the factor by which Dublin's reads
    grow at ``spike_at`` (s).
    """

    load: float
    spike: float
    spike_at: float = 60.0
    sidecars: int = 60
    keys: int = 160
    scale: float = 1.0
    report_every: float = 2.0
    slowest_report: float = 4.0
    smoothing: float = 5.0
    seed: int = 7
    places: tuple[Location, ...] = PLACES
    origins: tuple[str, ...] = tuple(place.name for place in PLACES)
    capacities: dict[str, float] = field(init=False)

    def __post_init__(self) -> None:
        sizes = (300, 200, 250, 250, 300, 150, 200, 350)
        named = {f"{place.name} {n}": sizes[2 * at + n - 1] * self.scale for at, place in enumerate(PLACES) for n in (1, 2)}
        object.__setattr__(self, "capacities", named)

    def partitions(self) -> dict[str, Partition]:
        """Every partition by name."""
        return {name: Partition(name, name.rsplit(" ", 1)[0], size) for name, size in self.capacities.items()}

    def placements(self) -> list[Placement]:
        """Keys, most read first. Primaries alternate over the partitions; the first half has 3, 2 or 1 shadows elsewhere."""
        random, names = Random(self.seed), list(self.capacities)
        made = []
        for number in range(self.keys):
            primary = names[number % len(names)]
            shadows = 3 if number < self.keys // 8 else 2 if number < self.keys // 4 else 1 if number < self.keys // 2 else 0
            others = random.sample([name for name in names if name != primary], shadows)
            made.append(Placement(f"key {number}", primary, tuple(others)))
        return made

    def weights(self, second: float) -> np.ndarray:
        """Reads per second of each (place, key): Zipf over the keys, with Dublin's spike on the keys with shadows."""
        popularity = 1.0 / (np.arange(self.keys) + 8.0) ** 0.8
        demand = np.tile(popularity / popularity.sum(), (len(PLACES), 1)) / len(PLACES)
        demand *= self.load * sum(self.capacities.values())
        if second >= self.spike_at:
            demand[0, : self.keys // 2] *= self.spike
        return demand

    def arrivals(self, draw: np.random.Generator, second: float) -> np.ndarray:
        """Poisson."""
        return draw.poisson(self.weights(second) * STEP)

    def delays(self, random: Random) -> list[float]:
        """Each sidecar's own."""
        return [random.uniform(0.5, self.slowest_report) for _ in range(self.sidecars)]

    def best_split(self) -> float:
        """The lowest possible utilisation of the worst partition over all splits of the reads over their copies (by LP)."""
        demand, placements, names = self.weights(math.inf).sum(axis=0), self.placements(), list(self.capacities)
        pairs = [(k, c) for k, p in enumerate(placements) for c in (p.primary, *p.shadows)]
        shares, loads = np.zeros((len(placements), len(pairs) + 1)), np.zeros((len(names), len(pairs) + 1))
        for column, (key, copy) in enumerate(pairs):
            shares[key, column] = 1.0
            loads[names.index(copy), column] = 1.0 / self.capacities[copy]
        loads[:, -1] = -1.0
        worst = np.zeros(len(pairs) + 1)
        worst[-1] = 1.0
        solved = linprog(worst, A_ub=loads, b_ub=np.zeros(len(names)), A_eq=shares, b_eq=demand, method="highs")
        return float(solved.fun)


@dataclass(frozen=True)
class Outcome:
    """The result of a run: utilisation (partitions, seconds), and the mean round trip of reads per second (ms)."""

    names: tuple[str, ...]
    utilisation: np.ndarray
    milliseconds: np.ndarray

    def worst(self, since: float) -> float:
        """The highest utilisation of any partition over any ``WINDOW`` seconds since then."""
        return float(self._windows(since).max())

    def swing(self, since: float) -> float:
        """The oscillation: the largest deviation of any partition's windows from their mean."""
        windows = self._windows(since)
        return float(np.abs(windows - windows.mean(axis=1, keepdims=True)).max())

    def settled_after(self, spike_at: float, limit: float) -> float | None:
        """Seconds after the spike from which the worst window stays within ``limit``; None: never."""
        for second in range(int(spike_at), self.utilisation.shape[1] - 3 * WINDOW, 5):
            if self.worst(second) <= limit:
                return second - spike_at
        return None

    def _windows(self, since: float) -> np.ndarray:
        late = self.utilisation[:, int(since) :]
        whole = late.shape[1] // WINDOW * WINDOW
        return late[:, :whole].reshape(len(self.names), -1, WINDOW).mean(axis=2)


def simulate(world: Simulated, policy: Policy, seconds: int) -> Outcome:
    """Run the world under a policy."""
    draw, random = np.random.default_rng(world.seed), Random(world.seed)
    placements, names, origins = world.placements(), tuple(world.capacities), world.origins
    fresh = {(p.key, shadow): math.inf for p in placements for shadow in p.shadows}
    context = RoutingContext(world.partitions(), Distances(world.places), fresh)
    books = [LoadBook(LOADS) for _ in range(world.sidecars)]
    delays = world.delays(random)
    for book in books:
        book.register(world.capacities)
    requests = [[RouteRequest(p.key, RequestKind.READ, place) for p in placements] for place in origins]
    smooth, due = dict.fromkeys(names, 0.0), []
    used, trips = np.zeros((len(names), seconds)), np.zeros((2, seconds))
    for tick in range(int(seconds / STEP)):
        now, second = START + tick * STEP, int(tick * STEP)
        while due and due[0][0] <= now:
            _, number, reports = due.pop(0)
            books[number].report(reports, now)
        sent = dict.fromkeys(names, 0)
        counts = world.arrivals(draw, tick * STEP)
        for at, key in zip(*np.nonzero(counts), strict=True):
            for _ in range(counts[at, key]):
                book = books[random.randrange(world.sidecars // len(origins)) * len(origins) + at]
                chosen = policy(requests[at][key], placements[key], context, book, now, random)
                sent[chosen] += 1
                trips[:, second] += _ms(requests[at][key], chosen, context), 1
        for row, name in enumerate(names):
            load = sent[name] / STEP + world.unmovable(name)
            smooth[name] += (1 - math.exp(-STEP / world.smoothing)) * (load - smooth[name])
            used[row, second] += load * STEP / world.capacities[name]
        if tick % int(world.report_every / STEP) == 0:
            moment = datetime.fromtimestamp(now, UTC)
            reports = [PartitionLoad(name, smooth[name], True, moment) for name in names]
            due += [(now + delay, number, reports) for number, delay in enumerate(delays)]
            due.sort(key=lambda one: one[0])
    return Outcome(names, used, trips[0] / np.maximum(trips[1], 1))
