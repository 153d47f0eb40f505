"""The one search: always the step that lowers the objective most, until none does or a limit is reached.

Three operations, on units (slots and keys): move a set, add a shadow, remove a shadow. They are looked for in the order of
need: what a rule or a draining partition requires, then the partition with the most overload, then the units with the
largest possible gain in nearness, then the copies that there are. All are judged by the same objective.

A step that helps only together with another (room on its target must be made first; two units change places) is taken with it,
as one *chain*.
"""

from __future__ import annotations

import numpy as np

from foreshard.model import FloatArray, IntArray
from foreshard.plan._copies import (
    far_read_keys,
    nearer_shadow,
    open_to,
    relieving_shadow,
    required_removal,
    shadowable,
    try_removal,
    try_shadow,
)
from foreshard.plan._exchange import best_exchange
from foreshard.plan._moves import MoveSearch, coolest
from foreshard.plan._placement import TOLERANCE, PlannedPlacement, misplaced_units, rule_violations
from foreshard.plan._steps import Allowance, LoadBefore, MoveStep, ShadowStep, TakenStep, Terms, UnitPrices
from foreshard.plan.input.snapshot import IndexedShadow
from foreshard.plan.objective import BALANCE

LEAST_RISK = 0.01
"""A partition with fewer expected overload hours is not relieved."""
NEAR_FAILURES = 30
"""After this many units in a row that can't be brought nearer, the plan tries no more."""
NEAR_TARGETS = 3
CHAINED_UNITS, CHAINED_TARGETS, CHAINED_MOVES, CHAINED_PARTITIONS = 2, 2, 2, 2
"""Units (or keys), targets and partitions for which a chain is tried, and moves of others that may make room for one."""


