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
    PlacementChange,
    PlacementRule,
    Plan,
    PlannedShadow,
    Reason,
    Refusal,
    RoutingTable,
    RuleKind,
)
from foreshard.model.key_space import slot_unit
from foreshard.quality.changes import PublishedChange
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

    def test_a_key_with_braces_is_shown_as_it_is(self) -> None:
        rules = PlacementRules([PlacementRule(RuleKind.PIN, '{"id": 1}', partition_id="p1")])
        assert failures(check_plan(plan(moves=(move('{"id": 1}'),)), PARTITIONS, PlanSettings(), rules)) == (
            "1 of 1 moves break a placement rule ('{\"id\": 1}' is pinned to p1)",
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

    def test_a_plan_that_leaves_the_worst_partition_as_it_is_warns_unless_it_says_why(self) -> None:
        made = plan(
            moves=(move(source="p2", target="p3"),), lps_before={"p1": 1.1, "p2": 1.0}, lps_after={"p1": 1.1, "p2": 0.9}
        )
        active = [replace(partition, state=PartitionState.ACTIVE) for partition in PARTITIONS]
        made = replace(made, lps_before={**made.lps_before, "p3": 0.1}, lps_after={**made.lps_after, "p3": 0.2})
        result = check_plan(made, active, PlanSettings())
        line = "1 moves and 0 shadows, but the worst partition p1 stays at LPS 1.1 (1.1 before)"
        assert (result.failures, result.warnings) == ((), (line,))
        said = replace(made, refusals=(Refusal("p1", WHY),))
        assert check_plan(said, active, PlanSettings()).warnings == ()

    def test_a_plan_made_from_other_loads_than_the_hours_scores_warns(self) -> None:
        made = plan(moves=(move(),))
        assert check_plan(made, PARTITIONS, PlanSettings(), scored={"p1": 1.15, "p2": 0.35}).warnings == ()
        result = check_plan(made, PARTITIONS, PlanSettings(), scored={"p1": 0.4, "p2": 0.3})
        assert result.warnings == ("the plan starts from LPS 1.1 of p1, but the hour's score is 0.4; plan again",)

    def test_no_person_can_accept_a_plan_that_breaks_a_limit(self) -> None:
        result = check_plan(plan(lps_after={"p1": 1.2, "p2": 0.1, "p3": 0.0}), PARTITIONS, PlanSettings())
        assert result.final == result.failures == ("worst LPS after 1.2 > 1.1 before",)


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


def change(version: int, key: str, primary: str, epochs: tuple[int, int], **more: Any) -> PublishedChange:
    """Return a change of a listed key that was on p1 at the first epoch, published by a move to ``moved_to``."""
    before = Placement(key, "p1", epoch=epochs[0]) if epochs[0] else None
    options = {"before": before, "moved_to": primary, **more}
    row = PlacementChange(key, primary, options.pop("shadows", ()), epochs[0], epochs[1], delist=options.pop("delist", False))
    return PublishedChange(version, row, **options)


class TestChanges:
    """What publications say explains the table."""

    def check(self, made: RoutingTable, *changes: PublishedChange) -> GateResult:
        return check_table(made, PARTITIONS, HOUR, last_version=made.version, changes=changes)

    def test_a_table_that_moves_shadows_and_delistings_explain_passes(self) -> None:
        published = [
            change(3, "a", "p2", (4, 5)),
            change(4, "b", "p1", (0, 2), moved_to=None),
            change(5, "a", "p2", (5, 5), before=Placement("a", "p2", epoch=5), shadows=("p1",), moved_to=None),
            change(6, "c", "p1", (3, 3), delist=True, moved_to=None),
            change(7, slot_unit(3), "p2", (1, 2), before=Placement(slot_unit(3), "p1")),
        ]
        made = table(Placement("a", "p2", ("p1",), 5), Placement("b", "p1", epoch=2))
        made = replace(made, slots=made.slots.laid_over({3: Placement(slot_unit(3), "p2", epoch=2)}))
        assert self.check(made, *published).failures == ()

    def test_an_epoch_that_falls_fails_for_good(self) -> None:
        fell = self.check(table(Placement("a", "p2", epoch=3)), change(7, "a", "p2", (4, 3)))
        assert fell.failures == fell.final == ("the epoch of 'a' falls from 4 to 3 in version 7",)
        stays = self.check(table(Placement("a", "p2", epoch=4)), change(7, "a", "p2", (4, 4)))
        assert stays.final == ("the epoch of 'a' stays at 4 in version 7",)

    def test_an_epoch_that_falls_while_a_key_is_not_listed_fails(self) -> None:
        published = [change(6, "a", "p1", (9, 9), delist=True), change(7, "a", "p1", (0, 2), moved_to=None)]
        assert self.check(table(Placement("a", "p1", epoch=2)), *published).final == (
            "the epoch of 'a' falls from 9 to 2 in version 7",
        )

    def test_a_row_that_no_publication_explains_fails_and_can_be_accepted(self) -> None:
        result = self.check(table(Placement("a", "p3", epoch=5)), change(6, "a", "p2", (4, 5)))
        line = "'a' was on p3 (epoch 5) now, but version 6 says on p2 (epoch 5); no publication explains it"
        assert (result.failures, result.final) == ((line,), ())

    def test_a_row_that_was_changed_between_two_publications_fails(self) -> None:
        late = change(7, "a", "p1", (6, 7), before=Placement("a", "p3", epoch=6))
        result = self.check(table(Placement("a", "p1", epoch=7)), change(6, "a", "p2", (4, 5)), late)
        assert result.failures == (
            "'a' was on p3 (epoch 6) before version 7, but version 6 says on p2 (epoch 5); no publication explains it",
        )

    def test_a_unit_that_changed_its_partition_without_a_move_fails(self) -> None:
        line = "'a' went from p1 to p2 in version 7, but no move took it there"
        for moved_to in (None, "p3"):
            result = self.check(table(Placement("a", "p2", epoch=5)), change(7, "a", "p2", (4, 5), moved_to=moved_to))
            assert (result.failures, result.final) == ((line,), ())

    def test_changes_behind_the_table_that_was_read_are_left_to_the_next_check(self) -> None:
        assert self.check(table(Placement("a", "p1", epoch=4)), change(8, "a", "p2", (4, 5))).failures == ()

    def test_many_unexplained_rows_are_counted(self) -> None:
        published = [change(7, f"k{n:02}", "p2", (1, 2), moved_to=None) for n in range(25)]
        made = table(*(Placement(f"k{n:02}", "p2", epoch=2) for n in range(25)))
        lines = self.check(made, *published).failures
        assert (len(lines), lines[-1]) == (21, "and 5 more units: every unit that changed its partition was moved there")
