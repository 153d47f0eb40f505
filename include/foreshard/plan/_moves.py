"""Sets of units that might move from one partition to another, and what each would change in the objective.

A set is one unit, the first n units of an order (many small steps judged together), or a *clump*: a unit and the units that are
co-accessed with it. Sets of one order are judged at once, by their sums.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from foreshard.measure.demand import LoadProfile
from foreshard.model import BoolArray, FloatArray, IntArray
from foreshard.plan._placement import TOLERANCE, PlannedPlacement
from foreshard.plan._steps import Allowance, MoveStep, Terms, UnitPrices
from foreshard.plan.objective import DRAINING, MISPLACED, believed

SINGLES, TARGETS, SIZES = 48, 6, 20
"""Units and targets that are tried one by one, and sizes of larger sets."""
MOST_UNITS = 10_000
"""Units of one set."""
SEEDS, CLUMP = 6, 16
"""Clumps that are grown for one partition, and the most units of one."""


@dataclass(frozen=True)
class _Order:
    """Units in an order. Its sets are the first ``sizes`` of them, or each alone (None)."""

    units: IntArray
    sizes: IntArray | None
    clump: bool = False

    def set_of(self, row: int) -> IntArray:
        """Return the units of one set."""
        return self.units[[row]] if self.sizes is None else self.units[: int(self.sizes[row])]

    def summed(self, values: FloatArray) -> FloatArray:
        """Return the sums of ``values`` (n, …) over each set."""
        if self.sizes is None:
            return values
        starts = np.concatenate([[0], self.sizes[:-1]])
        return np.asarray(np.add.reduceat(values[: int(self.sizes[-1])], starts, axis=0).cumsum(axis=0))


@dataclass(frozen=True)
class _Sets:
    """All that is summed over the units of R sets of one partition, for m targets.

    ``units``: their number (R); ``load`` (R, T). ``gone`` (R) and ``come`` (R, m): their co-accesses with the others of the
    source, and with the units of the targets. ``work``: its change (R, m). ``churn``, ``unresolved``, ``again``, ``misplaced``
    (R): see :class:`UnitPrices`.
    ``allowed``: by rules (R, m).
    """

    units: IntArray
    load: LoadProfile
    gone: FloatArray
    come: FloatArray
    work: FloatArray
    churn: FloatArray
    unresolved: FloatArray
    again: FloatArray
    misplaced: FloatArray
    allowed: BoolArray

    @classmethod
    def joined(cls, parts: list[_Sets]) -> _Sets:
        """Return the sets of several orders as one."""
        load = LoadProfile(*(np.concatenate(each) for each in zip(*(part.load.parts() for part in parts), strict=True)))
        names = ("gone", "come", "work", "churn", "unresolved", "again", "misplaced", "allowed")
        units = np.concatenate([part.units for part in parts])
        return cls(units, load, *(np.concatenate([getattr(part, name) for part in parts]) for name in names))


class MoveSearch:
    """Looks for the best move of units from one partition. The placement may not change meanwhile."""

    def __init__(self, placement: PlannedPlacement, prices: UnitPrices, source: int, allowance: Allowance) -> None:
        self._placement, self._prices, self._source, self._allowance = placement, prices, source, allowance

    def best(self, units: IntArray, targets: IntArray) -> MoveStep | None:
        """Return the set of some of ``units`` that lowers the objective most on one of ``targets``; None if none does."""
        units = units[self._placement.snapshot.key_bytes[units] <= self._allowance.size_bytes]
        if not len(units) or not len(targets) or self._allowance.moves < 1:
            return None
        order, alike = self._by_relief(units)
        most = self._most(alike)
        sizes = np.unique(np.round(np.geomspace(1, most, SIZES)).astype(np.int64))
        orders = [_Order(order[:SINGLES], None), _Order(alike[:most], sizes)]
        orders += [self._grown(seed, few=True) for seed in order[:SEEDS].tolist()]
        sets = _Sets.joined([self._sets(order, targets) for order in orders])
        for overfull in (False, True):
            best = self._best_of(orders, sets, targets, overfull)
            if best is not None:
                many = len(best.units) > 1 and not best.clump
                return self._refined(alike[:most], sizes, best, overfull) if many else best
        return None

    def best_clump(self, seed: int, targets: IntArray) -> MoveStep | None:
        """Return the best set that ``seed`` leads: alone, or with co-accessed units of the same partition."""
        return self._best_of_order(self._grown(seed), targets) if len(targets) else None

    def _by_relief(self, units: IntArray) -> tuple[IntArray, IntArray]:
        """Return the units that relieve the source most for their price first, twice: in order, and by powers of two.

        The second is for sets of many: it does not tell units apart that relieve about the same, so slots, which need no row in
        the table, come before keys, and no size of key is preferred by the noise of its forecast.
        """
        urgency = self._placement.urgency(self._source)
        relief = self._placement.hours.mean[units] @ urgency
        price = self._prices.churn[units] + self._prices.unresolved[units]
        worth = np.divide(relief, price, out=np.zeros(len(units)), where=price > 0)
        power = np.round(np.log2(np.maximum(worth, TOLERANCE)))
        return tuple(units[np.lexsort((units, -rank))][:MOST_UNITS] for rank in (worth, power))  # type: ignore[return-value]

    def _most(self, ranked: IntArray) -> int:
        """Return how many of the first units the limits allow."""
        size = self._placement.snapshot.key_bytes[ranked].cumsum()
        allowed = (self._prices.moves(ranked) <= self._allowance.moves) & (size <= self._allowance.size_bytes)
        return len(ranked) if allowed.all() else int(allowed.argmin())

    def _refined(self, ranked: IntArray, sizes: IntArray, best: MoveStep, overfull: bool) -> MoveStep:
        """Return the best of the sizes around that of ``best``."""
        target = np.array([best.target])
        while True:
            at = int(np.searchsorted(sizes, len(best.units)))
            low, high = int(sizes[max(at - 1, 0)]), int(sizes[min(at + 1, len(sizes) - 1)])
            if high - low < len(sizes) or len(sizes) < 2:
                sizes = np.arange(low, high + 1)
                return self._best_of_order(_Order(ranked, sizes), target, overfull) or best
            sizes = np.unique(np.round(np.linspace(low, high, SIZES)).astype(np.int64))
            best = self._best_of_order(_Order(ranked, sizes), target, overfull) or best

    def _grown(self, seed: int, few: bool = False) -> _Order:
        """Return ``seed`` and the movable units of its partition that are tied to it most, in the order of their ties."""
        graph, here = self._placement.snapshot.co_access, self._placement.primary
        chosen, ties = [seed], dict[int, float]()
        while len(chosen) < CLUMP:
            neighbours, weights = graph.of(chosen[-1])
            close = (here[neighbours] == self._source) & self._placement.may_move(neighbours)
            for unit, weight in zip(neighbours[close].tolist(), weights[close].tolist(), strict=True):
                if unit not in chosen:
                    ties[unit] = ties.get(unit, 0.0) + weight
            if not ties:
                break
            closest = max(ties, key=lambda unit: (ties[unit], -unit))
            del ties[closest]
            chosen.append(closest)
        units = np.array(chosen, np.int64)
        most = max(self._most(units), 1)
        sizes = np.array([2, 3, 4, 6, 8, 12, 16]) if few else np.arange(1, CLUMP + 1)
        return _Order(units[:most], np.union1d(np.minimum(sizes, most), [1]), clump=True)

    def _best_of_order(self, order: _Order, targets: IntArray, overfull: bool = False) -> MoveStep | None:
        return self._best_of([order], self._sets(order, targets), targets, overfull)

    def _best_of(self, orders: list[_Order], sets: _Sets, targets: IntArray, overfull: bool) -> MoveStep | None:
        """Return the set that lowers the objective most; None if none does.

        ``overfull``: a target may pass its mark, up to the LPS of a source that is above its own.
        """
        source, placement = self._source, self._placement
        if overfull and not placement.full_at_first[source]:
            return None
        here = placement.load.rows(np.array([source])) - sets.load
        gone = placement.inside[source] - sets.gone
        best, even = None, placement.even_level(source)
        full = float(placement.utilisation(np.array([source])).max(initial=0.0))
        split = [placement.urgent(source, target) and full > even + TOLERANCE for target in targets.tolist()]
        left = {urgent: placement.overload_change(here, source, gone, not urgent) for urgent in set(split)}
        for column, (target, urgent) in enumerate(zip(targets.tolist(), split, strict=True)):
            there = placement.load.rows(np.array([target])) + sets.load
            come = placement.overload_change(there, target, placement.inside[target] + sets.come[:, column], not urgent)
            lps = placement.upper_lps(there, target)
            ceiling = placement.ceiling_for(source, target, full) if overfull else float(placement.ceiling[target])
            fits = (lps <= ceiling + TOLERANCE) & sets.allowed[:, column]
            if urgent:
                fits &= (lps <= even + TOLERANCE) | ((sets.units == 1) & (full > placement.policy.high_water))
            overload = believed(left[urgent] + come, sets.again if urgent else sets.unresolved)
            work = sets.work[:, column]
            value = np.where(fits, overload + work + sets.misplaced + sets.churn, np.inf)
            row = int(value.argmin())
            if value[row] < min(-TOLERANCE, best.terms.total - TOLERANCE if best else 0.0):
                terms = Terms(float(overload[row]), float(work[row]), 0.0, float(sets.misplaced[row]), float(sets.churn[row]))
                units, clump = self._named(orders, row)
                best = MoveStep(units, source, target, terms, clump and len(units) > 1)
        return best

    def _named(self, orders: list[_Order], row: int) -> tuple[IntArray, bool]:
        """Return the units of the set in this row of all orders' sets, and whether it is a clump."""
        for order in orders:
            rows = len(order.units) if order.sizes is None else len(order.sizes)
            if row < rows:
                return order.set_of(row), order.clump
            row -= rows
        raise IndexError(row)

    def _sets(self, order: _Order, targets: IntArray) -> _Sets:
        """Sum all that counts over the sets of one order."""
        placement, prices, units = self._placement, self._prices, order.units
        nearness, snapshot = placement.nearness, placement.snapshot
        places = np.concatenate([[self._source], targets])
        ties = nearness.ties(units, places)
        work = nearness.work(units, places, ties)
        among = np.zeros(len(units)) if order.sizes is None else nearness.among(units)[order.sizes - 1]
        change = order.summed(work[:, 1:] - work[:, :1])
        inside = order.summed(nearness.ties(units, places, shadows=False) if placement.copies else ties)
        allowed = snapshot.rules.home[snapshot.rules.row[units]][:, targets]
        broken = ~snapshot.rules.home[snapshot.rules.row[units], self._source]
        draining = 0.0 if snapshot.active[self._source] else DRAINING
        return _Sets(
            np.ones(len(units), np.int64) if order.sizes is None else order.sizes,
            LoadProfile(*(order.summed(part) for part in placement.hours.load(units).parts())),
            inside[:, 0] - among,
            inside[:, 1:] + among[:, None],
            change - nearness.joined(among)[:, None],
            order.summed(prices.churn[units]),
            order.summed(prices.unresolved[units]),
            order.summed(prices.again[units]),
            -order.summed(MISPLACED * broken + draining),
            order.summed((~allowed).astype(np.float64)) == 0.0,
        )


def coolest(placement: PlannedPlacement, source: int, units: IntArray, most: int = TARGETS) -> IntArray:
    """Return the active partitions with the least overload, then the least load, without ``source``: the first ``most``.

    Where rules bind ``units`` differently, the first ``most`` that each of their rows allows.
    """
    load = placement.load.mean[:, : placement.hours.coming].max(axis=1, initial=0.0) / placement.capacity
    order = np.lexsort((load, np.round(placement.overload, 6)))
    order = order[placement.snapshot.active[order] & (order != source)]
    rules = placement.snapshot.rules
    if not rules.any_rules:
        return np.asarray(order[:most])
    rows = np.unique(rules.row[units])
    found = [order[rules.home[row, order]][:most] for row in rows.tolist()]
    return np.asarray(order[np.isin(order, np.concatenate(found))] if found else order[:0])
