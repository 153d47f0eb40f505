"""Each expectation of the gates of the plan and the table is tripped by a real hour's plan or table that was spoilt in one way.

The hour is one of the sample in which the planner moves keys. Unspoilt, it passes. A last test finds expectations without a
case.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

import pytest
from tests.unit.quality.replayed_decisions import Decided, decided_hours
from tests.unit.quality.sample_hours import at

from foreshard.measure.placement_rules import PlacementRules
from foreshard.model import (
    GateResult,
    Move,
    Partition,
    PartitionState,
    Placement,
    PlacementRule,
    Plan,
    PlannedShadow,
    Reason,
    RoutingTable,
    RuleKind,
    SlotMap,
)
from foreshard.quality import _plans as plans
from foreshard.quality import _published as published
from foreshard.quality import _tables as tables
from foreshard.quality._suite import Suite
from foreshard.quality.changes import PublishedChange
from foreshard.quality.gates import check_plan, check_table
from foreshard.settings import PlanSettings

WHY = Reason("test", "for the test")


@dataclass(frozen=True)
class PlanCase:
    """What the plan's gate looks at."""

    plan: Plan
    partitions: tuple[Partition, ...]
    scored: Mapping[str, float]
    limits: PlanSettings = field(default_factory=PlanSettings)
    rules: PlacementRules = field(default_factory=PlacementRules)

    @property
    def move(self) -> Move:
        return self.plan.moves[0]

    @property
    def shadow(self) -> PlannedShadow:
        """A shadow of a key that stays where it is, on another partition."""
        source, target = self.move.target, self.move.source
        return PlannedShadow("s-1", "a key that stays", source, target, WHY)

    def with_plan(self, **changes: Any) -> PlanCase:
        return replace(self, plan=replace(self.plan, **changes))

    def judged(self) -> GateResult:
        return check_plan(self.plan, self.partitions, self.limits, self.rules, scored=self.scored)

    def suites(self) -> tuple[Suite, ...]:
        return plans.suites(self.plan, self.partitions, self.limits, self.rules, self.scored)


@dataclass(frozen=True)
class TableCase:
    """What the table's gate looks at."""

    table: RoutingTable
    partitions: tuple[Partition, ...]
    last_version: int
    previous_keys: frozenset[str]
    changes: tuple[PublishedChange, ...]

    @property
    def key(self) -> str:
        """The key that was published last."""
        return self.changes[-1].change.key

    def with_row(self, **changes: Any) -> TableCase:
        """Return the case with a changed row of a key that no publication of it names."""
        key = next(key for key in self.table.placements if key not in self.previous_keys)
        return self.with_rows({key: replace(self.table.placements[key], **changes)})

    def with_rows(self, rows: Mapping[str, Placement]) -> TableCase:
        return replace(self, table=replace(self.table, placements={**self.table.placements, **rows}))

    def with_slots(self, **changes: Any) -> TableCase:
        slots = self.table.slots
        rows = (*slots.placements[:5], replace(slots.placements[5], **changes), *slots.placements[6:])
        return replace(self, table=replace(self.table, slots=replace(slots, placements=rows)))

    def with_last_change(self, **changes: Any) -> TableCase:
        return replace(self, changes=(*self.changes[:-1], replace(self.changes[-1], **changes)))

    def judged(self) -> GateResult:
        hour, keys = self.table.published_at, self.previous_keys
        return check_table(
            self.table, self.partitions, hour, last_version=self.last_version, previous_keys=keys, changes=self.changes
        )

    def suites(self) -> tuple[Suite, ...]:
        made = tables.suites(self.table, self.partitions, self.last_version, self.previous_keys)
        return (*made, *published.suites(self.table, self.changes))


class Twice(dict[str, Placement]):
    """Placements of which the first is listed twice, like those of a layer that forgets what it lies over."""

    def __iter__(self) -> Iterator[str]:
        names = list(super().__iter__())
        return iter([names[0], *names])

    def items(self) -> Any:
        return [(name, self[name]) for name in self]

    def values(self) -> Any:
        return [self[name] for name in self]


@pytest.fixture(scope="module")
def hours(tmp_path_factory: pytest.TempPathFactory) -> tuple[Decided, ...]:
    return decided_hours(at(6, 2), 2, tmp_path_factory.mktemp("replay"))


@pytest.fixture(scope="module")
def plan(hours: tuple[Decided, ...]) -> PlanCase:
    """The plan of the hour with most moves, with a shadow that it makes and one that it removes."""
    one = max(hours, key=lambda one: len(one.plan.moves))
    case = PlanCase(one.plan, one.partitions, one.scored)
    gone = replace(case.shadow, shadow_id="s-2", key="a key that grew cold")
    return case.with_plan(shadows=(*one.plan.shadows, case.shadow), removals=(*one.plan.removals, gone))


