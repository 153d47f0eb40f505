"""Set, remove and show placement rules, and refuse moves and shadows that break them."""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import cache
from typing import Protocol

from foreshard.errors import PlacementRuleBroken, UnusableRule
from foreshard.measure.placement_rules import PlacementRules
from foreshard.model import Move, Partition, PartitionState, PlacementRule, PlannedShadow, RuleKind
from foreshard.stages._ports import WithPlacementRules, WithRegistry, WithRouting
from foreshard.stages.listing import list_ruled_key

LOG = logging.getLogger("foreshard.rules")


class RuleCheckPorts(WithRegistry, WithPlacementRules, Protocol):
    """Reads placement rules and partitions."""


class RulePorts(RuleCheckPorts, WithRouting, Protocol):
    """Reads partitions and the routing table. Writes placement rules."""


@dataclass(frozen=True, slots=True)
class RuleEffect:
    """The effect of a rule: the number of listed keys it applies to, and of primary copies and shadows that break it."""

    rule: PlacementRule
    keys: int
    primaries_elsewhere: int
    shadows_elsewhere: int


@dataclass(frozen=True, slots=True)
class KeyBounds:
    """The rules that apply to one key, its primary partition, and the partitions where its copies may be."""

    key: str
    primary: str
    rules: tuple[PlacementRule, ...]
    primary_may_be_on: tuple[str, ...]
    shadows_may_be_on: tuple[str, ...]


def set_rule(ports: RulePorts, rule: PlacementRule, dry_run: bool = False) -> RuleEffect:
    """Save ``rule`` and return its effect. It replaces a rule of the same kind and selector. A dry run saves nothing.

    A pin of one key without a partition pins it to its current partition. Raise :class:`foreshard.errors.UnknownPartition` or
    :class:`foreshard.errors.UnusableRule` if no partition satisfies the rule, or if it contradicts another rule.
    """
    if rule.kind is RuleKind.PIN and rule.partition_id is None and not rule.is_prefix:
        rule = replace(rule, partition_id=ports.routing.placement(rule.selector).primary)
    partitions = ports.registry.partitions()
    _require_keepable(ports, rule, partitions)
    others = [other for other in ports.placement_rules.rules() if other.rule_id != rule.rule_id]
    _require_room_with(rule, others, partitions)
    if not dry_run:
        if not rule.is_prefix:
            list_ruled_key(ports, rule.selector, rule.kind.value)
        ports.placement_rules.save(rule)
    return _effects(ports, [*others, rule], [rule])[0]


def remove_rule(ports: WithPlacementRules, rule: PlacementRule) -> None:
    """Delete the rule of this kind and selector. Raise :class:`foreshard.errors.UnknownRule` if there is none."""
    ports.placement_rules.remove(rule.rule_id)


def list_rules(ports: RulePorts) -> tuple[RuleEffect, ...]:
    """Return every rule with its effect."""
    rules = ports.placement_rules.rules()
    return tuple(_effects(ports, rules, rules)) if rules else ()


def bounds_of(ports: RulePorts, key: str) -> KeyBounds:
    """Return the rules that apply to ``key``, and the partitions where its copies may be."""
    rules = PlacementRules(ports.placement_rules.rules())
    primary = ports.routing.placement(key).primary
    partitions = [p for p in ports.registry.partitions() if p.state is PartitionState.ACTIVE or p.partition_id == primary]
    return KeyBounds(
        key,
        primary,
        rules.of(key),
        tuple(p.partition_id for p in partitions if not rules.broken(key, p, moving=p.partition_id != primary)),
        tuple(p.partition_id for p in partitions if p.partition_id != primary and not rules.broken(key, p, shadow=True)),
    )


def require_allowed(ports: RuleCheckPorts, units: Sequence[str], target: str, *, shadow: bool = False) -> None:
    """Raise :class:`foreshard.errors.PlacementRuleBroken` if a rule forbids a copy of one of the units on ``target``."""
    partition, rules = ports.registry.partition(target), PlacementRules(ports.placement_rules.rules())
    for unit in units:
        broken = rules.broken(unit, partition, shadow=shadow)
        if broken is not None:
            raise PlacementRuleBroken(unit, target, broken.claim, broken.rule_id)


