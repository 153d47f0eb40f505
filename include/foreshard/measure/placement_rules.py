"""Which placement rules apply to a key, and where its copies may be. Used by planning, gates and manual moves."""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property
from operator import itemgetter

import numpy as np

from foreshard.model import BoolArray, IntArray, Partition, PlacementRule, RuleKind


@dataclass(frozen=True)
class Bounds:
    """Where K keys are allowed on P partitions. ``row`` (K) selects one of R rows; row 0 is for keys without rules.

    ``home`` (R, P): where the primary copy may be. ``copy`` (R, P): where any copy may be. ``fixed`` (R): pinned to its current
    partition. ``rules``: the rules of each row.
    """

    row: IntArray
    home: BoolArray
    copy: BoolArray
    fixed: BoolArray
    rules: tuple[tuple[PlacementRule, ...], ...]

    @classmethod
    def free(cls, keys: int, partitions: int) -> Bounds:
        """Bounds without rules."""
        anywhere = np.ones((1, partitions), bool)
        return cls(np.zeros(keys, np.int64), anywhere, anywhere, np.zeros(1, bool), ((),))

    @property
    def any_rules(self) -> bool:
        """Whether any key has a rule."""
        return len(self.rules) > 1

    @cached_property
    def fixed_keys(self) -> BoolArray:
        """Which keys are pinned to their current partition (K)."""
        return np.asarray(self.fixed[self.row])

    def at_home(self, primary: IntArray) -> BoolArray:
        """Return which keys' primary copies are on an allowed partition (K)."""
        return np.asarray(self.home[self.row, primary])

    def claim(self, row: int) -> str:
        """What the rules of a row require, as a phrase that follows the key's name."""
        return " and ".join(rule.claim for rule in self.rules[row])


class PlacementRules:
    """A set of rules. Of each kind, the most specific rule applies to a key (see :class:`PlacementRule`)."""

    def __init__(self, rules: Iterable[PlacementRule] = ()) -> None:
        given = tuple(rules)
        self._of = {kind: _RulesOfKind([rule for rule in given if rule.kind is kind]) for kind in RuleKind}

    def of(self, key: str) -> tuple[PlacementRule, ...]:
        """Return the rules that apply to ``key``: at most one of each kind."""
        found = (selected.of(key) for selected in self._of.values())
        return tuple(rule for rule in found if rule is not None)

    def naming(self, keys: Iterable[str]) -> frozenset[str]:
        """Return those of ``keys`` that a rule names, by themselves or by a prefix that is not empty.

        An empty prefix applies to slots like to keys, so it names none.
        """
        numbers = [selected for selected in self._of.values() if any(rule.selector for rule in selected.rules)]
        ordered = sorted(keys) if numbers else []
        found: set[str] = set()
        for selected in numbers:
            named = np.array([bool(rule.selector) for rule in selected.rules] + [False])[selected.numbers(ordered)]
            found.update(ordered[row] for row in np.flatnonzero(named))
        return frozenset(found)

    def broken(self, key: str, partition: Partition, *, shadow: bool = False, moving: bool = True) -> PlacementRule | None:
        """Return the first rule that forbids a copy of ``key`` on ``partition``. A pin applies only to the primary copy.

        ``moving``: the copy would move there, which violates a pin to the current partition.
        """
        for rule in self.of(key):
            if rule.kind is RuleKind.RESIDENCY and partition.geographic_location not in rule.locations:
                return rule
            if rule.kind is RuleKind.PIN and not shadow and not _kept_by_pin(rule, partition, moving):
                return rule
        return None

    def bounds(self, keys: Sequence[str], partitions: Sequence[Partition]) -> Bounds:
        """Resolve the rules for ``keys`` (sorted)."""
        chosen = [(selected, selected.numbers(keys)) for selected in self._of.values()]
        code = np.zeros(len(keys), np.int64)
        for selected, number in chosen:
            code = code * (len(selected.rules) + 1) + number + 1
        distinct, row = np.unique(np.append(0, code), return_inverse=True)
        if len(distinct) == 1:
            return Bounds.free(len(keys), len(partitions))
        first = np.zeros(len(distinct), np.int64)
        first[row[1:][::-1]] = np.arange(len(keys))[::-1]
        rules = [()] + [self.of(keys[int(at)]) for at in first[1:]]
        fixed = [any(rule.kind is RuleKind.PIN and rule.partition_id is None for rule in held) for held in rules]
        masks = _AllowedPartitions(partitions)
        home = np.stack([masks.of(held, RuleKind) for held in rules])
        copy = np.stack([masks.of(held, (RuleKind.RESIDENCY,)) for held in rules])
        return Bounds(row[1:].astype(np.int64), home, copy, np.array(fixed), tuple(rules))


class _AllowedPartitions:
    """The partitions that rules allow, cached by what they require."""

    def __init__(self, partitions: Sequence[Partition]) -> None:
        self._ids = [partition.partition_id for partition in partitions]
        self._homes = [partition.geographic_location for partition in partitions]
        self._known: dict[object, BoolArray] = {}

    def of(self, rules: Sequence[PlacementRule], kinds: Iterable[RuleKind]) -> BoolArray:
        """Return the partitions allowed by all ``rules`` of these kinds, shape (P,)."""
        left = np.ones(len(self._ids), bool)
        for rule in rules:
            if rule.kind in kinds:
                left &= self._one(rule)
        return left

    def _one(self, rule: PlacementRule) -> BoolArray:
        wanted = rule.locations if rule.kind is RuleKind.RESIDENCY else rule.partition_id
        if wanted not in self._known:
            self._known[wanted] = self._mask(rule)
        return self._known[wanted]

    def _mask(self, rule: PlacementRule) -> BoolArray:
        if rule.kind is RuleKind.RESIDENCY:
            return np.array([home in rule.locations for home in self._homes], bool)
        return np.array([rule.partition_id in (None, name) for name in self._ids], bool)


class _RulesOfKind:
    """The rules of one kind."""

    def __init__(self, rules: Sequence[PlacementRule]) -> None:
        self.rules = sorted(rules, key=lambda rule: (not rule.is_prefix, len(rule.selector), rule.selector))
        self._exact = {rule.selector: rule for rule in self.rules if not rule.is_prefix}
        self._prefixes = [rule for rule in reversed(self.rules) if rule.is_prefix]

    def of(self, key: str) -> PlacementRule | None:
        """Return the most specific rule for ``key``."""
        exact = self._exact.get(key)
        return exact or next((rule for rule in self._prefixes if key.startswith(rule.selector)), None)

    def numbers(self, keys: Sequence[str]) -> IntArray:
        """Return the index into ``rules`` of the rule for each of the sorted ``keys``, −1 for none.

        More specific rules come later.
        """
        number = np.full(len(keys), -1, np.int64)
        for position, rule in enumerate(self.rules):
            compared = itemgetter(slice(len(rule.selector) if rule.is_prefix else None))
            start = bisect_left(keys, rule.selector)
            number[start : bisect_right(keys, rule.selector, lo=start, key=compared)] = position
        return number


def _kept_by_pin(rule: PlacementRule, partition: Partition, moving: bool) -> bool:
    return not moving if rule.partition_id is None else rule.partition_id == partition.partition_id