class Search:
    """Takes steps on a placement.

    ``obstacles``: partition → why it is not relieved further. ``leaving_obstacles``: (partition, rule row; None: draining) →
    why units that must leave it stay.
    """

    def __init__(self, placement: PlannedPlacement) -> None:
        self.placement, self.prices = placement, UnitPrices(placement)
        self.taken: list[TakenStep] = []
        self.obstacles: dict[int, str] = {}
        self.leaving_obstacles: dict[tuple[int, int | None], str] = {}
        self._moves, self._shadows, self._bytes, self._chains = 0, 0, 0.0, 0

    @property
    def allowance(self) -> Allowance:
        """What the limits still allow."""
        policy = self.placement.policy
        return Allowance(policy.maximum_moves - self._moves, policy.maximum_bytes - self._bytes)

    def run(self) -> None:
        """Take all steps."""
        placement = self.placement
        self._remove_required()
        for source, row in rule_violations(placement):
            units = misplaced_units(placement, source, row)
            self._depart(source, units, row)
        self._relieve()
        for source in np.flatnonzero(~placement.snapshot.active).tolist():
            self._depart(source, placement.movable_on(source), None)
        self._bring_near()
        self._copy_near()
        self._remove_unneeded()

    def _depart(self, source: int, leaving: IntArray, row: int | None) -> None:
        """Move units off the partition where they must not stay, as far as limits and room allow."""
        placement = self.placement
        kind = "draining" if row is None else placement.snapshot.rules.rules[row][0].kind.value
        while len(leaving):
            leaving = leaving[placement.may_move(leaving)]
            step = self._search(source).best(leaving, coolest(placement, source, leaving))
            if step is None:
                break
            self._take(step, kind)
        if len(leaving):
            obstacle = self._obstacle(leaving)
            self.leaving_obstacles[source, row] = "no_target_fits" if obstacle == "gain_too_small" else obstacle

    def _relieve(self) -> None:
        placement, exhausted = self.placement, np.zeros(len(self.placement.capacity), bool)
        while not exhausted.all():
            risk = np.where(exhausted, -1.0, self._risk())
            full = placement.lps() > placement.policy.high_water + TOLERANCE
            first = (full | placement.full_at_first) & ~exhausted
            hot = int(np.where(first, risk + 1e6, risk).argmax())
            if risk[hot] < LEAST_RISK and not first[hot]:
                return
            if not self._relieve_once(hot, bool(full[hot])):
                exhausted[hot] = True

    def _risk(self) -> FloatArray:
        """Return the overload of each partition without the slight pull to balance (P)."""
        placement = self.placement
        share = placement.load.mean / placement.capacity[:, None]
        return np.asarray(placement.overload - BALANCE * (share**2 @ placement.hours.weight))

    def _relieve_once(self, hot: int, full: bool) -> bool:
        """Take the best step that relieves ``hot``. Return whether there was one; note the obstacle if not."""
        placement, units = self.placement, self.placement.movable_on(hot)
        move = self._search(hot).best(units, coolest(placement, hot, units))
        shadow = None
        if (full or move is None) and self._shadows < placement.policy.maximum_shadows:
            shadow = relieving_shadow(placement, self.prices, hot, self.allowance.size_bytes)
        if shadow is not None and (move is None or shadow.terms.total < move.terms.total):
            self._take_shadow(shadow)
            return True
        if move is not None:
            self._take(move)
            return True
        if full and self._chains < CHAINED_PARTITIONS:
            self._chains += 1
            if self._chain(hot, units):
                return True
        self.obstacles.setdefault(hot, self._obstacle(units))
        return False

    def _chain(self, hot: int, units: IntArray) -> bool:
        """Move or copy a large unit of ``hot`` to a partition where others make room. Return whether that pays."""
        placement = self.placement
        urgency = placement.urgency(hot)
        here = placement.units_on(hot) if self._shadows < placement.policy.maximum_shadows else units[:0]
        copyable = here[shadowable(placement, here)]
        for candidates, copied in ((copyable, True), (units, False)):
            relief = placement.hours.mean[candidates] @ urgency
            for unit in candidates[np.lexsort((candidates, -relief))][:CHAINED_UNITS].tolist():
                if placement.snapshot.key_bytes[unit] > self.allowance.size_bytes or self.allowance.moves < 2:
                    continue
                allowed = open_to(placement, unit) if copied else self._homes(unit)
                targets = [p for p in coolest(placement, hot, np.array([unit])).tolist() if allowed[p]][:CHAINED_TARGETS]
                if any(self._chain_once(hot, unit, target, copied) for target in targets):
                    return True
        return False

    def _homes(self, unit: int) -> np.ndarray:
        rules = self.placement.snapshot.rules
        return np.asarray(rules.home[rules.row[unit]])

    def _chain_once(self, hot: int, unit: int, target: int, copied: bool) -> bool:
        placement, steps = self.placement, self.placement.steps
        saved = (len(self.taken), self._moves, self._shadows, self._bytes)
        overload, lps, before = float(placement.overload.sum()), placement.lps(), self._before(hot)
        if copied:
            placement.add_shadow(unit, target)
            self._shadows += 1
        else:
            placement.move(np.array([unit]), target)
            self._moves += 1
        self._bytes += float(placement.snapshot.key_bytes[unit])
        price = float(self.prices.churn[unit] + self.prices.unresolved[unit])
        for _ in range(CHAINED_MOVES):
            others = placement.movable_on(target)
            step = self._search(target).best(others, coolest(placement, target, others))
            if step is None:
                break
            self._take(step, "makes_room", unit)
            price += float((self.prices.churn[step.units] + self.prices.unresolved[step.units]).sum())
        change, after = float(placement.overload.sum()) - overload, placement.lps()
        pays = change + price < -TOLERANCE and len(self.taken) > saved[0]
        if not pays or placement.fills_too_much(lps, (hot, target)):
            placement.undo(steps)
            del self.taken[saved[0] :]
            _, self._moves, self._shadows, self._bytes = saved
            return False
        terms = Terms(overload=change, churn=float(self.prices.churn[unit]))
        led = ShadowStep(unit, target, terms) if copied else MoveStep(np.array([unit]), hot, target, terms)
        self.taken.insert(saved[0], TakenStep(led, hot, before, (float(after[hot]), float(after[target]))))
        return True

    def _bring_near(self) -> None:
        """Move units, alone or as clumps, to where their readers and companions are, the largest possible gain first."""
        placement, failures = self.placement, 0
        possible = placement.nearness.savings_at_most() - self.prices.churn
        for seed in np.argsort(-possible, kind="stable").tolist():
            if possible[seed] <= 0 or failures >= NEAR_FAILURES or self.allowance.moves < 1:
                return
            too_large = placement.snapshot.key_bytes[seed] > self.allowance.size_bytes
            if too_large or not placement.may_move(np.array([seed]))[0]:
                continue
            source = int(placement.primary[seed])
            nearest = self._nearest(seed, source)
            step = self._search(source).best_clump(seed, nearest)
            if step is not None:
                self._take(step)
            failures = 0 if step is not None or self._exchange(seed, nearest) else failures + 1

    def _exchange(self, seed: int, nearest: IntArray) -> bool:
        """Let ``seed`` change places with a unit of one of the ``nearest`` partitions. Return whether that pays."""
        for target in nearest[:CHAINED_TARGETS].tolist():
            pair = best_exchange(self.placement, self.prices, seed, target, self.allowance)
            if pair is not None:
                self._take(pair[1], "makes_room", seed)
                self._take(pair[0])
                return True
        return False

    def _nearest(self, unit: int, source: int) -> IntArray:
        """Return the active partitions where ``unit`` would cause the least work, the least first."""
        placement = self.placement
        targets = np.flatnonzero(placement.snapshot.active & self._homes(unit))
        targets, units = targets[targets != source], np.array([unit])
        work = placement.nearness.work(units, targets, placement.nearness.ties(units, targets))[0]
        return np.asarray(targets[np.argsort(work, kind="stable")][:NEAR_TARGETS])

    def _copy_near(self) -> None:
        """Add shadows near far readers, while they pay."""
        placement = self.placement
        for key in far_read_keys(placement, self.prices)[: 2 * placement.policy.maximum_shadows].tolist():
            if self._shadows >= placement.policy.maximum_shadows:
                return
            if placement.snapshot.key_bytes[key] <= self.allowance.size_bytes:
                step = nearer_shadow(placement, self.prices, key)
                if step is not None:
                    self._take_shadow(step)

    def _remove_required(self) -> None:
        for shadow in sorted(self.placement.snapshot.shadows, key=lambda shadow: shadow.shadow_id):
            code = required_removal(self.placement, shadow)
            if code:
                self._remove(shadow, code)

    def _remove_unneeded(self) -> None:
        """Remove shadows that cost more than they save, and those of keys that are now written too often."""
        placement, gone = self.placement, {taken.removed.shadow_id for taken in self.taken if taken.removed}
        write_share = 1.0 - placement.snapshot.demand.read_share
        for shadow in sorted(placement.snapshot.shadows, key=lambda s: (-write_share[s.key], s.shadow_id)):
            if shadow.shadow_id in gone or shadow.partition not in placement.copies.get(shadow.key, ()):
                continue
            steps, before = placement.steps, self._before(int(placement.primary[shadow.key]))
            step = try_removal(placement, self.prices, shadow)
            if step is None:
                continue
            heavy = write_share[shadow.key] > placement.policy.maximum_write_share
            if not heavy and step.terms.total >= -TOLERANCE:
                placement.undo(steps)
                continue
            saves = "writes_cost_more" if step.terms.overload < step.terms.copies else "no_longer_needed"
            self._note(step, int(placement.primary[shadow.key]), before, "write_heavy" if heavy else saves, removed=shadow)

    def _remove(self, shadow: IndexedShadow, code: str) -> None:
        source = int(self.placement.primary[shadow.key])
        before = self._before(source)
        self.placement.remove_shadow(shadow.key, shadow.partition)
        self._note(ShadowStep(shadow.key, shadow.partition, Terms()), source, before, code, removed=shadow)

    def _search(self, source: int) -> MoveSearch:
        return MoveSearch(self.placement, self.prices, source, self.allowance)

    def _take(self, step: MoveStep, code: str = "", room_for: int | None = None) -> None:
        before = self._before(step.source)
        self.placement.move(step.units, step.target)
        self._moves += int(self.prices.moves(step.units)[-1])
        self._bytes += float(self.placement.snapshot.key_bytes[step.units].sum())
        self._note(step, step.source, before, code, room_for)

    def _take_shadow(self, step: ShadowStep) -> None:
        source = int(self.placement.primary[step.key])
        before = self._before(source)
        if try_shadow(self.placement, self.prices, step.key, step.target) is not None:
            self._shadows += 1
            self._bytes += float(self.placement.snapshot.key_bytes[step.key])
            self._note(step, source, before)

    def _before(self, source: int) -> LoadBefore:
        return LoadBefore.of(self.placement.utilisation(np.array([source]))[0], self.placement.policy.high_water)

    def _note(
        self, step: MoveStep | ShadowStep, source: int, before: LoadBefore, code: str = "", room_for: int | None = None,
        removed: IndexedShadow | None = None,
    ) -> None:  # fmt: skip
        after = self.placement.utilisation(np.array([source, step.target])).max(axis=1, initial=0.0)
        self.taken.append(TakenStep(step, source, before, (float(after[0]), float(after[1])), code, room_for, removed))

    def _obstacle(self, units: IntArray) -> str:
        """Return why none of ``units`` moves."""
        allowance = self.allowance
        if not len(units):
            return "nothing_movable"
        fits = self.placement.snapshot.key_bytes[units] <= allowance.size_bytes
        return "limit_reached" if allowance.moves < 1 or not fits.any() else "gain_too_small"