def allowed_moves(ports: RuleCheckPorts, moves: Sequence[Move]) -> tuple[Move, ...]:
    """Return the moves without the units that a rule forbids. A rule may have been set since they were planned."""
    still_allowed = _checker(ports)
    kept = [(m, tuple(unit for unit in m.units if still_allowed(unit, m.target, False))) for m in moves]
    return tuple(m if len(units) == len(m.units) else replace(m, units=units) for m, units in kept if units)


def allowed_shadows(ports: RuleCheckPorts, shadows: Sequence[PlannedShadow]) -> tuple[PlannedShadow, ...]:
    """Return the shadows that no rule forbids."""
    still_allowed = _checker(ports)
    return tuple(s for s in shadows if still_allowed(s.key, s.target, True)) if shadows else ()


def _checker(ports: RuleCheckPorts) -> Callable[[str, str, bool], bool]:
    """Return the function (unit, target, shadow) → whether the rules allow it. They are read once, for any number of units."""
    rules, partition = PlacementRules(ports.placement_rules.rules()), cache(ports.registry.partition)

    def still_allowed(unit: str, target: str, shadow: bool) -> bool:
        broken = rules.broken(unit, partition(target), shadow=shadow)
        if broken is not None:
            LOG.warning("skipped: %s", PlacementRuleBroken(unit, target, broken.claim, broken.rule_id))
        return broken is None

    return still_allowed


def _require_keepable(ports: WithRegistry, rule: PlacementRule, partitions: Sequence[Partition]) -> None:
    if rule.partition_id is not None:
        ports.registry.partition(rule.partition_id)
    homes = {partition.geographic_location for partition in partitions}
    unknown = sorted(set(rule.locations) - homes)
    if unknown:
        known = ", ".join(sorted(homes)) or "(none)"
        raise UnusableRule(rule.selector, f"no partition is in {unknown[0]!r}", f"partitions are in: {known}")
    if rule.kind is RuleKind.RESIDENCY and not rule.locations:
        raise UnusableRule(rule.selector, "it names no location", "name at least one")


def _require_room_with(rule: PlacementRule, others: Sequence[PlacementRule], partitions: Sequence[Partition]) -> None:
    """Raise :class:`UnusableRule` if a pin and a residency rule contradict each other for any key."""
    place = {partition.partition_id: partition.geographic_location for partition in partitions}
    rules = PlacementRules([*others, rule])
    for selector in {rule.selector, *(o.selector for o in others if rule.is_prefix and o.selector.startswith(rule.selector))}:
        held = {found.kind: found for found in rules.of(selector)}
        pin, residency = held.get(RuleKind.PIN), held.get(RuleKind.RESIDENCY)
        if pin is None or residency is None or pin.partition_id is None or pin.partition_id not in place:
            continue
        if place[pin.partition_id] not in residency.locations:
            problem = f"{selector!r} {pin.claim} in {place[pin.partition_id]}, and {residency.claim}"
            raise UnusableRule(rule.selector, problem, "change one of the two rules")


def _effects(ports: RulePorts, all_rules: Sequence[PlacementRule], counted: Sequence[PlacementRule]) -> list[RuleEffect]:
    """Count the listed keys that each rule applies to. A key counts only for its most specific rule of each kind."""
    table = ports.routing.current()
    rules, partitions = PlacementRules(all_rules), ports.registry.partitions()
    keys = sorted(table.placements)
    bounds = rules.bounds(keys, partitions)
    counts = {rule.rule_id: [0, 0, 0] for rule in counted}
    place = {partition.partition_id: index for index, partition in enumerate(partitions)}
    held = [[counts[rule.rule_id] for rule in row if rule.rule_id in counts] for row in bounds.rules]
    for key, row in zip(keys, bounds.row.tolist(), strict=True):
        if not held[row]:
            continue
        placement = table.placements[key]
        home, copies = place.get(placement.primary), [place[s] for s in placement.shadows if s in place]
        for count in held[row]:
            count[0] += 1
            count[1] += home is not None and not bounds.home[row, home]
            count[2] += sum(not bounds.copy[row, copy] for copy in copies)
    return [RuleEffect(rule, *counts[rule.rule_id]) for rule in counted]
