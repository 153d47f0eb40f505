"""Worlds with the plans that they lead to, side by side in ``worlds/*.txt`` (:mod:`tests.unit.plan.world_file`).

A change of the planner shows as a change of these files. ``FORESHARD_REWRITE=1 pytest …/test_worlds.py`` writes the plans anew.
"""

import os
from pathlib import Path

import pytest
from tests.unit.plan.world_file import LINE, read_world, show_plan

from foreshard.plan.planner import make_plan

WORLDS = sorted((Path(__file__).parent / "worlds").glob("*.txt"))


@pytest.mark.parametrize("path", WORLDS, ids=lambda path: path.stem)
def test_the_plan_is_the_one_beside_the_world(path):
    world, _, plan = path.read_text().partition(f"{LINE}\n")
    made = show_plan(make_plan(*read_world(world)))
    if os.environ.get("FORESHARD_REWRITE"):
        path.write_text(f"{world.rstrip()}\n\n{LINE}\n{made}")
    else:
        assert made == plan


def test_the_docs_show_a_world_as_it_is():
    shown = (Path(__file__).parent / "worlds" / "room_for_a_large_key.txt").read_text().rstrip()
    assert shown in (Path(__file__).parents[3] / "docs" / "planning.md").read_text()


def test_there_are_worlds():
    assert len(WORLDS) >= 16


@pytest.mark.parametrize("name", ["small_keys_1.18", "small_keys_1.91", "slots_on_one_of_four"])
def test_small_units_on_one_of_several_partitions_reach_the_best_split(name):
    snapshot, policy = read_world((Path(__file__).parent / "worlds" / f"{name}.txt").read_text())
    plan = make_plan(snapshot, policy)
    best = sum(plan.lps_before.values()) / len(plan.lps_before)
    assert max(plan.lps_before.values()) > 1.1 * best
    assert max(plan.lps_after.values()) <= 1.1 * best
