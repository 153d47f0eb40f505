"""Moves back and forth under four writers, and reverts at every state. ``tests/move_proofs`` kills movers at every effect."""

from __future__ import annotations

import pytest

from foreshard.errors import IllegalTransition
from foreshard.stages import manual_moves, migrate

pytestmark = pytest.mark.parametrize("world", ["key", "slot"], indirect=True)


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


def test_a_switched_move_cannot_be_reverted_but_is_undone_by_a_reverse_move(world, writers, settled):
    world.fill(100)
    move_id = world.plan("alpha", "beta")
    migrate.run_move(world.wiring, move_id)
    with pytest.raises(IllegalTransition, match="switched"):
        migrate.revert_move(world.wiring, move_id)
    assert manual_moves.undo_move(world.wiring, move_id).state == "switched"
    assert world.owner() == "alpha"
    settled(writers)
