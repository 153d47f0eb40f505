"""A fence that could not be set, or whose answer was lost: the source takes its key's writes again, whatever was prepared."""

from __future__ import annotations

from datetime import timedelta

import pytest
from pymongo.errors import AutoReconnect

from foreshard.errors import FenceTimedOut
from foreshard.model.move_state import MoveState
from foreshard.stages import migrate
from foreshard.stores.partition.fences.fence import MongoFence


@pytest.fixture
def fail(world, monkeypatch):
    """``fail(times, error, done)``: the next cutover's first ``collMod`` end with ``error``, with ``done`` after it."""
    impose, left = MongoFence.impose, []

    def failing(self, *arguments, **named):
        behind_fence = left and world.wiring.move_journal.find((MoveState.FENCED,))
        error, done = left.pop() if behind_fence else (None, True)
        mark = impose(self, *arguments, **named) if done else None
        if error is not None:
            raise error
        return mark

    monkeypatch.setattr(MongoFence, "impose", failing)
    return lambda times, error, done: left.extend([(error, done)] * times)


def agree(world) -> bool:
    """Return whether every validator refuses what the lists do."""
    return not any(fence.is_out_of_date() for name in world.clients for fence in world.wiring.fences(name))


def planned_back(world) -> str:
    """Journal the move back of documents that have just moved to beta, and return its id."""
    world.fill(5)
    world.move("alpha", "beta")
    migrate.clean_moves(world.wiring)
    return world.plan("beta", "alpha")


@pytest.mark.parametrize("attempts", [1, 2, 3, 4, 5])
@pytest.mark.parametrize("done", [False, True])
def test_a_fence_that_times_out_leaves_an_owner_that_takes_writes(world, fail, attempts, done):
    """Each cutover changes the validators of two collections."""
    move_id = planned_back(world)
    fail(attempts, FenceTimedOut(f"{world.database}.trips", "open transactions kept its lock", timedelta(seconds=5)), done)
    migrate.run_move(world.wiring, move_id)
    assert world.state(move_id) in ("switched", "reverted")
    assert not world.refused(world.owner())
    assert agree(world)


@pytest.mark.parametrize("attempts", [1, 2])
@pytest.mark.parametrize("done", [False, True])
def test_a_fence_whose_answer_is_lost_is_lifted(world, fail, attempts, done):
    move_id = planned_back(world)
    fail(attempts, AutoReconnect("the primary steps down"), done)
    with pytest.raises(AutoReconnect):
        migrate.run_move(world.wiring, move_id)
    assert world.state(move_id) == "catching_up"
    assert not world.refused("beta")
    assert agree(world)