@pytest.fixture(scope="module")
def table(hours: tuple[Decided, ...]) -> TableCase:
    one = hours[-1]
    return TableCase(one.table, one.partitions, one.table.version, one.listed, one.changes)


def test_the_unspoilt_plan_and_table_pass(plan: PlanCase, table: TableCase) -> None:
    assert len(plan.plan.moves) > 1
    assert len(table.changes) > 1
    for case in (plan, table):
        result = case.judged()
        assert (result.failures, result.warnings) == ((), ())


def with_move(case: PlanCase, **changes: Any) -> PlanCase:
    return case.with_plan(moves=(replace(case.move, **changes), *case.plan.moves[1:]))


def with_shadow(case: PlanCase, **changes: Any) -> PlanCase:
    return case.with_plan(shadows=(replace(case.shadow, **changes),))


def kept_away(case: PlanCase, unit: str) -> PlanCase:
    """Return the case with a rule by which no copy of a unit may be where the plan puts one."""
    return replace(case, rules=PlacementRules([PlacementRule(RuleKind.RESIDENCY, unit, locations=("another country",))]))


def loaded(case: PlanCase, **lps: float) -> PlanCase:
    """Return the case with these LPS of the first move's target, ``before`` and ``after``, and nothing else above the mark."""
    names = [partition.partition_id for partition in case.partitions]
    before, after = dict.fromkeys(names, 0.5), dict.fromkeys(names, 0.5)
    before[case.move.target], after[case.move.target] = lps["before"], lps["after"]
    return replace(case.with_plan(lps_before=before, lps_after=after), scored={})


def unrelieved(case: PlanCase) -> PlanCase:
    """Return the case with an overloaded partition that the plan leaves as it is, without a word."""
    names = [partition.partition_id for partition in case.partitions]
    worst = next(name for name in names if name not in (case.move.source, case.move.target))
    lps = {**dict.fromkeys(names, 0.5), worst: 1.2}
    return replace(case.with_plan(lps_before=lps, lps_after=dict(lps), refusals=()), scored={})


def draining(case: PlanCase) -> PlanCase:
    states = {case.shadow.target: PartitionState.DRAINING}
    partitions = tuple(replace(one, state=states.get(one.partition_id, one.state)) for one in case.partitions)
    return replace(case.with_plan(moves=()), partitions=partitions)


