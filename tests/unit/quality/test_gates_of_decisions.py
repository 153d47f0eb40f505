"""The gates of the plan and the table with Great Expectations: what passes, what fails, and the messages."""

from dataclasses import replace
from datetime import UTC, datetime
from typing import Any

from tests.slots import slot_map

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
)
from foreshard.model.key_space import slot_unit
from foreshard.quality.gates import check_plan, check_table
from foreshard.settings import PlanSettings

HOUR = datetime(2014, 11, 20, 8, tzinfo=UTC)
WHY = Reason("test", "for the test")


def failures(result: GateResult) -> tuple[str, ...]:
    assert result.passed == (not result.failures)
    assert all("\n" not in line for line in result.failures)
    return result.failures


PARTITIONS = (Partition("p1", "x", 1.0), Partition("p2", "x", 1.0), Partition("p3", "y", 1.0, state=PartitionState.DRAINING))


def move(key: str = "k", source: str = "p1", target: str = "p2", size: int = 10) -> Move:
    return Move(f"m-{key}-{target}", (key,), source, target, size, "c", WHY)


def shadow(key: str = "k", source: str = "p1", target: str = "p2") -> PlannedShadow:
    return PlannedShadow(f"s-{key}-{target}", key, source, target, WHY)


def plan(**changes: Any) -> Plan:
    before, after = {"p1": 1.1, "p2": 0.3, "p3": 0.0}, {"p1": 0.7, "p2": 0.7, "p3": 0.0}
    return replace(Plan(HOUR, 1, lps_before=before, lps_after=after), **changes)


class TestPlan:
    def check(self, made: Plan, limits: PlanSettings | None = None) -> tuple[str, ...]:
        return failures(check_plan(made, PARTITIONS, limits or PlanSettings()))

    def test_a_move_or_shadow_that_violates_a_placement_rule_fails(self) -> None:
        rules = PlacementRules(
            [PlacementRule(RuleKind.PIN, "a", partition_id="p1"), PlacementRule(RuleKind.RESIDENCY, "b", locations=("y",))]
        )
        made = plan(moves=(move("a"), move("c")), shadows=(shadow("h"), shadow("b")))
        assert failures(check_plan(made, PARTITIONS, PlanSettings(), rules)) == (
            "1 of 2 moves break a placement rule ('a' is pinned to p1)",
            "1 of 2 shadows break a placement rule ('b' must stay in y)",
        )

    def test_a_plan_that_relieves_a_partition_passes(self) -> None:
        assert self.check(plan(moves=(move(),), shadows=(shadow("h"),), removals=(shadow("old"),))) == ()

    def test_an_empty_plan_passes(self) -> None:
        assert self.check(Plan(HOUR, 1)) == ()

    def test_a_key_moved_twice_or_to_itself_fails(self) -> None:
        lines = self.check(plan(moves=(move(), move("k", "p2", "p2"))))
        assert lines == (
            "2 of 2 moves are of a key that is moved more than once ('k')",
            "1 of 2 moves have the same source and target",
        )

    def test_unknown_and_draining_targets_fail(self) -> None:
        lines = self.check(plan(moves=(move("a", "p9"), move("b", target="p3"))))
        assert lines == (
            "1 of 2 moves leave an unknown partition ('p9')",
            "1 of 2 moves go to an unknown or draining partition ('p3')",
        )

    def test_moves_may_leave_a_draining_partition(self) -> None:
        assert self.check(plan(moves=(move(source="p3"),))) == ()

    def test_a_shadow_on_its_primarys_partition_or_a_repeated_one_fails(self) -> None:
        assert len(self.check(plan(shadows=(shadow(target="p1"),)))) == 1
        assert len(self.check(plan(moves=(move(),), shadows=(shadow(),)))) == 1
        assert self.check(plan(shadows=(shadow(), shadow()))) == ("2 of 2 shadows are planned twice on the same partition",)

    def test_a_shadow_made_and_removed_at_once_fails(self) -> None:
        assert self.check(plan(shadows=(shadow(),), removals=(shadow(),))) == (
            "1 of 1 removed shadows are also made by this plan",
        )

    def test_a_target_that_becomes_overloaded_fails_and_an_unchanged_one_passes(self) -> None:
        hot = plan(moves=(move(),), lps_before={"p1": 0.9, "p2": 0.1, "p3": 1.1}, lps_after={"p1": 0.7, "p2": 0.95, "p3": 1.1})
        marks = PlanSettings(high_water=0.8)
        assert self.check(hot, marks) == ("1 targets end above the high-water mark 0.8 and worse than before (p2 0.95)",)
        stays = plan(moves=(move(),), lps_before={"p1": 1.1, "p2": 0.95}, lps_after={"p1": 0.7, "p2": 0.95})
        assert self.check(stays, marks) == ()
        levelled = plan(moves=(move(),), lps_before={"p1": 1.4, "p2": 0.7}, lps_after={"p1": 1.1, "p2": 0.95})
        assert self.check(levelled, marks) == ()

    def test_a_higher_worst_lps_fails(self) -> None:
        assert self.check(plan(lps_after={"p1": 1.2, "p2": 0.1, "p3": 0.0})) == ("worst LPS after 1.2 > 1.1 before",)

    def test_limits_are_enforced(self) -> None:
        made = plan(moves=tuple(move(f"k{n}", size=600) for n in range(3)), shadows=(shadow("h"), shadow("i")))
        lines = self.check(made, PlanSettings(maximum_moves=2, maximum_shadows=1, maximum_bytes=1000))
        assert lines == ("3 moves > 2", "2 shadows > 1", "1,800 bytes to move > 1,000")

    def test_a_partition_without_a_score_after_fails(self) -> None:
        assert self.check(plan(moves=(move(),), lps_after={"p1": 0.7})) == ("2 of 3 partitions have no LPS before or after",)


