"""Moves of one plan between the same partitions are one move."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from foreshard.model import Move, Reason
from foreshard.stages.moving.batches import BATCH_BYTES, batched


def move(number: int, source: str = "a", target: str = "b", code: str = "relief", size: int = 1) -> Move:
    return Move(f"m{number}", (f"k{number}",), source, target, size, f"c{number}", Reason(code, f"reason {number}", {"lps": 1}))


def test_moves_between_the_same_partitions_for_the_same_reason_are_one():
    [one, other] = batched([move(0), move(1, target="c"), move(2)])
    assert (one.units, one.source, one.target, one.estimated_bytes) == (("k0", "k2"), "a", "b", 2)
    assert one.reason.sentence == "2 keys in 2 moves of the plan; the first: reason 0"
    assert one.reason.facts["moves"] == ["m0", "m2"]
    assert other.move_id == "m1"


def test_the_same_plan_gives_the_same_ids():
    moves = [move(number) for number in range(5)]
    assert batched(moves) == batched(moves)
    assert batched(moves)[0].move_id != batched(moves[:4])[0].move_id


def test_a_unit_of_a_batch_that_was_reverted_moves_alone():
    assert [m.move_id for m in batched([move(0), move(1), move(2)], {"k1"})][1:] == ["m1"]


def test_a_batch_is_bounded_in_bytes():
    half = BATCH_BYTES // 2 + 1
    assert [len(m.units) for m in batched([move(0, size=half), move(1, size=half), move(2)])] == [1, 2]


@given(
    st.lists(st.tuples(st.sampled_from("ab"), st.sampled_from("cd"), st.sampled_from(["x", "y"]), st.integers(0, BATCH_BYTES)))
)
def test_every_unit_moves_once_as_planned(plan):
    moves = [move(n, source, target, code, size) for n, (source, target, code, size) in enumerate(plan)]
    joined = batched(moves)
    found = {unit: (m.source, m.target, m.reason.code) for m in joined for unit in m.units}
    assert found == {m.units[0]: (m.source, m.target, m.reason.code) for m in moves}
    assert sum(len(m.units) for m in joined) == len(moves)
    assert sum(m.estimated_bytes for m in joined) == sum(m.estimated_bytes for m in moves)
