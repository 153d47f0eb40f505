"""Moves in a simulated world: any interleaving of apps, movers that die anywhere, and movers that return too late."""

from __future__ import annotations

import contextlib

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from foreshard.errors import FenceTimedOut, HistoryLost, MoveSuperseded
from foreshard.model.key_space import unit_label
from foreshard.model.move_state import MoveState
from foreshard.move._cleaning import forward_late_changes
from foreshard.move.mover import drive, is_serving, revert_move, run_move
from foreshard.move.session import MoveSession

SEEDS = st.integers(0, 2**32)


def finish(world, step):
    """Run ``step`` to its end. It may be killed any number of times."""
    while True:
        with contextlib.suppress(world.CutOff):
            return step()


def clean(world):
    def step():
        session = MoveSession(world.context(), world.take("m"))
        session.claim(session.context.source, session.context.target)
        for _ in range(3):
            forward_late_changes(session)
        drive(session, until=lambda record: False)
        return session.record

    return finish(world, step)


def expected(world):
    return {identity: raw for identity, raw in world.expected.items() if raw is not None}


@given(SEEDS)
@example(4026)
@settings(max_examples=100, deadline=None)
def test_every_acknowledged_write_is_at_the_owner_whatever_is_cut_off(simulate, seed):
    world = simulate(seed)
    world.plan()
    record = finish(world, lambda: run_move(world.context(), "m"))
    assert is_serving(record), record.error
    for _ in range(10):
        world.act()
    assert clean(world).state is MoveState.DONE
    assert (world.table.primary, world.table.shadows) == ("b", world.shadows_before_switch)
    assert world.partitions["b"].documents == expected(world)
    assert world.partitions["a"].documents == {}
    assert world.partitions["a"].fenced
    assert not world.partitions["b"].fenced


@given(SEEDS, st.integers(1, 320))
@settings(max_examples=100, deadline=None)
def test_a_reverted_move_leaves_the_source_as_the_apps_made_it(simulate, seed, cut_after):
    world = simulate(seed, cut_share=0.0)
    world.plan()
    world.cut_after = cut_after
    with contextlib.suppress(world.CutOff):
        run_move(world.context(), "m")
    if world.get("m").state is MoveState.SWITCHED:
        return
    world.cut_share = 0.05
    finish(world, lambda: revert_move(world.context(), "m", "test"))
    for _ in range(10):
        world.act()
    assert world.get("m").state is MoveState.REVERTED
    assert world.partitions["a"].documents == expected(world)
    assert not world.partitions["a"].fenced
    assert world.partitions["b"].fenced
    begun = any(entry.state is MoveState.COPYING for entry in world.get("m").history)
    assert world.partitions["b"].documents == {} or not begun or "absorbing" not in world.get("m").notes


@given(SEEDS)
@settings(max_examples=60, deadline=None)
def test_a_mover_that_was_superseded_changes_nothing_any_more(simulate, seed):
    world = simulate(seed, cut_share=0.02)
    world.plan()
    old = world.context()
    with contextlib.suppress(world.CutOff):
        run_move(old, "m")
    world.cut_share = 0.0
    lease = world.get("m").lease
    if world.get("m").state in (MoveState.PLANNED, MoveState.SWITCHED) or old.target.partition.leases.get("m") != lease:
        return
    run_move(world.context(), "m")
    before, fenced = dict(world.partitions["b"].documents), world.partitions["a"].fenced
    world.quiet = True
    for late in (old.target.unfence, old.source.unfence, lambda: old.target.write("db.trips", list(before), ())):
        with pytest.raises(MoveSuperseded):
            late()
    assert world.partitions["b"].documents == before
    assert world.partitions["a"].fenced == fenced
    assert not world.partitions["b"].fenced


def test_a_unit_that_is_elsewhere_is_skipped(simulate):
    world = simulate(1, cut_share=0.0)
    world.plan()
    world.table = world.table.__class__(world.unit, "b", (), 2)
    record = run_move(world.context(), "m")
    assert (record.state, record.error) == (MoveState.REVERTED, f"skipped: {unit_label(world.unit)} is on b already")
    assert not world.partitions["a"].fenced


def test_a_copy_that_stays_different_is_not_switched(simulate, monkeypatch):
    world = simulate(2, cut_share=0.0)
    world.quiet = True
    world.plan()
    context = world.context()
    fetch = context.target.fetch
    monkeypatch.setattr(
        context.target, "fetch", lambda namespace, ids: {i: raw + b"!" for i, raw in fetch(namespace, ids).items()}
    )
    monkeypatch.setattr(context.target, "write", lambda namespace, remove, put: None)
    record = run_move(context, "m")
    assert record.state is MoveState.REVERTED
    assert "differences" in record.error
    assert world.table.primary == "a"


def test_a_source_that_cannot_be_fenced_keeps_its_writes_and_the_move_turns_back(simulate, monkeypatch):
    world = simulate(3, cut_share=0.0)
    world.quiet = True
    world.plan()
    context = world.context()

    def locked():
        raise FenceTimedOut("db.trips", "open transactions kept its lock", context.limits.fence_timeout)

    monkeypatch.setattr(context.source, "fence", locked)
    record = run_move(context, "m")
    assert record.state is MoveState.REVERTED
    assert "fenced 4 times without success" in record.error
    assert not world.partitions["a"].fenced


def test_a_source_whose_history_is_lost_is_copied_again(simulate, monkeypatch):
    world = simulate(4, cut_share=0.0)
    world.plan()
    context = world.context()
    feed, lost = context.source.feed, []

    def once(position):
        if not lost:
            lost.append(1)
            raise HistoryLost("a")
        return feed(position)

    monkeypatch.setattr(context.source, "feed", once)
    record = run_move(context, "m")
    assert is_serving(record)
    assert [entry.event for entry in record.history].count("restart") == 1


def test_an_error_behind_the_fence_gives_writes_back(simulate, monkeypatch):
    world = simulate(5, cut_share=0.0)
    world.quiet = True
    world.plan()
    context = world.context()

    def broken(*_arguments, **_named):
        raise OSError("network")

    monkeypatch.setattr(context.source, "fence", broken)
    with pytest.raises(OSError, match="network"):
        run_move(context, "m")
    assert world.get("m").state is MoveState.CATCHING_UP
    assert not world.partitions["a"].fenced
    assert is_serving(run_move(world.context(), "m"))
