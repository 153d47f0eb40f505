"""Moves back and forth under four writers, with the mover killed in and between all states. No acknowledged write is lost."""

from __future__ import annotations

import signal

import pytest

from foreshard.errors import IllegalTransition
from foreshard.stages import manual_moves, migrate

pytestmark = pytest.mark.parametrize("world", ["key", "slot"], indirect=True)
POINTS_BEFORE_SWITCH = (
    "claimed", "copying", "prepared", "batch@copying", "transaction@copying", "catching_up", "fenced", "fence-set@fenced",
    "switched",
)  # fmt: skip
POINTS_BEHIND_SWITCH = ("published", "fence-lifted@switched")
POINTS_OF_SLOTS = ("batch@copying", "fence-set@fenced", "published")
POINTS_WHILE_CLEANING = ("cleaning", "removed@cleaning")


def test_keys_move_back_and_forth_under_writers_and_no_acknowledged_write_is_lost(world, writers, settled):
    world.fill(300)
    here, there = "alpha", "beta"
    for _ in range(4):
        summary = world.move(here, there)
        assert summary.state == "switched", summary
        assert world.owner() == there
        migrate.clean_moves(world.wiring)
        here, there = there, here
    settled(writers)
    assert all(writer.acknowledged for writer in writers)
    assert sum(writer.refusals for writer in writers) > 0
    assert len([i for i in world.copies()["alpha"] if not i.startswith("w")]) == 300
    assert world.stations("alpha").count_documents({"name": world.key}) == 1


def test_a_mover_killed_anywhere_is_resumed_by_a_new_process_and_nothing_is_lost(world, writers, settled):
    world.fill(300)
    here, there = "alpha", "beta"
    points = POINTS_OF_SLOTS if world.by_slot else (*POINTS_BEFORE_SWITCH, *POINTS_BEHIND_SWITCH)
    for point in points:
        move_id = world.plan(here, there)
        killed = world.process("run", move_id, point)
        assert killed.returncode == -signal.SIGKILL, (point, killed)
        resumed = world.process("run", move_id)
        assert resumed.returncode == 0, (point, resumed.stderr)
        assert (world.state(move_id), world.owner()) == ("switched", there), (point, resumed)
        migrate.clean_moves(world.wiring)
        assert world.state(move_id) == "done", point
        here, there = there, here
    settled(writers)


def test_a_cleaner_killed_anywhere_is_resumed_and_nothing_is_lost(world, writers, settled):
    world.fill(300)
    here, there = "alpha", "beta"
    for point in POINTS_WHILE_CLEANING:
        move_id = world.plan(here, there)
        assert migrate.run_move(world.wiring, move_id).state == "switched"
        assert world.process("clean", move_id, point).returncode == -signal.SIGKILL
        assert world.state(move_id) == "cleaning"
        migrate.clean_moves(world.wiring)
        assert world.state(move_id) == "done"
        here, there = there, here
    settled(writers)


def test_a_move_cut_off_at_any_state_before_its_switch_is_reverted_and_the_source_serves(world, writers, settled, cut_off):
    world.fill(300)
    for state in ("copying", "catching_up", "fenced", "switched"):
        move_id = world.plan("alpha", "beta")
        cut_off(state)
        world.run_until_cut_off(move_id)
        cut_off("reverting")
        with pytest.raises(cut_off.error):
            migrate.revert_move(world.wiring, move_id)
        summary = migrate.revert_move(world.wiring, move_id)
        assert (summary.state, world.owner()) == ("reverted", "alpha"), state
        assert not world.refused("alpha"), state
        assert world.copies()["beta"] == {}, state
        assert state == "copying" or world.refused("beta"), state
    settled(writers)


def test_a_revert_killed_half_way_is_carried_on_by_a_new_process(world, writers, settled):
    world.fill(300)
    for point in ("fence-lifted@reverting", "batch@reverting"):
        move_id = world.plan("alpha", "beta")
        assert world.process("run", move_id, "fenced").returncode == -signal.SIGKILL
        assert world.process("revert", move_id, point).returncode == -signal.SIGKILL
        assert world.process("run", move_id).returncode == 0
        assert (world.state(move_id), world.owner()) == ("reverted", "alpha")
        assert world.copies()["beta"] == {}
    settled(writers)


def test_a_switched_move_cannot_be_reverted_but_is_undone_by_a_reverse_move(world, writers, settled):
    world.fill(100)
    move_id = world.plan("alpha", "beta")
    migrate.run_move(world.wiring, move_id)
    with pytest.raises(IllegalTransition, match="switched"):
        migrate.revert_move(world.wiring, move_id)
    assert manual_moves.undo_move(world.wiring, move_id).state == "switched"
    assert world.owner() == "alpha"
    settled(writers)