PLANS: Mapping[str, tuple[Callable[[PlanCase], PlanCase], str]] = {
    "moves.unit": (lambda c: c.with_plan(moves=(*c.plan.moves, c.move)), "a key that is moved more than once"),
    "moves.source": (lambda c: with_move(c, source="p99"), "leave an unknown partition ('p99')"),
    "moves.target": (lambda c: with_move(c, target="p99"), "go to an unknown or draining partition ('p99')"),
    "moves.stays": (lambda c: with_move(c, source=c.move.target), "have the same source and target"),
    "moves.estimated_bytes": (lambda c: with_move(c, estimated_bytes=-1), "have a negative size (-1)"),
    "moves.against_a_rule": (lambda c: kept_away(c, c.move.units[0]), "moves break a placement rule"),
    "shadows.key, target": (lambda c: c.with_plan(shadows=(c.shadow, c.shadow)), "planned twice on the same partition"),
    "shadows.source": (lambda c: with_shadow(c, source="p99"), "shadows copy from an unknown partition ('p99')"),
    "shadows.target": (draining, "shadows go to an unknown or draining partition"),
    "shadows.beside_its_primary": (lambda c: with_shadow(c, source=c.shadow.target), "on their primary copy's partition"),
    "shadows.against_a_rule": (lambda c: kept_away(c, c.shadow.key), "shadows break a placement rule"),
    "removals.target": (
        lambda c: c.with_plan(removals=(replace(c.shadow, target="p99"),)),
        "removed shadows are on an unknown partition ('p99')",
    ),
    "removals.planned_as_well": (lambda c: c.with_plan(removals=(c.shadow,)), "are also made by this plan"),
    "partitions.partition_id": (
        lambda c: c.with_plan(lps_before={**c.plan.lps_before, "p99": 0.1}, lps_after={**c.plan.lps_after, "p99": 0.1}),
        "the plan scores 1 unknown partitions ('p99')",
    ),
    "partitions.scored": (
        lambda c: c.with_plan(lps_after={name: c.plan.lps_after[name] for name in list(c.plan.lps_after)[:-1]}),
        "have no LPS before or after",
    ),
    "partitions.lps_above_what_a_target_may_have": (
        lambda c: loaded(c, before=0.5, after=0.99),
        "1 targets end above the high-water mark",
    ),
    "plan.moves": (lambda c: replace(c, limits=PlanSettings(maximum_moves=1)), "moves > 1"),
    "plan.shadows": (lambda c: replace(c, limits=PlanSettings(maximum_shadows=0)), "1 shadows > 0"),
    "plan.bytes": (lambda c: with_move(c, estimated_bytes=10**15), "bytes to move > "),
    "plan.worst_lps": (lambda c: loaded(c, before=1.1, after=1.3), "worst LPS after 1.3 > 1.1 before"),
    "judgement.fall_of_the_worst_lps": (unrelieved, "stays at LPS 1.2 (1.2 before)"),
    "judgement.off_the_score_": (
        lambda c: replace(c, scored={name: score + 0.4 for name, score in c.scored.items()}),
        "but the hour's score is",
    ),
}
TABLES: Mapping[str, tuple[Callable[[TableCase], TableCase], str]] = {
    "placements.key": (
        lambda c: replace(c, table=replace(c.table, placements=Twice(c.table.placements))),
        "keys are listed more than once",
    ),
    "placements.primary not null": (lambda c: c.with_row(primary=""), "keys have no primary"),
    "placements.primary": (lambda c: c.with_row(primary="p99"), "a primary on an unknown partition ('p99')"),
    "placements.epoch": (lambda c: c.with_row(epoch=0), "keys have an epoch below 1 (0)"),
    "placements.filed_wrongly": (lambda c: c.with_row(key="another"), "placements are listed under another key"),
    "placements.shadows_repeated": (lambda c: c.with_row(primary="p0", shadows=("p1", "p1")), "keys list a shadow twice"),
    "placements.shadows_beside_primary": (lambda c: c.with_row(primary="p0", shadows=("p0",)), "on their primary copy's"),
    "placements.shadows_unknown": (lambda c: c.with_row(shadows=("p99",)), "keys have a shadow on an unknown partition"),
    "slots.primary not null": (lambda c: c.with_slots(primary=""), "slots have no primary"),
    "slots.primary": (lambda c: c.with_slots(primary="p99"), "slots have a primary on an unknown partition ('p99')"),
    "slots.epoch": (lambda c: c.with_slots(epoch=0), "slots have an epoch below 1 (0)"),
    "slots.filed_wrongly": (lambda c: c.with_slots(key="another"), "slots are not in their place"),
    "table.version": (lambda c: replace(c, last_version=c.last_version + 1), "the table's version is"),
    "table.missing_slots": (
        lambda c: replace(c, table=replace(c.table, slots=SlotMap(c.table.slots.space, c.table.slots.placements[:-1]))),
        "1 slots have no row",
    ),
    "table.lost_keys": (lambda c: replace(c, previous_keys=c.previous_keys | {"lost"}), "are missing ('lost')"),
    "epochs.fallen": (
        lambda c: c.with_rows({c.key: replace(c.table.placements[c.key], epoch=c.table.placements[c.key].epoch - 1)}),
        ", but was ",
    ),
    "changes.moved": (lambda c: c.with_last_change(moved_to=None), "but no move took it there"),
    "changes.rewritten": (
        lambda c: c.with_rows({c.key: replace(c.table.placements[c.key], primary=c.changes[-1].before.primary)}),  # type: ignore[union-attr]
        "no publication explains it",
    ),
}


@pytest.mark.parametrize("name", PLANS)
def test_a_real_plan_that_is_spoilt_in_one_way_is_found(plan: PlanCase, name: str) -> None:
    spoil, line = PLANS[name]
    result = spoil(plan).judged()
    found = result.warnings if name.startswith("judgement") else result.failures
    assert any(line in one for one in found), (result.failures, result.warnings)
    assert result.passed == name.startswith("judgement")


@pytest.mark.parametrize("name", TABLES)
def test_a_real_table_that_is_spoilt_in_one_way_is_found(table: TableCase, name: str) -> None:
    spoil, line = TABLES[name]
    result = spoil(table).judged()
    assert any(line in one for one in result.failures), result.failures


def names_of(suite: Suite) -> Iterator[str]:
    """Return a name for each expectation: its suite and column, without a number at its end."""
    for one in suite.expectations:
        column = one.arguments.get("column") or ", ".join(one.arguments["column_list"])
        twice = one.kind == "ExpectColumnValuesToNotBeNull"
        yield f"{suite.name}.{column.rstrip('0123456789')}{' not null' if twice else ''}"


def test_no_expectation_is_without_a_case(plan: PlanCase, table: TableCase) -> None:
    known = {name for case in (plan, unrelieved(plan), table) for suite in case.suites() for name in names_of(suite)}
    assert known == PLANS.keys() | TABLES.keys()