def table(*placements: Placement, **changes: Any) -> RoutingTable:
    made = RoutingTable(7, {p.key: p for p in placements}, slot_map(("p1", "p2"), (1.0, 2.0)), HOUR)
    return replace(made, **changes)


class TestTable:
    def check(self, made: RoutingTable, **more: Any) -> tuple[str, ...]:
        return failures(check_table(made, PARTITIONS, HOUR, **{"last_version": 7, **more}))

    def test_a_complete_table_passes(self) -> None:
        made = table(Placement("a", "p1", ("p2",), 4), Placement("ü$.", "p3"))
        assert self.check(made, previous_keys=("a",)) == ()

    def test_a_table_without_listed_keys_passes(self) -> None:
        assert self.check(table()) == ()

    def test_a_key_without_a_known_primary_fails(self) -> None:
        assert self.check(table(Placement("a", ""), Placement("b", "p9"))) == (
            "1 of 2 keys have no primary",
            "1 of 2 keys have a primary on an unknown partition ('p9')",
        )

    def test_wrong_shadows_and_epochs_fail(self) -> None:
        made = table(Placement("a", "p1", ("p1",)), Placement("b", "p1", ("p2", "p2")), Placement("c", "p1", ("p9",), 0))
        assert self.check(made) == (
            "1 of 3 keys have an epoch below 1 (0)",
            "1 of 3 keys list a shadow twice",
            "1 of 3 keys have a shadow on their primary copy's partition",
            "1 of 3 keys have a shadow on an unknown partition",
        )

    def test_a_placement_under_another_key_fails(self) -> None:
        made = table(placements={"a": Placement("b", "p1")})
        assert self.check(made) == ("1 of 1 placements are listed under another key",)

    def test_a_version_that_is_not_the_last_fails(self) -> None:
        assert self.check(table(), last_version=8) == ("the table's version is 7, not 8",)

    def test_lost_keys_are_named(self) -> None:
        assert self.check(table(Placement("a", "p1")), previous_keys=("a", "b", "c")) == (
            "2 of 3 keys of the previous version are missing ('b', 'c')",
        )

    def test_a_slot_without_a_known_partition_fails(self) -> None:
        made = table()
        slots = made.slots.laid_over({3: Placement(slot_unit(3), "p9"), 4: Placement(slot_unit(4), "", (), 0)})
        assert self.check(replace(made, slots=slots)) == (
            "1 of 4,096 slots have no primary",
            "1 of 4,096 slots have a primary on an unknown partition ('p9')",
            "1 of 4,096 slots have an epoch below 1 (0)",
        )

    def test_missing_and_misplaced_slots_fail(self) -> None:
        made = table()
        slots = replace(made.slots, placements=made.slots.placements[1:])
        assert self.check(replace(made, slots=slots)) == ("4,095 of 4,095 slots are not in their place", "1 slots have no row")
